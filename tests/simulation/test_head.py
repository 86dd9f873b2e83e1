"""The head dies and comes back at random times: tasks never notice, actors at most wait."""

from __future__ import annotations

import os

import pytest
from tests.simulation.head import HeadWorld

SEEDS = int(os.environ.get("FREEHOLD_SIM_SEEDS", "200")) // 4
FIRST = int(os.environ.get("FREEHOLD_SIM_FIRST", "0"))
PARTS = 2


@pytest.mark.timeout(60 + 2 * SEEDS)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("faults", ["none", "crash", "node"])
def test_running_work_does_not_notice_that_the_head_is_restarted(faults: str, part: int) -> None:
    """SIM-1 … SIM-5 for every seed; without other faults no get fails at all."""
    deaths = breaks = leaks = 0
    for seed in range(FIRST, FIRST + SEEDS):
        if seed % PARTS != part:
            continue
        world = HeadWorld(seed, faults)
        try:
            world.run()
        except Exception as error:
            pytest.fail(
                f"seed {seed} ({faults}, head) at {world.clock.now:.4f} s: "
                f"{type(error).__name__}: {error}\n"
                f"replay: FREEHOLD_SIM_FIRST={seed} FREEHOLD_SIM_SEEDS=4 "
                f"python -m pytest tests/simulation/test_head.py -k {faults}"
            )
        deaths += world.lives - 1
        breaks += world.breaks
        leaks += world.is_leaking
    if SEEDS >= 20:
        assert deaths > SEEDS // 2, "the head hardly ever died"
        assert breaks > 0, "no link ever broke"
        assert leaks <= 1 + SEEDS // 50, f"in {leaks} worlds something was left"
