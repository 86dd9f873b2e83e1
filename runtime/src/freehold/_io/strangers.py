"""Connections that were accepted and have not said who they are.

A stranger gets little: a few seconds, room for one small frame, and a place among a bounded number
of strangers, of which the oldest gives way. What it must do is said by how it came: over a unix
socket a Hello; over TCP with TLS a handshake, then a Hello; over TCP without TLS a Hello that
answers a challenge. What is heard is never unpickled, and decoded only up to that first frame;
whether it is believed is decided by whoever asked (`transport`).
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.limits import HELLO_BYTES, HELLO_S, STRANGERS
from freehold._core.messages import Challenge, Message, Refused
from freehold._io import frames
from freehold._io.identity import Identity, new_nonce
from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold.errors import ProtocolError

if TYPE_CHECKING:
    import ssl

_READ_BYTES = 4 << 10
_FDS = 1
"""Descriptors that may come with a first frame: the socket that a node manager hands over."""


class Stranger:
    """One of them.

    Args:
        sock: connected; its preamble, if it has one, was read.
        hall: where it waits.
        identity: this process's, for who came over TCP; None for a unix socket.
    """

    def __init__(self, sock: socket.socket, hall: Strangers, identity: Identity | None) -> None:
        sock.setblocking(False)
        self.sock: Any = sock
        self.opened = time.monotonic()
        self.nonce = b""
        """What it must answer, without TLS."""
        self.fds: list[int] = []
        self.is_remote = identity is not None
        self._hall = hall
        self._fd = sock.fileno()
        self._events = READABLE
        self._buffer = bytearray()
        self._is_shaking = False
        if identity is not None and identity.is_tls:
            self.sock = identity.wrap(sock, is_server=True)
            self._is_shaking = True
        elif identity is not None:
            self.nonce = new_nonce()
            self.sock.send(frames.encode([Challenge(self.nonce)]))  # its buffer is empty
        hall.reactor.register(self._fd, self._on_ready)

    def _on_ready(self, _events: int) -> None:
        try:
            if self._is_shaking and not self._shake():
                return
            self._read()
        except ProtocolError as error:
            self.refuse(str(error))
        except OSError as error:
            self._hall.leave(self, f"before its Hello: {error}")

    def _shake(self) -> bool:
        import ssl

        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            self._want(READABLE)
            return False
        except ssl.SSLWantWriteError:
            self._want(WRITABLE)
            return False
        self._is_shaking = False
        self._want(READABLE)
        return True

    def _want(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._hall.reactor.modify(self._fd, events)

    def _read(self) -> None:
        while True:
            data = self._receive()
            if data is None:
                return
            if not data:
                self._hall.leave(self, "")
                return
            self._buffer += data
            if len(self._buffer) < frames.HEADER_BYTES:
                continue
            length = frames.body_length(self._buffer)
            if length > HELLO_BYTES:
                raise ProtocolError(
                    reason=f"a first frame of {length} bytes is over the limit of {HELLO_BYTES}"
                )
            end = frames.HEADER_BYTES + length
            if len(self._buffer) < end:
                continue
            messages = frames.decode(bytes(self._buffer[frames.HEADER_BYTES : end]))
            self._hall.on_first(self, messages, bytes(self._buffer[end:]))
            return

    def _receive(self) -> bytes | None:
        """What has come; None if nothing has."""
        if not self.is_remote:
            try:
                # It may come with a descriptor, which a plain read would lose.
                data, fds, _flags, _address = socket.recv_fds(self.sock, _READ_BYTES, _FDS)
            except BlockingIOError:
                return None
            for fd in fds:
                os.set_inheritable(fd, False)
            self.fds += fds
            return data
        try:
            received: bytes = self.sock.recv(_READ_BYTES)
            return received
        except BlockingIOError:
            return None
        except OSError as error:
            if _is_want_read(error):
                return None
            raise

    def release(self) -> socket.socket | ssl.SSLSocket:
        """It is no stranger any more: its socket, registered nowhere."""
        self._hall.reactor.unregister(self._fd)
        self._hall.forget(self)
        self._close_fds()
        sock: socket.socket | ssl.SSLSocket = self.sock
        return sock

    def refuse(self, reason: str) -> None:
        """Tell it why, if it can be told, and close."""
        if not self._is_shaking:
            try:
                self.sock.send(frames.encode([Refused(reason)]))
            except OSError:
                pass
        self._hall.leave(self, reason)

    def close(self) -> None:
        """Give back its descriptors."""
        self._hall.reactor.unregister(self._fd)
        self.close_sockets()

    def close_sockets(self) -> None:
        """Close what it has, leaving the reactor alone."""
        self.sock.close()
        self._close_fds()

    def _close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Strangers:
    """All strangers of one process, the oldest first.

    Args:
        name: says who refuses, for the log.
        on_first: gets each one's first frame, and what came behind it; it refuses or releases.
    """

    def __init__(
        self,
        reactor: Reactor,
        name: Callable[[], str],
        on_first: Callable[[Stranger, list[Message], bytes], None],
    ) -> None:
        self.reactor = reactor
        self.refused = 0
        self.on_first = on_first
        self._name = name
        self._strangers: dict[Stranger, None] = {}
        self._is_sweep_due = False

    def admit(self, sock: socket.socket, identity: Identity | None = None) -> None:
        """Somebody connected; see `Stranger`."""
        if len(self._strangers) >= STRANGERS:
            self.drop_oldest(f"{STRANGERS} newer connections have not said Hello either")
        try:
            stranger = Stranger(sock, self, identity)
        except OSError as error:
            sock.close()
            self.count_refusal(f"it cannot be let in: {error}")
            return
        self._strangers[stranger] = None
        self._arm_sweep()

    def count_refusal(self, reason: str) -> None:
        """Count who was not let in; the first is told, so that a flood of them fills no log."""
        self.refused += 1
        if self.refused == 1 and reason:
            text = f"freehold: {self._name()} refused a connection: {reason} (said once)"
            print(text, file=sys.stderr)  # noqa: T201 - a node process's log is its stderr

    def drop_oldest(self, reason: str) -> None:
        """Refuse who has waited longest."""
        for stranger in self._strangers:
            stranger.refuse(reason)
            return

    def leave(self, stranger: Stranger, reason: str) -> None:
        """One goes without having introduced itself: refused, whether it or we hung up."""
        self.forget(stranger)
        stranger.close()
        self.count_refusal(reason)

    def forget(self, stranger: Stranger) -> None:
        """One is no stranger any more."""
        self._strangers.pop(stranger, None)

    def close(self) -> None:
        """Hang up on all of them."""
        for stranger in self._strangers:
            stranger.close()
        self._strangers.clear()

    def leave_fork(self) -> None:
        """In a forked child: close our copies of the sockets."""
        for stranger in self._strangers:
            stranger.close_sockets()

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


def _is_want_read(error: OSError) -> bool:
    import ssl

    return isinstance(error, ssl.SSLWantReadError)
