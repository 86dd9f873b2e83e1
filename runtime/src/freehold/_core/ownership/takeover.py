"""Taking over the rows of a process that leaves: the target's side of a hand-off (`handoff`).

A row that was borrowed so far becomes an owned one; several outputs of one task keep a row of their
own, which those borrowed so far follow, as they would one that this process had made again.

The target remembers whom to ask should it lose a value, or die itself: the supervisors named with
the row (`Kept`), the nearest of which keeps the spec for the target before the former owner lets go
(`Owning`). Task specs do not travel: the supervisors' way serves tasks' outputs and puts alike.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.messages import (
    HandedRow,
    HandOff,
    Output,
    OwnerInfo,
    Owning,
    OwningNoted,
    Return,
    Supervisor,
    TakenOver,
)
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import (
    FAILED,
    FOLLOWING,
    LOST,
    PENDING,
    RECREATING,
    REGISTERED,
    Packed,
    Row,
    unresolve,
)
from freehold._core.ownership.specs import Place
from freehold._core.ownership.table import ACTOR_HANDLE

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

_END_BYTES = 8


class Kept:
    """Who supervises rows that were taken over, as long as one of them is in scope."""

    __slots__ = ("info", "places", "rows")

    def __init__(self, info: OwnerInfo) -> None:
        self.info = info
        self.rows: dict[Row, None] = {}
        self.places: list[Place] = []
        """Who keeps the task's spec for us."""

    def info_of(self, row: Row) -> OwnerInfo:
        """What others are told of whom to ask about a row of these."""
        return self.info


class Takeover:
    """One process's taking over of other processes' rows."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._kept: dict[tuple[Supervisor, ...], Kept] = {}

    def on_hand_off(self, source: Address, message: HandOff, now: float) -> None:
        """Own what another process owned; answered when it may let go."""
        owner = self._owner
        if owner.borrowing.is_dead(source):
            return
        # Or two that leave would give each other the same rows for ever.
        if owner.handoff.is_leaving:
            self._refuse(source, message)
            return
        met: list[ObjectRef[Any]] = []
        keepers: dict[Kept, None] = {}
        for handed in message.rows:
            known = owner.table.by_id.get(handed.id)
            if known is not None and known[0] in owner.handoff.moved:
                owner.table.borrow(handed.id, source)  # ours once, and given on since
                continue
            is_group = handed.packed is not None or len(handed.outputs) > 1 or handed.live != [0]
            take = self._take_group if is_group else self._take
            row = take(source, handed, met, now)
            kept = self._supervise(row, handed.supervisors) if row.info is None else None
            if kept is not None:
                keepers[kept] = None
        owner.heirs.rename_pending()
        taken = TakenOver(message.number)

        def answer() -> None:
            owner.outbox.send(source, taken, True)

        owner.borrowing.after_registration(met, lambda: self._after_notes(list(keepers), answer))

    def _refuse(self, source: Address, message: HandOff) -> None:
        borrowing = self._owner.borrowing
        for handed in message.rows:
            nested = [output.nested for output in handed.outputs]
            for refs in (*nested, *(handed.packed_nested or {}).values()):
                if refs is not None:
                    borrowing.meet(refs, source, is_covered=False)  # and drop them
        self._owner.outbox.send(source, TakenOver(message.number, True), True)

    def _take(
        self, source: Address, handed: HandedRow, met: list[ObjectRef[Any]], now: float
    ) -> Row:
        """One with a single output: the row that borrowed it so far, or a new one."""
        owner = self._owner
        table = owner.table
        known = table.by_id.get(handed.id)
        row = known[0] if known is not None else table.new_adopted(handed.id)
        if row.info is not None and row.registration not in (RECREATING, FOLLOWING):
            self._take_back(row, handed.id)
        nested = {}
        output = handed.outputs[0] if handed.outputs else Output()
        if output.nested is not None:
            inside = owner.borrowing.meet(output.nested, source, is_covered=False)
            nested[0] = (output.nested, inside)
            met += inside
        table.borrow(handed.id, source)
        value: Any = output.blob if output.location is None else output.location
        if row.info is not None or row.state not in (PENDING, LOST) or row.task is not None:
            # It is here already, or is made again here: that will do.
            if type(value) is Location and value != row.value:
                owner.handoff.adopt_ranges(value, owner.address)
                table.keep_stale(row, [value])
            return row
        row.is_dynamic = handed.dynamic
        if handed.state == "failed":
            owner.fail(row, handed.error, now)
        elif handed.state == "lost":
            row.state = LOST
            if row.waiters:
                self._supervise(row, handed.supervisors)
                owner.recovery.recover(row, now)
        else:
            if handed.state == "actor":
                value = ACTOR_HANDLE
            owner.handoff.adopt_ranges(value, owner.address)
            waiters = table.complete_with(row, [value], nested or None, keep_task=False)
            owner.recovery.note_stored(row)
            owner.wake(waiters or [], now)
        return row

    def _take_back(self, row: Row, id_: bytes) -> None:
        """A row that was borrowed is ours."""
        owner = self._owner
        assert row.info is not None
        if row.borrow_count and not owner.borrowing.is_dead(row.info.address):
            owner.outbox.send(row.info.address, Return(id_ * row.borrow_count))
        if row.state != FAILED:
            unresolve(row)  # what was known of its value was the former owner's
        row.info = None
        row.registration = REGISTERED
        row.borrow_count = 0
        owner.table.borrowed_rows -= 1

    def _take_group(
        self, source: Address, handed: HandedRow, met: list[ObjectRef[Any]], now: float
    ) -> Row:
        """Several outputs of one task: a row of their own, which those borrowed so far follow."""
        owner = self._owner
        table = owner.table
        ids = {index: handed.id[:-4] + _index(handed.id, index) for index in handed.live}
        group = self._group_of(handed, ids)
        if group is not None:  # it was taken before, and the answer was lost
            for id_ in ids.values():
                table.borrow(id_, source)
            return group
        count = len(handed.ends) // _END_BYTES or len(handed.outputs) or max(handed.live) + 1
        group = table.new_group(handed.id, count)
        group.is_dynamic = handed.dynamic
        nested = {}
        for index, id_ in ids.items():
            refs = (handed.packed_nested or {}).get(index)
            if handed.outputs:
                refs = handed.outputs[index].nested
            if refs is not None:
                inside = owner.borrowing.meet(refs, source, is_covered=False)
                nested[index] = (refs, inside)
                met += inside
            table.expose(group, index)
            followed = table.by_id[id_][0]
            if followed is not group and followed.info is not None:
                owner.supervision.follow(followed)
            table.borrow(id_, source)
        if handed.state == "failed":
            owner.fail(group, handed.error, now)
        else:
            value: Any = [o.blob if o.location is None else o.location for o in handed.outputs]
            if handed.packed is not None:
                ends = array("Q")
                ends.frombytes(handed.ends)
                value = Packed(handed.packed, ends)
            owner.handoff.adopt_ranges(value, owner.address)
            waiters = table.complete_with(group, value, nested or None, keep_task=False)
            owner.recovery.note_stored(group)
            owner.wake(waiters or [], now)
        return group

    def _group_of(self, handed: HandedRow, ids: dict[int, bytes]) -> Row | None:
        table = self._owner.table
        for id_ in ids.values():
            row = table.by_id[id_][0] if id_ in table.by_id else None
            if row is not None and row in table.made_here:
                row = table.made_here[row][0]._row
            if row is not None and row.info is None and row.object_id(0) == handed.id:
                return row
        return None

    # ---- whom to ask for what was taken over ----------------------------------------------------

    def _supervise(self, row: Row, line: tuple[Supervisor, ...]) -> Kept | None:
        """Remember who can have a row made again; who must keep its task's spec for us."""
        owner = self._owner
        if not line or not row.count:
            return None
        holder = owner.table.holders.get(row)
        if holder is not None:
            return holder if type(holder) is Kept else None
        at = next((at for at, s in enumerate(line) if s.address == owner.address), None)
        if at is not None and row.counts is None and owner.supervision.keep(row, line, at):
            return None
        kept = self._kept.get(line)
        if kept is None:
            kept = self._kept[line] = Kept(OwnerInfo(owner.address, line))
        owner.table.hold(row, kept)
        return kept

    def _after_notes(self, keepers: list[Kept], then: Callable[[], None]) -> None:
        """Call `then()` when the nearest supervisors keep their specs for us."""
        left = 1

        def one_more() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                then()

        for kept in keepers:
            left += 1
            self._owner.specs.ask(kept, one_more)
        one_more()

    def on_owning(self, source: Address, message: Owning) -> None:
        """Another process owns now what a task of ours made."""
        self._owner.supervision.note_owning(source, message.task, message.key)
        self._owner.outbox.send(source, OwningNoted(message.key), True)

    def end_if_unused(self, kept: Kept) -> None:
        """Nobody holds any more what was taken over with these supervisors."""
        line = kept.info.supervisors
        if kept.rows or self._kept.get(line) is not kept:
            return
        del self._kept[line]
        self._owner.specs.end(kept)


def _index(id_: bytes, by: int) -> bytes:
    return (int.from_bytes(id_[-4:], "little") + by).to_bytes(4, "little")
