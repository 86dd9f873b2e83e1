"""Hand-off: the rows of a process that leaves go to another one, and nothing is made again.

What others hold of what this process owns is given to a *target*: the owner of its last task, or in
a drain a *keeper*. Three steps, each of which may be said again:

1. `HandOff`: the target takes the rows and counts this process as a borrower of each. Until it has
   answered, this process goes on owning them, with a count of its own so that they cannot end; if
   the target dies it chooses another. So at every moment somebody owns the row, and its values lie
   in the store under the name of one who does.
2. `TakenOver`: the rows are borrowed here from now on. Borrowers are sent to the target
   (`OwnerMoved`), which counts them before they say `Return` here. So each stays counted.
3. With the last `Return` the row ends here, and with it this process's own count at the target.

The target's side is `takeover`. Who comes later is sent on while this process lives, and after its
end finds its *heir* (`heirs`). Rows that are pending are waited for.

Rejected: an epoch in each row. The former owner is counted by the next as long as it answers for
the row, so that a `HandOff` that is said again cannot meet a row that was forgotten meanwhile.
"""

from __future__ import annotations

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
    RangeAdopted,
    Return,
    TakenOver,
)
from freehold._core.ownership.actor_calls import PENDING_ACTOR
from freehold._core.ownership.borrowing import split_ids
from freehold._core.ownership.row import (
    FAILED,
    FOLLOWING,
    LOST,
    PENDING,
    RECREATING,
    REGISTERED,
    Packed,
    Row,
    stored_ranges,
)
from freehold._core.ownership.table import ACTOR_HANDLE

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

_END_BYTES = 8


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
        self.is_leaving = False
        """This process gives away what it owns, and takes nothing any more."""
        self._refused: dict[Address, None] = {}
        self.moved: dict[Row, None] = {}
        """Rows that others still borrow from us though another process owns them now."""
        self.given: dict[bytes, Address] = {}
        """Every object that was given away, and to whom: references under way may name us yet."""
        owner.borrowing.given = self.given
        owner.borrowing.send_on = self.send_on

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

    def is_giving_to(self, target: Address) -> bool:
        """Whether a process was given rows that it has not taken yet."""
        return any(batch.target == target for batch in self._batches.values())

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
        self.is_leaving = True
        owner.table.drain_drops()
        for number, batch in self._batches.items():
            if not batch.is_said:
                self._say(number, batch)
        self._send_on()
        units = self._units()
        while units:
            size = 0
            for count, unit in enumerate(units, 1):
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

    def under_way(self) -> dict[Row, None]:
        """Rows that a target was given and has not taken yet."""
        return {unit.row: None for batch in self._batches.values() for unit in batch.units}

    def _units(self) -> list[Unit]:
        """What others hold and is ready to be given, with all that is in scope of its group."""
        table = self._owner.table
        under_way = self.under_way()
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
        for row in wanted:
            self._expose_rest(units[row])
        return [units[row] for row in wanted]

    def _expose_rest(self, unit: Unit) -> None:
        """Outputs of a group that this process alone holds go with the others."""
        row, table = unit.row, self._owner.table
        if row.counts is None:
            return
        given = {self._index_in(row, id_) for id_, _, _ in unit.known_by}
        for index, count in enumerate(row.counts):
            if count and index not in given:
                id_ = table.expose(row, index)
                if table.by_id[id_][0] is row:
                    unit.known_by.append((id_, row, index))

    def _may_give(self, row: Row) -> bool:
        if row.state == PENDING or row.waiters:
            return False
        if row.counts is not None and (row.state == LOST or self._owner.leasing.unfinished()):
            return False  # as a borrowed one it is nothing that a task of ours could wait for
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
        handed = HandedRow(
            row.object_id(0), "ready", live, supervisors=line, dynamic=row.is_dynamic
        )
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
        if type(row.value) is list:
            live = {self._index_in(row, id_) for id_, _, _ in unit.known_by}
            rest = [None if index in live else one for index, one in enumerate(row.value)]
            table.released += stored_ranges(rest)  # lineage alone had them
            row.value = [one if index in live else None for index, one in enumerate(row.value)]
        self.adopt_ranges(row.value, target)
        if row.value is ACTOR_HANDLE:
            owner.outbox.ask_node(ActorAdopted(row.task_id(), target))
        if row not in owner.supervision.by_row:
            task, row.task = row.task, None
            if task is not None:
                table.drop_lineage(task)
            table.unhold(row)  # else our own supervisor keeps its task's spec as long as we do ours
        row.info = OwnerInfo(target, line)
        row.registration = REGISTERED
        table.borrowed_rows += 1
        if row.counts is not None:
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
        owner = self._owner
        by_owner: dict[Address | None, bytearray] = {}
        for id_ in split_ids(ids):
            known = owner.table.by_id.get(id_)
            if known is not None and known[0].info is not None:
                if known[0] in self.moved:
                    by_owner.setdefault(known[0].info.address, bytearray()).extend(id_)
            elif id_ in self.given:
                target = self.given[id_]
                is_over = known is None and owner.borrowing.is_dead(target)
                heir = owner.heirs.of(target) if is_over else target
                by_owner.setdefault(heir, bytearray()).extend(id_)
        for to, moved in by_owner.items():
            if to not in (borrower, owner.address):  # or it came back to us, to be made
                owner.outbox.send(borrower, OwnerMoved(bytes(moved), to), True)

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

    def adopt_ranges(self, value: Any, target: Address) -> None:
        outbox = self._owner.outbox
        for where in stored_ranges(value):
            is_local = where.node == outbox.node_manager.node
            manager = outbox.node_manager if is_local else Address(where.node, 0)
            outbox.send(manager, RangeAdopted(where.segment, where.offset, target), True)

    def _let_go(self, batch: Batch) -> None:
        for unit in batch.units:
            for _, row, index in unit.known_by:
                self._owner.table.release(row, index)

    # ---- what breaks ---------------------------------------------------------------------------

    def on_disconnected(self, peer: Address) -> None:
        """What was said last, either way, may be lost: say it again."""
        for batch in self._batches.values():
            if batch.target == peer:
                batch.is_said = False

    def on_died(self, is_dead: Callable[[Address], bool]) -> None:
        """Processes have ended: what they did not take is still ours."""
        for number in [n for n, batch in self._batches.items() if is_dead(batch.target)]:
            self._let_go(self._batches.pop(number))
