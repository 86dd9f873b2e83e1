"""Eager release: an argument is let go at its last use inside a running task, not at its end.

In the worker: once user code has the arguments, the borrowed rows among them are watched. One that
leaves scope there has no use left in this process, and its caller is told (`ArgumentsDropped`). In
the caller: it lets go of the argument if the task has no retries left, or if the argument can be
made again; else it goes on holding it until the task ends. What is made again was not lost before:
an object that had to be brought back once is held from then on, so that a task that is retried
many times does not use up the object's executions.

Losing the message costs nothing but the time until the task's end, and so does a late or repeated
one: what it names is either no argument (any more) or still unused. No message is worth its while
for values that travelled inside the task's own message, so those are not watched.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from freehold._core.ids import Address
from freehold._core.limits import DROPS_PER_MESSAGE_SHARE
from freehold._core.messages import ArgumentsDropped
from freehold._core.ownership.borrowing import split_ids
from freehold._core.ownership.row import READY, Row, Task

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Watch:
    """One running task whose arguments are watched."""

    __slots__ = ("attempt", "batch", "given", "is_over", "key", "rows", "source", "unsaid")

    def __init__(
        self, source: Address, key: int, attempt: int, given: list[tuple[Row, int]]
    ) -> None:
        self.source = source
        self.key = key
        self.attempt = attempt
        self.given = given
        self.rows: dict[Row, None] | None = None
        """Those in use, as soon as one ends; most tasks are over before."""
        self.batch = max(1, len(given) // DROPS_PER_MESSAGE_SHARE)
        self.unsaid: list[Row] = []
        self.is_over = False
        """User code has returned: the answer, which comes at once, says the rest."""


class EagerRelease:
    """Both sides of it, in one process."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._watches: dict[Watch, None] = {}

    # ---- in the worker ---------------------------------------------------------------------------

    def begin(self, given: list[tuple[Row, int]], source: Address, key: int, attempt: int) -> Watch:
        """User code of a task of `source` is about to have what it was given.

        All of it is still held. May be called without the lock: most tasks end before anything
        comes of this, so it must cost them next to nothing.
        """
        watch = Watch(source, key, attempt, given)
        self._watches[watch] = None
        return watch

    def end(self, watch: Watch) -> None:
        """The task is about to be answered: what ends from now on, the answer says."""
        watch.is_over = True
        self._watches.pop(watch, None)

    def note(self, returned: list[Row]) -> None:
        """Borrowed rows have left scope here."""
        for watch in list(self._watches):
            if watch.is_over:
                continue
            if watch.rows is None:
                watch.rows = {row: None for row, _ in watch.given}
            # A row that ends has no use, whatever comes: met again it is a new one.
            watch.unsaid += [row for row in returned if watch.rows.pop(row, 0) is None]
            if len(watch.unsaid) >= watch.batch:
                self._say(watch)

    def _say(self, watch: Watch) -> None:
        ids = b"".join(row.object_id(0) for row in watch.unsaid)
        watch.unsaid = []
        self._owner.outbox.send(watch.source, ArgumentsDropped(watch.key, watch.attempt, ids))

    # ---- in the caller ---------------------------------------------------------------------------

    def on_dropped(self, source: Address, message: ArgumentsDropped, now: float) -> None:
        """A worker has no use any more for some arguments of a task that it runs for us."""
        task = self._running(source, message.key)
        if task is None or task.message.attempt != message.attempt:
            return
        table = self._owner.table
        unused: dict[tuple[Row, int], None] = {}
        for id_ in split_ids(message.ids):
            for entry in (table.by_id.get(id_), *table.shadows.get(id_, ())):
                if entry is not None:
                    unused[entry] = None
        released = {entry: None for entry in unused if self._may_release(task, entry[0])}
        self._uncover(task, unused)
        table.drop_arguments(task, released)

    def _running(self, source: Address, key: int) -> Task | None:
        lease = self._owner.leasing.leases.get(source)
        task = lease.inflight.get(key) if lease is not None else None
        return task if task is not None else self._owner.actors.in_flight(source, key)

    def _may_release(self, task: Task, row: Row) -> bool:
        if task.retries_left == 0:
            return True
        made_by = row.task
        return (
            made_by is not None
            and row.state == READY
            and made_by.is_rederivable
            and not self._owner.recovery.has_recovered(row)
        )

    @staticmethod
    def _uncover(task: Task, unused: Container[tuple[Row, int]]) -> None:
        """References inside arguments' values: another attempt finds them in the values again."""
        if task.covered is not None:
            task.covered = [
                [ref for ref in refs if (ref._row, ref._index) not in unused]
                for refs in task.covered
            ]
