"""Calls to actors as their caller sees them: order, retries, handles, death."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ownership.owners import DRIVER, ROOT, WORKER, make_owner, put, said, submit

from freehold._core import messages as m
from freehold._core.interface import TaskOptions
from freehold._core.limits import LEASE_S
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import PENDING, READY
from freehold.errors import ActorDiedError, ActorUnavailableError


@pytest.fixture
def owner() -> Owner:
    return make_owner()


def create(owner: Owner, given: Given | None = None, **options: Any) -> ObjectRef[Any]:
    row = owner.table.new_actor(ROOT, 1_000 + owner.table.rows)
    spec = ((), (), "", b"class", False, None)
    owner.actors.create(row, m.ActorOptions(**options), spec, given or Given(b"x"), 0)
    return make_reference(row)


def tell(owner: Owner, handle: ObjectRef[Any], state: str, **more: Any) -> None:
    """The control service tells of the actor's state."""
    address = WORKER if state == "alive" else None
    options = owner.actors.links[handle.task_id()].info
    known = options.options if options is not None else m.ActorOptions()
    info = m.ActorInfo(handle.task_id(), m.OwnerInfo(DRIVER), known, state, address, **more)
    owner.actors.on_state(info, 0.0)


def call(
    owner: Owner,
    handle: ObjectRef[Any],
    given: Given | None = None,
    retries: int = 0,
    caller: bytes = ROOT,
) -> Any:
    options = TaskOptions(max_retries=retries, retry_exceptions=retries > 0)
    place = (caller, 2_000 + owner.table._next_key)
    row = owner.actors.call(handle._row, "method", options, place, given or Given(b"x"), 0.0)
    return make_reference(row)


def test_calls_wait_for_the_actor_and_leave_in_order(owner: Owner) -> None:
    handle = create(owner)
    assert len(said(owner, m.RegisterActor)) == 1
    calls = [call(owner, handle) for _ in range(3)]
    assert not said(owner, m.Call)
    tell(owner, handle, "alive")
    assert [x.key for x in said(owner, m.Call)] == [ref._row.key for ref in calls]


def test_a_call_waits_behind_one_whose_argument_is_missing(owner: Owner) -> None:
    handle = create(owner)
    tell(owner, handle, "alive")
    missing = submit(owner)[0]
    first = call(owner, handle, Given(b"x", [(0, missing)]))
    second = call(owner, handle)
    assert not said(owner, m.Call)
    owner.wake(owner.table.complete(missing._row, b"value") or [], 0.0)
    assert [x.key for x in said(owner, m.Call)] == [first._row.key, second._row.key]


def test_a_call_of_another_task_does_not_wait_behind_it(owner: Owner) -> None:
    """That task may make the argument, in this very process: each would wait for the other."""
    handle = create(owner)
    tell(owner, handle, "alive")
    missing = submit(owner)[0]
    first = call(owner, handle, Given(b"x", [(0, missing)]))
    second = call(owner, handle)
    other = call(owner, handle, caller=missing._row.task_id())
    assert [x.key for x in said(owner, m.Call)] == [other._row.key]
    owner.wake(owner.table.complete(missing._row, b"value") or [], 0.0)
    assert [x.key for x in said(owner, m.Call)] == [first._row.key, second._row.key]


def test_a_call_that_failed_is_tried_again_before_all_others(owner: Owner) -> None:
    handle = create(owner)
    tell(owner, handle, "alive")
    ref = call(owner, handle, retries=1)
    said(owner, m.Call)
    owner.on_failed(WORKER, m.Failed(ref._row.key, 0, 5, "user", b"broken", True), 0.0)
    again = said(owner, m.Call)
    assert [(x.key, x.attempt) for x in again] == [(ref._row.key, 1)]
    owner.on_done(WORKER, m.Done(ref._row.key, 0, 5, b"old"), 0.0)
    assert ref._row.state == PENDING, "the answer to the first attempt is none to the second"
    owner.on_done(WORKER, m.Done(ref._row.key, 1, 5, b"new"), 0.0)
    assert ref._row.value == b"new"


def test_a_call_whose_argument_was_lost_is_sent_again(owner: Owner) -> None:
    handle = create(owner)
    tell(owner, handle, "alive")
    argument = put(owner)
    ref = call(owner, handle, Given(b"x", [(0, argument)]))
    said(owner, m.Call)
    id_ = owner.table.expose(argument._row, 0)
    owner.on_failed(WORKER, m.Failed(ref._row.key, 0, 5, "lost", b"lost", lost=id_), 0.0)
    assert [x.attempt for x in said(owner, m.Call)] == [1]


def test_the_actor_ends_with_its_last_handle_after_its_calls(owner: Owner) -> None:
    handle = create(owner)
    tell(owner, handle, "alive")
    ref = call(owner, handle)
    actor = handle.task_id()
    del handle
    assert not said(owner, m.ReleaseActor)
    owner.on_done(WORKER, m.Done(ref._row.key, 0, 5, b"x"), 0.0)
    assert [x.actor for x in said(owner, m.ReleaseActor)] == [actor]
    del ref
    owner.settle(0.0)
    assert (owner.table.rows, owner.table.by_id, owner.actors.links) == (0, {}, {})


def test_calls_after_a_kill_wait_for_the_next_life_whatever_is_said_of_this_one(
    owner: Owner,
) -> None:
    handle = create(owner, max_restarts=-1)
    tell(owner, handle, "alive", restarts=2)
    retried, lost = call(owner, handle, retries=1), call(owner, handle)
    said(owner, m.Call)
    owner.actors.on_killed(handle._row, "killed", False, 0.0)
    assert isinstance(lost._row.value, ActorUnavailableError)
    later = call(owner, handle)
    tell(owner, handle, "alive", restarts=2)
    tell(owner, handle, "restarting", restarts=2)
    assert not said(owner, m.Call)
    tell(owner, handle, "alive", restarts=3)
    assert [x.key for x in said(owner, m.Call)] == [retried._row.key, later._row.key]


def test_a_kill_that_allows_a_restart_which_is_not_left_is_for_good(owner: Owner) -> None:
    handle = create(owner, max_restarts=1)
    tell(owner, handle, "alive", restarts=1)
    ref = call(owner, handle)
    owner.actors.on_killed(handle._row, "killed", False, 0.0)
    assert isinstance(ref._row.value, ActorDiedError)
    assert isinstance(call(owner, handle)._row.value, ActorDiedError)


def test_a_kill_of_an_actor_that_is_not_alive_changes_nothing_here(owner: Owner) -> None:
    handle = create(owner, max_restarts=1)
    ref = call(owner, handle)
    owner.actors.on_killed(handle._row, "killed", False, 0.0)
    tell(owner, handle, "alive", restarts=1)
    assert [x.key for x in said(owner, m.Call)] == [ref._row.key]


def test_a_cancelled_call_lets_go_of_the_handle(owner: Owner) -> None:
    handle = create(owner)
    ref = call(owner, handle)
    owner.cancel(ref._row, False, False, 0.0)
    del handle, ref
    assert len(said(owner, m.ReleaseActor)) == 1
    assert owner.table.rows == 0


def test_calls_in_flight_are_unavailable_and_calls_of_a_dead_actor_fail(owner: Owner) -> None:
    handle = create(owner, max_restarts=1)
    tell(owner, handle, "alive")
    first, again = call(owner, handle), call(owner, handle, retries=1)
    said(owner, m.Call)
    tell(owner, handle, "restarting")
    assert isinstance(first._row.value, ActorUnavailableError)
    tell(owner, handle, "alive", restarts=1)
    assert [x.key for x in said(owner, m.Call)] == [again._row.key]
    tell(owner, handle, "dead")
    assert isinstance(again._row.value, ActorDiedError)
    assert isinstance(call(owner, handle)._row.value, ActorDiedError)


def test_a_constructor_waits_for_its_arguments_and_holds_them(owner: Owner) -> None:
    argument = submit(owner)[0]
    row = argument._row
    handle = create(owner, Given(b"x", [(0, argument)]))
    del argument
    assert not said(owner, m.RegisterActor)
    owner.wake(owner.table.complete(row, b"value") or [], 0.0)
    assert [x.spec.args[0].blob for x in said(owner, m.RegisterActor)] == [b"value"]
    assert (row.state, row.count) == (READY, 1)
    tell(owner, handle, "alive")
    assert row.count == 0


def test_the_control_service_is_asked_about_an_actor_that_cannot_be_reached(owner: Owner) -> None:
    handle = create(owner)
    tell(owner, handle, "alive")
    call(owner, handle)
    said(owner, m.Call)
    owner.on_disconnected(WORKER, 0.0)
    owner.on_deadline(LEASE_S)
    assert [x.actor for x in said(owner, m.WatchActor)] == [handle.task_id()]


def test_a_call_that_may_have_been_lost_on_the_way_says_so(owner: Owner) -> None:
    """The actor lives where it lived: nobody can name another reason."""
    handle = create(owner)
    tell(owner, handle, "alive")
    called = call(owner, handle)
    owner.on_disconnected(WORKER, 0.0)
    tell(owner, handle, "alive")
    error = called._row.value
    assert isinstance(error, ActorUnavailableError)
    assert "is unavailable: its connection broke; the call may have run" in str(error)


def test_an_actor_that_is_not_ours_though_it_is_said_to_be_ends(owner: Owner) -> None:
    """Its owner was killed as it left, and had named us to answer for it."""
    actor = bytes(16)
    for whose in (WORKER, DRIVER):
        mine = m.OwnerInfo(whose)
        owner.actors.on_state(m.ActorInfo(actor, mine, m.ActorOptions(), "alive", WORKER), 0.0)
    assert said(owner, m.ReleaseActor) == [m.ReleaseActor(actor)]
    handle = create(owner)
    tell(owner, handle, "alive")
    assert said(owner, m.ReleaseActor) == []
