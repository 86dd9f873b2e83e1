"""Moves stored ranges between nodes: from one arena into a socket, from a socket into the other.

Each pair of nodes has at most one connection each way for that, opened when first needed and closed
when it has long been idle (`_io.bulk` says what travels on it). A puller asks for a range once; the
holder keeps its bytes in place until the last has left. A connection that breaks, or stands still,
fails what it was carrying; who asked decides whether to try again.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from freehold._core.ids import Address, Location
from freehold._core.limits import BULK_IDLE_S, BULK_RANGES, BULK_STALL_S
from freehold._core.store import events as ev
from freehold._io.bulk import BulkHolder, BulkPuller
from freehold._io.shm import Arena
from freehold._processes.node.hub import Hub
from freehold._processes.node.storage import StoreDesk

_LOOK_S = 5.0
"""How often a connection is looked at for standing still or being idle."""


class _Pull:
    __slots__ = ("key", "offset", "size", "then")

    def __init__(
        self, key: ev.ReplicaKey, size: int, offset: int, then: Callable[[str], None] | None = None
    ) -> None:
        self.then = then
        """Told of the end, with what went wrong; None for a replica."""
        self.key = key
        self.size = size
        self.offset = offset


class _Source:
    """The node that ranges are pulled from: its connection, and what waits for a turn on it."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.half: BulkPuller | None = None
        self.waiting: deque[int] = deque()
        self.seen_bytes = 0
        self.seen_at = time.monotonic()
        self.is_over = False


class Transfer:
    """Pulls into, and reads out of, one node's arena."""

    def __init__(self, hub: Hub, arena: Arena, store: StoreDesk) -> None:
        self._hub = hub
        self._arena = arena
        self._store = store
        self._requests = itertools.count(1)
        self._pulls: dict[int, _Pull] = {}
        self._sources: dict[str, _Source] = {}
        self._holders: dict[BulkHolder, str] = {}
        """Connections on which others pull from here, and which node each is."""
        hub.peers.on_bulk = self._on_bulk

    def pull(
        self,
        key: ev.ReplicaKey,
        size: int,
        offset: int,
        then: Callable[[str], None] | None = None,
    ) -> None:
        """Bring a range of another node to `offset` of this one's arena.

        Without `then` it is a replica, and the store is told.
        """
        request = next(self._requests)
        self._pulls[request] = _Pull(key, size, offset, then)
        node = key[0]
        source = self._sources.get(node)
        if source is None:
            source = self._sources[node] = _Source(node)
            self._open(source)
        source.waiting.append(request)
        self._ask(source)

    def node_lost(self, node: str, reason: str) -> None:
        """A node is gone: what it was sending will not come, what it was reading need not stay."""
        source = self._sources.get(node)
        if source is not None:
            self._end(source, reason)
        for half in [half for half, reader in self._holders.items() if reader == node]:
            half.close(reason)

    def close(self) -> None:
        """End all connections."""
        for source in list(self._sources.values()):
            self._end(source, "this node ends")
        for half in list(self._holders):
            half.close()

    # ---- pulling ---------------------------------------------------------------------------------

    def _open(self, source: _Source) -> None:
        def on_open(sock: Any) -> None:
            if source.is_over:
                sock.close()
                return
            source.half = BulkPuller(sock, self._hub.reactor, self)
            source.seen_at = time.monotonic()
            self._look_later(source)
            self._ask(source)

        def on_failed(reason: str) -> None:
            self._end(source, f"node {source.node[:8]} cannot be reached: {reason}")

        self._hub.peers.open_bulk(Address(source.node, 0), on_open, on_failed)

    def _ask(self, source: _Source) -> None:
        half = source.half
        while half is not None and source.waiting and len(half.ranges) < BULK_RANGES:
            request = source.waiting.popleft()
            pull = self._pulls.get(request)
            if pull is not None:
                if not half.ranges:
                    source.seen_at = time.monotonic()
                node, segment, start = pull.key
                half.ask(request, Location(node, segment, start, pull.size))

    def _look_later(self, source: _Source) -> None:
        self._hub.reactor.call_later(_LOOK_S, lambda: self._look(source))

    def _look(self, source: _Source) -> None:
        """Is it still of use, and does it still bring what it should?"""
        half = source.half
        if source.is_over or half is None:
            return
        now = time.monotonic()
        if half.received_bytes != source.seen_bytes:
            source.seen_bytes, source.seen_at = half.received_bytes, now
        rests_s = now - source.seen_at
        if half.ranges and rests_s >= BULK_STALL_S:
            self._end(source, f"node {source.node[:8]} sent nothing for {BULK_STALL_S:g} s")
        elif not half.ranges and rests_s >= BULK_IDLE_S:
            self._end(source, "idle")
        else:
            self._look_later(source)

    def _end(self, source: _Source, reason: str) -> None:
        """Close the connection to a node, and fail what was to come over it."""
        if source.is_over:
            return
        source.is_over = True
        if self._sources.get(source.node) is source:
            del self._sources[source.node]
        if source.half is not None:
            source.half.close(reason)
        for request in [r for r, pull in self._pulls.items() if pull.key[0] == source.node]:
            # Not at once: the machine that ordered a pull may still be being carried out.
            self._hub.reactor.call_later(0, partial(self._fail, request, reason))

    def _fail(self, request: int, reason: str) -> None:
        pull = self._pulls.pop(request, None)
        if pull is None:
            return
        if pull.then is not None:
            pull.then(reason)
        else:
            self._store.handle(ev.PullFailed(pull.key, reason))

    def target(self, request: int, offset: int, size: int) -> memoryview:
        """See `Puller`."""
        return self._arena.target(self._pulls[request].offset + offset, size)

    def pulled(self, request: int, received: int) -> None:
        """See `Puller`."""
        pull = self._pulls[request]
        if received == pull.size:
            del self._pulls[request]
            if pull.then is not None:
                pull.then("")
            else:
                self._store.handle(ev.PullFinished(pull.key))
            source = self._sources.get(pull.key[0])
            if source is not None:
                self._ask(source)

    def refused(self, request: int, reason: str) -> None:
        """See `Puller`."""
        node = self._pulls[request].key[0]
        self._fail(request, reason)
        source = self._sources.get(node)
        if source is not None:
            self._ask(source)

    def puller_closed(self, half: BulkPuller, reason: str) -> None:
        """See `Puller`."""
        for source in list(self._sources.values()):
            if source.half is half:
                text = f"the connection to node {source.node[:8]} ended: {reason}"
                self._end(source, text)

    # ---- being read from -------------------------------------------------------------------------

    def _on_bulk(self, peer: Address, sock: Any, rest: bytes) -> None:
        if peer.process != 0:
            sock.close()  # only node managers have arenas to pull into
            return
        self._holders[BulkHolder(sock, rest, self._hub.reactor, self)] = peer.node

    def begin_read(self, where: Location) -> memoryview | str:
        """See `Holder`."""
        effects = self._store.handle(ev.ReadStarted(where.segment, where.offset, where.size))
        is_refused = any(isinstance(effect, ev.RefuseRead) for effect in effects)
        if where.node != self._hub.node or where.size <= 0 or is_refused:
            if not is_refused:
                self._store.handle(ev.ReadFinished(where.segment, where.offset))
            return f"node {self._hub.node[:8]} does not have these bytes (any more)"
        return self._arena.view(where.offset, where.size, _nothing)

    def end_read(self, where: Location) -> None:
        """See `Holder`."""
        self._store.handle(ev.ReadFinished(where.segment, where.offset))

    def holder_closed(self, half: BulkHolder, reason: str) -> None:
        """See `Holder`."""
        self._holders.pop(half, None)


def _nothing() -> None:
    """The store keeps the bytes in place by itself, from `ReadStarted` to `ReadFinished`."""
