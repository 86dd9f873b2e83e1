"""The simulated cluster, from many seeds. A failing seed prints the command that replays it."""

from __future__ import annotations

import functools
import os
from collections import Counter
from dataclasses import dataclass

import pytest
from tests.simulation.world import FAULTS, World

SEEDS = int(os.environ.get("FREEHOLD_SIM_SEEDS", "200"))
FIRST = int(os.environ.get("FREEHOLD_SIM_FIRST", "0"))
PARTS = 2
"""Tests that the seeds of a kind of fault are spread over: one failure does not hide the rest."""


@dataclass(frozen=True)
class Seen:
    """What happened in one world."""

    faults: str
    left: int
    lost: int
    resets: int
    failures: Counter[bytes]
    dropped: int
    retried_after_drop: int
    starts: int


@functools.cache
def _run(seed: int) -> Seen:
    """One world's run, which several tests look at."""
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"at {world.clock.now:.4f} s")
        raise
    return Seen(
        world.faults,
        world.left,
        world.network.lost,
        len(world.network.resets),
        world.failures,
        len(world.dropped),
        world.retried_after_drop,
        sum(world.starts.values()),
    )


@pytest.mark.timeout(60 + SEEDS)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("faults", FAULTS)
def test_clusters_come_to_rest_with_right_values(faults: str, part: int) -> None:
    """SIM-1 … SIM-6 for every seed: nobody waits for ever, nothing dangles, nothing is left."""
    for seed in range(FIRST, FIRST + SEEDS):
        if FAULTS[seed % len(FAULTS)] != faults or seed // len(FAULTS) % PARTS != part:
            continue
        try:
            _run(seed)
        except Exception as error:
            pytest.fail(
                f"seed {seed} ({faults}) {error.__notes__[0]}: {type(error).__name__}: {error}\n"
                f"replay: FREEHOLD_SIM_FIRST={seed} FREEHOLD_SIM_SEEDS=1 "
                f"python -m pytest tests/simulation -k come_to_rest"
            )


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same events, so that a failure can be looked at again."""
    seen = []
    for _ in range(2):
        world = World(13)
        world.run()
        seen.append((world.clock.events, world.clock.now, world.failures, world.starts))
    assert seen[0] == seen[1]


def test_faults_happen_and_are_survived() -> None:
    """The seeds do exercise crashes, a node's death and broken connections, not only calm."""
    seen = [_run(seed) for seed in range(200)]
    assert {one.faults for one in seen} == set(FAULTS)
    assert sum(one.left for one in seen) > 20, "hardly any worker left"
    assert sum(one.lost for one in seen) > 0, "no message was ever lost"
    assert sum(one.resets for one in seen) > 5
    failures = sum((one.failures for one in seen), start=Counter[bytes]())
    assert failures[b"WorkerCrashedError"] + failures[b"NodeDiedError"] > 0
    assert sum(one.dropped for one in seen) > 20, "hardly any argument went early"
    assert sum(one.retried_after_drop for one in seen) > 3, "none was wanted again"
    assert sum(one.starts for one in seen) > 500, "hardly any task ran"
