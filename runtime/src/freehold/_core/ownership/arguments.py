"""A task's arguments by reference: waiting until they are known, and putting values in their place.

The caller resolves them (not the worker): small values travel inside the message, large ones as
their location, and a task whose argument failed fails with the argument's error without running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Location
from freehold._core.messages import Arg, Refs
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import FAILED, LOST, PENDING, Row, Task

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

NEAR_BYTES = 1 << 20
"""Bytes of arguments on a node from which a task had rather run there: below, another node's free
CPU is worth more than the millisecond that moving them takes."""

NEAR_SHARE = 0.5
"""Of the most that any node holds: nodes with at least that much are as good as the first. A
shuffle's reduces have a block of every node; all of them would go to the one with a block more."""

_NO_REFS = Refs([], b"")


@dataclass(slots=True)
class Given:
    """What a call was given: its pickled arguments, and the references among them.

    `top_level` are arguments that are references themselves (replaced by their values),
    `nested` those inside other values, in the order of the pickle's side list.
    """

    payload: bytes = b""
    top_level: list[tuple[int | str, ObjectRef[Any]]] | None = None
    nested: list[ObjectRef[Any]] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether there is no reference among the arguments."""
        return self.top_level is None and self.nested is None


class Arguments:
    """The arguments of the tasks of one owner."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._turn = 0

    def attach(self, task: Task, given: Given, now: float = 0.0) -> int:
        """Count a new task's references, and wait for those it needs the values of.

        Returns how many it waits for. If not 0, `Owner.ready_to_run` is called for it, maybe before
        this returns.
        """
        owner = self._owner
        arguments: list[tuple[Row, int]] = []
        if given.top_level:
            task.top_level = [(at, ref._row, ref._index) for at, ref in given.top_level]
            arguments += [(row, index) for _, row, index in task.top_level]
        if given.nested:
            arguments += [(ref._row, ref._index) for ref in given.nested]
            task.message.nested = owner.borrowing.describe(given.nested)
        task.arguments = arguments
        owner.table.attach(task.row, task)
        return self.await_missing(task, now)

    def await_missing(self, task: Task, now: float) -> int:
        """Wait for the arguments that are not there (any more); how many those are."""
        is_there = self._owner.recovery.is_there
        absent = [row for _, row, index in task.top_level or () if not is_there(row, index)]
        task.missing = len(absent)
        for row in absent:
            if row.state in (PENDING, LOST):
                self._owner.await_row(row, task, now)
            else:
                self.arrived(task, now)  # another argument of the same row brought it back
        return len(absent)

    def arrived(self, task: Task, now: float) -> None:
        """One of the arguments a task waited for is known."""
        task.missing -= 1
        is_due = task.missing <= 0 and task.row.state == PENDING
        if is_due and self.await_missing(task, now) == 0:
            self._owner.ready_to_run(task, now)

    def nearest(self, task: Task) -> str:
        """A node that holds much of a task's arguments, "" if moving them costs nothing.

        Of several that hold about as much the tasks take turns.
        """
        held: dict[str, int] = {}
        for _, row, index in task.top_level or ():
            value: Any = row.output(index) if row.state != FAILED else None
            if type(value) is Location:
                held[value.node] = held.get(value.node, 0) + value.size
        most = max(held.values(), default=0)
        if most < NEAR_BYTES:
            return ""
        near = sorted(node for node, size in held.items() if size >= NEAR_SHARE * most)
        self._turn += 1
        return near[self._turn % len(near)]

    def fill(self, task: Task) -> bool:
        """Put the values into the message about to leave; False if one is not there (any more)."""
        args = []
        covered = []
        is_there = self._owner.recovery.is_there
        for at, row, index in task.top_level or ():
            if row.state == FAILED or not is_there(row, index):
                return False
            args.append(self._one(at, row, index))
            if row.nested is not None and index in row.nested:
                covered.append(row.nested[index][1])
        task.message.args = args
        task.covered = covered or None
        return True

    def on_unfilled(self, task: Task, now: float) -> None:
        """A task could not be sent: it fails with its argument's error, or waits for it again."""
        for _at, row, _index in task.top_level or ():
            if row.state == FAILED:
                self._owner.fail(task.row, row.value, now)
                return
        self._owner.resubmit(task, now, was_sent=False)

    def _one(self, at: int | str, row: Row, index: int) -> Arg:
        value: Any = row.output(index)
        nested = None
        refs = _NO_REFS
        borrowing = self._owner.borrowing
        if row.nested is not None and index in row.nested:
            nested = borrowing.describe(row.nested[index][1])
        if type(value) is Location:
            refs = self.describe_row(row, index)
            return Arg(at, refs, None, value, nested)
        return Arg(at, refs, value, None, nested)

    def describe_row(self, row: Row, index: int) -> Refs:
        """The wire form of one output, without a reference object for it."""
        id_ = self._owner.table.expose(row, index)
        return Refs([self._owner.borrowing.info_of(row)], id_ + b"\0\0")
