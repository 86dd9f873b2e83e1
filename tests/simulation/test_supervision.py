"""Scenarios: objects whose owners died, made again by whoever owns the tasks that made them.

Every scenario must also come to rest with nothing left (`World.judge`): that a spec or a replay's
output that is not needed any more ends is tested by each of them.
"""

from __future__ import annotations

from tests.simulation.runner import Steps
from tests.simulation.scenario import Body, Part, Scenario


def pause(part: Part) -> Steps:
    """A task that is under way when whoever submitted it has ended."""
    yield ("sleep", 0.5)
    return [([], False)]


def maker(part: Part) -> Steps:
    """A task whose result refers to a child of its own, which it owns and which is not done."""
    child = part.submit("pause")
    yield ("sleep", 0.01)
    return [([child], False)]


def passer(part: Part) -> Steps:
    """A task that passes on what its child has made, and keeps nothing of it."""
    made = part.submit("maker")
    inside = yield from part.get(made)
    return [(inside, False)]


def passer_above(part: Part) -> Steps:
    """The same, one generation further up."""
    passed = part.submit("passer")
    inside = yield from part.get(passed)
    return [(inside, False)]


def wants_it_after(first: str, *killed: str) -> Body:
    """A driver that is handed `maker`'s child by the task `first`, whose reference it drops, and
    gets it when the workers that ran `killed` are dead."""

    def driver(part: Part) -> Steps:
        handed = part.submit(first)
        (child,) = yield from part.get(handed)
        del handed
        yield ("sleep", 0.1)
        for name in killed:
            part.kill(name)
        yield from part.get(child)
        return []

    return driver


def test_what_a_dead_worker_owned_is_made_again_by_its_tasks_owner() -> None:
    """The caller of a task whose result it has let go of executes it again for a child of it."""

    driver = wants_it_after("maker", "maker")
    world = Scenario(driver, maker, pause)
    world.run()
    assert len(world.ran["maker"]) == 2


def test_a_spec_goes_with_the_last_reference_to_what_its_task_made() -> None:
    """A worker says when nobody holds any more what a task made there."""

    def driver(part: Part) -> Steps:
        made = part.submit("maker")
        (child,) = yield from part.get(made)
        del made
        yield from part.get(child)
        assert part.process.owner.supervision.by_row
        del child
        yield ("sleep", 1.0)
        assert not part.process.owner.supervision.by_row
        return []

    Scenario(driver, maker, pause).run()


def test_what_a_grandchild_owned_is_made_again_though_both_workers_between_are_dead() -> None:
    """The driver holds neither the child nor the grandchild: their specs are kept all the same.

    The middle worker owns nothing that anybody holds. It supervises, and that is enough for its
    own spec to be kept.
    """

    driver = wants_it_after("passer", "passer", "maker")
    world = Scenario(driver, passer, maker, pause)
    world.run()
    assert len(world.ran["passer"]) == len(world.ran["maker"]) == 2


def test_what_is_wanted_is_passed_on_over_three_generations() -> None:
    """Each replay tells the child that leads to what is wanted, and only the last one makes it."""

    driver = wants_it_after("passer_above", "passer_above", "passer", "maker")
    world = Scenario(driver, passer_above, passer, maker, pause)
    world.run()
    assert {name: len(addresses) for name, addresses in world.ran.items() if name != "pause"} == {
        "passer_above": 2,
        "passer": 2,
        "maker": 2,
    }


def test_the_nearest_supervisor_that_lives_may_execute_the_task_itself() -> None:
    """If only the worker at the end is dead, the one above it executes its task again.

    It may be leased to itself for that: then what others ask it for is what it makes now.
    """

    driver = wants_it_after("passer", "maker")
    world = Scenario(driver, passer, maker, pause, cpus=(1, 0))
    world.run()
    assert len(world.ran["passer"]) == 1
    assert len(world.ran["maker"]) == 2
    assert world.ran["maker"][1] == world.ran["passer"][0]
