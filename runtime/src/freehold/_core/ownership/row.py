"""The row of an output group: all that is known of a task's outputs, a `put`, or a borrowed object.

One row serves all outputs of a task; per-output state (`counts`, `values`) exists only for tasks
with several. A pending no-op costs a row, a task, its message and a reference: about 500 bytes.
Rows are changed by `table.OwnershipTable` alone.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec

from freehold._core.ids import ACTOR_HANDLE_INDEX, Location, child_task_id, object_id

if TYPE_CHECKING:
    from freehold._core.messages import Call, OwnerInfo, Refs, Run
    from freehold._core.options import FunctionEntry
    from freehold._core.ownership.reference import ObjectRef
    from freehold._core.ownership.table import OwnershipTable

PENDING = 0
"""Not known yet: a task that has not ended, or a borrowed object not resolved."""
READY = 1
"""`value` is there: a blob inline, a `Location`, or a list or `Packed` of them."""
FAILED = 2
"""`value` is the blob of an exception."""
LOST = 3
"""The stored value is gone, or was let go while lineage alone held the row."""

IMPLICIT = 0
"""The owner itself sent us the reference, as an argument of a task that has not ended."""
REGISTERING = 1
"""`Borrow` was sent; whoever gave us the reference must hold it until the owner answers."""
REGISTERED = 2
"""The owner counts us, until we send `Return`."""
HANDING = 3
"""We made the owner one with a result that it has not taken yet: for all others it is still
ours."""
RECREATING = 4
"""Its owner died, and we supervise the task that made it: we answer for it until it is made again.
"""
FOLLOWING = 5
"""The same, and this process itself has made it again, in another row: that one's value is its."""

STATE_NAMES = ("pending", "ready", "failed", "lost")


class Packed:
    """Outputs that lie one after another in one segment: 8 bytes each instead of an object."""

    __slots__ = ("ends", "location")

    def __init__(self, location: Location, ends: array[int]) -> None:
        self.location = location
        self.ends = ends

    def __getitem__(self, index: int) -> Location:
        start = self.ends[index - 1] if index else 0
        start = -(-start // 64) * 64
        whole = self.location
        return Location(whole.node, whole.segment, whole.offset + start, self.ends[index] - start)

    def __len__(self) -> int:
        return len(self.ends)


class Task(msgspec.Struct, eq=False):
    """A submitted task, kept while it is pending and then as lineage while it may run again."""

    row: Row
    message: Run | Call
    entry: FunctionEntry | None
    retries_left: int
    may_repeat: bool
    """Whether it may be executed again once it has ended."""
    retry_exceptions: bool | bytes = False
    queue: Any = None
    """The shape's queue it waits in (tasks)."""
    actor: Any = None
    """The actor it is a call of."""
    lease: Any = None
    """Where it was sent."""
    cost_us: float = 0.0
    missing: int = 0
    """Top-level arguments that are not known yet."""
    arguments: list[tuple[Row, int]] | None = None
    """Every reference among the arguments, counted while the task may run."""
    handles: list[tuple[Row, int]] | None = None
    """Of a kept task: the actors' handles among its arguments, which it does not hold."""
    top_level: list[tuple[int | str, Row, int]] | None = None
    """The references to replace by their values: (position or keyword, row, index)."""
    covered: list[list[ObjectRef[Any]]] | None = None
    """References inside the values of top-level arguments: the worker has them from us, so they are
    held until the task ends, whatever becomes of those values' rows."""
    dropped: list[tuple[Row, int]] | None = None
    """Arguments that the running task was seen to have no use for any more: let go, with a lineage
    count that finds them again."""
    is_rederivable: bool = False
    """Of a kept task: whether all its arguments can be had again, whoever lets go of them."""
    is_cancelled: bool = False
    spec_bytes: int = 0
    near: str = ""
    """A node that holds much of its arguments, if they are worth going there for."""

    @property
    def name(self) -> str:
        """What messages call it: its own name, else its function's or method's."""
        options = self.message.options
        if options is not None and options.name:
            return options.name
        if self.entry is not None:
            return self.entry.name
        method: str = getattr(self.message, "method", "")
        info = self.actor.info if self.actor is not None else None
        return f"{info.options.class_name}.{method}" if info is not None else method


class Row(msgspec.Struct, eq=False):
    """One output group. `count` is everything that keeps it in scope; see `table`.

    A Struct, because making one takes the interpreter a step and not seventy.
    """

    table: OwnershipTable
    key: int
    parent: bytes = b""
    child_index: int = 0
    count: int = 0
    """References here, arguments of unfinished tasks, borrowers and readers, over all outputs."""
    state: int = PENDING
    value: Any = None
    counts: array[int] | None = None
    """The same as `count` per output, if there are several."""
    lineage: int = 0
    """Kept tasks that have an output of this row among their arguments."""
    outputs: int = 1
    is_dynamic: bool = False
    """The task chose how many outputs it has: the value is the list of their references."""
    first_index: int = 0
    task_id_: bytes | None = None
    info: OwnerInfo | None = None
    """Set if the row is borrowed: whom to ask."""
    borrow_count: int = 0
    """Of a borrowed row: how often its owner counts us."""
    registration: int = IMPLICIT
    """Of a borrowed row: what its owner knows of our holding it."""
    task: Task | None = None
    borrowers: dict[Any, int] | None = None
    waiters: list[Any] | None = None
    nested: dict[int, tuple[Refs, list[ObjectRef[Any]]]] | None = None
    """References inside the outputs' values, held while the row is in scope."""

    def task_id(self) -> bytes:
        """The id of the task whose outputs these are (for a put, of the task that put it)."""
        if self.task_id_ is None:
            self.task_id_ = child_task_id(self.parent, self.child_index)
        return self.task_id_

    def object_id(self, index: int) -> bytes:
        """The id of output `index`."""
        return object_id(self.task_id(), self.first_index + index)

    def output(self, index: int) -> Any:
        """The blob or location of output `index` of a ready row."""
        return self.value if self.counts is None else self.value[index]

    def __repr__(self) -> str:
        kind = "borrowed" if self.info is not None else "owned"
        return f"<{kind} row {self.task_id().hex()} {STATE_NAMES[self.state]} count={self.count}>"


def unresolve(row: Row) -> None:
    """What was known of a borrowed object's value is so no longer."""
    row.state = PENDING
    row.value = row.nested = None
    row.key = -1


def stored_ranges(value: Any) -> list[Location]:
    """The stored ranges of a row's value."""
    if type(value) is Location:
        return [value]
    if type(value) is Packed:
        return [value.location]
    if type(value) is list:
        return [v for v in value if type(v) is Location]
    return []


def is_rederivable(row: Row) -> bool:
    """Whether a lineage count is enough to have an argument again.

    It is if its task is kept and the same is true of all its arguments, or if it is a small value,
    which stays in its row. A `put` that is stored goes with its last use, and what is borrowed is
    its owner's to keep.
    """
    if row.task is not None:
        return row.task.is_rederivable
    is_small = row.state == READY and type(row.value) is bytes
    is_handle = row.first_index == ACTOR_HANDLE_INDEX
    return is_small and not is_handle and row.info is None and row.nested is None
