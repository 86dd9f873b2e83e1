"""Values that cross processes: a borrower asks the owner, and learns what it did not ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.messages import Arg, Resolve, Resolved
from freehold._core.ownership.borrowing import gone_error
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import FAILED, PENDING, READY, REGISTERING, Row

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Resolving:
    """One owner's answers to borrowers, and the answers it gets as one."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def on_resolve(self, source: Address, message: Resolve, now: float) -> None:
        """A borrower wants a value."""
        owner = self._owner
        known = owner.table.by_id.get(message.id)
        if known is None and message.id in owner.handoff.given:
            owner.handoff.send_on(source, message.id)
            return
        if known is None:
            owner.outbox.send(source, Resolved(message.id, "gone"), True)
            return
        row, index = known
        moved = owner.handoff.moved
        is_answered = row.state == FAILED or (row.state == READY and row.counts is None)
        if moved and row in moved and (message.lost_location is not None or not is_answered):
            owner.handoff.send_on(source, message.id)
            return
        if message.lost_location is not None and row.state == READY:
            owner.recovery.lose_location(row, index, message.lost_location)
        self.resolve(source, row, index, now)

    def resolve(self, borrower: Address, row: Row, index: int, now: float) -> None:
        """Answer a borrower, now or as soon as there is an answer."""
        owner = self._owner
        if owner.borrowing.is_dead(borrower):
            return
        if owner.recovery.is_there(row, index):
            self._answer(borrower, row, index)
        else:
            owner.await_row(row, (borrower, row, index), now)

    def _answer(self, borrower: Address, row: Row, index: int) -> None:
        owner = self._owner
        id_ = row.object_id(index)
        if row.state == FAILED:
            owner.outbox.send(borrower, Resolved(id_, "failed", owner.error_blob(row.value)), True)
            return
        value = row.output(index)
        nested = None
        if row.nested is not None and index in row.nested:
            # Counted for the receiver as it is sent: those we own; others it registers itself
            # while it holds the outer object, and so ours hold them.
            nested = owner.borrowing.describe(row.nested[index][1], borrower)
        if type(value) is Location:
            resolved = Resolved(id_, "ready", None, value, nested)
        else:
            resolved = Resolved(id_, "ready", value, None, nested)
        owner.outbox.send(borrower, resolved, True)

    def on_resolved(self, source: Address, message: Resolved, now: float) -> None:
        """The owner answered."""
        owner = self._owner
        owner.borrowing.heard_from(source)
        known = owner.table.by_id.get(message.id)
        if known is None or known[0].info is None or known[0].state != PENDING:
            if message.nested is not None:
                owner.borrowing.meet(message.nested, source, is_covered=False)  # and give them back
            return
        row = known[0]
        row.key = -1
        nested = None
        if message.nested is not None:
            met = owner.borrowing.meet(message.nested, source, is_covered=False)
            nested = {0: (message.nested, met)}
            owner.table.retain(row, 0)  # until those inside are registered with their owners
            owner.borrowing.after_registration(met, lambda: owner.table.release(row, 0))
        if message.state == "ready":
            value = message.blob if message.location is None else message.location
            waiters = owner.table.complete_with(row, [value], nested, keep_task=False)
            if waiters is not None:
                owner.wake(waiters, now)
        elif message.state == "failed":
            owner.fail(row, message.blob, now)
        elif row.info is None or row.info.address != source:
            pass  # asked before its word of who owns the object now had come
        elif row.registration == REGISTERING:
            # Maybe asked before it was told why we ask it; what it says to that comes first.
            owner.borrowing.need(row)
        elif not owner.heirs.on_gone(row, source):
            owner.fail(row, gone_error(row), now)

    def learn_argument(self, row: Row, arg: Arg, inside: list[ObjectRef[Any]], now: float) -> None:
        """A borrowed object's place came with a task's arguments, before or without asking for
        it; `inside` are the references in its value."""
        owner = self._owner
        if row.info is not None and row.state == PENDING:
            nested = {0: (arg.nested, list(inside))} if arg.nested is not None else None
            waiters = owner.table.complete_with(row, [arg.location], nested, keep_task=False)
            if waiters is not None:
                owner.wake(waiters, now)
