"""A connection of the peer plane: a stream socket that carries frames both ways.

A `Connection` gathers messages in an outbox and sends them as one frame: at once when the other
side is known to wait, else with `FRAME_MESSAGES` others, when a thread starts to wait, or at the
reactor's next tick. What the socket does not take stays as a queue of buffers (never joined: a send
path that concatenates leftovers is quadratic). A message that cannot be encoded is dropped alone
and its sender's service told; a peer that takes nothing more is still heard to its end.

This class is the whole of it for unix sockets, and a call passes through it four times; what TCP
and TLS need besides is in `network_connection`, so that nothing here asks which it is. Everything
runs under the reactor's lock. It knows nothing of what messages mean; who may connect is the
business of `transport`.
"""

from __future__ import annotations

import errno
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable

from freehold._core.ids import Address
from freehold._core.limits import FRAME_MESSAGES
from freehold._core.messages import Message, Refused
from freehold._io import frames, quick_socket
from freehold._io.frames import HEADER_BYTES, body_length, decode
from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold.errors import ProtocolError

RECEIVE_BYTES = 256 << 10
FIRST_RECEIVE_BYTES = 16 << 10
"""A node process has a connection to each worker, most of which say little: 256 KB each were a
tenth of its memory, and left holes in its heap when workers ended."""
_IOV = 64

Receiver = Callable[["Connection", list[Message]], None]
Closer = Callable[["Connection", str], None]
Dropper = Callable[["Connection", Message, Exception], None]

_PEER_IS_GONE = (errno.EPIPE, errno.ECONNRESET)


class Connection:
    """One stream to one peer, with its unsent and half-received bytes."""

    __slots__ = (
        "_backlog",
        "_buffer",
        "_buffer_bytes",
        "_filled",
        "_is_mute",
        "_is_writing",
        "_on_closed",
        "_on_dropped",
        "_on_messages",
        "_outbox",
        "_reactor",
        "_socket",
        "context",
        "is_closed",
        "is_dirty",
        "peer",
        "unsent_bytes",
    )

    def __init__(
        self,
        sock: socket.socket,
        reactor: Reactor,
        on_messages: Receiver,
        on_closed: Closer,
        *,
        on_dropped: Dropper | None = None,
    ) -> None:
        self._socket = sock
        self._reactor = reactor
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._on_dropped = on_dropped or _tell_dropped
        self._outbox: list[Message] = []
        self._backlog: deque[memoryview] = deque()
        self._buffer_bytes = FIRST_RECEIVE_BYTES
        self._buffer = bytearray(self._buffer_bytes)
        self._filled = 0
        self._is_writing = False
        self._is_mute = False
        """The peer takes nothing more; what it said before is still to be read."""
        self.unsent_bytes = 0
        self.is_dirty = False
        self.is_closed = False
        self.peer: Address | None = None
        self.context: object = None
        """The service's own record of the peer."""
        self._begin()

    def _begin(self) -> None:
        self._socket.setblocking(False)
        self._reactor.register(self._socket.fileno(), self._on_ready)

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Queue a message; it leaves with the next flush."""
        outbox = self._outbox
        outbox.append(message)
        if len(outbox) >= FRAME_MESSAGES:
            self.flush()
        elif not self.is_dirty:
            self.is_dirty = True
            self._reactor.dirty.append(self)

    def send_now(self, message: Message) -> None:
        """Send a message, and what was queued before it, at once: the peer waits for it."""
        self._outbox.append(message)
        self.flush()

    def send_with(self, message: Message, fds: list[int]) -> None:
        """Send a message at once, with descriptors that the peer gets duplicates of.

        Only as the first message of a connection: its socket surely has room.
        """
        self.flush()
        try:
            socket.send_fds(self._socket, [frames.encode([message])], fds)
        except OSError as error:
            self._write_failed(error)

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        self.is_dirty = False
        outbox = self._outbox
        if not outbox or self.is_closed or self._is_mute:
            outbox.clear()
            return
        # Taken out first: whatever goes wrong with one of them must not come up with the next, too.
        self._outbox = []
        try:
            frame = frames.encode(outbox)
        except Exception:  # too large together, or one that cannot be encoded at all  # noqa: BLE001
            frame = self._encode_each(outbox)
        if frame:
            self._write(frame)

    def _encode_each(self, messages: list[Message]) -> bytes:
        """A frame for each message; one that fits none is dropped alone, and its sender told."""
        encoded = []
        for message in messages:
            try:
                encoded.append(frames.encode([message]))
            except Exception as error:  # noqa: BLE001 - told on
                self._on_dropped(self, message, error)
        return b"".join(encoded)

    def _write(self, frame: bytes) -> None:
        sent = 0
        if not self._is_writing:
            try:
                if self._reactor.is_contended:
                    sent = quick_socket.send(self._socket, frame)
                else:
                    sent = self._socket.send(frame)
            except BlockingIOError:
                pass
            except OSError as error:
                self._write_failed(error)
                return
            if sent == len(frame):
                return
        rest = memoryview(frame)[sent:]
        self._backlog.append(rest)
        self.unsent_bytes += len(rest)
        if not self._is_writing:
            self._is_writing = True
            self._reactor.modify(self._socket.fileno(), READABLE | WRITABLE)

    def _write_failed(self, error: OSError) -> None:
        """Nothing more can be sent. A peer that has gone may have said something before it went:
        that is read first, and its end, which closes this connection, comes after it."""
        if error.errno not in _PEER_IS_GONE:
            self.close(str(error))
            return
        self._is_mute = True
        self._outbox.clear()
        self._backlog.clear()
        self.unsent_bytes = 0
        if self._is_writing:
            self._is_writing = False
            self._reactor.modify(self._socket.fileno(), READABLE)

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._write_backlog()
        if events & ~WRITABLE and not self.is_closed:
            self._read()

    def _write_backlog(self) -> None:
        backlog = self._backlog
        try:
            while backlog:
                sent = self._socket.sendmsg([backlog[i] for i in range(min(len(backlog), _IOV))])
                self.unsent_bytes -= sent
                while sent:
                    if sent >= len(backlog[0]):
                        sent -= len(backlog.popleft())
                    else:
                        backlog[0] = backlog[0][sent:]
                        sent = 0
        except BlockingIOError:
            return
        except OSError as error:
            self._write_failed(error)
            return
        self._is_writing = False
        self._reactor.modify(self._socket.fileno(), READABLE)

    def _read(self) -> bool:
        """Read once and apply what is whole; False if nothing had come."""
        filled = self._filled
        try:
            if self._reactor.is_contended:
                count = quick_socket.receive_into(self._socket, self._buffer, filled)
            elif filled:
                with memoryview(self._buffer) as view:
                    count = self._socket.recv_into(view[filled:])
            else:
                count = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return False
        except OSError as error:
            self.close(str(error))
            return False
        if count == 0:
            self.close("" if not self._filled else "the peer closed in the middle of a frame")
            return False
        self._filled += count
        if self._filled == len(self._buffer):
            # It has more to say than fits: `_parse` makes room for it.
            self._buffer_bytes = min(self._buffer_bytes * 4, RECEIVE_BYTES)
        try:
            self._parse()
        except ProtocolError as error:
            self.refuse(str(error))
        return True

    def preload(self, data: bytes) -> None:
        """Take bytes that somebody else has read from the socket."""
        self._buffer[: len(data)] = data  # grows if need be
        self._filled = len(data)
        try:
            self._parse()
        except ProtocolError as error:
            self.refuse(str(error))

    def read_arrived(self) -> None:
        """Apply all that the peer has said so far, whether it has ended or not."""
        while not self.is_closed and self._read():
            pass

    def read_to_end(self) -> None:
        """Apply all that a peer known to have ended said before, and close.

        A child that it left behind may hold its end open, so there need not be an end to read.
        """
        self.read_arrived()
        self.close()

    def _parse(self) -> None:
        start, filled = 0, self._filled
        while filled - start >= HEADER_BYTES:
            length = body_length(self._buffer, start)
            body = start + HEADER_BYTES
            end = body + length
            if end > filled:
                if end - start > len(self._buffer):
                    # The front part is moved by the copy; the size is bounded by FRAME_BYTES.
                    grown = bytearray(end - start)
                    grown[: filled - start] = self._buffer[start:filled]
                    self._buffer, self._filled = grown, filled - start
                    return
                break
            with memoryview(self._buffer) as view:
                messages = decode(view[body:end])
            start = end
            try:
                self._on_messages(self, messages)
            except Exception:  # a handler's defect: this frame must not be applied a second time  # noqa: BLE001
                traceback.print_exc()
            if self.is_closed:
                return
        if start == filled:
            self._filled = 0
            size = len(self._buffer)
            if size > 4 * RECEIVE_BYTES or size < self._buffer_bytes:
                self._buffer = bytearray(self._buffer_bytes)
        elif start:
            rest = self._buffer[start:filled]
            if len(self._buffer) < self._buffer_bytes:
                self._buffer = bytearray(self._buffer_bytes)
            self._buffer[: len(rest)] = rest
            self._filled = len(rest)

    def refuse(self, reason: str) -> None:
        """Tell the peer why, and close."""
        self._outbox.append(Refused(reason))
        self.flush()
        self.close(reason)

    def close(self, reason: str = "") -> None:
        """Close, and tell the service once."""
        if self.is_closed:
            return
        self.is_closed = True
        self._reactor.unregister(self._socket.fileno())
        self._socket.close()
        self._backlog.clear()
        self.unsent_bytes = 0
        # Not left to the collector, for which a closed connection may wait long.
        self._buffer = bytearray()
        self._on_closed(self, reason)


def _tell_dropped(connection: Connection, message: Message, error: Exception) -> None:
    text = f"freehold: a {type(message).__name__} to {connection.peer} cannot be sent: {error}"
    print(text, file=sys.stderr)  # noqa: T201 - a process's log is its stderr
