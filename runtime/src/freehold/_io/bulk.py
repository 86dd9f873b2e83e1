"""Stored bytes on their way between two node managers, on a connection of their own.

The puller's half (`BulkPuller`) says which ranges it wants, in frames as everywhere; the holder's
half (`BulkHolder`) answers in *chunks*: a head of 24 bytes, then as many raw bytes as it says. They
go from the holder's mapping of its arena into the socket and from the socket into the puller's, and
are in no frame, message or buffer in between. Rejected: chunks as messages (each byte is copied
four times in Python), `sendfile` (no faster over TCP here, and what it sends may change until the
other side has read it).

    head: <u16 magic | u16 kind | u32 length | u64 request | u64 offset in the range>

Several ranges are under way at once and take turns chunk by chunk, so that a small one does not
wait for a large one. Whoever leads the reactor is in here for `BULK_TURN_BYTES` at a time, so that
leases do not wait either. Nothing is held in memory: what the socket does not take stays where it
is, in the arena.

The puller believes no head: a chunk must be of a range that it asked for, go on where the last one
ended, and end inside. Else the connection ends. Everything runs under the reactor's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct as _Packer
from typing import Any, Protocol

from freehold._core.ids import Location
from freehold._core.limits import (
    BULK_CHUNK_BYTES,
    BULK_ERROR_BYTES,
    BULK_RANGES,
    BULK_TURN_BYTES,
    HELLO_BYTES,
)
from freehold._core.messages import Message, ReadCancelled, ReadRange
from freehold._io import frames
from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold.errors import ProtocolError

_MAGIC = 0xB01C
_DATA = 1
_ERROR = 2
_head = _Packer("<HHIQQ")
_SCRATCH_BYTES = 64 << 10
_REQUESTS_BYTES = 64 << 10


class _Again(Exception):
    """The socket takes, or has, nothing now; an event will say when."""


class _Stream:
    """A non-blocking socket, with TLS or without, and what it waits for."""

    def __init__(self, sock: Any, reactor: Reactor, on_ready: Callable[[], None]) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._reactor = reactor
        self._fd = sock.fileno()
        self._events = READABLE
        self._is_tls = hasattr(sock, "do_handshake")
        reactor.register(self._fd, lambda _events: on_ready())

    def want(self, *, to_write: bool) -> None:
        """Wait until more can be read, and maybe until more can be written."""
        events = READABLE | WRITABLE if to_write else READABLE
        if events != self._events:
            self._events = events
            self._reactor.modify(self._fd, events)

    def send(self, head: bytes, data: memoryview) -> int:
        """Send some of both, one behind the other; how many bytes.

        Raises:
            _Again: none can be sent now.
            OSError: none ever.
        """
        if not self._is_tls:
            try:
                return int(self.sock.sendmsg([head, data] if head else [data]))
            except BlockingIOError:
                raise _Again from None
        import ssl

        try:
            return int(self.sock.send(head or data))
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            raise _Again from None

    def receive_into(self, buffer: memoryview) -> int:
        """Receive some bytes; how many, 0 at the end.

        Raises:
            _Again: none has come.
            OSError: none ever will.
        """
        try:
            return int(self.sock.recv_into(buffer))
        except BlockingIOError:
            raise _Again from None
        except OSError as error:
            if self._is_tls and _is_want(error):
                raise _Again from None
            raise

    @property
    def has_pending(self) -> bool:
        """Whether something can be read that no event will tell of."""
        return self._is_tls and self.sock.pending() > 0

    def close(self) -> None:
        """Close it."""
        self._reactor.unregister(self._fd)
        self.sock.close()


def _is_want(error: OSError) -> bool:
    import ssl

    return isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError)


# ---- who has the bytes ---------------------------------------------------------------------------


class Holder(Protocol):
    """Who lets bytes be read."""

    def begin_read(self, where: Location) -> memoryview | str:
        """The bytes, which stay until `end_read`; or why there are none."""

    def end_read(self, where: Location) -> None:
        """They need not stay any more."""

    def holder_closed(self, half: BulkHolder, reason: str) -> None:
        """The connection ended."""


class _Reading:
    __slots__ = ("data", "request", "sent", "where")

    def __init__(self, request: int, where: Location, data: memoryview) -> None:
        self.request = request
        self.where = where
        self.data = data
        self.sent = 0


class BulkHolder:
    """Answers what the other node manager asks for on one connection.

    Args:
        sock: introduced.
        rest: what was read of it already.
    """

    def __init__(self, sock: Any, rest: bytes, reactor: Reactor, holder: Holder) -> None:
        self._holder = holder
        self._reactor = reactor
        self._turns: deque[_Reading] = deque()
        """Ranges under way; the first one's chunk is being sent."""
        self._errors: deque[bytes] = deque()
        self._out = b""
        """What is left of a head, or of an error."""
        self._chunk = memoryview(b"")
        """What is left of the chunk behind it."""
        self._requests = bytearray(rest)
        self._is_closed = False
        self._stream = _Stream(sock, reactor, self._on_ready)
        reactor.call_later(0, self._on_ready)  # for what was read already

    def close(self, reason: str = "") -> None:
        """Stop, and let go of all that was being read."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stream.close()
        self._chunk = memoryview(b"")
        for reading in self._turns:
            self._holder.end_read(reading.where)
        self._turns.clear()
        self._holder.holder_closed(self, reason)

    def _on_ready(self) -> None:
        if self._is_closed:
            return
        try:
            self._read_requests()
            self._send_turn()
        except (OSError, ProtocolError) as error:
            self.close(str(error))

    def _read_requests(self) -> None:
        buffer = bytearray(_REQUESTS_BYTES)
        try:
            while True:
                with memoryview(buffer) as view:
                    count = self._stream.receive_into(view)
                if not count:
                    raise ConnectionResetError("the puller closed the connection")
                self._requests += buffer[:count]
                if not self._stream.has_pending:
                    break
        except _Again:
            pass
        while len(self._requests) >= frames.HEADER_BYTES:
            length = frames.body_length(self._requests)
            if length > HELLO_BYTES:
                raise ProtocolError(reason=f"a request of {length} bytes is over the limit")
            end = frames.HEADER_BYTES + length
            if len(self._requests) < end:
                return
            messages = frames.decode(bytes(self._requests[frames.HEADER_BYTES : end]))
            del self._requests[:end]
            for message in messages:
                self._on_request(message)

    def _on_request(self, message: Message) -> None:
        if isinstance(message, ReadCancelled):
            # The chunk that is under way was promised; nothing of it comes behind that.
            for reading in [x for x in self._turns if x.request == message.request]:
                if reading is self._turns[0] and self._chunk:
                    reading.data = reading.data[: reading.sent]
                else:
                    self._end(reading)
            return
        if not isinstance(message, ReadRange):
            raise ProtocolError(reason=f"a {type(message).__name__} is no request for bytes")
        if len(self._turns) >= BULK_RANGES:
            raise ProtocolError(reason=f"more than {BULK_RANGES} ranges at once")
        data = self._holder.begin_read(message.location)
        if isinstance(data, str):
            text = data.encode()[:BULK_ERROR_BYTES]
            head = _head.pack(_MAGIC, _ERROR, len(text), message.request, 0)
            self._errors.append(head + text)
            return
        self._turns.append(_Reading(message.request, message.location, data))

    def _end(self, reading: _Reading) -> None:
        self._turns.remove(reading)
        self._holder.end_read(reading.where)

    def _next_chunk(self) -> bool:
        """Take the next turn; False if there is nothing to send."""
        if self._errors:
            self._out = self._errors.popleft()
            return True
        if not self._turns:
            return False
        reading = self._turns[0]
        chunk = reading.data[reading.sent : reading.sent + BULK_CHUNK_BYTES]
        self._out = _head.pack(_MAGIC, _DATA, len(chunk), reading.request, reading.sent)
        self._chunk = chunk
        reading.sent += len(chunk)
        return True

    def _send_turn(self) -> None:
        budget = BULK_TURN_BYTES
        try:
            while budget > 0:
                if not self._out and not self._chunk and not self._next_chunk():
                    self._stream.want(to_write=False)
                    return
                count = self._stream.send(self._out, self._chunk)
                budget -= count
                of_head = min(count, len(self._out))
                self._out = self._out[of_head:]
                if count > of_head:
                    self._chunk = self._chunk[count - of_head :]
                    if not self._chunk:
                        self._chunk_left()
        except _Again:
            pass
        self._stream.want(to_write=True)

    def _chunk_left(self) -> None:
        self._chunk = memoryview(b"")
        reading = self._turns[0]
        if reading.sent >= len(reading.data):
            self._end(reading)
        else:
            self._turns.rotate(-1)


# ---- who wants them ------------------------------------------------------------------------------


class Puller(Protocol):
    """Who has room for bytes."""

    def target(self, request: int, offset: int, size: int) -> memoryview:
        """Where these bytes of a range go."""

    def pulled(self, request: int, received: int) -> None:
        """So many bytes of a range are there, without a gap."""

    def refused(self, request: int, reason: str) -> None:
        """The range cannot be had."""

    def puller_closed(self, half: BulkPuller, reason: str) -> None:
        """The connection ended; what was under way will not come."""


class _Wanted:
    __slots__ = ("received", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.received = 0


class BulkPuller:
    """Asks the other node manager for ranges, and takes them in.

    Args:
        sock: introduced.
        rest: what was read of it already.
    """

    def __init__(self, sock: Any, reactor: Reactor, puller: Puller) -> None:
        self._puller = puller
        self._wanted: dict[int, _Wanted] = {}
        self._unsent: deque[bytes] = deque()
        self._head = bytearray(_head.size)
        self._head_view = memoryview(self._head)
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._filled = 0
        """Bytes of the head that are there; all of them while a chunk comes."""
        self._request = 0
        self._kind = _DATA
        self._left = 0
        """Bytes of the chunk that are still to come."""
        self._room: memoryview | None = None
        """Where they go; None if nobody wants them any more."""
        self._text = b""
        self.received_bytes = 0
        """Of all ranges; a connection on which this stands still is broken."""
        self.is_closed = False
        self._stream = _Stream(sock, reactor, self._on_ready)

    @property
    def ranges(self) -> Sequence[int]:
        """The requests that are under way."""
        return list(self._wanted)

    def ask(self, request: int, where: Location) -> None:
        """Ask for a range."""
        self._wanted[request] = _Wanted(where.size)
        self._say(ReadRange(request, where, BULK_CHUNK_BYTES))

    def cancel(self, request: int) -> None:
        """Have no more of a range sent; what still comes is thrown away."""
        if self._wanted.pop(request, None) is not None:
            if self._request == request:
                self._room = None
            self._say(ReadCancelled(request))

    def close(self, reason: str = "") -> None:
        """End it, and tell the puller once."""
        if self.is_closed:
            return
        self.is_closed = True
        self._stream.close()
        self._room = None
        self._puller.puller_closed(self, reason)

    def _say(self, message: Message) -> None:
        self._unsent.append(frames.encode([message]))
        self._stream.want(to_write=True)

    def _on_ready(self) -> None:
        if self.is_closed:
            return
        try:
            self._send_requests()
            self._receive_turn()
        except (OSError, ProtocolError) as error:
            self.close(str(error))

    def _send_requests(self) -> None:
        try:
            while self._unsent:
                count = self._stream.send(self._unsent[0], memoryview(b""))
                self._unsent[0] = self._unsent[0][count:]
                if not self._unsent[0]:
                    self._unsent.popleft()
            self._stream.want(to_write=False)
        except _Again:
            self._stream.want(to_write=True)

    def _receive_turn(self) -> None:
        budget = BULK_TURN_BYTES
        try:
            # Beyond its turn only for what no event would tell of.
            while not self.is_closed and (budget > 0 or self._stream.has_pending):
                budget -= self._receive()
        except _Again:
            pass

    def _receive(self) -> int:
        if self._filled < _head.size:
            count = self._stream.receive_into(self._head_view[self._filled :])
            self._filled += count
            if count and self._filled == _head.size:
                self._begin_chunk()
        else:
            room = self._room if self._room is not None else self._scratch[: self._left]
            count = self._stream.receive_into(room)
            self._take(room, count)
        if not count:
            raise ConnectionResetError("the other node closed the connection")
        return count

    def _begin_chunk(self) -> None:
        magic, kind, length, request, offset = _head.unpack(self._head)
        if magic != _MAGIC or kind not in (_DATA, _ERROR):
            raise ProtocolError(reason=f"not a chunk (magic {magic:#06x}, kind {kind})")
        if length > (BULK_CHUNK_BYTES if kind == _DATA else BULK_ERROR_BYTES) or not length:
            raise ProtocolError(reason=f"a chunk of {length} bytes is not within the limits")
        wanted = self._wanted.get(request)
        self._request, self._kind, self._left = request, kind, length
        self._room, self._text = None, b""
        if kind == _DATA and wanted is not None:
            if offset != wanted.received or offset + length > wanted.size:
                raise ProtocolError(
                    reason=f"{length} bytes at {offset} of a range of {wanted.size} bytes, "
                    f"of which {wanted.received} have come"
                )
            self._room = self._puller.target(request, offset, length)

    def _take(self, room: memoryview, count: int) -> None:
        self.received_bytes += count
        self._left -= count
        if self._kind == _ERROR:
            self._text += bytes(room[:count])
        elif self._room is not None:
            self._room = room[count:]
            self._wanted[self._request].received += count
        if self._left:
            return
        self._filled = 0
        self._room = None
        request = self._request
        wanted = self._wanted.get(request)
        if wanted is None:
            return
        if self._kind == _ERROR:
            del self._wanted[request]
            self._puller.refused(request, self._text.decode(errors="replace"))
        else:
            if wanted.received == wanted.size:
                del self._wanted[request]
            self._puller.pulled(request, wanted.received)


__all__ = ["BulkHolder", "BulkPuller", "Holder", "Puller"]
