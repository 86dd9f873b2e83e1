"""References inside a task's result: what the caller takes over, and what it registers for.

An object that the finishing worker owns and nobody else has, is handed over: the caller becomes its
owner with the reply, so that the worker need not stay alive for it. One that is still pending, or
that others have or may get before the caller knows of it (borrowers, this worker's own tasks and
variables), stays with the worker, which counts the caller. One of a third owner is
held by the worker until the caller has registered (`TakenResult`); so is one that the caller owns,
or owns from now on, because the answer may have to wait and a `Return` must not overtake it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.messages import Adopted, DoneWith, Output, OwnerInfo, RangeAdopted, Refs
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import HANDING, READY, REGISTERED, Row
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
        owner.table.drain_drops()
        held: list[ObjectRef[Any]] = []
        times: dict[Row, int] = {}
        for ref in nested:
            times[ref._row] = times.get(ref._row, 0) + 1
        adopted = answer.adopted if answer.adopted is not None else []
        for ref in nested:
            row = ref._row
            if row.info is not None or caller == owner.address:
                held.append(ref)
            elif (
                row.count == times[row]
                and self._may_hand_over(row)
                and self._may_own(caller)
                and self._is_known(row)
            ):
                held += self._inside_of_others(row, caller)
                adopted.append(self._hand_over(row, caller, answer.key))
                held.append(ref)
        if adopted:
            answer.adopted = adopted
        if held:
            answer.wants_taken = True
            self._until_taken.setdefault((caller, answer.key), []).extend(held)
        return owner.borrowing.describe(nested, caller)

    def taken(self, caller: Address, key: int) -> None:
        """The caller has registered for the references in a result, and owns those handed over."""
        for ref in self._until_taken.pop((caller, key), ()):
            if ref._row.registration == HANDING:
                ref._row.registration = REGISTERED

    @property
    def is_waiting(self) -> bool:
        """Whether a caller has not taken all of a result yet: until then this process must stay."""
        return bool(self._until_taken)

    def forget(self, caller: Address) -> None:
        """The caller is gone: nobody will take anything."""
        for place in [place for place in self._until_taken if place[0] == caller]:
            del self._until_taken[place]

    def on_disconnected(self, caller: Address, now: float) -> None:
        """A result, or word that it was taken, may be lost: hold the references for a grace."""
        for place in [place for place in self._until_taken if place[0] == caller]:
            self._owner.borrowing.hold(self._until_taken.pop(place), now)

    def forget_node(self, node: str) -> None:
        """A node is gone with all callers there."""
        for place in [place for place in self._until_taken if place[0].node == node]:
            del self._until_taken[place]

    def _is_known(self, row: Row) -> bool:
        """Whether its id stands for it, and not for the same object of an earlier execution."""
        table = self._owner.table
        return table.by_id[table.expose(row, 0)][0] is row

    def _may_own(self, caller: Address) -> bool:
        owner = self._owner
        return caller != owner.address and not owner.borrowing.is_dead(caller)

    @staticmethod
    def _inside_of_others(row: Row, caller: Address) -> list[ObjectRef[Any]]:
        """References inside a value to be handed over for which the caller must register itself."""
        inside = row.nested[0][1] if row.nested is not None and 0 in row.nested else []
        return [ref for ref in inside if ref._row.info and ref._row.info.address != caller]

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

    def _hand_over(self, row: Row, caller: Address, key: int) -> Adopted:
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
            adopted = RangeAdopted(value.segment, value.offset, caller)
            owner.outbox.send(target, adopted, True)
        else:
            output.blob = value
        if row.nested is not None and 0 in row.nested:
            output.nested = owner.borrowing.describe(row.nested[0][1], caller)
        task, row.task = row.task, None
        if task is not None:
            table.drop_lineage(task)
        holder = table.holders.get(row)
        line = holder.info_of(row).supervisors if holder is not None else ()
        table.unhold(row)
        row.info = OwnerInfo(caller, line)
        row.registration = HANDING
        row.borrow_count = 1  # the caller counts us as it adopts, until our last use here is over
        table.borrowed_rows += 1
        return Adopted(id_, output, owner.origins.below(line, caller, key))
