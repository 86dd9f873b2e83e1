"""Actors on a node, leases sent to other nodes, reports and explanations."""

from __future__ import annotations

from tests.unit.scheduling.world import (
    CPU1,
    DRIVER,
    NODE,
    OTHER,
    SECOND,
    THIRD,
    World,
    node_info,
    of,
)

from freehold._core.limits import REPLACEMENT_S
from freehold._core.messages import ExitCause
from freehold._core.resources import UNIT, make_shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.machine import LOOK_AGAIN_S
from freehold._core.scheduling.policy import NodeRoom, pick_node

ACTOR = b"a" * 16


def place(world: World, actor: bytes = ACTOR, **amounts: float) -> list[ev.SchedulingEffect]:
    return world.tell(ev.ActorPlacementRequested(actor, 0, make_shape(amounts)))


def test_an_actor_gets_an_idle_worker_of_its_own() -> None:
    world = World(CPU=2)
    world.idle(1)
    assert place(world, CPU=1) == [ev.AssignActor(ACTOR, 0, 1, 7, [])]
    assert world.available == {"CPU": 1}
    assert world.want(1) == [ev.StartWorker(2, "", [])]


def test_an_actor_does_not_get_a_worker_that_owns_objects() -> None:
    world = World(CPU=2)
    world.idle(2)
    world.tell(ev.OwningChanged(1, True))
    assert of(place(world), ev.AssignActor)[0].process == 2
    assert place(world, b"b") == [ev.StartWorker(3, "", [])]


def test_an_actor_waits_for_room_like_a_lease() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    assert place(world, CPU=1) == [ev.AskReturnIdle(DRIVER, 1)]
    assert world.tell(ev.LeaseReturned(DRIVER, 1)) == [ev.AssignActor(ACTOR, 0, 1, 7, [])]


def test_an_actor_that_can_never_fit_is_rejected() -> None:
    world = World(CPU=1)
    (effect,) = place(world, CPU=2)
    assert isinstance(effect, ev.RejectActor)
    assert not effect.is_final
    assert "CPU: 2 needed, 1 there" in effect.reason


def test_saying_a_placement_twice_places_it_once() -> None:
    world = World(CPU=2)
    world.idle(2)
    place(world)
    assert place(world) == []


def test_a_blocked_actor_gives_its_cpu_back() -> None:
    world = World(CPU=1)
    world.idle(2)
    place(world, CPU=1)
    world.want(1)
    assert len(of(world.tell(ev.TaskBlocked(2, True)), ev.GrantLease)) == 1


def test_an_actors_end_is_reported_and_frees_its_room() -> None:
    world = World(CPU=1)
    world.idle(1)
    place(world, CPU=1)
    cause = ExitCause(code=3)
    assert world.tell(ev.WorkerExited(1, cause, is_intended=True)) == [
        ev.ReportActorEnded(ACTOR, 0, 1, cause, True)
    ]
    assert world.available == {"CPU": 1}


def test_an_unplaced_actors_process_is_killed_and_holds_its_room_until_then() -> None:
    world = World(CPU=1)
    world.idle(1)
    place(world, CPU=1)
    assert world.tell(ev.ActorUnplaced(ACTOR, 0, reason="killed")) == [ev.KillWorker(1, "killed")]
    assert world.tell(ev.ActorUnplaced(ACTOR, 0, reason="killed")) == []
    assert world.available == {"CPU": 0}
    assert world.exited(1) == [ev.ReportActorEnded(ACTOR, 0, 1, ExitCause(signal=9), False)]


def test_an_actor_is_asked_to_end_and_killed_after_its_grace() -> None:
    world = World(CPU=1)
    world.idle(1)
    place(world)
    assert world.tell(ev.ActorUnplaced(ACTOR, 0, 2.0, "unused")) == [ev.AskExit(1, "unused")]
    assert world.pass_time(1.9) == []
    assert [type(e) for e in world.pass_time(0.2)] == [ev.KillWorker]
    (effect,) = of(world.exited(1), ev.ReportActorEnded)
    assert effect.is_intended


def test_an_actor_that_waited_is_taken_back_without_a_process() -> None:
    world = World(CPU=1)
    place(world, CPU=1)
    assert of(world.tell(ev.ActorUnplaced(ACTOR, 0)), ev.ReportActorEnded)[0].process == 0
    world.start_all()
    assert world.machine.snapshot().actors == 0


def test_an_actor_taken_back_while_its_devices_worker_starts_never_lives() -> None:
    world = World(CPU=1, GPU=1)
    place(world, GPU=1)
    world.tell(ev.ActorUnplaced(ACTOR, 0))
    assert [type(e) for e in world.start_all()] == [ev.KillWorker]
    assert world.available["GPU"] == 0
    world.exited(1)
    assert world.available["GPU"] == 1


# ---- other nodes -------------------------------------------------------------------------------


def test_what_never_fits_here_is_sent_where_it_does() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={}, CPU=4)]))
    assert world.want(3, make_shape({"CPU": 4})) == [ev.SpillBack(DRIVER, 0, 3, OTHER)]


def test_what_never_fits_here_is_sent_on_even_if_another_node_sent_it() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"x": 1}, x=1)]))
    effects = world.want(1, make_shape({"x": 1}), spilled=True)
    assert effects == [ev.SpillBack(DRIVER, 0, 1, OTHER)]


def test_spilled_leases_count_as_answered() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 4}, CPU=4)]))
    shape = make_shape({"CPU": 4})
    world.want(3, shape)
    assert world.want(3, shape) == []
    assert world.want(4, shape) == [ev.SpillBack(DRIVER, 0, 1, OTHER)]


def test_a_lease_spills_back_when_the_node_is_full() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 2}, CPU=2)]))
    effects = world.want(5)
    assert of(effects, ev.SpillBack) == [ev.SpillBack(DRIVER, 0, 2, OTHER)]
    assert world.machine.snapshot().queued == {"CPU: 1": 3}


def test_a_demand_that_was_sent_here_stays() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 2}, CPU=2)]))
    assert of(world.want(5, spilled=True), ev.SpillBack) == []


def test_a_burst_is_charged_to_the_view_until_the_next_one() -> None:
    world = World(CPU=1)
    info = node_info(free={"CPU": 2}, CPU=2)
    world.tell(ev.ViewChanged([info]))
    world.want(3)
    assert of(world.want(1, owner=SECOND), ev.SpillBack) == []
    effects = world.tell(ev.ViewChanged([info]))
    assert [e.count for e in of(effects, ev.SpillBack)] == [1]
    assert info.available == {"CPU": 2 * UNIT}


def test_what_waits_is_sent_away_when_another_node_has_room() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.want(2, owner=SECOND)
    effects = world.tell(ev.ViewChanged([node_info(free={"CPU": 1}, CPU=2)]))
    assert of(effects, ev.SpillBack) == [ev.SpillBack(SECOND, 0, 1, OTHER)]


def test_what_came_after_the_last_news_is_sent_away_without_any() -> None:
    world = World(CPU=1)
    world.idle(2)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 1}, CPU=1)]))
    place(world, CPU=1)
    assert of(place(world, b"b" * 16, CPU=1), ev.RejectActor) == []
    assert of(world.pass_time(LOOK_AGAIN_S - 0.01), ev.RejectActor) == []
    (rejected,) = of(world.pass_time(0.02), ev.RejectActor)
    assert rejected.actor == b"b" * 16
    assert not rejected.is_final


def test_room_that_was_charged_and_not_used_is_found_again() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 1}, CPU=1)]))
    world.want(2)
    world.start_all()
    assert of(world.want(1, owner=SECOND), ev.SpillBack) == []
    assert of(world.pass_time(LOOK_AGAIN_S + 0.01), ev.SpillBack) == [
        ev.SpillBack(SECOND, 0, 1, OTHER)
    ]


def test_nothing_is_sent_to_a_lost_node() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 2}, CPU=2)]))
    world.tell(ev.NodeLost(OTHER, 0))
    assert of(world.want(5), ev.SpillBack) == []


def test_what_only_a_dead_node_fitted_waits_for_another_of_its_kind() -> None:
    shape = make_shape({"x": 1})
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"x": 1}, x=1)]))
    world.tell(ev.NodeLost(OTHER, 0))
    world.want(1, owner=SECOND)
    world.start_all()
    assert world.want(1, shape) == []
    assert of(world.pass_time(REPLACEMENT_S - 1), ev.ReportInfeasible) == []
    assert of(world.tell(ev.ViewChanged([node_info(THIRD, free={"x": 1}, x=1)])), ev.SpillBack) == [
        ev.SpillBack(DRIVER, 0, 1, THIRD)
    ]


def test_it_does_not_wait_for_ever_and_nobody_is_asked_for_leases_meanwhile() -> None:
    shape = make_shape({"x": 1})
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"x": 1}, x=1)]))
    dead = node_info(free={}, x=1)
    dead.is_alive = False
    world.tell(ev.ViewChanged([dead]))
    world.want(1, owner=SECOND)
    world.start_all()
    world.want(1, shape)
    world.want(1, shape, SECOND, key=7, spilled=True)
    effects = world.pass_time(REPLACEMENT_S + LOOK_AGAIN_S)
    refused = of(effects, ev.ReportInfeasible)
    assert [(effect.owner, effect.key) for effect in refused] == [(DRIVER, 0), (SECOND, 7)]
    assert of(effects, ev.AskReturnIdle) == []
    assert len(of(world.want(1, make_shape({"y": 1}), key=1), ev.ReportInfeasible)) == 1


def test_shapes_without_resources_stay() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 2}, CPU=2)]))
    assert of(world.want(9, ()), ev.SpillBack) == []


def room(node: str, total: float, free: float) -> NodeRoom:
    return NodeRoom(node, {"CPU": round(total * UNIT)}, {"CPU": round(free * UNIT)})


def test_the_asked_node_is_packed_until_half_full_then_the_least_used_is_taken() -> None:
    idle = [room(OTHER, 4, 4), room(THIRD, 4, 4)]
    assert pick_node(CPU1, room(NODE, 4, 3), idle).kind == "here"
    assert pick_node(CPU1, room(NODE, 4, 2), idle).node == OTHER
    assert pick_node(CPU1, room(NODE, 4, 2), [room(OTHER, 4, 3), idle[1]]).node == THIRD
    assert pick_node(CPU1, room(NODE, 4, 2), [room(OTHER, 4, 2)]).kind == "here"
    assert pick_node(CPU1, room(NODE, 4, 0), [room(OTHER, 4, 0)]).kind == "wait"
    assert pick_node(CPU1, room(NODE, 0, 0), [room(OTHER, 4, 0)]).kind == "wait there"
    assert pick_node(CPU1, room(NODE, 0, 0), []).kind == "nowhere"


# ---- reports -----------------------------------------------------------------------------------


def test_changes_are_reported_at_once_and_then_at_most_every_period() -> None:
    world = World(CPU=2)
    world.idle(2)
    world.pass_time(10.0)
    world.reports.clear()
    world.want(1)
    assert [r.available for r in world.reports] == [{"CPU": UNIT}]
    world.want(5)
    assert len(world.reports) == 1
    world.pass_time(0.11)
    assert [(r.available, r.queued) for r in world.reports[1:]] == [({"CPU": 0}, {"CPU: 1": 3})]
    world.pass_time(10.0)
    assert len(world.reports) == 2


def test_the_queue_is_reported_as_the_tasks_that_wait() -> None:
    world = World(CPU=1)
    world.tell(ev.DemandChanged(DRIVER, 0, CPU1, "", 8, backlog=10_000))
    (demand,) = world.reports[-1].demand
    assert (demand.shape, demand.queued, demand.running) == (CPU1, 10_000, 0)
    assert world.reports[-1].queued == world.machine.snapshot().queued == {"CPU: 1": 8}


def test_explain_says_for_each_node_what_is_lacking() -> None:
    world = World(CPU=2)
    world.tell(ev.ViewChanged([node_info(free={"CPU": 4, "x": 1}, CPU=4, x=1)]))
    world.want(3, spilled=True)
    world.start_all()
    here, there = world.machine.explain(make_shape({"CPU": 1}))
    assert here == (
        "node aaaaaaaa: lacks CPU (needs 1, has 0 free of 2); "
        "1 waiting for the same resources there"
    )
    assert there == "node bbbbbbbb: fits now"
    here, there = world.machine.explain(make_shape({"x": 2}))
    assert here == "node aaaaaaaa: can never fit: lacks x (needs 2, has 0 free of 0)"
    assert there == "node bbbbbbbb: can never fit: lacks x (needs 2, has 1 free of 1)"


def test_the_refusal_names_the_node_that_comes_closest() -> None:
    world = World(CPU=1)
    world.tell(ev.ViewChanged([node_info(free={}, CPU=6), node_info(THIRD, free={}, CPU=2)]))
    (effect,) = of(world.want(1, make_shape({"CPU": 8})), ev.ReportInfeasible)
    assert "bbbbbbbb comes closest (CPU: 8 needed, 6 there)" in effect.reason
