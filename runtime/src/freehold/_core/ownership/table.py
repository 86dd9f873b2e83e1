"""The ownership table of one process: every transition of a row, and the counts that end it.

A row is in scope while `count` > 0. What counts: each `ObjectRef` here, each reference among the
arguments of a task that has not ended, each borrower process, each zero-copy view. Out of scope,
the value is let go; the row itself stays while `lineage` > 0, because a task that may be executed
again has it among its arguments, and then it can be brought back by executing its own task.

Invariants (checked by `checks`, ids used in tests, simulation and docs/invariants.md):

- OWN-1  a row's count is never negative, and the sum of `counts` equals it.
- OWN-2  a pending owned row has a task that has not ended.
- OWN-3  a row out of scope holds no stored value (its ranges were released exactly once).
- OWN-4  a row is known by id exactly while it is exposed and not dead, and by its own id.
- OWN-5  an unfinished task's arguments are in scope; a kept task's, those that a running task has
  dropped, and what is inside small values that lineage alone holds, have a lineage count.
- OWN-6  a row that is being made again, as its owner died, keeps the task that makes it.

Rejected: a count object per reference (a million of them cost 100 bytes each), reference counting
by weak references (72 bytes each), one row per output (a shuffle's million blocks).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Container
from typing import Any

from freehold._core.ids import (
    ACTOR_HANDLE_INDEX,
    PUT_INDEX_BASE,
    Address,
    Location,
    split_object_id,
)
from freehold._core.invariants import check
from freehold._core.messages import OwnerInfo, Refs
from freehold._core.ownership.kept_values import keep_small_values, restore_inside
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import (
    FAILED,
    LOST,
    PENDING,
    READY,
    Packed,
    Row,
    Task,
    is_rederivable,
    stored_ranges,
    unresolve,
)

Argument = tuple[Row, int]

ACTOR_HANDLE = b"actor"
"""The value of a row that stands for an actor: its end is the end of the actor's last handle."""


class OwnershipTable:
    """The rows of one process.

    Attributes:
        drops: ends of references, appended by `__del__` and drained by `drain_drops`.
        released: stored ranges whose last use is over; the machine tells their node managers.
        returned: borrowed objects whose last use is over; the machine tells their owners.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.host: Any = None
        """The core that serves `ObjectRef`'s own methods; opaque here."""
        self.reduce: Callable[[ObjectRef[Any]], Any] = _not_picklable
        self.on_drop: Callable[[], None] | None = None
        self.drops: deque[tuple[Any, int]] = deque()
        self.released: list[Location] = []
        self.returned: list[Row] = []
        self.ended_actors: list[Row] = []
        self.by_id: dict[bytes, tuple[Row, int]] = {}
        self.shadows: dict[bytes, list[tuple[Row, int]]] = {}
        """Rows of a task that was executed here again while rows of the same ids, from its first
        execution, live on: each is known by its id when the one before it is gone."""
        self.made_here: dict[Row, list[ObjectRef[Any]]] = {}
        """Of a row that others know by its ids: what was made here under the same ids since. Who is
        told of that is counted at this row, so that is kept as long as this one is in scope; it
        stands in for a borrowed one whose owner dies."""
        self.inside_kept: dict[Row, dict[int, tuple[Refs, list[Argument]]]] = {}
        """References inside small values that lineage alone holds, with a lineage count each."""
        self.stale: dict[Row, list[Location]] = {}
        """Copies given up as lost that may still be read somewhere: let go with their row."""
        self.makers: dict[bytes, Any] = {}
        """The tasks executed here, by id, that make what others may hold (`origins`)."""
        self.holders: dict[Row, Any] = {}
        """Rows that keep a maker, or a supervised task of ours: theirs tell whom to ask."""
        self.relayed: dict[Row, bytearray] = {}
        """Of a row with several outputs that was given to another owner: those it counts us for."""
        self.emptied: list[Any] = []
        """Holders whose last row is gone; the machine looks whether they are needed."""
        self.rows = 0
        self.lineage_bytes = 0
        self.pending_bytes = 0
        """Bytes of arguments that tasks which have not ended hold."""
        self.borrowed_rows = 0
        self._next_key = 0

    # ---- creation ----------------------------------------------------------------------------

    def new_task(self, parent: bytes, child_index: int, outputs: int) -> Row:
        """The row of a task about to be submitted, with one reference counted per output."""
        key = self._next_key
        self._next_key = key + 1
        row = Row(self, key, parent, child_index, outputs)
        if outputs != 1:
            row.outputs = outputs
            row.counts = array("i", [1]) * outputs
        self.rows += 1
        return row

    def new_put(self, parent: bytes, put_index: int, value: bytes | Location) -> Row:
        """The row of an object that was put, ready, with one reference counted."""
        row = Row(self, -1)
        row.task_id_ = parent
        row.first_index = PUT_INDEX_BASE + put_index
        row.state = READY
        row.value = value
        row.count = 1
        self.rows += 1
        return row

    def new_actor(self, parent: bytes, child_index: int) -> Row:
        """The row that counts an actor's handles, with one counted."""
        row = self.new_task(parent, child_index, 1)
        row.first_index = ACTOR_HANDLE_INDEX
        row.state = READY
        row.value = ACTOR_HANDLE
        return row

    def new_adopted(self, id_: bytes) -> Row:
        """The row of an object taken over from the worker that made it, nothing counted yet."""
        row = Row(self, -1)
        row.task_id_, row.first_index = split_object_id(id_)
        self.by_id[id_] = (row, 0)
        self.rows += 1
        return row

    def new_group(self, id_: bytes, outputs: int) -> Row:
        """The row of several outputs, the first of that id, taken over from another owner; nothing
        counted yet."""
        row = Row(self, -1)
        row.task_id_, row.first_index = split_object_id(id_)
        row.outputs = outputs
        row.counts = array("i", [0]) * outputs
        self.rows += 1
        return row

    def borrowed(self, id_: bytes, info: OwnerInfo) -> tuple[Row, int, bool]:
        """The row and output of an id of whoever owns it, and whether the row is new."""
        known = self.by_id.get(id_)
        if known is not None:
            return (*known, False)
        row = Row(self, -1)
        row.task_id_, row.first_index = split_object_id(id_)
        row.info = info
        self.by_id[id_] = (row, 0)
        self.rows += 1
        self.borrowed_rows += 1
        return row, 0, True

    def expose(self, row: Row, index: int) -> bytes:
        """The id of an output that is about to leave the process; known by it from now on."""
        id_ = row.object_id(index)
        known = self.by_id.get(id_)
        if known is None:
            self.by_id[id_] = (row, index)
        elif known[0] is not row:
            shadows = self.shadows.setdefault(id_, [])
            if (row, index) not in shadows:
                shadows.append((row, index))
            if row.info is None:
                kept = self.made_here.setdefault(known[0], [])
                if all((ref._row, ref._index) != (row, index) for ref in kept):
                    kept.append(self.reference(row, index))
        if self.makers and row.info is None and row not in self.holders:
            maker = self.makers.get(row.parent or row.task_id())
            if maker is not None and row.value is not ACTOR_HANDLE:
                self.hold(row, maker)
        return id_

    # ---- what others hold, by the task that made it --------------------------------------------

    def hold(self, row: Row, holder: Any) -> None:
        """The row keeps `holder` while it is in scope."""
        self.unhold(row)
        self.holders[row] = holder
        holder.rows[row] = None

    def unhold(self, row: Row) -> None:
        """The row keeps its holder no longer."""
        holder = self.holders.pop(row, None)
        if holder is not None:
            del holder.rows[row]
            if not holder.rows:
                self.emptied.append(holder)

    def supervise(self, row: Row) -> None:
        """The task of `row` may be executed again for what it made: its spec is kept."""
        row.lineage += 1

    def unsupervise(self, row: Row) -> None:
        """That is over."""
        row.lineage -= 1
        if row.info is not None and not row.lineage and not row.count:
            self.returned.append(row)  # given to another owner meanwhile
            self._forget(row)
        if row.lineage or row.state == PENDING or row.info is not None:
            return
        if row.count == 0:
            self.release_value(row)
            self._forget(row)
        elif row.task is not None and row.state == READY and not stored_ranges(row.value):
            task, row.task = row.task, None
            self.drop_lineage(task)

    # ---- counting ----------------------------------------------------------------------------

    def retain(self, row: Row, index: int) -> None:
        """One more thing keeps output `index` in scope."""
        row.count += 1
        if row.counts is not None:
            row.counts[index] += 1
        if self.inside_kept:
            restore_inside(self, row)

    def reference(self, row: Row, index: int) -> ObjectRef[Any]:
        """A new counted reference."""
        self.retain(row, index)
        return make_reference(row, index)

    def release(self, row: Row, index: int) -> None:
        """One thing less keeps output `index` in scope."""
        count = row.count = row.count - 1
        if count < 0:
            check(False, "OWN-1", f"{row!r} released more often than retained")
        if row.counts is not None:
            left = row.counts[index] = row.counts[index] - 1
            if left == 0 and count and row.state == READY:
                self._release_output(row, index)
        if (count == 0 and row.state != PENDING) or (count == 0 and row.info is not None):
            self._leave_scope(row)

    def drain_drops(self) -> None:
        """Apply the ends of references that `__del__` queued."""
        drops = self.drops
        release = self.release
        while drops:
            row, index = drops.popleft()
            release(row, index)

    def _release_output(self, row: Row, index: int) -> None:
        """One of several outputs is out of scope; packed ones wait for the whole segment."""
        values = row.value
        if type(values) is list:
            is_stored = type(values[index]) is Location and row.info is None
            if row.lineage and (row.task is None or not is_stored):
                return  # a task that may run again needs it, and could not have it made again
            if is_stored:
                self.released.append(values[index])
            values[index] = None
        if row.nested is not None:
            row.nested.pop(index, None)

    def _leave_scope(self, row: Row) -> None:
        """Nothing needs the outputs: let go of the values, and of the row if lineage may."""
        if row.info is not None:
            if row.lineage == 0:
                self.returned.append(row)
                self._forget(row)
            elif row.state == READY:
                # A task that may run again has it among its arguments: it stays borrowed, so that
                # its owner can be asked again.
                unresolve(row)
            return
        if self.made_here:
            # Or its own task's spec, which is kept for what was made, would keep that.
            self.made_here.pop(row, None)
        if row.value is ACTOR_HANDLE:
            self.ended_actors.append(row)
        if row.lineage and row.task is None and row.state == READY:
            keep_small_values(self, row)
            return
        self.release_value(row)
        if row.lineage == 0:
            self._forget(row)

    def release_value(self, row: Row) -> None:
        """Let go of what is stored or can be made again; what is small goes with its row."""
        value = row.value
        if type(value) in (Location, Packed, list):
            self.released += stored_ranges(value)
            row.value = None
            row.state = LOST
        elif row.task is not None:
            row.value = None
            row.state = LOST
        if row in self.stale:
            self.released += self.stale.pop(row)
        row.nested = None

    def _forget(self, row: Row) -> None:
        """The row ends. Tasks kept for it, and rows kept for those, may end with it."""
        ending = [row]
        while ending:
            row = ending.pop()
            self.rows -= 1
            if row.info is not None:
                self.borrowed_rows -= 1
            if row.task_id_ is not None and self.by_id:
                for index in range(row.outputs):
                    id_ = row.object_id(index)
                    known = self.by_id.get(id_)
                    if known is not None and known[0] is row:
                        del self.by_id[id_]
                    if id_ in self.shadows:
                        self._leave_shadows(row, id_)
            if self.holders:
                self.unhold(row)
            if self.stale:
                self.released += self.stale.pop(row, ())
            if self.made_here:
                self.made_here.pop(row, None)
            for _, inside in self.inside_kept.pop(row, {}).values() if self.inside_kept else ():
                ending += self._unlink(inside)
            task, row.task = row.task, None
            row.value = row.nested = None
            if task is not None:
                ending += self._end_lineage(task)

    def _leave_shadows(self, row: Row, id_: bytes) -> None:
        shadows = [entry for entry in self.shadows.pop(id_) if entry[0] is not row]
        if shadows and id_ not in self.by_id:
            self.by_id[id_] = shadows.pop(0)
        if shadows:
            self.shadows[id_] = shadows

    def _end_lineage(self, task: Task) -> list[Row]:
        """A kept task is not needed any more; returns the rows that only it had held."""
        self.lineage_bytes -= task.spec_bytes
        arguments, task.arguments = task.arguments, None
        return self._unlink(arguments or [])

    def _unlink(self, arguments: list[Argument]) -> list[Row]:
        """Take back lineage counts; returns the rows that only these had held."""
        ended = []
        for argument, _ in arguments:
            argument.lineage -= 1
            if argument.lineage or argument.count:
                continue
            if argument.info is not None:
                self.returned.append(argument)
                ended.append(argument)
            elif argument.state != PENDING:
                self.release_value(argument)
                ended.append(argument)
        return ended

    def owned_in_scope(self) -> int:
        """Rows that this process owns."""
        return self.rows - self.borrowed_rows

    # ---- a task's life -----------------------------------------------------------------------

    def attach(self, row: Row, task: Task) -> None:
        """The row's outputs come from `task`, whose arguments are counted from now on."""
        row.task = task
        self.pending_bytes += len(task.message.payload)
        if task.arguments is not None:
            for argument, index in task.arguments:
                self.retain(argument, index)

    def complete(self, row: Row, blob: bytes) -> list[Any] | None:
        """The task ended with one plain inline value: the common case. Returns who waits.

        An inline value cannot be lost, so the task is not kept.
        """
        row.state = READY
        row.value = blob
        task = row.task
        row.task = None
        if task is not None:
            self.pending_bytes -= len(task.message.payload)
            if task.arguments is not None:
                self._release_arguments(task)
        if row.count == 0:
            self._leave_scope(row)
        waiters, row.waiters = row.waiters, None
        return waiters

    def complete_with(
        self,
        row: Row,
        values: list[Any] | Packed,
        nested: dict[int, tuple[Refs, list[ObjectRef[Any]]]] | None,
        keep_task: bool,
    ) -> list[Any] | None:
        """The task ended with outputs of any kind. Returns who waits.

        With `keep_task` the task stays as lineage: its arguments' values may go, their rows not.
        """
        row.state = READY
        if row.counts is None:
            # A task with no outputs has a row all the same, so that it can be cancelled.
            row.value = values[0] if len(values) else b""
        else:
            row.value = values
        row.nested = nested
        task = row.task
        if task is not None:
            self.pending_bytes -= len(task.message.payload)
            task.covered = None
            if keep_task:
                self._keep(task)
            else:
                row.task = None
                self._release_arguments(task)
        if row.counts is not None and row.count:
            for index, count in enumerate(row.counts):
                if count == 0:
                    self._release_output(row, index)
        if row.count == 0:
            self._leave_scope(row)
        waiters, row.waiters = row.waiters, None
        return waiters

    def _keep(self, task: Task) -> None:
        """The task ended and stays as lineage.

        What may be executed again does not keep an actor: its handles are let go, or an actor would
        live on because it holds what a task made that was given its handle.
        """
        self.lineage_bytes += task.spec_bytes
        dropped = task.dropped or []
        arguments = [*(task.arguments or ()), *dropped]
        task.is_rederivable = all(is_rederivable(argument) for argument, _ in arguments)
        kept: list[Argument] = []
        handles: list[Argument] = []
        for entry in task.arguments or ():
            (handles if entry[0].first_index == ACTOR_HANDLE_INDEX else kept).append(entry)
        for needed, _ in kept:
            needed.lineage += 1
        for argument, index in (*kept, *handles):
            self.release(argument, index)
        task.arguments, task.dropped = [*kept, *dropped] or None, None
        task.handles = handles or None

    def fail(self, row: Row, error: bytes) -> list[Any] | None:
        """The object will not come: `error` is the blob of the exception. Returns who waits."""
        if row.state == FAILED:
            return None  # said before, and the row may have ended since
        was_pending = row.state == PENDING
        row.state = FAILED
        row.value = error
        row.nested = None
        task = row.task if row.info is None else None  # one we gave away may be supervised still
        if task is not None:
            row.task = None
            if was_pending:
                self.pending_bytes -= len(task.message.payload)
                self._release_arguments(task)
            else:
                self.drop_lineage(task)
        if row.count == 0:
            self._leave_scope(row)
        waiters, row.waiters = row.waiters, None
        return waiters

    def lose(self, row: Row) -> None:
        """The stored value is gone, or nobody can reach it: what is left goes with the row."""
        if row.state == READY:
            if row.info is None:
                self.keep_stale(row, stored_ranges(row.value))
            row.state = LOST
            row.value = None

    def keep_stale(self, row: Row, ranges: list[Location]) -> None:
        """Copies that are not to be used any more, but may be in use: let go with the row."""
        if ranges:
            self.stale.setdefault(row, []).extend(ranges)

    def reopen(self, row: Row) -> Task:
        """Execute a kept task again: its arguments count as a running task's do."""
        task = row.task
        assert task is not None
        row.state = PENDING
        row.value = None
        row.nested = None
        self.lineage_bytes -= task.spec_bytes
        self.pending_bytes += len(task.message.payload)
        for argument, _ in task.arguments or ():
            argument.lineage -= 1
        self.give_handles(task)
        for argument, index in task.arguments or ():
            self.retain(argument, index)
        return task

    def give_handles(self, task: Task) -> None:
        """Those actors that a kept task was given and that live on are its arguments again."""
        if task.handles:
            alive = [(row, index) for row, index in task.handles if row.count]
            task.arguments = [*(task.arguments or ()), *alive]
            task.handles = []

    def drop_arguments(self, task: Task, unused: Container[Argument]) -> None:
        """A running task has no use any more for some arguments: they are let go before its end.

        If it may be executed again, a lineage count stays, by which they are found again.
        """
        arguments = task.arguments or []
        gone = [entry for entry in arguments if entry in unused]
        if not gone:
            return
        task.arguments = [entry for entry in arguments if entry not in unused]
        if task.may_repeat:
            task.dropped = [*(task.dropped or ()), *gone]
            for argument, _ in gone:
                argument.lineage += 1
        for argument, index in gone:
            self.release(argument, index)

    def hold_dropped(self, task: Task) -> None:
        """The task is about to be executed again: what it had dropped are its arguments again."""
        dropped, task.dropped = task.dropped, None
        for argument, index in dropped or ():
            argument.lineage -= 1
            self.retain(argument, index)
        if dropped:
            task.arguments = [*(task.arguments or ()), *dropped]

    def _release_arguments(self, task: Task) -> None:
        arguments, task.arguments = task.arguments, None
        dropped, task.dropped = task.dropped, None
        task.covered = None
        for argument, index in arguments or ():
            self.release(argument, index)
        for row in self._unlink(dropped or []):
            self._forget(row)

    def drop_lineage(self, task: Task) -> None:
        """A kept task is not needed any more."""
        for row in self._end_lineage(task):
            self._forget(row)

    # ---- borrowers ---------------------------------------------------------------------------

    def borrow(self, id_: bytes, borrower: Address) -> bool:
        """`borrower` holds the object from now on; False if it no longer exists."""
        known = self.by_id.get(id_)
        if known is None:
            return False
        row, index = known
        if row.borrowers is None:
            row.borrowers = {}
        times = row.borrowers.get((borrower, index), 0)
        row.borrowers[borrower, index] = times + 1
        if times == 0:
            self.retain(row, index)
        return True

    def give_back(self, id_: bytes, borrower: Address, is_dead: bool = False) -> None:
        """`borrower` takes back one registration, or all if it is dead.

        They are counted because one may be under way to the borrower while its `Return` of an
        earlier one is under way to us.
        """
        known = self.by_id.get(id_)
        if known is None:
            return
        row, index = known
        times = row.borrowers.get((borrower, index), 0) if row.borrowers is not None else 0
        if row.borrowers is None or not times:
            return
        if times > 1 and not is_dead:
            row.borrowers[borrower, index] = times - 1
        else:
            del row.borrowers[borrower, index]
            self.release(row, index)


def _not_picklable(ref: ObjectRef[Any]) -> Any:
    raise TypeError(f"{ref!r} cannot be pickled here")
