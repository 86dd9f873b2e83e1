"""Eager release: what the worker tells, and what the caller does about it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ownership.owners import (
    DRIVER,
    OTHER,
    WORKER,
    crash,
    exchange,
    grant,
    location,
    make_owner,
    put,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import LOST, PENDING, READY


def made(owner: Owner, segment: int = 1, **options: Any) -> ObjectRef[Any]:
    """A stored value that a task has made."""
    options.setdefault("max_retries", 3)
    (ref,) = submit(owner, **options)
    grant(owner)
    (run,) = said(owner, m.Run)
    done = m.DoneWith(run.key, run.attempt, 5, [m.Output(location=location(segment))])
    owner.on_done_with(WORKER, done, 0.0)
    return ref


def run_with(owner: Owner, ref: ObjectRef[Any], **options: Any) -> tuple[ObjectRef[Any], m.Run]:
    """A running task that has `ref` at the top level."""
    (result,) = submit(owner, given=Given(b"x", [(0, ref)]), **options)
    if WORKER not in owner.leasing.leases:
        grant(owner)
    (run,) = said(owner, m.Run)
    return result, run


def drop(owner: Owner, run: m.Run, ref: bytes) -> list[m.RangeReleased]:
    """The worker says that it has no use for `ref`; what is released by that."""
    owner.eager.on_dropped(WORKER, m.ArgumentsDropped(run.key, run.attempt, ref), 0.0)
    return said(owner, m.RangeReleased)


def test_what_can_be_made_again_is_let_go_of_while_the_task_runs() -> None:
    owner = make_owner()
    ref = made(owner)
    row, id_ = ref._row, ref.binary()
    _result, run = run_with(owner, ref, max_retries=3)
    del ref
    assert said(owner, m.RangeReleased) == []
    assert drop(owner, run, id_) == [m.RangeReleased(1, 0, 64)]
    assert (row.state, row.count, row.lineage) == (LOST, 0, 1)
    owner.on_done(WORKER, m.Done(run.key, 0, 5, b"v"), 0.0)
    owner.settle(0.0)
    assert owner.table.rows == 1  # the result's
    assert owner.table.lineage_bytes == 0


def test_a_put_stays_while_the_task_may_be_retried() -> None:
    owner = make_owner()
    ref = put(owner, location(7))
    id_ = ref.binary()
    _result, run = run_with(owner, ref, max_retries=3)
    del ref
    assert drop(owner, run, id_) == []
    owner.on_done(WORKER, m.Done(run.key, 0, 5, b"v"), 0.0)
    assert said(owner, m.RangeReleased) == [m.RangeReleased(7, 0, 64)]


def test_a_put_goes_if_the_task_has_no_retries() -> None:
    owner = make_owner()
    ref = put(owner, location(7))
    id_ = ref.binary()
    _result, run = run_with(owner, ref, max_retries=0)
    del ref
    assert drop(owner, run, id_) == [m.RangeReleased(7, 0, 64)]
    assert drop(owner, run, id_) == []  # said twice


@pytest.mark.parametrize("wrong", ["attempt", "key", "source", "id"])
def test_what_does_not_fit_is_ignored(wrong: str) -> None:
    owner = make_owner()
    ref = put(owner, location(7))
    _result, run = run_with(owner, ref, max_retries=0)
    message = m.ArgumentsDropped(
        run.key + (wrong == "key"),
        run.attempt + (wrong == "attempt"),
        bytes(20) if wrong == "id" else ref.binary(),
    )
    del ref
    owner.eager.on_dropped(OTHER if wrong == "source" else WORKER, message, 0.0)
    assert said(owner, m.RangeReleased) == []
    owner.on_done(WORKER, m.Done(run.key, 0, 5, b"v"), 0.0)
    assert said(owner, m.RangeReleased) == [m.RangeReleased(7, 0, 64)]


def test_after_the_end_it_says_nothing_new() -> None:
    owner = make_owner()
    ref = put(owner, location(7))
    _result, run = run_with(owner, ref, max_retries=0)
    owner.on_done(WORKER, m.Done(run.key, 0, 5, b"v"), 0.0)
    assert drop(owner, run, ref.binary()) == []


def test_a_retry_has_it_made_again_and_holds_it_from_then_on() -> None:
    owner = make_owner()
    ref = made(owner)
    row, id_ = ref._row, ref.binary()
    _result, run = run_with(owner, ref, max_retries=3)
    del ref
    drop(owner, run, id_)
    crash(owner)
    assert row.state == PENDING
    grant(owner, lease=2)
    (again,) = said(owner, m.Run)
    assert (again.key, again.attempt) == (row.key, 1)
    done = m.DoneWith(again.key, 1, 5, [m.Output(location=location(2))])
    owner.on_done_with(WORKER, done, 0.0)
    (retry,) = said(owner, m.Run)
    assert (retry.key, retry.attempt) == (run.key, 1)
    assert [arg.location for arg in retry.args or ()] == [location(2)]
    assert row.lineage == 0
    assert drop(owner, retry, id_) == []
    assert row.state == READY


def test_what_is_made_of_a_put_is_not_let_go_of() -> None:
    """The put goes with its last reference, and then its maker cannot run again."""
    owner = make_owner()
    source = put(owner, location(7))
    ref = made(owner, given=Given(b"x", [(0, source)]))
    id_ = ref.binary()
    _result, run = run_with(owner, ref, max_retries=3)
    del source, ref
    assert said(owner, m.RangeReleased) == [m.RangeReleased(7, 0, 64)]
    assert drop(owner, run, id_) == []


def test_what_is_made_of_a_small_value_is() -> None:
    owner = make_owner()
    source = put(owner)
    ref = made(owner, given=Given(b"x", [(0, source)]))
    id_ = ref.binary()
    _result, run = run_with(owner, ref, max_retries=3)
    del source, ref
    assert drop(owner, run, id_) == [m.RangeReleased(1, 0, 64)]


def test_a_kept_task_keeps_what_it_dropped_as_lineage() -> None:
    owner = make_owner()
    ref = made(owner)
    row, id_ = ref._row, ref.binary()
    result, run = run_with(owner, ref, max_retries=3)
    del ref
    drop(owner, run, id_)
    done = m.DoneWith(run.key, 0, 5, [m.Output(location=location(3))])
    owner.on_done_with(WORKER, done, 0.0)
    assert row.lineage == 1
    task = result._row.task
    assert task is not None
    assert task.is_rederivable
    assert task.arguments == [(row, 0)]
    del result, task
    owner.settle(0.0)
    assert owner.table.rows == 0


# ---- the worker's side ---------------------------------------------------------------------------


def given_to(worker: Owner, caller: Owner, refs: list[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
    """References as a task's arguments bring them to a worker."""
    described = caller.borrowing.describe(refs)
    return worker.borrowing.meet(described, caller.address, is_covered=True)


def test_the_worker_tells_when_the_last_use_has_ended() -> None:
    caller, worker = make_owner(DRIVER), make_owner(WORKER)
    a, b = put(caller, index=0), put(caller, index=1)
    met = given_to(worker, caller, [a, b, a])
    rows = [(ref._row, ref._index) for ref in met]
    watch = worker.eager.begin(rows, DRIVER, 5, 2)
    assert said(worker, m.ArgumentsDropped) == []
    del met[0]  # there is another to the same
    assert said(worker, m.ArgumentsDropped) == []
    del met[1]
    assert said(worker, m.ArgumentsDropped) == [m.ArgumentsDropped(5, 2, a.binary())]
    worker.eager.end(watch)
    met.clear()
    assert said(worker, m.ArgumentsDropped) == []  # the answer says it
    assert worker.eager._watches == {}


def test_many_are_told_in_batches() -> None:
    caller, worker = make_owner(DRIVER), make_owner(WORKER)
    refs = [put(caller, index=index) for index in range(640)]
    met = given_to(worker, caller, refs)
    worker.eager.begin([(ref._row, 0) for ref in met], DRIVER, 5, 0)
    told = []
    for _ in range(640):
        del met[0]
        told += said(worker, m.ArgumentsDropped)
    assert [len(message.ids) // 20 for message in told] == [10] * 64


def test_what_is_passed_on_is_not_dropped_before_its_task_ends() -> None:
    caller, worker = make_owner(DRIVER), make_owner(WORKER)
    ref = put(caller)
    met = given_to(worker, caller, [ref])
    worker.eager.begin([(met[0]._row, 0)], DRIVER, 5, 0)
    (result,) = submit(worker, given=Given(b"x", None, [met.pop()]))
    assert said(worker, m.ArgumentsDropped) == []
    grant(worker, OTHER)
    (run,) = said(worker, m.Run)
    worker.on_done(OTHER, m.Done(run.key, 0, 5, b"v"), 0.0)
    assert said(worker, m.ArgumentsDropped) == [m.ArgumentsDropped(5, 0, ref.binary())]
    del result


def test_two_calls_with_the_same_argument_are_both_told_of_its_end() -> None:
    caller, worker = make_owner(DRIVER), make_owner(WORKER)
    ref = put(caller)
    first, second = given_to(worker, caller, [ref]), given_to(worker, caller, [ref])
    rows = [(first[0]._row, 0)]
    worker.eager.begin(rows, DRIVER, 5, 0)
    worker.eager.begin(rows, DRIVER, 6, 0)
    first.clear()
    assert said(worker, m.ArgumentsDropped) == []
    second.clear()
    assert [x.key for x in said(worker, m.ArgumentsDropped)] == [5, 6]
    exchange(caller, worker)
