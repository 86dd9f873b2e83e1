"""Where a thread or coroutine is: which task it runs, and the numbers its children get.

A task's children and puts are numbered by their parent, so that a task executed again names them
the same. A driver's threads share the driver's own context. The core keeps the current one in a
`ContextVar`, which serves threads and coroutines alike.
"""

from __future__ import annotations

import msgspec

from freehold._core.ids import Address, child_task_id
from freehold._core.ownership.origins import Origin
from freehold._core.ownership.row import PENDING, Row
from freehold._core.resources import Shape


class Context(msgspec.Struct, eq=False):
    """One task (or driver) that submits and puts; a Struct, because each task makes one."""

    task_id_: bytes | None
    parent: bytes = b""
    """The id of the task that submitted this one."""
    child_index: int = 0
    attempt: int = 0
    caller: Address | None = None
    key: int = -1
    thread: int = 0
    """The one thread that numbers what the task makes; 0: any (what is made in no task's name)."""
    children: int = 0
    puts: int = 0
    task_name: str = ""
    function_name: str = ""
    actor_id: bytes = b""
    gpu_ids: list[int] = []
    assigned: Shape = ()
    was_reconstructed: bool = False
    is_cancelled: bool = False
    has_timed_out: bool = False
    origin: Origin | None = None
    """Set once the task has made something, if it can be executed again for it."""
    notes_submitted: bool = False
    """Whether it can be cancelled, and what it submitted with it."""
    submitted: list[Row] | None = None

    @property
    def task_id(self) -> bytes:
        """The task's id, hashed when first asked for."""
        if self.task_id_ is None:
            self.task_id_ = child_task_id(self.parent, self.child_index)
        return self.task_id_

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
