"""Scenarios: stored values that are gone, with their node or because their last use was over.

Every scenario must also come to rest with nothing left (`World.judge`): that specs and arguments
kept for another execution end with the need for one is tested by each of them.
"""

from __future__ import annotations

import pytest
from tests.simulation.parts import UserError
from tests.simulation.runner import Steps
from tests.simulation.scenario import Part, Scenario
from tests.simulation.world import NODES

from freehold._core import messages as m


def pause(part: Part) -> Steps:
    """A task that keeps a CPU for a while."""
    yield ("sleep", 0.1)
    return [([], False)]


def stored(part: Part) -> Steps:
    """A task whose value goes into the store."""
    yield ("sleep", 0.01)
    return [([], True)]


def plain(part: Part) -> Steps:
    """A task with a small value."""
    yield ("sleep", 0.01)
    return [([], False)]


# ---- a node's death ------------------------------------------------------------------------------


def lost_with_its_node(part: Part, max_retries: int = 3) -> Steps:
    """A value that was stored on the other node, which is dead; a CPU is free here again."""
    busy = part.submit("pause")
    yield ("sleep", 0.05)
    value = part.submit("stored", max_retries=max_retries)
    yield from part.get(value)
    yield from part.get(busy)
    assert part.world.ran["stored"][-1].node == NODES[1]
    part.world.kill_node(part.world.nodes[NODES[1]])
    yield ("sleep", 0.1)
    return value


def test_a_value_lost_with_its_node_is_made_again() -> None:
    """Its task is executed again as soon as somebody wants it."""

    def driver(part: Part) -> Steps:
        value = yield from lost_with_its_node(part)
        assert len(part.world.ran["stored"]) == 1
        yield from part.get(value)
        return []

    world = Scenario(driver, pause, stored, cpus=(1, 1))
    world.run()
    assert len(world.ran["stored"]) == 2


def test_a_task_that_may_run_once_is_not_executed_for_its_lost_value() -> None:
    """`max_retries=0` says that its effects must not come twice: the value stays lost."""

    def driver(part: Part) -> Steps:
        value = yield from lost_with_its_node(part, max_retries=0)
        error = yield from part.failure(value)
        assert error == "ObjectReconstructionFailedError"
        return []

    world = Scenario(driver, pause, stored, cpus=(1, 1))
    world.run()
    assert len(world.ran["stored"]) == 1


def test_a_task_waits_for_a_lost_argument_to_be_made_again() -> None:
    """The worker cannot read it and says so; the task is sent again when it is there."""

    def user(part: Part) -> Steps:
        yield ("sleep", 0.01)
        return [([], False)]

    def driver(part: Part) -> Steps:
        value = yield from lost_with_its_node(part)
        used = part.submit("user", args=[value])
        yield from part.get(used)
        return []

    world = Scenario(driver, pause, stored, user, cpus=(1, 1))
    world.run()
    assert len(world.ran["stored"]) == 2
    assert len(world.ran["user"]) == 1


# ---- eager release -------------------------------------------------------------------------------


def user(part: Part) -> Steps:
    """A task that lets go of its arguments and goes on for a while."""
    part.check_arguments()
    part.drop_arguments()
    yield ("sleep", 0.2)
    return [([], False)]


def used_and_killed(part: Part, args: list[object], kills: int = 1) -> Steps:
    """Have `user` executed with arguments of which it alone has a use, and killed while it runs."""
    used = part.submit("user", args=args)  # type: ignore[arg-type]
    args.clear()
    for _ in range(kills):
        yield ("sleep", 0.1)
        part.kill("user")
    yield from part.get(used)
    return None


def test_what_can_be_made_again_is_let_go_of_at_its_last_use() -> None:
    """While the task runs on; and what it needs is gone with its end, even without a retry."""

    def driver(part: Part) -> Steps:
        value = part.submit("stored")
        yield from part.get(value)
        used = part.submit("user", args=[value])
        del value
        yield ("sleep", 0.1)
        assert not any(node.store.ranges for node in part.world.nodes.values())
        yield from part.get(used)
        return []

    Scenario(driver, stored, user).run()


@pytest.mark.parametrize("kills", [1, 2])
def test_a_retry_has_it_made_again_and_a_second_one_finds_it(kills: int) -> None:
    """What was made again for a retry is held to its end: executions are bounded."""

    def driver(part: Part) -> Steps:
        value = part.submit("stored")
        yield from part.get(value)
        args: list[object] = [value]
        del value
        yield from used_and_killed(part, args, kills)
        return []

    world = Scenario(driver, stored, user)
    world.run()
    assert len(world.ran["user"]) == kills + 1
    assert len(world.ran["stored"]) == 2


@pytest.mark.parametrize("made_of", ["itself", "the put", "the put and a task's value"])
def test_a_retry_finds_what_nobody_can_make_again(made_of: str) -> None:
    """A put, and what is made of one that is gone, is held until the task cannot be retried."""

    def driver(part: Part) -> Steps:
        args: list[object] = [part.put(is_stored=True)]
        if made_of != "itself":
            if made_of != "the put":
                args.append(part.submit("plain"))
            args = [part.submit("stored", args=args)]  # type: ignore[arg-type]
            yield from part.get(args[0])  # type: ignore[arg-type]
            yield ("sleep", 0.1)
        yield from used_and_killed(part, args)
        return []

    world = Scenario(driver, plain, stored, user)
    world.run()
    assert len(world.ran["user"]) == 2
    assert len(world.ran["stored"]) == (made_of != "itself")


def test_a_retry_finds_what_can_be_made_again_beside_what_cannot() -> None:
    """That the task itself could not be executed once more does not change what its retry needs."""

    def driver(part: Part) -> Steps:
        value = part.submit("stored")
        yield from part.get(value)
        args: list[object] = [value, part.put(is_stored=True)]
        del value
        yield from used_and_killed(part, args)
        return []

    world = Scenario(driver, stored, user)
    world.run()
    assert len(world.ran["user"]) == len(world.ran["stored"]) == 2


def test_late_word_of_an_earlier_attempt_is_ignored() -> None:
    """The attempt under way may still use what the one before had let go of."""

    def unsteady(part: Part) -> Steps:
        if part.attempt("unsteady") == 0:
            part.drop_arguments()
            yield ("sleep", 0.1)
            raise UserError
        yield ("sleep", 0.2)
        part.check_arguments()
        return [([], False)]

    def driver(part: Part) -> Steps:
        value = part.put(is_stored=True)
        used = part.submit("unsteady", args=[value], max_retries=1, retry_exceptions=True)
        late = m.ArgumentsDropped(used._row.key, 0, value.binary())
        yield ("sleep", 0.2)
        (first, second) = part.world.ran["unsteady"]
        assert first == second
        part.world.network.send(second, part.process.address, late)
        del value
        yield from part.get(used)
        return []

    Scenario(driver, unsteady).run()
