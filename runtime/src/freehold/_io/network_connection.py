"""Connections to processes of other machines: TCP, with TLS or without, that open while one speaks.

`NetworkConnection` is a `Connection` that may be told to send before it has a socket: an `Opener`
brings that later, or a reason why not. `TlsConnection` reads and writes through `ssl`, whose bytes
the kernel cannot announce. Both remember when they were used last, and can be bid goodbye.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address
from freehold._core.limits import FRAME_BYTES, OPENING_BYTES
from freehold._core.messages import Goodbye
from freehold._io.connection import RECEIVE_BYTES, Closer, Connection, Dropper, Receiver
from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold.errors import ProtocolError

if TYPE_CHECKING:
    from freehold._io.opening import Opener


class NetworkConnection(Connection):
    """A stream to a process of another machine, open or still opening."""

    __slots__ = ("is_leaving", "is_told", "opener", "used", "where")

    def __init__(
        self,
        sock: socket.socket | None,
        reactor: Reactor,
        on_messages: Receiver,
        on_closed: Closer,
        *,
        on_dropped: Dropper | None = None,
    ) -> None:
        self.opener: Opener | None = None
        self.where = ""
        """Node and place, for reasons."""
        self.used = time.monotonic()
        self.is_leaving = False
        """Goodbye was said: its end is nobody's death."""
        self.is_told = False
        """Goodbye was heard, too: nothing more will come."""
        super().__init__(
            sock if sock is not None else _NO_SOCKET,
            reactor,
            on_messages,
            on_closed,
            on_dropped=on_dropped,
        )

    def _begin(self) -> None:
        if self._socket is _NO_SOCKET:
            self._is_writing = True  # so that all that is sent waits
        else:
            super()._begin()

    def open(self, sock: socket.socket, rest: bytes) -> None:
        """The way is open: send what has waited, and take `rest`, which was read already."""
        self.opener = None
        self._socket = sock
        self._is_writing = False
        super()._begin()
        if self._backlog:
            self._is_writing = True
            self._reactor.modify(sock.fileno(), READABLE | WRITABLE)
        if rest:
            self.preload(rest)

    def _write(self, frame: bytes) -> None:
        self.used = time.monotonic()
        super()._write(frame)
        if self.opener is not None and self.unsent_bytes > OPENING_BYTES + FRAME_BYTES:
            # Not at once: whoever sends may be in the middle of something.
            reason = f"{self.unsent_bytes} bytes wait for it to open, {OPENING_BYTES} may"
            self._backlog.clear()
            self.unsent_bytes = 0
            self._is_mute = True
            self._reactor.call_later(0, lambda: self.close(reason))

    def _write_backlog(self) -> None:
        super()._write_backlog()
        self._end_if_said()

    def _read(self) -> bool:
        if self.opener is not None:
            return False
        self.used = time.monotonic()
        return super()._read()

    def say_goodbye(self) -> None:
        """Let it end in order: nothing is sent behind this; what still comes is heard."""
        if not self.is_leaving:
            self.is_leaving = True
            self.send_now(Goodbye())

    def heard_goodbye(self) -> None:
        """The other side has said all: answer, and end when the answer has left."""
        self.is_told = True
        self.say_goodbye()
        self._end_if_said()

    def _end_if_said(self) -> None:
        if self.is_told and not self._backlog:
            self.close()

    def close(self, reason: str = "") -> None:
        """Close, and tell the service once."""
        if self.is_closed:
            return
        opener, self.opener = self.opener, None
        if opener is not None:
            opener.abandon()
        super().close(f"{self.where}: {reason}" if reason and self.where else reason)


class TlsConnection(NetworkConnection):
    """The same through TLS: what is readable is not only what the kernel has."""

    __slots__ = ("_events",)

    _socket: Any

    def _begin(self) -> None:
        self._events = READABLE
        super()._begin()

    def open(self, sock: socket.socket, rest: bytes) -> None:
        """See `NetworkConnection.open`."""
        super().open(sock, rest)
        if self._is_writing:
            self._events = READABLE | WRITABLE
        self._reactor.call_later(0, self._read_pending)

    def _read_pending(self) -> None:
        # The handshake may have brought the first records along: no event will tell of them.
        if not self.is_closed:
            self._read()

    def _write(self, frame: bytes) -> None:
        if self.opener is not None:
            super()._write(frame)
            return
        self.used = time.monotonic()
        self._backlog.append(memoryview(frame))
        self.unsent_bytes += len(frame)
        if not self._is_writing:
            self._write_backlog()

    def _on_ready(self, events: int) -> None:
        # Either may be what the other waited for: TLS reads to write and writes to read.
        if self._backlog and not self._is_mute:
            self._write_backlog()
        if not self.is_closed:
            self._read()

    def _write_backlog(self) -> None:
        import ssl

        backlog = self._backlog
        wanted = READABLE
        self._is_writing = False
        try:
            while backlog:
                sent = self._socket.send(backlog[0])
                self.unsent_bytes -= sent
                if sent == len(backlog[0]):
                    backlog.popleft()
                else:
                    backlog[0] = backlog[0][sent:]
        except ssl.SSLWantWriteError:
            self._is_writing = True
            wanted |= WRITABLE
        except ssl.SSLWantReadError:
            self._is_writing = True
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            self._write_failed(BrokenPipeError(32, "the peer takes nothing more"))
            return
        except OSError as error:
            self._write_failed(error)
            return
        self._want(wanted)
        self._end_if_said()

    def _want(self, events: int) -> None:
        if events != self._events and not self.is_closed:
            self._events = events
            self._reactor.modify(self._socket.fileno(), events)

    def _write_failed(self, error: OSError) -> None:
        self._is_writing = False
        super()._write_failed(error)
        self._want(READABLE)

    def _read(self) -> bool:
        if self.opener is not None:
            return False
        self.used = time.monotonic()
        has_read = self._read_once()
        while has_read and not self.is_closed and self._socket.pending():
            has_read = self._read_once()
        return has_read

    def _read_once(self) -> bool:
        import ssl

        filled = self._filled
        try:
            with memoryview(self._buffer) as view:
                count = self._socket.recv_into(view[filled:])
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._want(READABLE | WRITABLE)
            return False
        except ssl.SSLEOFError:
            self.close("the connection was cut")
            return False
        except OSError as error:
            self.close(str(error))
            return False
        if count == 0:
            self.close("" if not self._filled else "the peer closed in the middle of a frame")
            return False
        self._filled += count
        if self._filled == len(self._buffer):
            self._buffer_bytes = min(self._buffer_bytes * 4, RECEIVE_BYTES)
        try:
            self._parse()
        except ProtocolError as error:
            self.refuse(str(error))
        return True

    def close(self, reason: str = "") -> None:
        """Close, telling the other side that this is the end and no cut."""
        if not self.is_closed and self.opener is None and not self._is_mute:
            try:
                self._socket.unwrap()
            except (OSError, ValueError):
                pass  # it waits for the answer, which nobody else does; or it is broken anyway
        super().close(reason)


class _NoSocket:
    """Stands where the socket will be."""

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass


_NO_SOCKET: Any = _NoSocket()


def describe(address: Address, host: str, port: int) -> str:
    """A process and where it is, for reasons."""
    return f"process {address.process} of node {address.node[:8]} at {host}:{port}"
