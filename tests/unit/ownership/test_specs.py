"""Who keeps the spec of a task for whoever owns what it made, when supervisors end."""

from __future__ import annotations

import pytest
from tests.unit.ownership.owners import (
    CRASH,
    DRIVER,
    OTHER,
    ROOT,
    WORKER,
    exchange,
    grant,
    make_owner,
    row_of,
    said,
)
from tests.unit.ownership.test_supervision import have_child

from freehold._core import messages as m
from freehold._core.ids import Address, child_task_id, object_id
from freehold._core.ownership.origins import Origin
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference

FAR = Address("b" * 32, 1)
TASK, ABOVE = b"t" * 16, b"a" * 16


def made_by(worker: Owner, task: bytes, source: Address, key: int) -> Origin:
    """A task has ended whose `put` the driver holds."""
    origin = worker.origins.begin(task, ABOVE, source, key)
    made = make_reference(worker.table.new_put(task, 0, b"made"))
    worker.borrowing.describe([made], DRIVER)
    del made
    worker.settle(0.0)
    worker.origins.end(origin, source, m.Done(key, 0, 5, b"result"))
    return origin


def let_go(worker: Owner, origin: Origin) -> None:
    """The driver holds what was made no longer."""
    ids = [row.object_id(0) for row in origin.rows]
    worker.borrowing.on_return(DRIVER, m.Return(b"".join(ids)))


def a_grandchild(supervisor: Address = OTHER) -> tuple[Owner, Origin]:
    """A worker that made something in a task of `supervisor`'s, which executes one of DRIVER's."""
    worker = make_owner(WORKER)
    line = (m.Supervisor(DRIVER, ABOVE, 7),)
    worker.origins.on_supervised_by(supervisor, m.SupervisedBy(ABOVE, line))
    return worker, made_by(worker, TASK, supervisor, 3)


@pytest.mark.parametrize("end", ["in order", "killed", "node"])
def test_when_a_supervisor_ends_the_next_one_is_told(end: str) -> None:
    worker, origin = a_grandchild(FAR if end == "node" else OTHER)
    said(worker, m.Owning)
    if end == "node":
        worker.on_node_died(FAR.node, "its connection closed", 0.0)
    else:
        cause = m.ExitCause(0) if end == "in order" else CRASH
        worker.on_process_died(OTHER, cause, 0.0, DRIVER if end == "in order" else None)
    assert said(worker, m.Owning, DRIVER) == [m.Owning(ABOVE, 7)]
    let_go(worker, origin)
    assert said(worker, m.OwningEnded) == [m.OwningEnded(7)]


def test_the_next_ones_spec_is_kept_until_all_is_let_go() -> None:
    """Two tasks of one parent: one spec is kept for both."""
    worker, first = a_grandchild()
    second = made_by(worker, b"u" * 16, OTHER, 4)
    worker.on_process_died(OTHER, CRASH, 0.0)
    assert said(worker, m.Owning) == [m.Owning(ABOVE, 7)]
    let_go(worker, first)
    assert said(worker, m.OwningEnded) == []
    let_go(worker, second)
    assert said(worker, m.OwningEnded) == [m.OwningEnded(7)]


def test_nobody_is_told_when_nobody_is_left() -> None:
    worker, origin = a_grandchild()
    worker.on_process_died(OTHER, CRASH, 0.0)
    worker.on_process_died(DRIVER, CRASH, 0.0)
    said(worker, m.Owning)
    let_go(worker, origin)
    assert said(worker, m.OwningEnded) == []


def test_a_row_given_away_does_not_end_what_our_supervisor_keeps_for_it() -> None:
    """OTHER made something in a child of WORKER's. WORKER leaves, and gives away the child's row:
    DRIVER goes on keeping the task's spec until WORKER's end, and then for OTHER."""
    _, worker, origin, _ = _after_a_hand_off()
    assert not worker.handoff.is_needed
    assert worker.table.makers == {TASK: origin}
    ((_, key),) = worker.supervision._owning
    worker.supervision.on_owning_ended(OTHER, key)
    assert said(worker, m.OwningEnded, DRIVER) == [m.OwningEnded(0)]
    assert worker.table.rows == 0


def test_a_task_whose_row_was_given_away_is_executed_again_all_the_same() -> None:
    """WORKER is asked for what OTHER made before it has ended itself."""
    _, worker, _, task = _after_a_hand_off()
    worker.on_process_died(OTHER, CRASH, 0.0)
    made = object_id(child_task_id(task, 0), 0)
    line = (m.Supervisor(WORKER, task, next(iter(worker.supervision.by_row)).key),)
    worker.supervision.on_orphaned(DRIVER, m.Orphaned(made, line, 0, ""))
    worker.resolving.on_resolve(DRIVER, m.Resolve(made), 0.0)
    ((record,),) = worker.supervision.records.values()
    assert record.replay is not None
    assert [demand.backlog for demand in said(worker, m.LeaseDemand)] == [1]


def _after_a_hand_off() -> tuple[Owner, Owner, Origin, bytes]:
    """WORKER, which executed DRIVER's TASK, has given it the row of its child; OTHER, which
    executed that, owns something. Also the origin of TASK, and the child's task id."""
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    origin = worker.origins.begin(TASK, ROOT, DRIVER, 0)
    child = _a_child_that_ended(worker)
    task = row_of(child).task_id()
    refs = worker.borrowing.describe([child], DRIVER)
    (held,) = driver.borrowing.meet(refs, WORKER, is_covered=False)
    del child
    worker.settle(0.0)
    worker.origins.end(origin, DRIVER, m.Done(0, 0, 5, b"result"))
    worker.handoff.hand_over(DRIVER)
    exchange(driver, worker)
    del held
    exchange(driver, worker)
    return driver, worker, origin, task


def _a_child_that_ended(worker: Owner) -> ObjectRef[object]:
    child = have_child(worker, TASK)
    grant(worker, OTHER)
    (run,) = said(worker, m.Run)
    done = m.DoneWith(run.key, run.attempt, 5, [m.Output(b"the child's")])
    done.is_owning = True
    worker.on_done_with(OTHER, done, 0.0)
    return child
