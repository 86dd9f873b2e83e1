"""Dead owners: who keeps which spec, who is asked, and when a task is executed again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ownership.owners import (
    CRASH,
    DRIVER,
    NODE,
    NODE_MANAGER,
    OTHER,
    ROOT,
    SHAPE,
    THIRD,
    WORKER,
    crash,
    exchange,
    grant,
    location,
    make_entry,
    make_owner,
    row_of,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ids import PUT_INDEX_BASE, child_task_id, object_id
from freehold._core.interface import TaskOptions
from freehold._core.limits import LATE_BORROW_S, RECONSTRUCTION_ATTEMPTS, SUPERVISORS
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, PENDING, READY, RECREATING


def runs_on(driver: Owner, **options: Any) -> m.Run:
    """A task of the driver's is sent to WORKER; its reference is let go by the test."""
    refs = submit(driver, **options)
    grant(driver, WORKER)
    run: m.Run = said(driver, m.Run)[0]
    driver.test_refs = refs  # type: ignore[attr-defined]
    return run


def begin(worker: Owner, run: m.Run, source: Any = DRIVER) -> bytes:
    """The worker executes it; the id of the task."""
    task = child_task_id(run.parent, run.index)
    worker.origins.begin(task, run.parent, source, run.key)
    return task


def have_child(worker: Owner, task: bytes, index: int = 0) -> ObjectRef[Any]:
    """The task submits a child that does not end."""
    options = TaskOptions(shape=SHAPE)
    return make_reference(worker.submit(make_entry(), options, task, index, Given(b"child"), 0.0))


def answer(worker: Owner, run: m.Run, refs: list[ObjectRef[Any]]) -> m.DoneWith:
    """What the worker answers with references in the result."""
    done = m.DoneWith(run.key, run.attempt, 5, [m.Output(b"result")])
    assert done.outputs is not None
    done.outputs[0].nested = worker.handing.describe_result(refs, DRIVER, done)
    refs.clear()
    worker.settle(0.0)
    ended = worker.origins.end(worker.table.makers[next(iter(worker.table.makers))], DRIVER, done)
    assert isinstance(ended, m.DoneWith)
    return ended


def after_a_result() -> tuple[Owner, Owner, m.Run, ObjectRef[Any]]:
    """A driver that holds a child of a finished task; the worker owns it, and it is pending."""
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    run = runs_on(driver)
    child = have_child(worker, begin(worker, run))
    driver.on_done_with(WORKER, answer(worker, run, [child]), 0.0)
    del child
    exchange(driver, worker)
    held = row_of(driver.test_refs[0]).nested[0][1][0]  # type: ignore[attr-defined, index]
    driver.test_refs.clear()  # type: ignore[attr-defined]
    exchange(driver, worker)
    return driver, worker, run, held


def test_an_answer_says_that_others_hold_what_the_task_made() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    run = runs_on(driver)
    child = have_child(worker, begin(worker, run))
    done = answer(worker, run, [child])
    assert done.is_owning
    assert done.outputs is not None
    assert done.outputs[0].nested is not None
    (info,) = done.outputs[0].nested.owners
    assert info.address == WORKER
    assert [supervisor.address for supervisor in info.supervisors] == [DRIVER]


def test_what_nobody_else_has_keeps_no_spec() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    run = runs_on(driver)
    child = have_child(worker, begin(worker, run))
    done = m.Done(run.key, run.attempt, 5, b"result")
    ended = worker.origins.end(next(iter(worker.table.makers.values())), DRIVER, done)
    assert ended is done
    assert worker.table.makers == {}
    del child


def test_a_spec_goes_when_the_last_holder_has_let_go() -> None:
    driver, worker, run, held = after_a_result()
    assert driver.table.lineage_bytes > 0
    assert len(driver.supervision.by_row) == 1
    (child,) = (task.row for task in worker.leasing.unfinished())
    worker.table.complete(child, b"the child's")
    del held, run, child
    exchange(driver, worker)
    assert driver.supervision.by_row == {}
    assert driver.table.lineage_bytes == 0
    assert driver.table.rows == 0


def test_a_task_is_executed_again_only_when_somebody_waits() -> None:
    driver, _, run, held = after_a_result()
    driver.on_process_died(WORKER, CRASH, 0.0)
    grant(driver, OTHER, lease=2)
    assert said(driver, m.Run) == []
    assert row_of(held).state == PENDING
    driver.await_row(row_of(held), object(), 0.0)
    (want,) = [x for _, x, _ in driver.outbox.messages if isinstance(x, m.Want)]
    (again,) = said(driver, m.Run)
    assert (again.parent, again.index, again.attempt) == (run.parent, run.index, 1)
    assert [wanted.id for wanted in want.wanted] == [held.binary()]


def replay(driver: Owner, held: ObjectRef[Any]) -> tuple[Owner, m.Run]:
    """The driver waits for what is lost, and OTHER begins the replay, told what is wanted."""
    driver.on_process_died(WORKER, CRASH, 0.0)
    grant(driver, OTHER, lease=2)
    driver.await_row(row_of(held), object(), 0.0)
    other = make_owner(OTHER)
    messages = [x for _, x, _ in driver.outbox.messages]
    driver.outbox.messages.clear()
    other.origins.on_want(DRIVER, next(x for x in messages if isinstance(x, m.Want)))
    return other, next(x for x in messages if isinstance(x, m.Run))


def test_what_is_made_again_is_told_at_once_and_found_there() -> None:
    driver, _, _, held = after_a_result()
    other, run = replay(driver, held)
    child = have_child(other, begin(other, run))
    row = row_of(child)
    exchange(driver, other)
    info = row_of(held).info
    assert info is not None
    assert info.address == OTHER
    other.table.complete(row, b"made again")
    waiters, row.waiters = row.waiters, None
    del child
    for waiter in waiters or ():
        other.wake([waiter], 0.0)
    other.resolving.on_resolve(DRIVER, m.Resolve(held.binary()), 0.0)
    exchange(driver, other)
    assert (row_of(held).state, row_of(held).value) == (READY, b"made again")


def test_what_is_not_made_again_fails_after_some_executions() -> None:
    driver, _, _, held = after_a_result()
    driver.on_process_died(WORKER, CRASH, 0.0)
    driver.await_row(row_of(held), object(), 0.0)
    grant(driver, OTHER, lease=2)
    executions = 0
    while True:
        runs = said(driver, m.Run)
        if not runs:
            break
        executions += 1
        driver.on_done(OTHER, m.Done(runs[0].key, runs[0].attempt, 5, b"without it"), 0.0)
    assert executions == RECONSTRUCTION_ATTEMPTS
    assert row_of(held).state == FAILED
    assert "did not make it again" in str(row_of(held).value)


def test_no_replay_beside_the_tasks_own_execution() -> None:
    """It is executed again for a lost output of its own: what is wanted, it makes as well."""
    driver, _, _, held = after_a_result()
    _, run = replay(driver, held)
    ((record,),) = driver.supervision.records.values()
    driver.recovery.recover(record.task.row, 0.0)
    driver.on_done(OTHER, m.Done(run.key, run.attempt, 5, b"without it"), 0.0)
    assert record.replay is None
    own = next(x for _, x, _ in driver.outbox.messages if isinstance(x, m.Run))
    wants = [x for _, x, _ in driver.outbox.messages if isinstance(x, m.Want)]
    assert {want.key for want in wants} == {own.key}
    said(driver, m.Run)
    driver.on_done(OTHER, m.Done(own.key, own.attempt, 5, b"without it"), 0.0)  # is not too late
    (again,) = said(driver, m.Run)
    assert again.key not in (run.key, own.key)


def test_a_replay_that_fails_says_so() -> None:
    driver, _, _, held = after_a_result()
    _, run = replay(driver, held)
    driver.on_failed(OTHER, m.Failed(run.key, run.attempt, 5, "user", b"error"), 0.0)
    assert row_of(held).state == FAILED
    assert "executing the task that made it again failed" in str(row_of(held).value)


def test_a_borrower_turns_to_the_nearest_supervisor_that_lives() -> None:
    third = make_owner(THIRD)
    id_ = object_id(ROOT, 0)
    line = (m.Supervisor(OTHER, b"t" * 16, 4), m.Supervisor(DRIVER, b"u" * 16, 7))
    refs = m.Refs([m.OwnerInfo(WORKER, line)], id_ + b"\0\0")
    held = third.borrowing.meet(refs, WORKER, is_covered=False)
    third.on_process_died(OTHER, CRASH, 0.0)
    assert said(third, m.Orphaned) == []
    third.on_process_died(WORKER, CRASH, 0.0)
    (orphaned,) = said(third, m.Orphaned, DRIVER)
    assert (orphaned.ids, orphaned.supervisors, orphaned.at) == (id_, line, 1)
    del held


def test_a_supervisor_that_has_forgotten_says_gone() -> None:
    driver, third = make_owner(DRIVER), make_owner(THIRD)
    line = (m.Supervisor(DRIVER, b"t" * 16, 4),)
    refs = m.Refs([m.OwnerInfo(WORKER, line)], object_id(ROOT, 0) + b"\0\0")
    held = third.borrowing.meet(refs, WORKER, is_covered=False)
    third.on_process_died(WORKER, CRASH, 0.0)
    exchange(third, driver)
    assert row_of(held[0]).state == FAILED
    assert "max_retries=0" in str(row_of(held[0]).value)
    assert driver.table.rows == 0


def test_an_orphan_is_asked_for_again_after_a_broken_connection() -> None:
    third = make_owner(THIRD)
    line = (m.Supervisor(DRIVER, b"t" * 16, 4),)
    refs = m.Refs([m.OwnerInfo(WORKER, line)], object_id(ROOT, 0) + b"\0\0")
    held = third.borrowing.meet(refs, WORKER, is_covered=False)
    third.on_process_died(WORKER, CRASH, 0.0)
    assert len(said(third, m.Orphaned)) == 1
    third.on_disconnected(DRIVER, 1.0)
    third.on_deadline(2.0)
    assert len(said(third, m.Orphaned)) == 1
    del held


def test_a_supervisor_that_was_asked_by_others_hears_why_from_whoever_they_tell() -> None:
    """Their word may come later than ours: it would not know what we ask it for."""
    driver, third = make_owner(DRIVER), make_owner(THIRD)
    line = (m.Supervisor(WORKER, b"u" * 16, 7), m.Supervisor(DRIVER, b"t" * 16, 4))
    refs = m.Refs([m.OwnerInfo(DRIVER, line)], object_id(ROOT, 0) + b"\0\0")
    third.on_process_died(WORKER, CRASH, 0.0)
    (held,) = third.borrowing.meet(refs, OTHER, is_covered=False)
    (orphaned,) = said(third, m.Orphaned, DRIVER)
    assert (orphaned.ids, orphaned.supervisors, orphaned.at) == (held.binary(), line, 1)
    driver.supervision.on_orphaned(THIRD, orphaned)
    (answer,) = said(driver, m.Borrowed, THIRD)
    third.borrowing.on_borrowed(DRIVER, answer)
    assert third.borrowing._asked == {}


def test_a_supervisor_is_given_what_it_was_not_asked_for_yet() -> None:
    driver, _, run, held = after_a_result()
    task = child_task_id(run.parent, run.index)
    info = m.OwnerInfo(DRIVER, (m.Supervisor(DRIVER, task, run.key),))
    refs = m.Refs([info], object_id(task, PUT_INDEX_BASE) + b"\0\0")
    (given,) = driver.borrowing.meet(refs, OTHER, is_covered=False)
    assert (row_of(given).state, row_of(given).registration) == (PENDING, RECREATING)
    del held


def test_a_running_retry_is_told_what_is_wanted() -> None:
    driver, third = make_owner(DRIVER), make_owner(THIRD)
    run = runs_on(driver)
    worker = make_owner(WORKER)
    child = have_child(worker, begin(worker, run))
    held = third.borrowing.meet(worker.borrowing.describe([child], THIRD), WORKER, False)
    crash(driver)
    driver.on_process_died(WORKER, CRASH, 0.0)
    grant(driver, OTHER, lease=2)
    (again,) = said(driver, m.Run)
    third.on_process_died(WORKER, CRASH, 0.0)
    exchange(third, driver)  # the driver's word to OTHER is dropped here
    record = next(iter(driver.supervision.by_row.values()))
    want = driver.supervision.want(record, record.task)
    assert (want.key, [wanted.id for wanted in want.wanted]) == (again.key, [held[0].binary()])


def test_a_crashed_tasks_record_ends_after_a_grace() -> None:
    driver = make_owner(DRIVER)
    run = runs_on(driver)
    crash(driver)
    assert len(driver.supervision.by_row) == 1
    driver.on_deadline(LATE_BORROW_S + 1.0)
    driver.settle(0.0)
    assert driver.supervision.by_row == {}
    del run


def test_a_kept_spec_lets_go_of_actors() -> None:
    """Else an actor that keeps what the task made would be kept by the task's spec."""
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    handle = make_reference(driver.table.new_actor(ROOT, 77))
    driver.table.expose(handle._row, 0)
    run = runs_on(driver, given=Given(b"x", None, [handle]))
    row = handle._row
    del handle
    child = have_child(worker, begin(worker, run))
    driver.on_done_with(WORKER, answer(worker, run, [child]), 0.0)
    driver.settle(0.0)
    assert (row.count, row.lineage) == (0, 0)
    (released,) = said(driver, m.ReleaseActor, NODE_MANAGER)
    assert released.actor == row.task_id()
    del child


def test_a_line_of_supervisors_is_bounded() -> None:
    worker = make_owner(WORKER)
    line = tuple(m.Supervisor(OTHER, bytes([i]) * 16, i) for i in range(SUPERVISORS + 3))
    worker.origins.on_supervised_by(OTHER, m.SupervisedBy(ROOT, line))
    origin = worker.origins.begin(b"t" * 16, ROOT, OTHER, 5)
    assert len(origin.info.supervisors) == SUPERVISORS
    assert origin.info.supervisors[0] == m.Supervisor(OTHER, b"t" * 16, 5)
    assert origin.info.supervisors[1] == line[0]


@pytest.mark.parametrize("end", ["process", "node"])
def test_what_a_dead_caller_said_is_forgotten(end: str) -> None:
    worker = make_owner(WORKER)
    worker.origins.on_supervised_by(DRIVER, m.SupervisedBy(ROOT, ()))
    worker.origins.on_want(DRIVER, m.Want(5, []))
    if end == "process":
        worker.on_process_died(DRIVER, CRASH, 0.0)
    else:
        worker.on_node_died(NODE, "its connection closed", 0.0)
    assert worker.origins.wants == {}
    assert worker.origins._lines == {}


def test_supervisors_are_told_once_a_parent_and_lease() -> None:
    worker = make_owner(WORKER)
    task = worker.origins.begin(b"t" * 16, ROOT, DRIVER, 5).task
    children = [have_child(worker, task, index) for index in range(3)]
    grant(worker, OTHER)
    told = [x for _, x, _ in worker.outbox.messages if isinstance(x, m.SupervisedBy)]
    assert [x.parent for x in told] == [task]
    del children


@pytest.mark.parametrize("reason", ["once", "budget"])
def test_a_task_that_is_not_kept_is_not_executed_again(reason: str) -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    if reason == "budget":
        driver.recovery.lineage_limit = 0
    run = runs_on(driver, max_retries=0 if reason == "once" else 3)
    child = have_child(worker, begin(worker, run))
    driver.on_done_with(WORKER, answer(worker, run, [child]), 0.0)
    del child
    exchange(driver, worker)
    held = row_of(driver.test_refs[0]).nested[0][1][0]  # type: ignore[attr-defined, index]
    driver.on_process_died(WORKER, CRASH, 0.0)
    assert row_of(held).state == FAILED
    assert said(driver, m.Run) == []


LINE = (m.Supervisor(DRIVER, b"t" * 16, 4),)


def made_twice(worker: Owner) -> tuple[ObjectRef[Any], ObjectRef[Any]]:
    """A worker borrows an object of OTHER's and then makes it itself, executing its task again."""
    task = worker.origins.begin(b"t" * 16, ROOT, DRIVER, 4).task
    id_ = object_id(task, PUT_INDEX_BASE)
    refs = m.Refs([m.OwnerInfo(OTHER, LINE)], id_ + b"\0\0")
    (borrowed,) = worker.borrowing.meet(refs, OTHER, is_covered=False)
    made = make_reference(worker.table.new_put(task, 0, location(1)))
    worker.table.expose(row_of(made), 0)
    return borrowed, made


def test_what_was_made_here_too_stands_in_for_a_dead_owners() -> None:
    """Its supervisor may ask us for it: we must not ask the supervisor."""
    worker, third = make_owner(WORKER), make_owner(THIRD)
    borrowed, made = made_twice(worker)
    refs = worker.borrowing.describe([made], THIRD)
    del made
    (held,) = third.borrowing.meet(refs, WORKER, is_covered=False)
    third.await_row(row_of(held), object(), 0.0)
    worker.settle(0.0)
    worker.on_process_died(OTHER, CRASH, 0.0)
    assert said(worker, m.Orphaned) == []
    worker.resolving.on_resolve(THIRD, m.Resolve(held.binary()), 0.0)
    exchange(worker, third)
    assert (row_of(held).state, row_of(held).value) == (READY, location(1))
    del borrowed, held
    exchange(worker, third)
    assert (worker.table.rows, third.table.rows) == (0, 0)


def test_what_is_made_again_is_owned_as_long_as_it_is_known() -> None:
    """Who is told of it is counted at the one that is known by its id, and may need the spec."""
    worker = make_owner(WORKER)
    id_ = object_id(b"t" * 16, PUT_INDEX_BASE)
    worker.recovery.adopt(m.Adopted(id_, m.Output(b"first")), OTHER)  # made by OTHER, for us
    origin = worker.origins.begin(b"t" * 16, ROOT, DRIVER, 4)
    made = make_reference(worker.table.new_put(origin.task, 0, b"second"))
    worker.borrowing.describe([made], DRIVER)
    del made
    worker.settle(0.0)
    done = worker.origins.end(origin, DRIVER, m.Done(4, 0, 5, b"result"))
    assert done.is_owning
    worker.borrowing.on_return(OTHER, m.Return(id_))
    assert said(worker, m.OwningEnded) == []
    worker.borrowing.on_return(DRIVER, m.Return(id_))
    assert [ended.key for ended in said(worker, m.OwningEnded, DRIVER)] == [4]
    assert worker.table.rows == 0


def test_what_is_adopted_stands_for_itself() -> None:
    worker = make_owner(WORKER)
    borrowed, made = made_twice(worker)
    worker.on_process_died(OTHER, CRASH, 0.0)
    assert row_of(borrowed).value == location(1)
    adopted = m.Adopted(borrowed.binary(), m.Output(None, location(2)))
    worker.recovery.adopt(adopted, THIRD)
    worker.borrowing.on_return(THIRD, m.Return(borrowed.binary()))
    assert row_of(borrowed).value == location(2)
    del borrowed, made
    released = said(worker, m.RangeReleased)
    assert sorted(where.segment for where in released) == [1, 2]
    assert worker.table.rows == 0


def a_put_let_go(worker: Owner, task: bytes) -> ObjectRef[Any]:
    """A stored object that a kept task needs, and that was let go in between."""
    row = worker.table.new_put(task, 0, location(1))
    worker.table.expose(row, 0)
    row.lineage += 1  # as that of a kept task's argument
    worker.table.release(row, 0)
    assert [where.segment for where in said(worker, m.RangeReleased)] == [1]
    return worker.table.reference(row, 0)


def test_a_put_that_was_let_go_is_made_again_by_its_supervisor() -> None:
    driver, worker, run, held = after_a_result()
    put = a_put_let_go(worker, child_task_id(run.parent, run.index))
    (seen,) = driver.borrowing.meet(worker.borrowing.describe([put], DRIVER), WORKER, False)
    driver.await_row(row_of(seen), object(), 0.0)  # it asks the worker, and the worker asks it
    exchange(driver, worker)
    ((record,),) = driver.supervision.records.values()
    assert record.replay is not None
    assert (row_of(seen).registration, row_of(seen).borrow_count) == (RECREATING, 0)
    info = row_of(put).info
    assert info is not None
    assert info.address == DRIVER
    del held


def test_a_put_that_was_let_go_and_nobody_makes_again_is_lost() -> None:
    driver, worker, run, held = after_a_result()
    put = a_put_let_go(worker, child_task_id(run.parent, run.index))
    (seen,) = driver.borrowing.meet(worker.borrowing.describe([put], DRIVER), WORKER, False)
    driver.supervision.records.clear()
    driver.await_row(row_of(seen), object(), 0.0)
    exchange(driver, worker)
    assert (row_of(seen).state, row_of(put).state) == (FAILED, FAILED)
    del held


def hand_over(worker: Owner, key: int, refs: list[ObjectRef[Any]], caller: Owner) -> m.Adopted:
    """A task ends with these references, the only ones to an object that the worker owns."""
    done = m.DoneWith(key, 0, 5, [m.Output(b"result")])
    assert done.outputs is not None
    done.outputs[0].nested = worker.handing.describe_result(refs, caller.address, done)
    refs.clear()
    caller.on_done_with(worker.address, done, 0.0)
    assert done.adopted is not None
    (adopted,) = done.adopted
    return adopted


def test_what_was_taken_over_twice_is_made_again_by_whose_child_made_it() -> None:
    """A task hands on what its child had handed to it."""
    driver, worker, other = make_owner(DRIVER), make_owner(WORKER), make_owner(OTHER)
    run = runs_on(driver)
    task = begin(worker, run)
    child = have_child(worker, task)
    grant(worker, OTHER)
    (child_run,) = said(worker, m.Run)
    made = [make_reference(other.put(begin(other, child_run, WORKER), 0, location(1), []))]
    assert hand_over(other, child_run.key, made, worker).below == ()
    nested = row_of(child).nested
    assert nested is not None
    taken = list(nested[0][1])
    below = (m.Supervisor(WORKER, row_of(child).task_id(), child_run.key),)
    worker.borrowing.on_return(OTHER, m.Return(taken[0].binary()))
    del child, nested
    worker.settle(0.0)
    assert hand_over(worker, run.key, taken, driver).below == below
    nested = row_of(driver.test_refs[0]).nested  # type: ignore[attr-defined]
    assert nested is not None
    row = row_of(nested[0][1][0])
    driver.table.lose(row)
    driver.await_row(row, object(), 0.0)
    wants = [x for _, x, _ in driver.outbox.messages if isinstance(x, m.Want)]
    assert [want.wanted for want in wants] == [[m.Wanted(row.object_id(0), below)]]


def test_of_a_task_submitted_twice_either_can_be_executed_again() -> None:
    """As when its parent is executed again: the one that is needed longer is not the last."""
    worker = make_owner(WORKER)
    task = worker.origins.begin(b"t" * 16, ROOT, DRIVER, 4).task
    refs = [have_child(worker, task), have_child(worker, task)]
    first, second = (row_of(ref).task for ref in refs)
    assert first is not None
    assert second is not None
    for crashed, at in ((first, 0.0), (second, 0.0), (first, 5.0)):
        worker.supervision.on_crashed(crashed, at)
    worker.on_deadline(LATE_BORROW_S + 1.0)
    line = (m.Supervisor(WORKER, first.row.task_id(), first.row.key),)
    orphan = object_id(first.row.task_id(), PUT_INDEX_BASE)
    worker.supervision.on_orphaned(THIRD, m.Orphaned(orphan, line, 0))
    (answer,) = said(worker, m.Borrowed, THIRD)
    assert (answer.ids, answer.gone) == (orphan, b"")
    del refs
