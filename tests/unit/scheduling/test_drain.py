"""A node that drains grants nothing; keepers of other nodes' rows."""

from __future__ import annotations

from tests.unit.scheduling.world import CPU1, DRIVER, OTHER, SECOND, THIRD, World, node_info, of

from freehold._core.ids import Address
from freehold._core.resources import make_shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.workers import IDLE, KEEPER

MANAGER = Address(OTHER, 0)
ACTOR = b"a" * 16


def seen(world: World, *nodes: str, **room: float) -> None:
    """The view has these nodes."""
    infos = [node_info(node, free=room or {"CPU": 4}, CPU=4) for node in nodes]
    world.tell(ev.ViewChanged(infos))


def test_what_waits_is_sent_to_other_nodes() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.want(4)
    seen(world, OTHER, CPU=0)
    sent = world.tell(ev.DrainStarted("test"))
    assert sent == [ev.SpillBack(DRIVER, 0, 3, OTHER)]


def test_a_demand_that_comes_later_is_sent_on_at_once() -> None:
    world = World(CPU=4)
    world.idle(2)
    seen(world, OTHER)
    world.tell(ev.DrainStarted("test"))
    assert world.want(2) == [ev.SpillBack(DRIVER, 0, 2, OTHER)]
    assert world.want(1, spilled=True, owner=SECOND) == [ev.SpillBack(SECOND, 0, 1, OTHER)]
    assert world.want(1, (), owner=SECOND, key=1) == [ev.SpillBack(SECOND, 1, 1, OTHER)]


def test_what_no_other_node_can_run_waits_for_one_that_can() -> None:
    world = World(CPU=4)
    world.tell(ev.DrainStarted("test"))
    assert world.want(2) == []
    seen(world, OTHER)
    assert world.machine.lines.queued() == {}


def test_a_lease_that_ends_is_not_granted_again() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.tell(ev.DrainStarted("test"))
    assert world.want(1, owner=SECOND) == []
    world.tell(ev.WorkerLeaving(1, "its node drains"))
    assert world.tell(ev.LeaseReturned(DRIVER, 1)) == [ev.AskExit(1, "its node drains")]


def test_a_worker_that_comes_up_late_is_not_used() -> None:
    world = World(CPU=2, GPU=1)
    gpu = make_shape({"CPU": 1, "GPU": 1})
    world.want(1)
    world.want(1, gpu, key=1)
    world.tell(ev.DrainStarted("test"))
    ended = world.start_all()
    assert sorted(kill.process for kill in of(ended, ev.KillWorker)) == [1, 2]
    assert not of(ended, ev.GrantLease)


def test_actors_are_rejected_so_that_they_are_placed_elsewhere() -> None:
    world = World(CPU=1)
    world.tell(ev.ActorPlacementRequested(ACTOR, 0, CPU1))
    (rejected,) = world.tell(ev.DrainStarted("test"))
    assert isinstance(rejected, ev.RejectActor)
    assert not rejected.is_final
    assert of(world.tell(ev.ActorPlacementRequested(ACTOR, 1, CPU1)), ev.RejectActor)


def test_a_node_that_drains_is_no_target() -> None:
    world = World(CPU=1)
    seen(world, OTHER, THIRD)
    info = node_info(OTHER, free={"CPU": 4}, CPU=4)
    info.state = "draining"
    world.tell(ev.ViewChanged([info]))
    big = make_shape({"CPU": 3})
    assert world.want(2, big) == [ev.SpillBack(DRIVER, 0, 2, THIRD)]


def test_a_shape_that_only_a_draining_node_fits_waits_as_after_a_death() -> None:
    world = World(CPU=1)
    seen(world, OTHER)
    info = node_info(OTHER, free={"CPU": 4}, CPU=4)
    info.state = "draining"
    world.tell(ev.ViewChanged([info]))
    assert world.want(1, make_shape({"CPU": 3})) == []


# ---- keepers -------------------------------------------------------------------------------------


def test_an_idle_worker_becomes_the_keeper_and_runs_nothing() -> None:
    world = World(CPU=2)
    world.idle(1)
    assert world.tell(ev.KeeperRequested(MANAGER, 4)) == [ev.NameKeeper(MANAGER, 4, 1)]
    assert world.machine.pool.by_process[1].state == KEEPER
    assert of(world.want(1), ev.StartWorker)
    # A second node that drains gets the same one.
    other = Address(THIRD, 0)
    assert world.tell(ev.KeeperRequested(other, 1)) == [ev.NameKeeper(other, 1, 1)]
    assert of(world.pass_time(60.0), ev.KillWorker) == []


def test_without_an_idle_worker_one_is_started() -> None:
    world = World(CPU=2)
    (start,) = world.tell(ev.KeeperRequested(MANAGER, 4))
    assert isinstance(start, ev.StartWorker)
    named = world.tell(ev.WorkerStarted(start.start, 9, 7))
    assert named == [ev.NameKeeper(MANAGER, 4, 9)]


def test_a_keeper_that_owns_nothing_any_more_is_idle_again() -> None:
    world = World(CPU=2)
    world.idle(1)
    world.tell(ev.KeeperRequested(MANAGER, 4))
    world.tell(ev.OwningChanged(1, True))
    assert world.machine.pool.by_process[1].state == KEEPER
    world.tell(ev.OwningChanged(1, False))
    assert world.machine.pool.by_process[1].state == IDLE


def test_a_node_that_drains_has_no_keeper() -> None:
    world = World(CPU=2)
    world.idle(1)
    world.tell(ev.DrainStarted("test"))
    assert world.tell(ev.KeeperRequested(MANAGER, 4)) == [ev.NameKeeper(MANAGER, 4, 0)]
