"""References inside a task's result: what the caller takes over, and what it registers for.

An object that the finishing worker owns and nobody else has, is handed over: the caller becomes its
owner with the reply, so that the worker need not stay alive for it. One that is still pending, or
that others have borrowed, stays with the worker, which counts the caller. One of a third owner is
held by the worker until the caller has registered (`TakenResult`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.messages import Adopted, DoneWith, Output, OwnerInfo, RangeSealed, Refs
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import READY, REGISTERED, Row
from freehold._core.ownership.table import ACTOR_HANDLE

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Handing:
    """One worker's handing over of what its results refer to."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._until_taken: dict[tuple[Address, int], list[ObjectRef[Any]]] = {}

    def describe_result(
        self, nested: list[ObjectRef[Any]], caller: Address, answer: DoneWith
    ) -> Refs:
        """The wire form of references in an answer to `caller`, with what must go along."""
        owner = self._owner
        third: list[ObjectRef[Any]] = []
        adopted = answer.adopted if answer.adopted is not None else []
        for ref in nested:
            row = ref._row
            if row.info is not None:
                if row.info.address != caller:
                    third.append(ref)
            elif self._may_hand_over(row) and caller != owner.address:
                adopted.append(self._hand_over(row, caller))
        if adopted:
            answer.adopted = adopted
        if third:
            answer.wants_taken = True
            self._until_taken.setdefault((caller, answer.key), []).extend(third)
        return owner.borrowing.describe(nested, caller)

    def taken(self, caller: Address, key: int) -> None:
        """The caller has registered for the references in a result."""
        self._until_taken.pop((caller, key), None)

    def forget(self, caller: Address) -> None:
        """The caller is gone: nobody will take anything."""
        for place in [place for place in self._until_taken if place[0] == caller]:
            del self._until_taken[place]

    @staticmethod
    def _may_hand_over(row: Row) -> bool:
        return (
            row.state == READY
            and row.counts is None
            and row.value is not ACTOR_HANDLE
            and not row.borrowers
            and not row.waiters
            and row.lineage == 0
        )

    def _hand_over(self, row: Row, caller: Address) -> Adopted:
        """Make the caller the owner; what this process still holds, it borrows from now on."""
        owner = self._owner
        table = owner.table
        id_ = table.expose(row, 0)
        value: Any = row.value
        output = Output()
        if type(value) is Location:
            output.location = value
            local = value.node == owner.outbox.node_manager.node
            target = owner.outbox.node_manager if local else Address(value.node, 0)
            sealed = RangeSealed(value.segment, value.offset, value.size, caller)
            owner.outbox.send(target, sealed)
        else:
            output.blob = value
        if row.nested is not None and 0 in row.nested:
            output.nested = owner.borrowing.describe(row.nested[0][1], caller)
        task, row.task = row.task, None
        if task is not None:
            table.drop_lineage(task)
        row.info = OwnerInfo(caller)
        row.registration = REGISTERED
        row.borrow_count = 1  # the caller counts us as it adopts, until our last use here is over
        table.borrowed_rows += 1
        return Adopted(id_, output)
