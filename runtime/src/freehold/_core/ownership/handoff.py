"""Hand-off: the rows of a process that leaves go to another one, and nothing is made again.

What others hold of what this process owns is given to a *target*: the owner of its last task, or in
a drain a *keeper*. Three steps, each of which may be said again:

1. `HandOff`: the target takes the rows and counts this process as a borrower of each. Until it has
   answered, this process goes on owning them, with a count of its own so that they cannot end; if
   the target dies it chooses another. So at every moment somebody owns the row, and its values lie
   in the store under the name of one who does.
2. `TakenOver`: the rows are borrowed here from now on. Borrowers are told (`OwnerMoved`) and sent to
   the target, which counts them before they say `Return` here. So each stays counted.
3. With the last `Return` the row ends here, and with it this process's own count at the target.

Who comes later is sent on while this process lives, and after its end finds its *heir*
(`heirs`). Rows that are pending are waited for.

The target remembers whom to ask should it lose a value, or die itself: the supervisors named with
the row (`Kept`), the nearest of which keeps the spec for the target before the former owner lets go
(`Owning`). Task specs do not travel: the supervisors' way serves tasks' outputs and puts alike.

Rejected: an epoch in each row. The former owner is counted by the next as long as it answers for
the row, so that a `HandOff` that is said again cannot meet a row that was forgotten meanwhile.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location
from freehold._core.limits import HANDOFF_BYTES, HANDOFF_ROWS
from freehold._core.messages import (
    ActorAdopted,
    HandedRow,
    HandOff,
    Output,
    OwnerInfo,
    OwnerMoved,
    Owning,
    OwningEnded,
    OwningNoted,
    RangeAdopted,
    Return,
    Supervisor,
    TakenOver,
)
from freehold._core.ownership.actor_calls import PENDING_ACTOR
from freehold._core.ownership.borrowing import split_ids
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import (
    FAILED,
    FOLLOWING,
    LOST,
    PENDING,
    READY,
    RECREATING,
    REGISTERED,
    Packed,
    Row,
    stored_ranges,
    unresolve,
)
from freehold._core.ownership.table import ACTOR_HANDLE

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

_END_BYTES = 8


class Kept:
    """Who supervises rows that were taken over, as long as one of them is in scope."""

    __slots__ = ("info", "is_noted", "rows")

    def __init__(self, info: OwnerInfo) -> None:
        self.info = info
        self.rows: dict[Row, None] = {}
        self.is_noted = False
        """The nearest supervisor keeps the spec for us."""

    def info_of(self, row: Row) -> OwnerInfo:
        """What others are told of whom to ask about a row of these."""
        return self.info


class Unit:
    """An owned row to be given, and the rows through which others know of it.

    That is the row itself, or one that follows it (`supervision`).
    """

    __slots__ = ("known_by", "row", "value")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.value = row.value
        self.known_by: list[tuple[bytes, Row, int]] = []


class Batch:
    """Rows under way to a target."""

    __slots__ = ("is_said", "target", "units")

    def __init__(self, target: Address, units: list[Unit]) -> None:
        self.target = target
        self.units = units
        self.is_said = False


class Handoff:
    """One process's rows that it gives away, and those that it takes over."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._batches: dict[int, Batch] = {}
        self._last_batch = 0
        self._is_leaving = False
        self._refused: dict[Address, None] = {}
        self.moved: dict[Row, None] = {}
        """Rows that others still borrow from us though another process owns them now."""
        self.given: dict[bytes, Address] = {}
        """Every object that was given away, and to whom: references under way may name us yet."""
        owner.borrowing.given = self.given
        owner.borrowing.send_on = self.send_on
        self._kept: dict[tuple[Supervisor, ...], Kept] = {}
        self._until_noted: dict[tuple[Address, int], list[Callable[[], None]]] = {}

    # ---- giving --------------------------------------------------------------------------------

    @property
    def is_needed(self) -> bool:
        """Whether others rely on this process: for a task, a result, or what it has or had."""
        owner = self._owner
        if self._batches or owner.handing.is_waiting or owner.leasing.unfinished():
            return True
        if any(link.pending() for link in owner.actors.links.values()):
            return True
        return any(
            row.borrowers and row.registration != RECREATING
            for row, _ in owner.table.by_id.values()
        )

    @property
    def is_giving(self) -> bool:
        """Whether there is something that a target has not taken yet, or that is pending."""
        owner = self._owner
        if self._batches or owner.handing.is_waiting or owner.leasing.unfinished():
            return True
        rows = owner.table.by_id.values()
        return any(row.borrowers and row.info is None for row, _ in rows)

    def find_heir(self, candidates: list[Address | None]) -> Address | None:
        """Who is to own what this process owns: of these, or of who can have it made again, the
        first that lives and does not leave itself."""
        owner = self._owner
        rows = (row for row, _ in owner.table.by_id.values() if row.borrowers)
        lines = dict.fromkeys(owner.borrowing.info_of(row).supervisors for row in rows)
        for heir in (*candidates, *(supervisor.address for line in lines for supervisor in line)):
            is_fit = heir is not None and heir != owner.address and heir not in self._refused
            if heir is not None and is_fit and not owner.borrowing.is_dead(heir):
                return heir
        return None

    def hand_over(self, target: Address) -> None:
        """Give what can be given to `target`; to be called again until nothing is needed."""
        owner = self._owner
        self._is_leaving = True
        owner.table.drain_drops()
        for number, batch in self._batches.items():
            if not batch.is_said:
                self._say(number, batch)
        self._send_on()
        units = self._units()
        while units:
            size = 0
            for count, unit in enumerate(units, 1):  # noqa: B007 - `count` is used behind the loop
                size += len(unit.row.value) if type(unit.row.value) is bytes else 0
                if count >= HANDOFF_ROWS or size >= HANDOFF_BYTES:
                    break
            chunk, units = units[:count], units[count:]
            for unit in chunk:
                for _, row, index in unit.known_by:
                    owner.table.retain(row, index)
            self._last_batch += 1
            batch = self._batches[self._last_batch] = Batch(target, chunk)
            self._say(self._last_batch, batch)

    def _units(self) -> list[Unit]:
        """What others hold and is ready to be given, with all that is in scope of its group."""
        table = self._owner.table
        under_way = {unit.row: None for batch in self._batches.values() for unit in batch.units}
        units: dict[Row, Unit] = {}
        wanted: dict[Row, None] = {}
        for id_, (known, index) in table.by_id.items():
            row = known
            if known.registration == FOLLOWING and known in table.made_here:
                row = table.made_here[known][0]._row
            if row.info is not None or row in under_way or not known.count:
                continue
            if known.counts is not None and not known.counts[index]:
                continue
            units.setdefault(row, Unit(row)).known_by.append((id_, known, index))
            if any(at == index for _, at in known.borrowers or ()) and self._may_give(row):
                wanted[row] = None
        return [units[row] for row in wanted]

    def _may_give(self, row: Row) -> bool:
        if row.state == PENDING or row.waiters or (row.state == LOST and row.counts is not None):
            return False
        if row.value is ACTOR_HANDLE:
            link = self._owner.actors.links.get(row.task_id())
            return link is None or (link.info is not None and link.state != PENDING_ACTOR)
        return True

    def _say(self, number: int, batch: Batch) -> None:
        batch.is_said = True
        rows = [self._describe(unit, batch.target) for unit in batch.units]
        self._owner.outbox.send(batch.target, HandOff(number, rows), True)

    def _describe(self, unit: Unit, target: Address) -> HandedRow:
        owner = self._owner
        row = unit.row
        live = [self._index_in(row, id_) for id_, _, _ in unit.known_by]
        line = owner.borrowing.info_of(row).supervisors
        handed = HandedRow(row.object_id(0), "ready", live, supervisors=line, dynamic=row.is_dynamic)
        nested = {
            index: owner.borrowing.describe(inside, target)
            for index, (_, inside) in (row.nested or {}).items()
            if index in live
        }
        value: Any = row.value
        if row.state == FAILED:
            handed.state, handed.error = "failed", owner.error_blob(value)
        elif row.value is ACTOR_HANDLE:
            handed.state = "actor"
            inside = owner.actors.constructor_arguments(row.task_id())
            handed.outputs = [Output(b"", None, owner.borrowing.describe(inside, target))]
        elif row.state == LOST:
            handed.state = "lost"
            handed.outputs = [Output()]
        elif type(value) is Packed:
            handed.packed, handed.ends = value.location, value.ends.tobytes()
            handed.packed_nested = nested or None
        else:
            for index, one in enumerate([value] if row.counts is None else value):
                is_stored = type(one) is Location
                blob = None if is_stored or index not in live else one
                where = one if is_stored and index in live else None
                handed.outputs.append(Output(blob, where, nested.get(index)))
        return handed

    @staticmethod
    def _index_in(row: Row, id_: bytes) -> int:
        return int.from_bytes(id_[-4:], "little") - row.first_index

    def on_taken_over(self, source: Address, message: TakenOver, now: float) -> None:
        """The target owns a batch: borrow it from there, and send borrowers there."""
        batch = self._batches.get(message.number)
        if batch is None or batch.target != source:
            return
        del self._batches[message.number]
        if message.refused:
            self._refused[source] = None
            self._let_go(batch)
            return
        told: dict[Address, bytearray] = {}
        for unit in batch.units:
            row = unit.row
            is_same = row.value is unit.value or row.value == unit.value
            if row.info is None and row.state != PENDING and is_same:
                self._borrow_from(unit, source, told)
            else:  # lost, and being made again since: the target's is not to be used
                ids = b"".join(id_ for id_, _, _ in unit.known_by)
                self._owner.outbox.send(source, Return(ids))
        self._tell(told)
        self._let_go(batch)

    def _borrow_from(self, unit: Unit, target: Address, told: dict[Address, bytearray]) -> None:
        owner, row = self._owner, unit.row
        table = owner.table
        line = owner.borrowing.info_of(row).supervisors
        self._adopt_ranges(row.value, target)
        if row.value is ACTOR_HANDLE:
            owner.outbox.ask_node(ActorAdopted(row.task_id(), target))
        if row.task is not None and row not in owner.supervision.by_row:
            task, row.task = row.task, None
            table.drop_lineage(task)
        table.unhold(row)
        row.info = OwnerInfo(target, line)
        row.registration = REGISTERED
        table.borrowed_rows += 1
        if row.counts is not None:
            row.value = [None] * row.outputs if row.state == READY else row.value
            given = {id_ for id_, _, _ in unit.known_by}
            for id_ in map(row.object_id, range(row.outputs)):
                if id_ not in given and table.by_id.get(id_, (None,))[0] is row:
                    del table.by_id[id_]  # nobody else has it, so the target does not know it
        for id_, known, index in unit.known_by:
            if known is not row:
                known.info = OwnerInfo(target, line)
                known.registration = REGISTERED
            known.borrow_count = 1
            if known.counts is not None:
                table.relayed.setdefault(known, bytearray()).extend(id_)
            self.moved[known] = None
            self.given[id_] = target
            self._note_borrowers(known, index, id_, told)

    def _note_borrowers(
        self, row: Row, index: int, id_: bytes, told: dict[Address, bytearray]
    ) -> None:
        target = row.info.address if row.info is not None else None
        for borrower, at in row.borrowers or ():
            if at == index and borrower != target:
                told.setdefault(borrower, bytearray()).extend(id_)

    def _tell(self, told: dict[Address, bytearray]) -> None:
        for borrower, ids in told.items():
            self.send_on(borrower, bytes(ids))

    def send_on(self, borrower: Address, ids: bytes) -> None:
        """Tell somebody who holds, or asks for, these objects who owns those that we gave away."""
        by_owner: dict[Address, bytearray] = {}
        for id_ in split_ids(ids):
            known = self._owner.table.by_id.get(id_)
            target = self.given.get(id_)
            if known is not None and known[0].info is not None:
                target = known[0].info.address if known[0] in self.moved else None
            if target is not None:
                by_owner.setdefault(target, bytearray()).extend(id_)
        for target, moved in by_owner.items():
            if target not in (borrower, self._owner.address):  # or it came back to us, to be made
                self._owner.outbox.send(borrower, OwnerMoved(bytes(moved), target), True)

    def _send_on(self) -> None:
        """What was handed over with a result, and others got since, by way of us."""
        told: dict[Address, bytearray] = {}
        for id_, (row, index) in self._owner.table.by_id.items():
            is_relayed = row.registration == REGISTERED and row not in self.moved
            if row.borrowers and row.info is not None and is_relayed:
                self.moved[row] = None
                self.given[id_] = row.info.address
                self._note_borrowers(row, index, id_, told)
        self._tell(told)
        self.moved = {row: None for row in self.moved if row.count}

    def _adopt_ranges(self, value: Any, target: Address) -> None:
        outbox = self._owner.outbox
        for where in stored_ranges(value):
            is_local = where.node == outbox.node_manager.node
            manager = outbox.node_manager if is_local else Address(where.node, 0)
            outbox.send(manager, RangeAdopted(where.segment, where.offset, target), True)

    def _let_go(self, batch: Batch) -> None:
        for unit in batch.units:
            for _, row, index in unit.known_by:
                self._owner.table.release(row, index)

    # ---- taking --------------------------------------------------------------------------------

    def on_hand_off(self, source: Address, message: HandOff, now: float) -> None:
        """Own what another process owned; answered when it may let go."""
        owner = self._owner
        if owner.borrowing.is_dead(source):
            return
        if self._is_leaving:  # or two that leave would give each other the same rows for ever
            self._refuse(source, message)
            return
        met: list[ObjectRef[Any]] = []
        keepers: dict[Kept, None] = {}
        for handed in message.rows:
            known = owner.table.by_id.get(handed.id)
            if known is not None and known[0] in self.moved:
                owner.table.borrow(handed.id, source)  # ours once, and given on since
                continue
            is_group = handed.packed is not None or len(handed.outputs) > 1
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
                self._adopt_ranges(value, owner.address)
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
            self._adopt_ranges(value, owner.address)
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
        count = len(handed.ends) // _END_BYTES or len(handed.outputs)
        group = table.new_group(handed.id, count)
        group.is_dynamic = handed.dynamic
        nested = {}
        for index, id_ in ids.items():
            refs = (handed.packed_nested or {}).get(index)
            if handed.packed is None:
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
            self._adopt_ranges(value, owner.address)
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

    # ---- whom to ask for what was taken over ------------------------------------------------------

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
        owner = self._owner
        left = 1

        def one_more() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                then()

        for kept in keepers:
            nearest = kept.info.supervisors[0]
            if kept.is_noted or owner.borrowing.is_dead(nearest.address):
                continue
            if nearest.address == owner.address:
                continue
            left += 1
            self._until_noted.setdefault((nearest.address, nearest.key), []).append(one_more)
            owner.outbox.send(nearest.address, Owning(nearest.task, nearest.key))
        one_more()

    def on_noted(self, source: Address, key: int) -> None:
        """A supervisor keeps a spec for us (or has none)."""
        for kept in self._kept.values():
            nearest = kept.info.supervisors[0]
            if (nearest.address, nearest.key) == (source, key):
                kept.is_noted = True
        for then in self._until_noted.pop((source, key), ()):
            then()

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
        if not self._owner.borrowing.is_dead(line[0].address):
            self._owner.outbox.send(line[0].address, OwningEnded(line[0].key))

    # ---- what breaks ---------------------------------------------------------------------------

    def on_disconnected(self, peer: Address) -> None:
        """What was said last, either way, may be lost: say it again."""
        for batch in self._batches.values():
            if batch.target == peer:
                batch.is_said = False
        for place in [place for place in self._until_noted if place[0] == peer]:
            for kept in self._kept.values():
                nearest = kept.info.supervisors[0]
                if (nearest.address, nearest.key) == place:
                    self._owner.outbox.send(peer, Owning(nearest.task, nearest.key))

    def on_died(self, is_dead: Callable[[Address], bool]) -> None:
        """Processes have ended: what they did not take is still ours."""
        for number in [n for n, batch in self._batches.items() if is_dead(batch.target)]:
            self._let_go(self._batches.pop(number))
        for place in [place for place in self._until_noted if is_dead(place[0])]:
            for then in self._until_noted.pop(place):
                then()


def _index(id_: bytes, by: int) -> bytes:
    return (int.from_bytes(id_[-4:], "little") + by).to_bytes(4, "little")
