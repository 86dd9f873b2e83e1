"""Scenarios: tasks that were sent to a worker and that it does not begin.

A worker that runs short tasks is sent the next before the last has ended. Every scenario must also
come to rest with every lease given back (`World.judge`).
"""

from __future__ import annotations

from tests.simulation.runner import Steps
from tests.simulation.scenario import Part, Scenario


def quick(part: Part) -> Steps:
    """A task so short that the next is sent before it has ended."""
    yield ("sleep", 0.0001)
    return [([], False)]


def and_one_behind(part: Part, name: str) -> Steps:
    """Have `name` and a quick task sent to the one worker there is; both must end."""
    for _ in range(3):
        yield from part.get(part.submit("quick"))
    first, behind = part.submit(name), part.submit("quick")
    (lease,) = part.process.owner.leasing.leases.values()
    assert len(lease.inflight) == 2, "the quick task was not sent"
    yield from part.get(behind)
    yield from part.get(first)
    return None


def test_what_waits_behind_a_task_that_waits_is_run_elsewhere() -> None:
    """A worker whose task waits gives back what it has not begun, and its CPU with it."""

    def patient(part: Part) -> Steps:
        yield from part.get(part.submit("slow", needs_cpu=False))
        return [([], False)]

    def slow(part: Part) -> Steps:
        yield ("sleep", 0.5)
        return [([], False)]

    def driver(part: Part) -> Steps:
        yield from and_one_behind(part, "patient")
        return []

    world = Scenario(driver, quick, patient, slow, cpus=(1, 0))
    world.run()
    assert world.ran["quick"][-1] != world.ran["patient"][0]


def test_what_waits_behind_a_workers_last_task_is_run_elsewhere() -> None:
    """A worker that reaches `max_calls` leaves, and what it was sent meanwhile did not begin."""

    def last(part: Part) -> Steps:
        part.leave()
        yield ("sleep", 0.01)
        return [([], False)]

    def driver(part: Part) -> Steps:
        yield from and_one_behind(part, "last")
        return []

    world = Scenario(driver, quick, last, cpus=(1, 0))
    world.run()
    assert world.left == 1
    assert world.ran["quick"][-1] != world.ran["last"][0]
