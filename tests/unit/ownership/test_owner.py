"""The owner machine: tasks, leases, retries, recovery, cancelling."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ownership.owners import (
    CRASH,
    NODE_MANAGER,
    OTHER,
    WORKER,
    crash,
    grant,
    location,
    make_entry,
    make_owner,
    put,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import RECONSTRUCTION_ATTEMPTS
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.row import FAILED, LOST, PENDING, READY
from freehold.errors import (
    ObjectReconstructionFailedMaxAttemptsExceededError,
    TaskCancelledError,
    WorkerCrashedError,
)


@pytest.fixture
def owner() -> Owner:
    return make_owner()


def run_one(owner: Owner, run: m.Run, worker: Address = WORKER, **answer: Any) -> None:
    owner.on_done_with(worker, m.DoneWith(run.key, run.attempt, 5, **answer), 0.0)


def stored_task(owner: Owner, segment: int = 1, **options: Any) -> Any:
    """A task that ended with a stored output; leaves a leased worker behind."""
    ref = submit(owner, **options)[0]
    grant(owner)
    run = said(owner, m.Run)[0]
    run_one(owner, run, outputs=[m.Output(location=location(segment))])
    return ref


def test_a_task_asks_for_a_lease_and_is_sent_when_one_comes(owner: Owner) -> None:
    ref = submit(owner)[0]
    assert [demand.wanted for demand in said(owner, m.LeaseDemand, NODE_MANAGER)] == [1]
    grant(owner)
    assert len(said(owner, m.Run, WORKER)) == 1
    owner.on_done(WORKER, m.Done(0, 0, 5, b"result"), 0.0)
    assert (ref._row.state, ref._row.value) == (READY, b"result")


def test_a_task_without_outputs_ends(owner: Owner) -> None:
    submit(owner, num_returns=0)
    row = owner.leasing.unfinished()[0].row
    owner.table.drops.append((row, 0))
    grant(owner)
    run_one(owner, said(owner, m.Run)[0], outputs=[])
    owner.settle(0.0)
    assert owner.table.rows == 0


def test_a_crash_is_charged_to_the_oldest_task_only(owner: Owner) -> None:
    entry = make_entry()
    entry.run_us = 5.0
    first, second = (submit(owner, entry, max_retries=1)[0] for _ in range(2))
    grant(owner)
    assert len(said(owner, m.Run)) == 2
    crash(owner)
    assert [task.retries_left for task in (first._row.task, second._row.task)] == [0, 1]


def test_a_task_that_may_run_once_never_waits_behind_another(owner: Owner) -> None:
    entry = make_entry()
    entry.run_us = 5.0
    submit(owner, entry)
    submit(owner, entry, max_retries=0)
    grant(owner)
    assert len(said(owner, m.Run)) == 1


def test_a_task_that_may_run_once_fails_with_the_crash(owner: Owner) -> None:
    ref = submit(owner, max_retries=0)[0]
    grant(owner)
    crash(owner)
    assert isinstance(ref._row.value, WorkerCrashedError)


def test_a_broken_connection_ends_the_worker_and_its_death_frees_the_tasks(owner: Owner) -> None:
    ref = submit(owner)[0]
    grant(owner)
    owner.leasing.leases[WORKER].is_blocked = True  # also one whose task waits
    said(owner, m.Run)
    owner.on_disconnected(WORKER, 0.0)
    assert [message.kill for message in said(owner, m.ReturnLease)] == [True]
    owner.on_process_died(WORKER, CRASH, 0.0)
    assert not owner.leasing.leases
    assert ref._row.task.message.attempt == 1


def test_tasks_given_back_run_elsewhere_and_cancelled_ones_end(owner: Owner) -> None:
    entry = make_entry()
    entry.run_us = 5.0
    refs = [submit(owner, entry)[0] for _ in range(3)]
    grant(owner)
    keys = [run.key for run in said(owner, m.Run)]
    owner.cancel(refs[2]._row, False, False, 0.0)
    owner.on_tasks_returned(WORKER, m.TasksReturned(keys[1:]), 0.0)
    assert isinstance(refs[2]._row.value, TaskCancelledError)
    assert [ref._row.state for ref in refs[:2]] == [PENDING, PENDING]
    grant(owner, OTHER, 2)
    assert [run.key for run in said(owner, m.Run, OTHER)] == keys[1:2]


def test_what_a_leaving_worker_was_sent_did_not_begin(owner: Owner) -> None:
    """Neither does it cost a retry, nor does the lease take anything more."""
    once = submit(owner, max_retries=0)[0]
    grant(owner)
    (run,) = said(owner, m.Run, WORKER)
    owner.on_tasks_returned(WORKER, m.TasksReturned([], True), 0.0)
    assert said(owner, m.ReturnLease) == [m.ReturnLease(1)]
    owner.on_process_died(WORKER, m.ExitCause(0), 0.0)
    assert once._row.state == PENDING
    grant(owner, OTHER, 2)
    assert [sent.key for sent in said(owner, m.Run, OTHER)] == [run.key]


def test_a_cancelled_task_that_a_leaving_worker_was_sent_is_over(owner: Owner) -> None:
    refs = [submit(owner, max_retries=0)[0], submit(owner)[0]]
    grant(owner)
    owner.cancel(refs[0]._row, False, False, 0.0)
    owner.on_tasks_returned(WORKER, m.TasksReturned([], True), 0.0)
    assert isinstance(refs[0]._row.value, TaskCancelledError)
    assert WORKER not in owner.leasing.leases
    assert refs[1]._row.state == PENDING


def test_a_cancelled_task_ends_when_its_worker_dies(owner: Owner) -> None:
    entry = make_entry()
    entry.run_us = 5.0
    refs = [submit(owner, entry)[0] for _ in range(2)]
    grant(owner)
    owner.cancel(refs[1]._row, False, False, 0.0)
    crash(owner)
    assert isinstance(refs[1]._row.value, TaskCancelledError)


def test_a_failing_argument_fails_a_long_chain_and_sends_nothing_twice(owner: Owner) -> None:
    first = submit(owner, max_retries=0)[0]
    chain = [first]
    for _ in range(2_000):
        chain.append(submit(owner, given=Given(b"x", [(0, chain[-1])]))[0])
    bystander = submit(owner)[0]
    grant(owner)
    said(owner, m.Run)
    owner.on_failed(WORKER, m.Failed(0, 0, 5, "user", b"broken"), 0.0)
    assert [run.key for run in said(owner, m.Run)] == [bystander._row.key]
    owner.on_done(WORKER, m.Done(bystander._row.key, 0, 5, b""), 0.0)
    assert {ref._row.state for ref in chain} == {FAILED}
    assert chain[-1]._row.value == b"broken"
    assert not said(owner, m.Run)


def test_an_idle_lease_goes_on_after_an_assignment_came_to_nothing(owner: Owner) -> None:
    bad = submit(owner, max_retries=0)[0]
    submit(owner, given=Given(b"x", [(0, bad)]))
    good = submit(owner)[0]
    grant(owner)
    said(owner, m.Run)
    owner.on_failed(WORKER, m.Failed(0, 0, 5, "user", b"broken"), 0.0)
    assert [run.key for run in said(owner, m.Run)] == [good._row.key]


def test_an_answer_that_nobody_waits_for_gives_back_what_came_with_it(owner: Owner) -> None:
    run_one(owner, m.Run(7, 0, 0, b"", 0), outputs=[m.Output(location=location(9))])
    assert [message.segment for message in said(owner, m.RangeReleased)] == [9]


def test_a_value_that_is_lost_again_and_again_is_given_up_after_its_attempts(owner: Owner) -> None:
    ref = stored_task(owner)
    for attempt in range(1, RECONSTRUCTION_ATTEMPTS + 1):
        owner.recovery.unreadable(ref._row, 0, location(attempt))
        owner.await_row(ref._row, object(), 0.0)
        [run] = said(owner, m.Run)
        run_one(owner, run, outputs=[m.Output(location=location(attempt + 1))])
        assert ref._row.state == READY
    owner.recovery.unreadable(ref._row, 0, location(RECONSTRUCTION_ATTEMPTS + 1))
    owner.await_row(ref._row, object(), 0.0)
    assert said(owner, m.Run) == []
    assert ref._row.state == FAILED
    error = ref._row.value
    assert type(error) is ObjectReconstructionFailedMaxAttemptsExceededError
    assert (error.attempts, error.object_id) == (RECONSTRUCTION_ATTEMPTS, ref.hex())
    assert "lost after 3 attempts" in str(error)


def test_a_cancelled_task_says_its_own_name_or_its_functions(owner: Owner) -> None:
    for options, name in ({"name": "len"}, "len"), ({"name": "nick"}, "nick"):
        ref = submit(owner, **options)[0]
        owner.cancel(ref._row, False, True, 0.0)
        assert type(ref._row.value) is TaskCancelledError
        assert f"task {name} (" in str(ref._row.value)


def test_a_lost_output_is_made_again(owner: Owner) -> None:
    ref = stored_task(owner)
    owner.recovery.unreadable(ref._row, 0, location(1))
    assert ref._row.state == LOST
    owner.await_row(ref._row, object(), 0.0)
    runs = said(owner, m.Run)
    assert [run.attempt for run in runs] == [1]
    run_one(owner, runs[0], outputs=[m.Output(location=location(2))])
    assert ref._row.value == location(2)


def test_a_copy_given_up_as_lost_is_let_go_with_its_row_only(owner: Owner) -> None:
    ref = stored_task(owner)
    owner.recovery.unreadable(ref._row, 0, location(1))
    assert not said(owner, m.RangeReleased), "another process may still read it"
    del ref
    assert [message.segment for message in said(owner, m.RangeReleased)] == [1]


def test_a_task_that_may_run_once_is_not_executed_again_for_its_output(owner: Owner) -> None:
    ref = stored_task(owner, max_retries=0)
    owner.recovery.unreadable(ref._row, 0, location(1))
    owner.await_row(ref._row, object(), 0.0)
    assert type(ref._row.value).__name__ == "ObjectReconstructionFailedError"


def test_an_output_out_of_scope_is_made_again_for_a_task_that_runs_again(owner: Owner) -> None:
    left, right = submit(owner, num_returns=2)
    grant(owner)
    run = said(owner, m.Run)[0]
    outputs = [m.Output(location=location(1)), m.Output(location=location(2))]
    run_one(owner, run, outputs=outputs)
    user = submit(owner, given=Given(b"x", [(0, left)]))[0]
    run_one(owner, said(owner, m.Run)[0], outputs=[m.Output(location=location(3))])
    del left
    assert [message.segment for message in said(owner, m.RangeReleased)] == [1]
    owner.recovery.unreadable(user._row, 0, location(3))
    owner.await_row(user._row, object(), 0.0)
    again = said(owner, m.Run)[0]
    assert again.key == right._row.key, "its argument comes first"


def test_a_lost_chain_of_a_thousand_is_brought_back_without_recursion(owner: Owner) -> None:
    ref = stored_task(owner)
    rows = [ref._row]
    for segment in range(2, 1_002):
        ref = submit(owner, given=Given(b"x", [(0, ref)]))[0]
        rows.append(ref._row)
        run_one(owner, said(owner, m.Run)[0], outputs=[m.Output(location=location(segment))])
    owner.recovery.unreadable(ref._row, 0, location(1_001))
    owner.await_row(ref._row, object(), 0.0)
    assert [run.key for run in said(owner, m.Run)] == [rows[0].key]
    assert {row.state for row in rows} == {PENDING}


def test_everything_that_waits_fails_when_the_cluster_is_gone(owner: Owner) -> None:
    first = submit(owner)[0]
    second = submit(owner, given=Given(b"x", [(0, first)]))[0]
    owner.fail_all(RuntimeError("gone"))
    assert [ref._row.state for ref in (first, second)] == [FAILED, FAILED]


def test_a_put_is_released_with_its_last_reference(owner: Owner) -> None:
    ref = put(owner, location(4))
    del ref
    assert [message.segment for message in said(owner, m.RangeReleased)] == [4]
    assert owner.table.rows == 0


def test_all_that_a_task_lacks_from_a_dead_node_is_made_again_at_once(owner: Owner) -> None:
    """Not one after the other, as each is looked for; a `put` stays: somebody may have a copy."""
    gone = "b" * 32
    first, second = (submit(owner)[0] for _ in range(2))
    grant(owner)
    for segment in (1, 2):
        run = said(owner, m.Run)[-1]
        run_one(owner, run, outputs=[m.Output(location=location(segment, gone))])
    kept = put(owner, location(3, gone))
    given = Given(b"x", top_level=list(enumerate((first, second, kept))))
    submit(owner, given=given)
    asked = said(owner, m.Run)[-1]
    owner.on_node_died(gone, "silent", 0.0)
    lost = first._row.object_id(0)
    failed = m.Failed(asked.key, asked.attempt, 5, "lost", b"no such node", lost=lost)
    owner.on_failed(WORKER, failed, 0.0)
    assert (first._row.state, second._row.state, kept._row.state) == (PENDING, PENDING, READY)
