"""A node is drained at a random time under random programs: nothing is lost or run again (SIM-7).

Worlds without actors are strict: no get may fail but for what its own program raises, no attempt
is consumed, and the drain must come to its end by itself. With
actors, those that end by themselves or cannot be restarted take along what they own, as ever.
"""

from __future__ import annotations

import os

import pytest
from tests.simulation.nodes import SimNode
from tests.simulation.process import Execution
from tests.simulation.world import NODES, World

from freehold._core import messages as m

SEEDS = int(os.environ.get("FREEHOLD_SIM_SEEDS", "120")) // 2
FIRST = int(os.environ.get("FREEHOLD_SIM_FIRST", "0"))
DRAIN_S = 150.0


class DrainWorld(World):
    """One cluster whose second node is drained."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, "none")
        self.has_actors = seed % 2 == 1
        self.has_retries = self.has_actors
        self.has_deadlocks = False
        self.drained_at: float | None = None

    def begin(self, driver: object) -> None:
        super().begin(driver)  # type: ignore[arg-type]
        self.clock.at(
            self.rng.random() ** 2 * 1.5, lambda: self.nodes[NODES[1]].drain.start(DRAIN_S)
        )

    def note_fault(self) -> None:
        """Without actors nothing ends but in order."""
        if self.has_actors:
            super().note_fault()

    def note_start(self, execution: Execution) -> None:
        """No attempt is consumed."""
        super().note_start(execution)
        message = execution.message
        if type(message) is m.Run and not self.has_actors:
            assert message.attempt == 0, f"{message} runs again"

    def drained(self, node: SimNode, left: str) -> None:
        self.drained_at = self.clock.now
        assert not left or self.has_actors, f"{left} left at the deadline"
        for process in self.living(node.name):
            self.network.remove(process.address, is_clean=True)
        self.network.remove(node.address, is_clean=True)


def run(seed: int) -> DrainWorld:
    """One world, to its rest."""
    world = DrainWorld(seed)
    try:
        world.run()
        assert world.drained_at is not None, "the node was not drained"
    except Exception as error:
        error.add_note(f"at {world.clock.now:.4f} s")
        raise
    return world


@pytest.mark.timeout(60 + 2 * SEEDS)
@pytest.mark.parametrize("part", range(2))
def test_a_drain_loses_nothing(part: int) -> None:
    for seed in range(FIRST + part, FIRST + SEEDS, 2):
        try:
            run(seed)
        except Exception as error:
            pytest.fail(
                f"seed {seed} {error.__notes__[0]}: {type(error).__name__}: {error}\n"
                f"replay: FREEHOLD_SIM_FIRST={seed} FREEHOLD_SIM_SEEDS=2 "
                f"python -m pytest tests/simulation/test_drain.py"
            )
