"""Granting, returning and losing leases on one node."""

from __future__ import annotations

from tests.unit.scheduling.world import CPU1, DRIVER, NODE, OTHER, SECOND, World, of

from freehold._core.ids import Address
from freehold._core.messages import ExitCause
from freehold._core.resources import make_shape
from freehold._core.scheduling import events as ev

CPU2 = make_shape({"CPU": 2})
HALF = make_shape({"CPU": 0.5})


def test_a_demand_starts_a_worker_and_gets_it() -> None:
    world = World(CPU=2)
    assert world.want(1) == [ev.StartWorker(1, "", [])]
    assert world.tell(ev.WorkerStarted(1, 5, 4711)) == [ev.GrantLease(DRIVER, 0, 1, 5, 4711, 1, [])]
    assert world.available == {"CPU": 1}


def test_an_idle_worker_is_granted_at_once() -> None:
    world = World(CPU=2)
    world.idle(1)
    assert world.want(1) == [ev.GrantLease(DRIVER, 0, 2, 1, 7, 1, [])]


def test_the_worker_used_last_is_used_again() -> None:
    world = World(CPU=4)
    world.idle(3)
    world.want(3)
    for lease, worker in list(world.machine.leases.items()):
        if worker.process == 2:
            world.tell(ev.LeaseReturned(DRIVER, lease))
    for lease in list(world.machine.leases):
        world.tell(ev.LeaseReturned(DRIVER, lease))
    last = list(world.machine.pool.by_process.values())
    newest = max(last, key=lambda worker: worker.lease).process
    assert of(world.want(4), ev.GrantLease)[0].process == newest


def test_saying_a_demand_twice_grants_it_once() -> None:
    world = World(CPU=4)
    world.idle(4)
    assert len(world.want(2)) == 2
    assert world.want(2) == []


def test_lowering_what_is_wanted_takes_back_what_waits() -> None:
    world = World(CPU=1)
    world.want(3)
    world.start_all()
    world.want(1)
    assert world.machine.snapshot().queued == {}
    assert world.tell(ev.LeaseReturned(DRIVER, 1)) == []


def test_no_more_than_fits_is_granted() -> None:
    world = World(CPU=2)
    world.want(5)
    world.start_all()
    assert world.machine.snapshot().leased == 2
    assert world.available == {"CPU": 0}
    assert world.machine.snapshot().queued == {"CPU: 1": 3}


def test_fractions_add_up_exactly() -> None:
    world = World(CPU=1)
    world.want(11, make_shape({"CPU": 0.1}))
    world.start_all()
    assert world.machine.snapshot().leased == 10
    assert world.available == {"CPU": 0}


def test_a_shape_without_resources_has_no_cap_but_starts_are_paced() -> None:
    world = World(CPU=1)
    assert len(world.want(50, ())) == 2
    world.start_all()
    assert world.machine.snapshot().leased == 50


def test_a_worker_of_another_environment_is_not_used() -> None:
    world = World(CPU=1)
    world.idle(1)
    assert world.want(1, env="e") == [ev.StartWorker(2, "e", [])]


def test_a_returned_worker_serves_the_next_owner() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.want(1, owner=SECOND)
    assert world.tell(ev.LeaseReturned(DRIVER, 1)) == [ev.GrantLease(SECOND, 0, 2, 1, 7, 1, [])]


def test_owners_of_one_shape_are_served_in_turn() -> None:
    world = World(CPU=1)
    world.want(1, owner=Address(NODE, 50))
    world.start_all()
    world.want(3, owner=DRIVER)
    world.want(2, owner=SECOND)
    order = []
    owner, lease = Address(NODE, 50), 1
    for _ in range(5):
        (grant,) = of(world.tell(ev.LeaseReturned(owner, lease)), ev.GrantLease)
        owner, lease = grant.owner, grant.lease
        order.append(owner.process)
    assert order == [900, 901, 900, 901, 900]


def test_shapes_that_need_the_same_are_served_in_turn() -> None:
    world = World(CPU=1)
    world.want(1, owner=SECOND, key=9)
    world.start_all()
    world.want(3)
    world.want(3, HALF, SECOND)
    order = []
    owner, lease = SECOND, 1
    for _ in range(3):
        for grant in of(world.tell(ev.LeaseReturned(owner, lease)), ev.GrantLease):
            order.append(grant.owner.process)
            owner, lease = grant.owner, grant.lease
    assert order == [900, 901, 900]


def test_a_shape_that_does_not_fit_holds_up_no_other() -> None:
    world = World(CPU=2)
    world.idle(2)
    world.want(1)
    assert of(world.want(1, CPU2, SECOND), ev.GrantLease) == []
    assert len(of(world.want(1, HALF, Address(NODE, 950)), ev.GrantLease)) == 1


def test_a_big_shape_is_not_kept_waiting_for_ever() -> None:
    world = World(CPU=2)
    world.idle(2)
    world.want(2)
    world.want(1, CPU2, SECOND)
    world.want(1000)
    granted: list[Address] = []
    for _ in range(40):
        world.pass_time(0.1)
        lease = min(world.machine.leases)
        owner = SECOND if SECOND in granted else DRIVER
        granted += [g.owner for g in of(world.tell(ev.LeaseReturned(owner, lease)), ev.GrantLease)]
        if SECOND in granted:
            break
    assert SECOND in granted
    # For passed_over_s the small ones went on; then they left room.
    assert 5 < len(granted) < 20


def test_a_bar_ends_so_that_what_holds_the_resources_can_go_on() -> None:
    world = World(CPU=4, x=2)
    world.idle(4)
    want_x = make_shape({"x": 1})
    world.want(1, want_x)
    world.want(1, make_shape({"x": 2}), SECOND)
    world.want(1, want_x, key=5)
    world.tell(ev.LeaseReturned(DRIVER, 6))
    # Lease 5 waits for a child of the same shape while the big shape bars it.
    world.pass_time(1.5)
    child = Address(NODE, 1)
    assert of(world.want(1, want_x, child), ev.GrantLease) == []
    assert world.machine.next_deadline() is not None
    assert [g.owner for g in of(world.pass_time(1.1), ev.GrantLease)] == [child]


def test_an_unknown_or_foreign_return_is_ignored() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    assert world.tell(ev.LeaseReturned(SECOND, 1)) == []
    assert world.tell(ev.LeaseReturned(DRIVER, 9)) == []
    assert world.machine.snapshot().leased == 1
    assert world.machine.snapshot().ignored_events == 2


def test_a_lease_returned_to_be_killed_frees_its_resources_when_the_process_ended() -> None:
    world = World(CPU=1)
    world.want(2)
    world.start_all()
    assert world.tell(ev.LeaseReturned(DRIVER, 1, True, "timed out")) == [
        ev.KillWorker(1, "timed out")
    ]
    assert world.available == {"CPU": 0}
    assert world.exited(1) == [ev.StartWorker(2, "", [])]
    assert world.available == {"CPU": 1}


def test_a_worker_that_ends_revokes_its_lease() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    assert world.exited(1) == [ev.RevokeLease(DRIVER, 1, 1, ExitCause(signal=9))]
    assert world.available == {"CPU": 1}
    assert world.want(2) == [ev.StartWorker(2, "", [])]


def test_a_dead_owners_workers_are_killed_and_nothing_more_is_granted() -> None:
    world = World(CPU=1)
    world.want(2)
    world.start_all()
    assert of(world.tell(ev.OwnerGone(DRIVER)), ev.KillWorker)[0].process == 1
    assert world.available == {"CPU": 0}
    assert world.exited(1) == []
    assert world.available == {"CPU": 1}
    assert world.machine.snapshot().queued == {}


def test_a_dead_workers_children_are_killed() -> None:
    world = World(CPU=2)
    world.want(1)
    world.start_all()
    world.want(1, owner=Address(NODE, 1))
    world.start_all()
    effects = world.exited(1)
    assert [type(effect) for effect in effects] == [ev.RevokeLease, ev.KillWorker]
    assert of(effects, ev.KillWorker)[0].process == 2


def test_a_lost_nodes_owners_are_gone() -> None:
    world = World(CPU=1)
    far = Address("b" * 32, 3, 1)
    world.want(1, owner=far, spilled=True)
    world.start_all()
    assert world.tell(ev.NodeLost("b" * 32, 0)) == []
    assert len(of(world.tell(ev.NodeLost("b" * 32, 1)), ev.KillWorker)) == 1


def test_a_dead_owners_late_demand_is_ignored() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.tell(ev.OwnerGone(DRIVER))
    assert world.want(1) == []
    assert world.machine.snapshot().owners == 0


def test_a_late_demand_from_a_lost_node_is_ignored() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.tell(ev.NodeLost(OTHER, 3))
    assert world.want(1, owner=Address(OTHER, 5, 3)) == []
    assert len(of(world.want(1, owner=Address(OTHER, 5, 4)), ev.GrantLease)) == 1


def test_an_owner_that_was_only_silent_may_ask_again() -> None:
    world = World(CPU=1)
    world.idle(1)
    world.tell(ev.OwnerGone(DRIVER, may_return=True))
    assert len(of(world.want(1), ev.GrantLease)) == 1


def test_an_impossible_shape_is_refused_with_what_is_lacking() -> None:
    world = World(CPU=2)
    (effect,) = world.want(3, make_shape({"CPU": 4, "x": 1}))
    assert isinstance(effect, ev.ReportInfeasible)
    assert "CPU: 4 needed, 2 there" in effect.reason
    assert "x: 1 needed, 0 there" in effect.reason
    assert "aaaaaaaa" in effect.reason
    assert world.machine.snapshot().queued == {}


def test_what_was_refused_counts_as_answered() -> None:
    world = World(CPU=2)
    shape = make_shape({"CPU": 4})
    world.want(3, shape)
    assert world.want(3, shape) == []
    assert len(of(world.want(4, shape), ev.ReportInfeasible)) == 1


# ---- blocking ----------------------------------------------------------------------------------


def test_a_blocked_task_gives_its_cpu_to_others() -> None:
    world = World(CPU=1)
    world.idle(2)
    world.want(2)
    assert of(world.tell(ev.TaskBlocked(2, True)), ev.GrantLease)[0].process == 1


def test_a_blocked_task_keeps_everything_but_its_cpu() -> None:
    world = World(CPU=1, memory=4, x=1, GPU=1)
    world.want(1, make_shape({"CPU": 1, "memory": 3, "x": 1, "GPU": 1}))
    world.start_all()
    world.tell(ev.TaskBlocked(1, True))
    assert world.available == {"CPU": 1, "memory": 1, "x": 0, "GPU": 0}
    world.tell(ev.TaskBlocked(1, True))
    assert world.available["CPU"] == 1


def test_a_task_that_goes_on_takes_its_cpu_even_if_it_is_not_there() -> None:
    world = World(CPU=1)
    world.idle(2)
    world.want(1)
    world.tell(ev.TaskBlocked(2, True))
    world.want(1, owner=SECOND)
    assert world.tell(ev.TaskBlocked(2, False)) == [
        ev.AskReturnIdle(DRIVER, 1),
        ev.AskReturnIdle(SECOND, 1),
    ]
    assert world.available == {"CPU": -1}
    world.tell(ev.LeaseReturned(SECOND, 4))
    assert world.available == {"CPU": 0}


def test_a_blocked_worker_that_ends_gives_nothing_back_twice() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.tell(ev.TaskBlocked(1, True))
    world.exited(1)
    assert world.available == {"CPU": 1}


def test_a_lease_returned_while_blocked_gives_nothing_back_twice() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.tell(ev.TaskBlocked(1, True))
    world.tell(ev.LeaseReturned(DRIVER, 1))
    assert world.available == {"CPU": 1}
    world.tell(ev.TaskBlocked(1, False))
    assert world.available == {"CPU": 1}
    world.want(2)
    assert world.available == {"CPU": 0}


def test_recursion_deeper_than_the_cpus_goes_on() -> None:
    world = World(CPU=2)
    owner = DRIVER
    for depth in range(1, 201):
        world.want(1, owner=owner)
        world.start_all()
        assert world.machine.snapshot().leased == depth
        owner = Address(NODE, world.last_process)
        world.tell(ev.TaskBlocked(owner.process, True))


# ---- asking for idle leases --------------------------------------------------------------------


def test_holders_of_leases_are_asked_when_others_wait() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    assert world.want(1, owner=SECOND) == [ev.AskReturnIdle(DRIVER, 1)]
    assert world.pass_time(0.9) == []
    assert world.pass_time(0.2) == [ev.AskReturnIdle(DRIVER, 1)]


def test_who_waits_for_the_same_shape_itself_is_not_asked() -> None:
    world = World(CPU=1)
    world.want(2)
    assert world.start_all() == [ev.GrantLease(DRIVER, 0, 1, 1, 7, 1, [])]
    assert of(world.want(1, CPU1, DRIVER, key=1), ev.AskReturnIdle) == []


def test_who_waits_no_longer_is_asked_for_those_who_do() -> None:
    world = World(CPU=1)
    world.want(2)
    world.start_all()
    assert of(world.want(1, owner=SECOND), ev.AskReturnIdle) == []
    assert world.want(1) == [ev.AskReturnIdle(DRIVER, 1)]


def test_who_waits_no_longer_keeps_what_it_has_if_nobody_else_waits() -> None:
    """Its next tasks would have to ask again: those of a shuffle's second stage, say."""
    world = World(CPU=1)
    world.want(2)
    world.start_all()
    assert of(world.want(1), ev.AskReturnIdle) == []


def test_asking_has_a_pause() -> None:
    world = World(CPU=1)
    world.want(1)
    world.start_all()
    world.want(1, owner=SECOND)
    assert world.want(2, owner=SECOND) == []
    assert world.pass_time(0.15) == [ev.AskReturnIdle(DRIVER, 2)]
