"""A node's one TCP port: reads what a stranger says in the clear, and takes it where it belongs.

Of an accepted connection exactly the preamble is read. If it wants the node manager itself, it goes
on as a stranger of this process's; if another process of the node, the socket is handed to that
process by descriptor. Nobody is believed here: who it is, is found out where it goes.
"""

from __future__ import annotations

import os
import socket
import time
from functools import partial

from freehold._core.ids import Address
from freehold._core.limits import PREAMBLE_S, STRANGERS
from freehold._core.messages import PROTOCOL, HandedOver, Hello
from freehold._io import frames, tcp
from freehold._io.tcp import PREAMBLE_BYTES, Preamble
from freehold._io.transport import Peers, connect_socket
from freehold.errors import ProtocolError

_ACCEPT_AGAIN_S = 0.1


class _Visitor:
    """A connection whose preamble has not come."""

    __slots__ = ("data", "opened", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""
        self.opened = time.monotonic()


class Gate:
    """Listens for a whole node.

    Args:
        peers: the node manager's own.
        host: a numeric address of this machine.
        port: 0 for any.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, peers: Peers, host: str, port: int) -> None:
        self._peers = peers
        self._reactor = peers.reactor
        self._listener = tcp.listen(host, port)
        self.host: str = host
        self.port: int = self._listener.getsockname()[1]
        self._visitors: dict[int, _Visitor] = {}
        """By descriptor, the oldest first."""
        self._is_sweep_due = False
        self._is_closed = False
        self._reactor.register(self._listener.fileno(), self._on_accept)

    def close(self) -> None:
        """Stop listening, and hang up on those who have said nothing yet."""
        self._is_closed = True
        self._reactor.unregister(self._listener.fileno())
        self._listener.close()
        for visitor in list(self._visitors.values()):
            self._take_out(visitor).close()

    def _on_accept(self, _events: int) -> None:
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
                self._reactor.unregister(self._listener.fileno())
                self._reactor.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            if len(self._visitors) >= STRANGERS:
                self._drop_oldest(f"{STRANGERS} newer connections have not said whom they want")
            sock.setblocking(False)
            tcp.tune(sock)
            visitor = _Visitor(sock)
            self._visitors[sock.fileno()] = visitor
            self._reactor.register(sock.fileno(), partial(self._read, visitor))
            self._arm_sweep()

    def _accept_again(self) -> None:
        if not self._is_closed:
            self._reactor.register(self._listener.fileno(), self._on_accept)

    def _read(self, visitor: _Visitor, _events: int) -> None:
        try:
            data = visitor.sock.recv(PREAMBLE_BYTES - len(visitor.data))
        except BlockingIOError:
            return
        except OSError as error:
            self._refuse(visitor, str(error))
            return
        if not data:
            self._refuse(visitor, "")
            return
        visitor.data += data
        if len(visitor.data) < PREAMBLE_BYTES:
            return
        try:
            preamble = tcp.decode_preamble(visitor.data)
            self._route(visitor, preamble)
        except ProtocolError as error:
            self._refuse(visitor, str(error))

    def _route(self, visitor: _Visitor, preamble: Preamble) -> None:
        here = self._peers.address
        assert here is not None
        if preamble.incarnation != here.incarnation:
            raise ProtocolError(
                reason=f"this is incarnation {here.incarnation} of its node, "
                f"not {preamble.incarnation}"
            )
        if preamble.process == here.process:
            self._peers.admit(self._take_out(visitor), is_tls=preamble.is_tls)
            return
        target = Address(here.node, preamble.process, here.incarnation)
        try:
            self._hand_over(visitor.sock, here, target, is_tls=preamble.is_tls)
        except OSError as error:
            raise ProtocolError(
                reason=f"process {preamble.process} takes no connections: {error}"
            ) from None
        self._take_out(visitor).close()

    def _hand_over(
        self, sock: socket.socket, here: Address, target: Address, *, is_tls: bool
    ) -> None:
        cluster = self._peers.cluster
        hello = Hello(cluster, here, target, PROTOCOL, os.getpid())
        frame = frames.encode([hello, HandedOver(is_tls)])
        # A process that was stopped must not stop its node manager.
        with connect_socket(self._peers.socket_path(target), waits=False) as way:
            socket.send_fds(way, [frame], [sock.fileno()])

    def _take_out(self, visitor: _Visitor) -> socket.socket:
        sock = visitor.sock
        self._reactor.unregister(sock.fileno())
        del self._visitors[sock.fileno()]
        return sock

    def _refuse(self, visitor: _Visitor, reason: str) -> None:
        self._take_out(visitor).close()
        self._peers.strangers.count_refusal(reason)

    def _drop_oldest(self, reason: str) -> None:
        for visitor in self._visitors.values():
            self._refuse(visitor, reason)
            return

    def _arm_sweep(self) -> None:
        if not self._is_sweep_due and self._visitors and not self._is_closed:
            self._is_sweep_due = True
            self._reactor.call_later(PREAMBLE_S, self._sweep)

    def _sweep(self) -> None:
        """Refuse who has said nothing for too long."""
        self._is_sweep_due = False
        latest = time.monotonic() - PREAMBLE_S
        for visitor in [x for x in self._visitors.values() if x.opened <= latest]:
            self._refuse(visitor, f"no preamble within {PREAMBLE_S:g} s")
        self._arm_sweep()
