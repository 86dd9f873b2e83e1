"""The simulated cluster, from many seeds. A failing seed prints the command that replays it."""

from __future__ import annotations

import os

import pytest
from tests.simulation.world import FAULTS, World

SEEDS = int(os.environ.get("FREEHOLD_SIM_SEEDS", "200"))
FIRST = int(os.environ.get("FREEHOLD_SIM_FIRST", "0"))
PARTS = 10
"""Tests that the seeds are spread over, so that one failure does not hide the rest."""


@pytest.mark.timeout(60 + 2 * SEEDS)
@pytest.mark.parametrize("part", range(PARTS))
def test_clusters_come_to_rest_with_right_values(part: int) -> None:
    """SIM-1 … SIM-5 for every seed: nobody waits for ever, nothing dangles, nothing is left."""
    for seed in range(FIRST + part, FIRST + SEEDS, PARTS):
        world = World(seed)
        try:
            world.run()
        except Exception as error:
            pytest.fail(
                f"seed {seed} ({world.faults}) at {world.clock.now:.4f} s: "
                f"{type(error).__name__}: {error}\n"
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
    worlds = [World(seed) for seed in range(200)]
    for world in worlds:
        world.run()
    assert {world.faults for world in worlds} == set(FAULTS)
    assert sum(world.left for world in worlds) > 20, "hardly any worker left"
    assert sum(world.network.lost for world in worlds) > 0, "no message was ever lost"
    assert sum(len(world.network.resets) for world in worlds) > 5
    failures = sum((world.failures for world in worlds), start=worlds[0].failures.__class__())
    assert failures[b"WorkerCrashedError"] + failures[b"NodeDiedError"] > 0
    assert sum(len(world.dropped) for world in worlds) > 20, "hardly any argument went early"
    assert sum(world.retried_after_drop for world in worlds) > 3, "none was wanted again"
    assert sum(sum(world.starts.values()) for world in worlds) > 500, "hardly any task ran"
