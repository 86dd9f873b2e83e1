"""One task that can be executed again for what it made (`supervision`)."""

from __future__ import annotations

from freehold._core.messages import OwnerInfo, Supervisor
from freehold._core.ownership.row import Row, Task


class Supervised:
    """A task of ours that can be executed again for what it made.

    It is kept while `rows` are in scope, `owning` workers own something of it, or in `graces`.
    """

    __slots__ = (
        "graces", "has_spec", "id", "info", "is_watched", "owning", "reason", "replay",
        "rows", "task",
    )  # fmt: skip

    def __init__(self, task: Task, info: OwnerInfo) -> None:
        self.id = task.row.task_id()
        self.task = task
        self.info = info
        self.rows: dict[Row, tuple[Supervisor, ...] | None] = {}
        """What it made, as far as it is owned here or being made again, with what leads from the
        object up to this task; nothing if it made it itself."""
        self.owning = 0
        self.graces = 0
        self.has_spec = False
        """Whether it counts in its row's lineage."""
        self.replay: Task | None = None
        self.is_watched = False
        """Whether it hears of the end of the execution under way."""
        self.reason = ""

    def info_of(self, row: Row) -> OwnerInfo:
        """What others are told of whom to ask about `row`, of which we are the owner."""
        below = self.rows.get(row)
        if below and self.info.supervisors:
            return OwnerInfo(self.info.address, (*below, *self.info.supervisors))
        return self.info
