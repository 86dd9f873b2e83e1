"""Calls to actors: the caller's side, one `ActorLink` an actor this process has called.

Calls leave in the order they were made, each once its arguments are known, so a later call waits
behind an earlier one whose argument is still being computed: ordered per calling task, as a plain
object would be. A call of another task that this process executes does not wait: it may be what the
earlier one's argument is made of. While the actor starts or restarts calls queue; when it dies they
fail with what killed it.
"""

from __future__ import annotations

from collections import deque

from freehold._core.ids import Address
from freehold._core.messages import ActorInfo
from freehold._core.ownership.row import Row, Task

PENDING_ACTOR = "pending"
ALIVE = "alive"
MOVING = "moving"
RESTARTING = "restarting"
DEAD = "dead"


class ActorLink:
    """What a caller knows of one actor."""

    __slots__ = (
        "address", "calls", "handle", "has_callers", "has_stopped", "inflight", "info",
        "is_infeasible", "is_released", "is_watched", "least_restart", "max_pending_calls",
        "restarts", "state", "waiters",
    )  # fmt: skip

    def __init__(self, handle: Row) -> None:
        self.handle = handle
        self.state = PENDING_ACTOR
        self.address: Address | None = None
        self.info: ActorInfo | None = None
        self.calls: deque[Task] = deque()
        self.has_callers = False
        """Calls of several tasks may be in line."""
        self.inflight: dict[int, Task] = {}
        self.restarts = -1
        self.least_restart = -1
        """What is said of earlier lives is old: this process had them killed."""
        self.max_pending_calls = -1
        self.is_watched = False
        self.is_infeasible = False
        """It is dead because no node can ever hold it."""
        self.is_released = False
        self.waiters: list[object] = []
        self.has_stopped: Address | None = None
        """Where it was told that no call follows, as it moves."""

    @property
    def actor(self) -> bytes:
        """The actor's id: the id of its creation task."""
        return self.handle.task_id()

    def pending(self) -> int:
        """Calls that have not ended."""
        return len(self.calls) + len(self.inflight)

    def append(self, task: Task) -> None:
        """A new call."""
        calls = self.calls
        if not calls:
            self.has_callers = False
        elif calls[-1].message.parent != task.message.parent:
            self.has_callers = True
        calls.append(task)

    def next_ready(self) -> Task | None:
        """The next call if one can be sent now."""
        calls = self.calls
        if self.state != ALIVE or not calls:
            return None
        if calls[0].missing > 0:
            task = self._pass_waiting() if self.has_callers else None
            if task is None:
                return None
        else:
            task = calls.popleft()
        self.inflight[task.row.key] = task
        return task

    def _pass_waiting(self) -> Task | None:
        """Take out the first call that no earlier one of the same task holds up."""
        waiting = set()
        for at, task in enumerate(self.calls):
            if task.missing > 0:
                waiting.add(task.message.parent)
            elif task.message.parent not in waiting:
                del self.calls[at]
                return task
        return None

    def change(self, info: ActorInfo) -> list[Task]:
        """The actor's state changed; returns the calls that were lost in flight, oldest first."""
        self.info = info
        lost: list[Task] = []
        is_there = info.state in (ALIVE, MOVING)
        if not is_there or info.address != self.address:
            lost = list(self.inflight.values())
            self.inflight.clear()
        self.state = info.state
        self.restarts = info.restarts
        self.address = info.address if is_there else None
        if info.state == DEAD:
            lost += self.calls
            self.calls.clear()
        return lost

    def requeue(self, tasks: list[Task]) -> None:
        """Calls that will be tried again, before all others."""
        self.has_callers = True  # who knows
        self.calls.extendleft(reversed(tasks))
