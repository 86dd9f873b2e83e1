"""Moves stored ranges between nodes: from one arena into a socket, from a socket into the other.

A puller asks once for a range (`ReadRange`) and gets it in chunks. The sender keeps the range's
bytes in place until the last chunk has left, and holds back while the connection has more than
`UNSENT_BYTES` to send, so that messages behind a large transfer do not wait for all of it and
memory stays bounded. A connection that breaks fails what it was carrying; who asked decides whether
to try again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._core.store import events as ev
from freehold._io.shm import Arena
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.storage import StoreDesk

CHUNK_BYTES = (1 << 20) - 4096
"""Large enough that the system call costs nothing, small enough that others get their turn; with
its frame just below the size up to which a connection keeps its buffer."""

UNSENT_BYTES = 4 << 20
"""Bytes that may wait in a connection before its transfers pause."""

PAUSE_S = 0.001
"""Time until a paused transfer looks again: 4 MiB a millisecond is more than a socket takes."""


class _Pull:
    __slots__ = ("key", "offset", "received", "size", "then")

    def __init__(
        self, key: ev.ReplicaKey, size: int, offset: int, then: Callable[[str], None] | None = None
    ) -> None:
        self.then = then
        """Told of the end, with what went wrong; None for a replica."""
        self.key = key
        self.size = size
        self.offset = offset
        self.received = 0


class _Reading:
    __slots__ = ("location", "request", "sent", "source")

    def __init__(self, source: Address, request: int, location: Location) -> None:
        self.source = source
        self.request = request
        self.location = location
        self.sent = 0


class Transfer:
    """Pulls into, and reads out of, one node's arena."""

    def __init__(self, hub: Hub, arena: Arena, store: StoreDesk) -> None:
        self._hub = hub
        self._arena = arena
        self._store = store
        self._requests = itertools.count(1)
        self._pulls: dict[int, _Pull] = {}

    def handlers(self) -> dict[type, Handler]:
        """The messages that are the transfer's."""
        return {m.ReadRange: self._on_read, m.Chunk: self._on_chunk}

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
        node, segment, start = key
        wanted = m.ReadRange(request, Location(node, segment, start, size), CHUNK_BYTES)
        if not self._hub.send(Address(node, 0), wanted):
            # Not at once: the machine that ordered the pull is still being carried out.
            reason = f"node {node[:8]} cannot be reached"
            self._hub.reactor.call_later(0, lambda: self._fail(request, reason))

    def node_lost(self, node: str, reason: str) -> None:
        """A node's connection is gone: what it was sending will not come."""
        for request, pull in list(self._pulls.items()):
            if pull.key[0] == node:
                self._fail(request, reason)

    # ---- receiving -------------------------------------------------------------------------------

    def _on_chunk(self, source: Address, message: m.Chunk) -> None:
        pull = self._pulls.get(message.request)
        if pull is None or pull.key[0] != source.node:
            return
        if message.error:
            self._fail(message.request, message.error)
            return
        end = message.offset + len(message.data)
        if message.offset != pull.received or end > pull.size:
            self._fail(message.request, f"node {source.node[:8]} sent bytes out of order")
            return
        os.pwrite(self._arena.fd, message.data, pull.offset + message.offset)
        pull.received = end
        if message.is_last:
            if end < pull.size:
                self._fail(message.request, f"its node sent {end} of {pull.size} bytes")
                return
            del self._pulls[message.request]
            if pull.then is not None:
                pull.then("")
            else:
                self._store.handle(ev.PullFinished(pull.key))

    def _fail(self, request: int, reason: str) -> None:
        pull = self._pulls.pop(request, None)
        if pull is None:
            return
        if pull.then is not None:
            pull.then(reason)
        else:
            self._store.handle(ev.PullFailed(pull.key, reason))

    # ---- sending ---------------------------------------------------------------------------------

    def _on_read(self, source: Address, message: m.ReadRange) -> None:
        where = message.location
        effects = self._store.handle(ev.ReadStarted(where.segment, where.offset))
        if any(isinstance(effect, ev.RefuseRead) for effect in effects):
            error = f"node {self._hub.node[:8]} does not have these bytes (any more)"
            self._hub.send(source, m.Chunk(message.request, 0, b"", True, error))
            return
        self._continue(_Reading(source, message.request, where))

    def _continue(self, reading: _Reading) -> None:
        connection = self._hub.peers.get(reading.source)
        where = reading.location
        while connection is not None and not connection.is_closed:
            if connection.unsent_bytes > UNSENT_BYTES:
                self._hub.reactor.call_later(PAUSE_S, lambda: self._continue(reading))
                return
            count = min(CHUNK_BYTES, where.size - reading.sent)
            data = self._arena.read(where.offset + reading.sent, count)
            is_last = reading.sent + count >= where.size
            connection.send_now(m.Chunk(reading.request, reading.sent, data, is_last))
            reading.sent += count
            if is_last:
                break
        self._store.handle(ev.ReadFinished(where.segment, where.offset))
