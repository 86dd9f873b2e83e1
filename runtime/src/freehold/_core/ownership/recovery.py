"""Lost objects: brought back by executing their task again, or given up with the reason.

A stored value is lost with its node. Nothing happens until somebody needs it; then its task, kept
as lineage, is executed again under the same ids, and so, recursively, are the tasks of arguments
that are gone too (Ownership, NSDI'21, §4.3). Executions for recovery are bounded apart from the
task's own retries, and go through the same queues as other work.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.limits import LINEAGE_BYTES, RECONSTRUCTION_ATTEMPTS
from freehold._core.messages import Adopted, ExitCause, Resolve, Return
from freehold._core.ownership.borrowing import orphan_error
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import (
    FAILED,
    LOST,
    PENDING,
    READY,
    REGISTERED,
    Packed,
    Row,
    Task,
    stored_ranges,
    unresolve,
)
from freehold.errors import (
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedLineageEvictedError,
    ObjectReconstructionFailedMaxAttemptsExceededError,
)

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Recovery:
    """What one owner does about lost values and dead owners."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.attempts: dict[bytes, int] = {}
        """Executions spent on bringing an object back."""
        self._stored: dict[Row, None] = {}
        self._to_recover: deque[Row] = deque()
        self._is_recovering = False
        self._has_evicted = False
        self.lineage_limit = LINEAGE_BYTES

    def may_keep(self, task: Task) -> bool:
        """Whether a task that ended with stored outputs is kept, within the lineage budget.

        One that its user wants executed at most once is not.
        """
        self.note_stored(task.row)
        if not task.may_repeat:
            return False
        task.spec_bytes = len(task.message.payload)
        if self._owner.table.lineage_bytes + task.spec_bytes <= self.lineage_limit:
            return True
        self._has_evicted = True
        return False

    def is_there(self, row: Row, index: int) -> bool:
        """Whether an output is resolved and its value can be had.

        One of several that was out of scope, and is wanted again by a task that is executed again,
        is taken as lost, and the others with it: their task makes all of them.
        """
        if row.state != READY:
            return row.state == FAILED
        if type(row.value) is list and row.counts is not None and row.value[index] is None:
            self._owner.table.lose(row)
            return False
        return True

    def note_stored(self, row: Row) -> None:
        """A row that has a value in some node's arena."""
        self._stored[row] = None
        if len(self._stored) > 1024 and len(self._stored) > 2 * self._owner.table.rows:
            self._stored = {row: None for row in self._stored if row.value is not None}

    def stored_places(self) -> dict[Location, Row]:
        """Where the values of owned rows lie."""
        return {
            where: row
            for row in self._stored
            if row.info is None and row.state == READY
            for where in stored_ranges(row.value)
        }

    def has_recovered(self, row: Row) -> bool:
        """Whether a row's task was executed again before to bring its value back."""
        return row.object_id(0) in self.attempts

    def unreadable(self, row: Row, index: int, location: Location) -> None:
        """A pull of a value failed: ask its owner again, or take it as lost."""
        if row.state != READY:
            return
        if row.info is None:
            self.lose_location(row, index, location)
        elif row.value == location and not self._owner.supervision.is_unreadable(
            row, location, 0.0
        ):
            row.state = PENDING
            row.value = None
            row.key = -2
            lost = Resolve(row.object_id(0), location)
            self._owner.outbox.send(row.info.address, lost, True)

    def adopt(self, adopted: Adopted, source: Address) -> list[ObjectRef[Any]]:
        """Own from now on what the finishing worker owned and returned to us.

        Returns the references inside it, which the worker holds until we have registered for them.
        """
        owner = self._owner
        known = owner.table.by_id.get(adopted.id)
        row = known[0] if known is not None else owner.table.new_adopted(adopted.id)
        if row.info is not None:
            # We borrowed it from the worker before: the same row is the owner's now.
            if row.borrow_count:
                back = Return(adopted.id * row.borrow_count)
                owner.outbox.send(row.info.address, back)
            if row.state == READY:
                unresolve(row)  # what we knew of its value was the former owner's
            row.info = None
            row.registration = REGISTERED
            owner.table.borrowed_rows -= 1
            row.borrow_count = 0
        output = adopted.output
        value = output.blob if output.location is None else output.location
        met: list[ObjectRef[Any]] = []
        nested = None
        if output.nested is not None:
            met = owner.borrowing.meet(output.nested, source, is_covered=False)
            nested = {0: (output.nested, met)}
        owner.table.borrow(adopted.id, source)  # the worker holds it until it says otherwise
        if row.state in (PENDING, LOST) and row.task is None:
            waiters = owner.table.complete_with(row, [value], nested, keep_task=False)
            owner.wake(waiters or [], 0.0)
            if output.location is not None:
                self._stored[row] = None
        elif output.location is not None and output.location != row.value:
            # Its creator was executed again though we still have the first one's.
            owner.table.keep_stale(row, [output.location])
        return met

    # ---- losing ------------------------------------------------------------------------------

    def lose_location(self, row: Row, index: int, location: Location) -> None:
        """Somebody could not read `location` of our row: believe it if we know no better."""
        if row.state == READY and row.output(index) == location:
            self._owner.table.lose(row)

    def on_argument_lost(self, task: Task, id_: bytes, error: Any, now: float) -> None:
        """A worker could not get an argument: bring it back, then send the task again."""
        owner = self._owner
        known = owner.table.by_id.get(id_)
        for arg in task.message.args or ():
            # What could not be read is what was sent; the row may know of a better copy by now.
            if known is not None and arg.location is not None and arg.ref.packed[:-2] == id_:
                self.unreadable(*known, arg.location)
                self._lose_others(task, arg.location.node)
        attempts = self.attempts.get(id_, 0) + 1
        self.attempts[id_] = attempts
        if task.is_cancelled:
            owner.retry(task, error, now)
        elif known is None or attempts > RECONSTRUCTION_ATTEMPTS * 4:
            owner.fail(task.row, error, now)
        else:
            owner.resubmit(task, now)

    def _lose_others(self, task: Task, node: str) -> None:
        """Of a task that found one argument lost with a node that has died: what else was there and
        can be made again is made with it, not one after the other as each is looked for.

        What cannot stays as it is: there may be a copy elsewhere, and it is its last.
        """
        owner = self._owner
        if not owner.borrowing.is_dead(Address(node, 0)):
            return
        for arg in task.message.args or ():
            if arg.location is None or arg.location.node != node:
                continue
            known = owner.table.by_id.get(arg.ref.packed[:-2])
            if known is not None and known[0].info is None and known[0].task is not None:
                self.lose_location(*known, arg.location)

    def recover(self, row: Row, now: float) -> None:
        """Bring back a lost value, or resolve its row with why that is impossible.

        Lost arguments of its task are put in line: a chain of them may be long.
        """
        self._to_recover.append(row)
        if self._is_recovering:
            return
        self._is_recovering = True
        try:
            while self._to_recover:
                self._recover(self._to_recover.popleft(), now)
        finally:
            self._is_recovering = False

    def _recover(self, row: Row, now: float) -> None:
        owner = self._owner
        if row.state != LOST:
            return
        id_ = row.object_id(0)
        if row.task is None and owner.supervision.recover_put(row):
            return
        if row.task is None:
            reason = (
                "it was made by put(), by an actor or by a task with max_retries=0, "
                "so there is no task to run again"
            )
            error: ObjectLostError = ObjectReconstructionFailedError(
                object_id=id_.hex(), owner=str(owner.address), reason=reason
            )
            if self._has_evicted and row.first_index == 0 and row.parent:
                error = ObjectReconstructionFailedLineageEvictedError(
                    object_id=id_.hex(),
                    owner=str(owner.address),
                    budget_bytes=self.lineage_limit,
                )
            owner.fail(row, error, now)
            return
        attempts = self.attempts.get(id_, 0)
        if attempts >= RECONSTRUCTION_ATTEMPTS:
            owner.fail(
                row,
                ObjectReconstructionFailedMaxAttemptsExceededError(
                    object_id=id_.hex(), owner=str(owner.address), attempts=attempts
                ),
                now,
            )
            return
        self.attempts[id_] = attempts + 1
        owner.resubmit(owner.table.reopen(row), now)

    def on_node_died(self, node: str, cause: ExitCause, now: float) -> None:
        """What a borrower knew of the node's arena is asked for again when it is needed.

        Owned values stay as they are: another node may have a copy. Who wants one asks its node
        manager for it under the dead node's location, and only then is it taken as lost.
        """
        table = self._owner.table
        borrowed = [row for row, _ in table.by_id.values() if row.info is not None]
        for row in borrowed:
            if row.state == READY and _is_on(row.value, node):
                row.state = PENDING
                row.key = -1
                row.value = None
        owned_there = [row for row in borrowed if row.info and row.info.address.node == node]
        self._orphan(owned_there, cause, now)

    def on_owner_died(self, address: Address, cause: ExitCause, now: float) -> None:
        """What a dead process owned can no longer be asked for there."""
        rows = [row for row, _ in self._owner.table.by_id.values()]
        owned = [row for row in rows if row.info is not None and row.info.address == address]
        self._orphan(owned, cause, now)

    def _orphan(self, rows: list[Row], cause: ExitCause, now: float) -> None:
        """Turn to who can have them made again; what nobody can fails."""
        owner = self._owner
        orphans = []
        for row in rows:
            if row.state == FAILED or (row.state == READY and type(row.value) is bytes):
                owner.borrowing.on_owner_gone(row)  # an inline value is here already
            else:
                orphans.append(row)
        for row in owner.supervision.rescue(orphans, str(cause)):
            error = orphan_error(row, str(cause))
            owner.borrowing.on_owner_gone(row)
            owner.fail(row, error, now)


def _is_on(value: Any, node: str) -> bool:
    if type(value) is Location:
        return value.node == node
    if type(value) is Packed:
        return value.location.node == node
    if type(value) is list:
        return any(type(v) is Location and v.node == node for v in value)
    return False
