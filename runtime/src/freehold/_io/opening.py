"""Opens a stream to a process of another machine, step by step, while everybody else goes on.

A node that the address book does not know yet is waited for; then connect, preamble, and with TLS
the handshake and a look at whose certificate it is, without TLS challenge, proof and welcome. Only
then is anything of the other side's passed on. Any step may fail, and all of them have one time
limit; the reason names node, place and step.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address
from freehold._core.limits import AWAIT_PLACE_S, HELLO_BYTES, OPEN_S
from freehold._core.messages import (
    PROTOCOL,
    Challenge,
    Hello,
    Message,
    NodePlace,
    Refused,
    Welcome,
)
from freehold._core.peering import Nearby
from freehold._io import frames, tcp
from freehold._io.identity import NONCE_BYTES, new_nonce
from freehold._io.reactor import READABLE, WRITABLE, Timer
from freehold.errors import ProtocolError

if TYPE_CHECKING:
    from freehold._io.network import Network

_READ_BYTES = 4 << 10


class Opener:
    """The way to one address, until it is open or has failed.

    Args:
        source: this process.
        behind: messages that go with the Hello.
        on_open: gets the socket and what was read of it beyond the opening.
        on_failed: gets the reason; never called from within the constructor's caller.
    """

    def __init__(
        self,
        network: Network,
        source: Address,
        target: Address,
        on_open: Callable[[Any, bytes], None],
        on_failed: Callable[[str], None],
        behind: tuple[Message, ...] = (),
    ) -> None:
        self.target = target
        self._network = network
        self._reactor = network.reactor
        self._source = source
        self._behind = behind
        self._on_open = on_open
        self._on_failed = on_failed
        self._step: Callable[[], None] = self._connected
        self._doing = "waiting to hear where it is"
        self._where = f"node {target.node[:8]}"
        self._sock: Any = None
        self._fd = -1
        self._events = 0
        self._buffer = bytearray()
        self._nonce = b""
        self._timer: Timer | None = None
        self._is_over = False
        network.openers[self] = None
        self._look()

    # ---- where it is -----------------------------------------------------------------------------

    def _look(self) -> None:
        way = self._network.book.way_to(self.target)
        if isinstance(way, NodePlace):
            self._dial(way)
        elif way is Nearby.UNKNOWN:
            self._arm(AWAIT_PLACE_S)
        else:
            self._fail(f"the node was {way.value}" if way is Nearby.DEAD else "it has no TCP port")

    def place_known(self) -> None:
        """The book has news of the target's node."""
        if self._sock is None and not self._is_over:
            self._look()

    def _dial(self, place: NodePlace) -> None:
        self._where = f"node {self.target.node[:8]} at {place.host}:{place.port}"
        self._doing = "connecting"
        self._arm(OPEN_S)
        try:
            self._sock = tcp.dial(place.host, place.port)
        except OSError as error:
            self._fail(str(error))
            return
        self._fd = self._sock.fileno()
        self._events = WRITABLE
        self._reactor.register(self._fd, self._on_ready, WRITABLE)

    # ---- steps -----------------------------------------------------------------------------------

    def _on_ready(self, _events: int) -> None:
        try:
            self._step()
        except (OSError, ProtocolError) as error:
            self._fail(str(error))

    def _connected(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        identity = self._network.identity
        preamble = tcp.encode_preamble(self.target, is_tls=identity.is_tls)
        self._send(preamble)
        self._want(READABLE)
        if identity.is_tls:
            self._doing = "shaking hands"
            self._sock = identity.wrap(self._sock, is_server=False)
            self._step = self._shake
            self._shake()
        else:
            self._doing = "waiting for its challenge"
            self._step = self._challenged

    def _shake(self) -> None:
        import ssl

        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._want(READABLE)
            return
        except ssl.SSLWantWriteError:
            self._want(WRITABLE)
            return
        self._network.identity.check(self._sock, self.target)
        self._say_hello(b"", b"")
        self._finish(b"")

    def _challenged(self) -> None:
        message = self._hear()
        if message is None:
            return
        if not isinstance(message, Challenge) or len(message.nonce) != NONCE_BYTES:
            raise ProtocolError(reason=_reason(message, "it sent no challenge"))
        self._nonce = new_nonce()
        prove = self._network.identity.prove
        proof = prove("hello", message.nonce + self._nonce, self._source, self.target)
        self._say_hello(self._nonce, proof)
        self._doing = "waiting for its welcome"
        self._step = self._welcomed

    def _welcomed(self) -> None:
        message = self._hear()
        if message is None:
            return
        is_proof = self._network.identity.is_proof
        if not isinstance(message, Welcome) or not is_proof(
            message.proof, "welcome", self._nonce, self.target, self._source
        ):
            raise ProtocolError(reason=_reason(message, "it does not know the cluster's secret"))
        self._finish(bytes(self._buffer))

    def _say_hello(self, nonce: bytes, proof: bytes) -> None:
        cluster = self._network.identity.cluster
        hello = Hello(cluster, self._source, self.target, PROTOCOL, os.getpid(), nonce, proof)
        self._send(frames.encode([hello, *self._behind]))

    def _send(self, data: bytes) -> None:
        if self._sock.send(data) != len(data):  # to a socket whose buffer is empty
            raise OSError("its socket takes next to nothing")

    def _hear(self) -> Message | None:
        """The first message of the next frame; None until it has come."""
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError("it closed the connection; its process may have ended")
        self._buffer += data
        if len(self._buffer) < frames.HEADER_BYTES:
            return None
        length = frames.body_length(self._buffer)
        if length > HELLO_BYTES:
            raise ProtocolError(reason=f"a first frame of {length} bytes is over the limit")
        end = frames.HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        messages = frames.decode(bytes(self._buffer[frames.HEADER_BYTES : end]))
        del self._buffer[:end]
        if not messages:
            raise ProtocolError(reason="an empty frame")
        return messages[0]

    # ---- ends ------------------------------------------------------------------------------------

    def _arm(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_later(delay_s, lambda: self._late(delay_s))

    def _late(self, delay_s: float) -> None:
        if not self._is_over:
            self._fail(f"not within {delay_s:g} s")

    def _want(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._reactor.modify(self._fd, events)

    def _finish(self, rest: bytes) -> None:
        sock, self._sock = self._sock, None
        self.abandon()
        self._reactor.unregister(self._fd)
        self._on_open(sock, rest)

    def _fail(self, reason: str) -> None:
        if self._is_over:
            return
        text = f"{self._where}, {self._doing}: {reason}"
        self.abandon()
        self._reactor.call_later(0, lambda: self._on_failed(text))

    def abandon(self) -> None:
        """Stop; nobody is told."""
        self._is_over = True
        self._network.openers.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._reactor.unregister(self._fd)
            self._sock.close()
            self._sock = None

    def leave_fork(self) -> None:
        """In a forked child: close our copy of the socket."""
        if self._sock is not None:
            self._sock.close()


def _reason(message: Message, otherwise: str) -> str:
    return message.reason if isinstance(message, Refused) else otherwise
