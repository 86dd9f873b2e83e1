"""Actors that move with a drain, or get another owner; nothing of it costs a restart."""

from __future__ import annotations

from tests.unit.actors.test_directory import (
    CRASH,
    DRIVER,
    HOME,
    NODE,
    OTHER,
    WATCHER,
    A,
    World,
    states,
)

from freehold._core.actors import events as ev
from freehold._core.ids import Address
from freehold._core.messages import (
    ActorAdopted,
    ActorEnded,
    ActorLeft,
    ActorStarted,
    ExitCause,
    NodeInfo,
    ProcessGone,
    WatchActor,
)
from freehold._core.resources import make_shape

AWAY = Address(OTHER, 8)


def draining(world: World, node: str = NODE) -> list[ev.ActorEffect]:
    """Membership says that a node drains."""
    total = dict(make_shape({"CPU": 2}))
    info = NodeInfo(node, 0, total, dict(total), state="draining", reason="scale-down")
    return world.tell(ev.ViewChanged([info]))


def test_callers_hear_that_it_moves_and_its_node_whom_to_wait_for() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.alive(max_restarts=1)
    world.ask(WATCHER, WatchActor(A))
    effects = draining(world)
    assert states(effects) == [(DRIVER, "moving"), (WATCHER, "moving")]
    moves = [effect for effect in effects if isinstance(effect, ev.MoveActorFrom)]
    assert [(move.node, move.callers) for move in moves] == [(NODE, [DRIVER, WATCHER])]
    assert draining(world) == []


def test_when_it_has_left_it_is_restarted_elsewhere_for_nothing() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.alive(max_restarts=1)
    draining(world)
    effects = world.tell(ActorLeft(A, 0))
    placed = [effect for effect in effects if isinstance(effect, ev.PlaceActorOn)]
    assert [(place.node, place.restart) for place in placed] == [(OTHER, 1)]
    world.tell(ActorStarted(A, 1, AWAY))
    world.tell(ActorEnded(A, 0, ExitCause(0), True))  # its old process
    # It may still be restarted once: the move was not counted.
    assert states(world.tell(ActorEnded(A, 1, CRASH)))[0] == (DRIVER, "restarting")
    world.tell(ActorStarted(A, 2, AWAY))
    assert states(world.tell(ActorEnded(A, 2, CRASH)))[0] == (DRIVER, "dead")


def test_one_that_may_not_be_restarted_stays() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.alive(max_restarts=0)
    assert states(draining(world)) == []


def test_a_move_that_crashes_is_a_restart_as_ever() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.alive(max_restarts=1)
    draining(world)
    assert states(world.tell(ActorEnded(A, 0, CRASH)))[0] == (DRIVER, "restarting")
    world.tell(ActorStarted(A, 1, AWAY))
    assert states(world.tell(ActorEnded(A, 1, CRASH)))[0] == (DRIVER, "dead")


def test_one_that_starts_on_a_node_that_drains_moves_at_once() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.register(max_restarts=-1)
    draining(world)
    effects = world.tell(ActorStarted(A, 0, HOME))
    assert [state for _, state in states(effects)] == ["alive", "moving"]


def test_nothing_is_placed_on_a_node_that_drains() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    draining(world)
    placed = [e for e in world.register() if isinstance(e, ev.PlaceActorOn)]
    assert [place.node for place in placed] == [OTHER]


def test_word_of_leaving_that_comes_twice_or_late_is_ignored() -> None:
    world = World(**{NODE: 2.0, OTHER: 2.0})
    world.alive(max_restarts=1)
    assert world.tell(ActorLeft(A, 0)) == []
    draining(world)
    world.tell(ActorLeft(A, 0))
    assert world.tell(ActorLeft(A, 0)) == []


def test_an_adopted_actor_outlives_its_former_owner() -> None:
    world = World()
    world.alive()
    world.ask(DRIVER, ActorAdopted(A, WATCHER))
    assert states(world.tell(ProcessGone(DRIVER, ExitCause(0)))) == []
    assert states(world.tell(ProcessGone(WATCHER, ExitCause(0)))) == []
    assert world.directory.snapshot().alive == 0


def test_only_its_owner_gives_an_actor_away() -> None:
    world = World()
    world.alive()
    world.ask(WATCHER, ActorAdopted(A, WATCHER))
    world.tell(ProcessGone(DRIVER, ExitCause(0)))
    assert world.directory.snapshot().alive == 0
