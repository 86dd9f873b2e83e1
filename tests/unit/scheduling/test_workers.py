"""The worker pool: prestarting, pacing, failed starts, idle workers, devices."""

from __future__ import annotations

from tests.unit.scheduling.world import DRIVER, SECOND, World, of

from freehold._core.resources import make_shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.serving import SPARE_LIMIT

GPU1 = make_shape({"GPU": 1})
GPU_HALF = make_shape({"GPU": 0.5})


def test_workers_are_started_with_the_node() -> None:
    world = World(ev.SchedulerSettings(), CPU=2)
    assert world.tell(ev.NodeStarted()) == [
        ev.StartWorker(1, "", []),
        ev.StartWorker(2, "", []),
    ]
    assert len(World(ev.SchedulerSettings(), CPU=64).tell(ev.NodeStarted())) == 4


def test_a_prestarted_worker_is_not_started_again_for_a_demand() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2)
    world.tell(ev.NodeStarted())
    assert world.want(1) == []
    assert len(of(world.start_all(), ev.GrantLease)) == 1


def test_starts_are_paced_by_the_cpus() -> None:
    world = World(CPU=3)
    assert len(of(world.want(20, ()), ev.StartWorker)) == 3
    assert len(of(world.tell(ev.WorkerStarted(1, 1, 7)), ev.StartWorker)) == 1


def test_a_failed_start_is_tried_again_after_a_pause() -> None:
    world = World(CPU=1)
    world.want(1)
    assert world.tell(ev.WorkerStartFailed(1, "zygote is gone")) == []
    assert world.pass_time(0.09) == []
    assert world.pass_time(0.02) == [ev.StartWorker(2, "", [])]


def test_after_five_failures_in_a_row_the_waiting_are_told() -> None:
    world = World(CPU=1)
    world.want(2)
    told: list[ev.SchedulingEffect] = []
    for _ in range(5):
        (start,) = world.machine.pool.starts
        told += world.tell(ev.WorkerStartFailed(start, "no memory"))
        told += world.pass_time(2.0)
    assert of(told, ev.ReportEnvFailed) == [ev.ReportEnvFailed(DRIVER, "", "no memory")]
    assert len(of(told, ev.StartWorker)) == 4
    assert world.machine.snapshot().queued == {}


def test_a_broken_environment_is_told_at_once_to_those_who_wait_for_it() -> None:
    world = World(CPU=4)
    world.want(1, env="e")
    world.want(1, env="e", key=1)
    world.want(1, owner=SECOND)
    world.tell(ev.ActorPlacementRequested(b"a", 0, (), "e"))
    effects = world.tell(ev.WorkerStartFailed(1, "no such folder", is_env=True))
    assert ev.RejectActor(b"a", 0, "no such folder", True) in effects
    assert of(effects, ev.ReportEnvFailed) == [ev.ReportEnvFailed(DRIVER, "e", "no such folder")]
    assert world.machine.snapshot().queued == {"CPU: 1": 1}


def test_a_worker_that_nobody_started_is_killed() -> None:
    world = World(CPU=1)
    assert [type(e) for e in world.tell(ev.WorkerStarted(77, 3, 7))] == [ev.KillWorker]


# ---- idle workers ------------------------------------------------------------------------------


def settings() -> ev.SchedulerSettings:
    return ev.SchedulerSettings(prestart_workers=0, idle_worker_s=5.0, idle_workers=2)


def test_idle_workers_above_the_limit_are_killed_oldest_first() -> None:
    world = World(settings(), CPU=8)
    world.idle(4)
    assert world.pass_time(4.9) == []
    assert world.pass_time(0.2) == [
        ev.KillWorker(1, "it was idle"),
        ev.KillWorker(2, "it was idle"),
    ]
    assert world.pass_time(60.0) == []


def test_an_owning_worker_is_not_killed_for_being_idle() -> None:
    world = World(settings(), CPU=8)
    world.idle(3)
    world.tell(ev.OwningChanged(1, True))
    assert [e.process for e in of(world.pass_time(5.1), ev.KillWorker)] == [2]
    world.tell(ev.OwningChanged(2, False))
    assert world.pass_time(60.0) == []


def test_a_worker_that_owns_no_longer_is_idle_from_then_on() -> None:
    world = World(settings(), CPU=8)
    world.idle(3)
    for process in (1, 2, 3):
        world.tell(ev.OwningChanged(process, True))
    assert world.pass_time(10.0) == []
    world.tell(ev.OwningChanged(2, False))
    assert world.pass_time(4.9) == []
    assert [e.process for e in of(world.pass_time(0.2), ev.KillWorker)] == [2]


def test_a_worker_used_in_between_is_young_again() -> None:
    world = World(settings(), CPU=8)
    world.idle(3)
    world.pass_time(3.0)
    (grant,) = of(world.want(1), ev.GrantLease)
    world.tell(ev.LeaseReturned(DRIVER, grant.lease))
    world.pass_time(2.1)
    assert grant.process in world.machine.pool.by_process
    assert world.machine.pool.by_process[grant.process].state == "idle"


# ---- spares ------------------------------------------------------------------------------------


def with_actors(world: World, count: int, **amounts: float) -> None:
    """So many actors live there: processes 1, 2, …"""
    for number in range(count):
        shape = make_shape(amounts)
        world.tell(ev.ActorPlacementRequested(b"%016d" % number, 0, shape))
    world.start_all()


def test_a_fresh_worker_takes_the_place_of_an_actors() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2)
    with_actors(world, 2)
    assert of(world.exited(1), ev.StartWorker) == [ev.StartWorker(3, "", [])]
    world.start_all()
    placed = world.tell(ev.ActorPlacementRequested(b"next", 0, ()))
    assert [type(effect) for effect in placed] == [ev.AssignActor]


def test_a_killed_task_worker_is_not_replaced_before_it_is_needed() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2)
    world.want(1)
    world.start_all()
    assert of(world.exited(1), ev.StartWorker) == []


def test_spares_are_started_few_at_a_time_and_up_to_a_limit() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2)
    with_actors(world, SPARE_LIMIT + 4)
    starts: list[ev.SchedulingEffect] = []
    for process in range(1, SPARE_LIMIT + 5):
        starts += of(world.exited(process), ev.StartWorker)
    assert len(starts) == 2
    starts += of(world.start_all(), ev.StartWorker)
    assert len(starts) == SPARE_LIMIT == world.machine.snapshot().idle
    assert of(world.pass_time(5.1), ev.StartWorker) == []
    assert world.machine.snapshot().idle == 2


def test_a_spare_that_cannot_be_started_is_not_tried_again() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2)
    with_actors(world, 2)
    world.exited(1)
    world.exited(2)
    for start in list(world.machine.pool.starts):
        assert world.tell(ev.WorkerStartFailed(start, "no memory")) == []
    assert world.pass_time(10.0) == []


def test_no_worker_takes_the_place_of_one_with_devices_or_where_none_is_started_ahead() -> None:
    world = World(ev.SchedulerSettings(prestart_workers=1), CPU=2, GPU=1)
    with_actors(world, 1, GPU=1)
    assert of(world.exited(1), ev.StartWorker) == []
    world = World(ev.SchedulerSettings(prestart_workers=0), CPU=2)
    with_actors(world, 1)
    assert of(world.exited(1), ev.StartWorker) == []


# ---- devices -----------------------------------------------------------------------------------


def test_whole_devices_are_assigned_by_index_and_known_before_the_fork() -> None:
    world = World(CPU=4, GPU=3)
    assert world.want(1, make_shape({"GPU": 2})) == [ev.StartWorker(1, "", [0, 1])]
    assert world.want(1, GPU1, SECOND) == [ev.StartWorker(2, "", [2])]
    grants = of(world.start_all(), ev.GrantLease)
    assert [grant.gpus for grant in grants] == [[0, 1], [2]]


def test_shares_fill_the_lowest_device_with_room() -> None:
    world = World(CPU=4, GPU=2)
    effects = world.want(2, GPU_HALF) + world.want(1, GPU_HALF, SECOND)
    effects += world.start_all()
    assert [e.gpus for e in of(effects, ev.StartWorker)] == [[0], [0], [1]]


def test_a_whole_device_is_not_made_of_two_halves() -> None:
    world = World(CPU=4, GPU=2)
    world.want(1, make_shape({"GPU": 0.6}))
    world.want(1, make_shape({"GPU": 0.6}), key=1)
    world.start_all()
    assert world.want(1, make_shape({"GPU": 0.8}), key=2) == [ev.AskReturnIdle(DRIVER, 1)]
    assert world.machine.snapshot().queued == {"GPU: 0.8": 1}


def test_a_worker_with_devices_is_never_used_again() -> None:
    world = World(CPU=1, GPU=1)
    world.want(2, GPU1)
    world.start_all()
    assert of(world.tell(ev.LeaseReturned(DRIVER, 1)), ev.KillWorker)[0].process == 1
    assert world.available["GPU"] == 0
    assert world.exited(1) == [ev.StartWorker(2, "", [0])]


def test_an_idle_worker_without_devices_is_not_given_any() -> None:
    world = World(CPU=1, GPU=1)
    world.idle(1)
    assert world.want(1, GPU1) == [ev.StartWorker(2, "", [0])]


def test_a_worker_with_devices_whose_demand_was_taken_back_is_killed() -> None:
    world = World(CPU=1, GPU=1)
    world.want(1, GPU1)
    world.want(0, GPU1)
    assert [type(e) for e in world.start_all()] == [ev.KillWorker]
    world.exited(1)
    assert world.available["GPU"] == 1


def test_devices_come_back_when_their_worker_could_not_be_started() -> None:
    world = World(CPU=1, GPU=1)
    world.want(1, GPU1)
    world.tell(ev.WorkerStartFailed(1, "no"))
    assert world.available["GPU"] == 1
    assert world.pass_time(0.2) == [ev.StartWorker(2, "", [0])]


def test_one_and_a_half_devices_are_refused() -> None:
    world = World(CPU=1, GPU=4)
    (effect,) = of(world.want(1, make_shape({"GPU": 1.5})), ev.ReportInfeasible)
    assert "whole number" in effect.reason


# ---- leaving ---------------------------------------------------------------------------------


def test_an_idle_worker_that_leaves_may_go_and_is_not_granted_any_more() -> None:
    world = World(CPU=2)
    world.idle(1)
    assert world.tell(ev.WorkerLeaving(1, "max_calls")) == [ev.AskExit(1, "max_calls")]
    assert of(world.want(1), ev.GrantLease) == []
    assert world.tell(ev.WorkerLeaving(1, "max_calls")) == []


def test_a_leased_worker_stays_until_its_lease_is_given_back() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.want(1)
    assert world.tell(ev.WorkerLeaving(1, "max_calls")) == []
    # Though its process lives on, what it held is free: it only owns, as an idle worker may.
    told = world.tell(ev.LeaseReturned(DRIVER, 2))
    assert of(told, ev.AskExit) == [ev.AskExit(1, "max_calls")]
    assert world.available == {"CPU": 1}
    assert world.exited(1) == []


def test_a_lease_that_crossed_a_leaving_is_waited_for() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.want(1)
    world.tell(ev.LeaseReturned(DRIVER, 2))
    (grant,) = of(world.want(1, owner=SECOND), ev.GrantLease)
    assert world.tell(ev.WorkerLeaving(1, "max_calls")) == []
    told = world.tell(ev.LeaseReturned(SECOND, grant.lease))
    assert of(told, ev.AskExit) == [ev.AskExit(1, "max_calls")]


def test_a_leaving_worker_holds_its_devices_until_it_has_ended() -> None:
    world = World(CPU=1, GPU=1)
    world.want(1, make_shape({"CPU": 1, "GPU": 1}))
    world.start_all()
    world.tell(ev.TaskBlocked(1, True))
    world.tell(ev.WorkerLeaving(1, "max_calls"))
    assert of(world.tell(ev.LeaseReturned(DRIVER, 1)), ev.KillWorker) == []
    assert world.available == {"CPU": 1, "GPU": 0}
    world.exited(1)
    assert world.available == {"CPU": 1, "GPU": 1}


def test_a_lease_returned_to_be_killed_kills_a_leaving_worker() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.want(1)
    world.tell(ev.WorkerLeaving(1, "max_calls"))
    assert world.tell(ev.LeaseReturned(DRIVER, 2, True, "broke")) == [ev.KillWorker(1, "broke")]


def test_an_actor_that_crossed_a_leaving_waits_for_another_worker() -> None:
    world = World(CPU=1)
    world.idle(1)
    actor = ev.ActorPlacementRequested(b"a" * 16, 0, make_shape({"CPU": 1}))
    assert len(of(world.tell(actor), ev.AssignActor)) == 1
    told = world.tell(ev.WorkerLeaving(1, "max_calls"))
    assert of(told, ev.AskExit) == [ev.AskExit(1, "max_calls")]
    assert of(world.exited(1), ev.ReportActorEnded) == []
    (assigned,) = of(world.start_all(), ev.AssignActor)
    assert assigned.process != 1
