"""Where a thread or coroutine is: which task it runs, and the numbers its children get.

A task's children and puts are numbered by their parent, so that a task executed again names them
the same. A driver's threads share the driver's own context. The core keeps the current one in a
`ContextVar`, which serves threads and coroutines alike.
"""

from __future__ import annotations

from freehold._core.ids import Address
from freehold._core.ownership.origins import Origin
from freehold._core.ownership.row import PENDING, Row
from freehold._core.resources import Shape


class Context:
    """One task (or driver) that submits and puts."""

    __slots__ = (
        "_parent", "_task_id", "actor_id", "assigned", "attempt", "caller", "child_index",
        "children", "function_name", "gpu_ids", "has_timed_out", "is_cancelled", "key",
        "notes_submitted", "origin", "puts", "submitted", "task_name", "thread",
        "was_reconstructed",
    )  # fmt: skip

    def __init__(self, task_id: bytes | None, parent: bytes = b"", child_index: int = 0) -> None:
        self._task_id = task_id
        self._parent = parent
        self.child_index = child_index
        self.children = 0
        self.puts = 0
        self.task_name = ""
        self.function_name = ""
        self.attempt = 0
        self.actor_id = b""
        self.gpu_ids: list[int] = []
        self.assigned: Shape = ()
        self.was_reconstructed = False
        self.is_cancelled = False
        self.has_timed_out = False
        self.caller: Address | None = None
        self.key = -1
        self.thread = 0
        """The one thread that numbers what the task makes; 0: any (what is made in no task's name).
        """
        self.origin: Origin | None = None
        """Set once the task has made something, if it can be executed again for it."""
        self.notes_submitted = False
        """Whether it can be cancelled, and what it submitted with it."""
        self.submitted: list[Row] | None = None

    @property
    def parent(self) -> bytes:
        """The id of the task that submitted this one."""
        return self._parent

    @property
    def task_id(self) -> bytes:
        """The task's id, hashed when first asked for."""
        if self._task_id is None:
            from freehold._core.ids import child_task_id

            self._task_id = child_task_id(self._parent, self.child_index)
        return self._task_id

    def next_child(self) -> int:
        """The number of the task, actor or call that it submits now; with the lock."""
        number = self.children
        self.children = number + 1
        return number

    def note(self, row: Row) -> None:
        """It submitted the task of `row`; those that have ended are left out now and then."""
        submitted = self.submitted
        if submitted is None:
            submitted = self.submitted = []
        submitted.append(row)
        if len(submitted) & 255 == 0:
            self.submitted = [row for row in submitted if row.state == PENDING]
