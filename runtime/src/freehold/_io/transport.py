"""Connections of the peer plane: unix stream sockets that carry frames both ways.

A `Connection` gathers messages in an outbox and sends them as one frame: at once when the other
side is known to wait, else with `FRAME_MESSAGES` others, when a thread starts to wait, or at the
reactor's next tick. What the socket does not take stays as a queue of buffers (never joined: a send
path that concatenates leftovers is quadratic). A message that cannot be encoded is dropped alone
and its sender's service told; a peer that takes nothing more is still heard to its end.

`Peers` finds or opens the connection to an address. Everything here runs under the reactor's lock.
It knows nothing of what messages mean; it checks who speaks before the first one is passed on: a
process of this user, by the kernel's word, whose first frame is a `Hello` that means this process.
Who has not said it yet gets little: a small buffer, a few seconds, and a place among a bounded
number of strangers, of which the oldest gives way.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable

from freehold._core.ids import Address
from freehold._core.limits import FRAME_BYTES, FRAME_MESSAGES, HELLO_BYTES, HELLO_S, STRANGERS
from freehold._core.messages import PROTOCOL, Hello, Message, Refused
from freehold._io import frames, quick_socket
from freehold._io.frames import HEADER_BYTES, body_length, decode
from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold.errors import ProtocolError

_RECEIVE_BYTES = 256 << 10
_FIRST_RECEIVE_BYTES = 16 << 10
"""A node process has a connection to each worker, most of which say little: 256 KB each were a
tenth of its memory, and left holes in its heap when workers ended."""
_SOCKET_BUFFER_BYTES = 1 << 20
_STRANGER_BYTES = 4 << 10
_IOV = 64
_ACCEPT_AGAIN_S = 0.1
_ucred = struct.Struct("3i")

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
        "largest_frame",
        "opened",
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
        is_stranger: bool = False,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._reactor = reactor
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._on_dropped = on_dropped or _tell_dropped
        self._outbox: list[Message] = []
        self._backlog: deque[memoryview] = deque()
        self._buffer_bytes = _STRANGER_BYTES if is_stranger else _FIRST_RECEIVE_BYTES
        self._buffer = bytearray(self._buffer_bytes)
        self._filled = 0
        self._is_writing = False
        self._is_mute = False
        """The peer takes nothing more; what it said before is still to be read."""
        self.largest_frame = HELLO_BYTES if is_stranger else FRAME_BYTES
        """Bytes of a body that are accepted."""
        self.opened = time.monotonic()
        self.unsent_bytes = 0
        self.is_dirty = False
        self.is_closed = False
        self.peer: Address | None = None
        self.context: object = None
        """The service's own record of the peer."""
        reactor.register(sock.fileno(), self._on_ready)

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
        if self._filled == len(self._buffer) and self.largest_frame == FRAME_BYTES:
            # It has more to say than fits: `_parse` makes room for it.
            self._buffer_bytes = min(self._buffer_bytes * 4, _RECEIVE_BYTES)
        try:
            self._parse()
        except ProtocolError as error:
            self.refuse(str(error))
        return True

    def preload(self, data: bytes) -> None:
        """Take bytes that somebody else has read from the socket."""
        self._buffer[: len(data)] = data  # grows if need be
        self._filled = len(data)
        self._parse()

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

    def welcome(self, on_messages: Receiver) -> None:
        """The peer has introduced itself: it may say what it likes from now on."""
        self._on_messages = on_messages
        self._buffer_bytes = _FIRST_RECEIVE_BYTES
        self.largest_frame = FRAME_BYTES

    def _parse(self) -> None:
        start, filled = 0, self._filled
        while filled - start >= HEADER_BYTES:
            length = body_length(self._buffer, start)
            if length > self.largest_frame:
                raise ProtocolError(
                    reason=f"a first frame of {length} bytes is over the limit of {HELLO_BYTES}"
                )
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
            if size > 4 * _RECEIVE_BYTES or size < self._buffer_bytes:
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


class Peers:
    """The connections of one process, by peer address, and the socket it listens on.

    Args:
        socket_path: where an address listens; the only place where addresses become paths.
        on_messages: gets the messages of peers that have introduced themselves.
        on_closed: is told when a connection ended, with the reason if it was not a clean end.
    """

    on_dropped: Dropper | None = None
    """Is told of a message that could not be encoded, while the machine that made it may be in the
    middle of something; without one, a line on standard error tells of it."""

    def __init__(
        self,
        reactor: Reactor,
        cluster: str,
        socket_path: Callable[[Address], str],
        on_messages: Receiver,
        on_closed: Closer,
    ) -> None:
        self.reactor = reactor
        self.cluster = cluster
        self.address: Address | None = None
        self.refused = 0
        self.is_fenced: Callable[[Address], bool] = lambda address: False
        """Whether an address is of a node that was declared dead under that incarnation."""
        self.socket_path = socket_path
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._connections: dict[Address, Connection] = {}
        self._strangers: dict[Connection, None] = {}
        """Accepted and not introduced, the oldest first."""
        self._is_sweep_due = False
        self._listener: socket.socket | None = None
        self._listener_path = ""

    def listen(self, address: Address) -> None:
        """Be `address` from now on, and accept connections for it."""
        self.address = address
        path = self.socket_path(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        _at_path(listener.bind, path)
        listener.listen(256)
        listener.setblocking(False)
        self._listener, self._listener_path = listener, path
        self.reactor.register(listener.fileno(), self._on_accept)

    def get(self, address: Address) -> Connection | None:
        """The open connection to `address`, if there is one."""
        return self._connections.get(address)

    def connect(self, address: Address) -> Connection:
        """The connection to `address`, opened if need be.

        Raises:
            OSError: nobody listens there (any more).
        """
        connection = self._connections.get(address)
        if connection is None:
            connection = self.adopt(connect_socket(self.socket_path(address)), address)
            assert self.address is not None
            # Alone in its frame: until it has come the other side takes no large one.
            connection.send_now(Hello(self.cluster, self.address, address, PROTOCOL, os.getpid()))
        return connection

    def adopt(self, sock: socket.socket, address: Address, received: bytes = b"") -> Connection:
        """Use a socket whose other end is known to be `address`, of which `received` was read."""
        connection = Connection(
            sock, self.reactor, self._receive, self._closed, on_dropped=self.on_dropped
        )
        connection.peer = address
        self._connections[address] = connection
        if received:
            connection.preload(received)
        return connection

    def rename(self, connection: Connection, address: Address) -> None:
        """Know a connection's peer by the address it was just given."""
        peer = connection.peer
        if peer is not None and self._connections.get(peer) is connection:
            del self._connections[peer]
        connection.peer = address
        self._connections[address] = connection

    def connections(self) -> list[Connection]:
        """All connections to peers that are known."""
        return list(self._connections.values())

    def leave_fork(self) -> None:
        """In a forked child: close our copies of the sockets, leaving the parent's epoll alone."""
        sockets = [x._socket for x in [*self._connections.values(), *self._strangers]]
        if self._listener is not None:
            sockets.append(self._listener)
        for sock in sockets:
            sock.close()

    def close(self) -> None:
        """Stop listening and close everything without telling the service."""
        self._on_closed = _ignore
        if self._listener is not None:
            self.reactor.unregister(self._listener.fileno())
            self._listener.close()
            self._listener = None
            try:
                os.unlink(self._listener_path)
            except FileNotFoundError:
                pass
        for connection in [*self._connections.values(), *self._strangers]:
            connection.flush()
            connection.close()

    def _on_accept(self, _events: int) -> None:
        assert self._listener is not None
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # it gave up before its turn
            except OSError:
                # Out of descriptors or memory. The listener stays readable: look away for a while.
                self._drop_oldest("no descriptors are left")
                self.reactor.unregister(self._listener.fileno())
                self.reactor.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            uid = peer_uid(sock)
            if uid != os.getuid():
                self._count_refusal(f"user {uid} is not the user of this cluster")
                sock.close()
                continue
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
            if len(self._strangers) >= STRANGERS:
                self._drop_oldest(f"{STRANGERS} newer connections have not said Hello either")
            stranger = Connection(
                sock,
                self.reactor,
                self._introduce,
                self._closed,
                on_dropped=self.on_dropped,
                is_stranger=True,
            )
            self._strangers[stranger] = None
            self._arm_sweep()

    def _count_refusal(self, reason: str) -> None:
        """Count who was not let in; the first is told, so that a flood of them fills no log."""
        self.refused += 1
        if self.refused == 1 and reason:
            text = f"freehold: {self.address} refused a connection: {reason} (said once)"
            print(text, file=sys.stderr)  # noqa: T201 - a node process's log is its stderr

    def _accept_again(self) -> None:
        if self._listener is not None:
            self.reactor.register(self._listener.fileno(), self._on_accept)

    def _drop_oldest(self, reason: str) -> None:
        for stranger in self._strangers:
            stranger.refuse(reason)
            return

    def _arm_sweep(self) -> None:
        if not self._is_sweep_due and self._strangers:
            self._is_sweep_due = True
            self.reactor.call_later(HELLO_S, self._sweep)

    def _sweep(self) -> None:
        """Refuse who has said nothing for too long."""
        self._is_sweep_due = False
        latest = time.monotonic() - HELLO_S
        for stranger in [x for x in self._strangers if x.opened <= latest]:
            stranger.refuse(f"no Hello within {HELLO_S:g} s")
        self._arm_sweep()

    def _introduce(self, connection: Connection, messages: list[Message]) -> None:
        """First frame of an accepted connection: who is it, and does it mean us?"""
        hello = messages[0] if messages else None
        reason = ""
        if not isinstance(hello, Hello):
            reason = "the first message must be a Hello"
        elif hello.protocol != PROTOCOL:
            reason = f"protocol {hello.protocol} is not {PROTOCOL}: use one Freehold version"
        elif hello.cluster != self.cluster or hello.target != self.address:
            reason = f"this is {self.address} of cluster {self.cluster}, not {hello.target}"
        elif self.is_fenced(hello.source):
            reason = f"{hello.source} is of a node that was declared dead; it must join anew"
        if reason or not isinstance(hello, Hello):
            connection.refuse(reason)
            return
        self._strangers.pop(connection, None)
        connection.peer = hello.source
        connection.welcome(self._receive)
        # Two processes may connect to each other at the same time: either stream serves, and each
        # side keeps sending on the one it opened, so that its own order holds.
        self._connections.setdefault(hello.source, connection)
        if len(messages) > 1:
            self._receive(connection, messages[1:])

    def _receive(self, connection: Connection, messages: list[Message]) -> None:
        self._on_messages(connection, messages)

    def _closed(self, connection: Connection, reason: str) -> None:
        if connection in self._strangers:
            # Whoever never introduced itself was refused, whether it or we hung up.
            del self._strangers[connection]
            self._count_refusal(reason)
        peer = connection.peer
        if peer is not None and self._connections.get(peer) is connection:
            del self._connections[peer]
        self._on_closed(connection, reason)


def _ignore(_connection: Connection, _reason: str) -> None:
    pass


def _tell_dropped(connection: Connection, message: Message, error: Exception) -> None:
    text = f"freehold: a {type(message).__name__} to {connection.peer} cannot be sent: {error}"
    print(text, file=sys.stderr)  # noqa: T201 - a process's log is its stderr


def peer_uid(sock: socket.socket) -> int:
    """The user whose process connected, by the kernel's word."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _ucred.size)
    uid: int = _ucred.unpack(data)[1]
    return uid


def connect_socket(path: str) -> socket.socket:
    """A stream socket connected to `path`.

    Raises:
        OSError: nobody listens there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        _at_path(sock.connect, path)
    except OSError:
        sock.close()
        raise
    return sock


def _at_path(call: Callable[[str], None], path: str) -> None:
    """Bind or connect to a path that may be longer than the 107 bytes a unix address has."""
    if len(os.fsencode(path)) < 108:
        call(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
