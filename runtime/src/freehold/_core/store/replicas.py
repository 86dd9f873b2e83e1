"""The table of replicas: copies of other nodes' ranges, pinned by readers or kept as a cache.

Place in the flow: the store machine keeps it and gives it memory; the node manager pulls the bytes.
A replica's memory is in use from `StartPull` on; it can be evicted when it is complete and nobody
pins it. The table does not choose where replicas go nor when one is evicted, only which.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from freehold._core.store.events import (
    Instant,
    ReplicaFailed,
    ReplicaKey,
    ReplicaReady,
    StoreEffect,
    StoreInvariantError,
)


@dataclass(slots=True)
class Replica:
    """A copy. `requesters` wait for its bytes; `pins` counts the readers of each process."""

    key: ReplicaKey
    size: int
    offset: int
    requesters: list[tuple[int, int]]
    is_ready: bool = False
    pins: dict[int, int] = field(default_factory=dict)
    idle_since: Instant = 0.0

    def failed(self, reason: str) -> list[StoreEffect]:
        """What tells its requesters that they get no copy."""
        return [ReplicaFailed(*who, self.key, reason) for who in self.requesters]


class ReplicaTable:
    """All replicas that hold memory, by key."""

    def __init__(self) -> None:
        self.by_key: dict[ReplicaKey, Replica] = {}
        # Complete and unpinned, the least recently used first: what may be evicted.
        self.idle: dict[ReplicaKey, Replica] = {}

    def pin(self, replica: Replica, requesters: list[tuple[int, int]]) -> list[StoreEffect]:
        """More readers of a complete replica; returns what tells them."""
        effects: list[StoreEffect] = []
        for process, request in requesters:
            self.idle.pop(replica.key, None)
            replica.pins[process] = replica.pins.get(process, 0) + 1
            ready = ReplicaReady(process, request, replica.key, replica.offset, replica.size)
            effects.append(ready)
        return effects

    def unpin(self, replica: Replica, process: int, count: int, *, now: Instant) -> None:
        """Up to `count` readers fewer; without any left it becomes the most recently used cache."""
        left = replica.pins.pop(process, 0) - count
        if left > 0:
            replica.pins[process] = left
        self.settle(replica, now=now)

    def settle(self, replica: Replica, *, now: Instant) -> None:
        """Let it be evicted from now on if nobody needs it (any more)."""
        if replica.is_ready and not replica.pins and replica.key not in self.idle:
            replica.idle_since = now
            self.idle[replica.key] = replica

    def leave(self, process: int, *, now: Instant) -> None:
        """A process is gone, with its pins and its requests."""
        for replica in self.by_key.values():
            if replica.requesters:
                replica.requesters = [who for who in replica.requesters if who[0] != process]
            if replica.pins.pop(process, 0):
                self.settle(replica, now=now)

    def remove(self, replica: Replica) -> None:
        """Its memory was freed."""
        del self.by_key[replica.key]
        self.idle.pop(replica.key, None)

    def oldest_idle(self) -> Replica | None:
        """The one to evict next."""
        return next(iter(self.idle.values()), None)

    def check_invariants(self) -> None:
        """STO-5; see `StoreMachine.check_invariants`."""
        for key, replica in self.by_key.items():
            if (key in self.idle) != (replica.is_ready and not replica.pins):
                raise StoreInvariantError(f"STO-5: replica {key} is evictable and should not be")
            if replica.is_ready and replica.requesters:
                raise StoreInvariantError(f"STO-5: replica {key} is ready, requesters wait")
            if any(count <= 0 for count in replica.pins.values()):
                raise StoreInvariantError(f"STO-5: replica {key} has an empty pin")
        if not self.idle.keys() <= self.by_key.keys():
            raise StoreInvariantError("STO-5: an evicted replica is still evictable")
        since = [replica.idle_since for replica in self.idle.values()]
        if since != sorted(since):
            raise StoreInvariantError("STO-5: the cache is not in the order of last use")
