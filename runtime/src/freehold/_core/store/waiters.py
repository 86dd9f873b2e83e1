"""The queue of requests that wait for room, in the order they came.

Place in the flow: the store machine puts every request in, serves from the front and refuses the
oldest when nothing moves. Nobody overtakes: a stream of small requests must not starve a large one.
"""

from __future__ import annotations

from dataclasses import dataclass

from freehold._core.store.events import (
    Instant,
    ReplicaFailed,
    ReplicaKey,
    SegmentRefused,
    StoreEffect,
    WaiterSnapshot,
)


@dataclass(slots=True)
class Waiter:
    """A request without room. With a `key` it is for a replica and may have several requesters."""

    size: int
    requesters: list[tuple[int, int]]
    is_slab: bool = False
    key: ReplicaKey | None = None
    is_ahead: bool = False

    def refused(self, reason: str) -> list[StoreEffect]:
        """What tells its requesters that they get nothing."""
        key = self.key
        if key is None:
            return [
                SegmentRefused(process, request, reason) for process, request in self.requesters
            ]
        return [ReplicaFailed(*who, key, reason) for who in self.requesters]


class WaitQueue:
    """Waiters by name: (process, request), or the key of the replica they want."""

    def __init__(self) -> None:
        self._waiters: dict[object, Waiter] = {}
        self._progress_at: Instant = 0.0

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def add(self, name: object, waiter: Waiter, *, now: Instant) -> None:
        """Put it last; a request that is said twice waits once."""
        if not self._waiters:
            self._progress_at = now
        self._waiters.setdefault(name, waiter)

    def get(self, name: object) -> Waiter | None:
        """The waiter of that name, if it waits."""
        return self._waiters.get(name)

    def first(self) -> Waiter | None:
        """The oldest waiter."""
        return next(iter(self._waiters.values()), None)

    def pop_first(self, *, now: Instant) -> Waiter:
        """Take the oldest out, granted or refused; the others' patience starts again."""
        self._progress_at = now
        return self._waiters.pop(next(iter(self._waiters)))

    def note_progress(self, *, now: Instant) -> None:
        """Memory was freed: waiting makes sense."""
        self._progress_at = now

    def leave(self, process: int) -> None:
        """A process is gone, with its requests."""
        for name, waiter in list(self._waiters.items()):
            waiter.requesters = [who for who in waiter.requesters if who[0] != process]
            if not waiter.requesters:
                del self._waiters[name]

    def deadline(self, timeout_s: float) -> Instant | None:
        """When the oldest is to be refused if nothing moves."""
        return self._progress_at + timeout_s if self._waiters else None

    def snapshot(self) -> tuple[WaiterSnapshot, ...]:
        """Who waits, the oldest first."""
        return tuple(WaiterSnapshot(*w.requesters[0], w.size) for w in self._waiters.values())
