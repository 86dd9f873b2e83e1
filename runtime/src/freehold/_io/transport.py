"""The peer plane of one process: who it is connected to, who may connect to it.

`Peers` finds or opens the connection to an address: a unix socket in the session's folder, or,
where the cluster has a network, TCP. It checks who speaks before the first message is passed on: a
process of this user, by the kernel's word, or of a node of this cluster, by its certificate, whose
first frame is a `Hello` that means this process (`strangers` holds them till then). Everything here
runs under the reactor's lock.

A node has one TCP port, its node manager's (`gate`). A connection for another of its processes is
handed on by descriptor, over a unix connection of its own (`HandedOver`), unread but for the clear
words at its beginning; so what is said in it is that process's own business from the first byte of
the handshake on.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from freehold._core.ids import Address
from freehold._core.limits import GOODBYE_S, NETWORK_CONNECTIONS, NETWORK_IDLE_S
from freehold._core.messages import (
    PROTOCOL,
    Goodbye,
    HandedOver,
    Hello,
    Message,
    OpenBulk,
    Welcome,
)
from freehold._core.peering import Use, pick_idle
from freehold._io import frames, unix
from freehold._io.connection import Closer, Connection, Dropper, Receiver
from freehold._io.network import Network
from freehold._io.network_connection import NetworkConnection, TlsConnection
from freehold._io.opening import Opener
from freehold._io.reactor import Reactor
from freehold._io.strangers import Stranger, Strangers
from freehold._io.unix import connect_socket
from freehold.errors import ProtocolError

ANYONE = 0xFFFF_FFFF
"""The process number in the Hello of a process that was not given one yet."""

_ACCEPT_AGAIN_S = 0.1

Bulk = Callable[[Address, Any, bytes], None]
"""Takes a socket for stored bytes: from which node, the socket, and what was read of it already."""


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

    network: Network | None = None
    """The way to other machines, where there are any."""

    on_bulk: Bulk | None = None
    """A node manager's: takes connections for stored bytes."""

    on_stranger_handed: Callable[[], None] | None = None
    """Called when somebody was handed over and nothing is known of a network yet."""

    is_needed: Callable[[Address], bool] | None = None
    """Whether something hangs on the connection to a peer though nothing is said on it."""

    most_network = NETWORK_CONNECTIONS
    """TCP connections before idle ones are closed."""

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
        self.is_fenced: Callable[[Address], bool] = lambda address: False
        """Whether an address is of a node that was declared dead under that incarnation."""
        self.socket_path = socket_path
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._connections: dict[Address, Connection] = {}
        self._second: dict[Connection, None] = {}
        """Opened by a peer to which we had opened one: heard, and not spoken on."""
        self._leaving: dict[NetworkConnection, None] = {}
        """Bid goodbye to, and not ended."""
        self.strangers = Strangers(reactor, lambda: str(self.address), self._introduce)
        self._is_trim_due = False
        self._listener: socket.socket | None = None
        self._listener_path = ""

    @property
    def refused(self) -> int:
        """How many connections were not let in."""
        return self.strangers.refused

    def listen(self, address: Address) -> None:
        """Be `address` from now on, and accept connections for it."""
        self.address = address
        self._listener_path = self.socket_path(address)
        self._listener = unix.listen(self._listener_path)
        self.reactor.register(self._listener.fileno(), self._on_accept)

    def get(self, address: Address) -> Connection | None:
        """The open connection to `address`, if there is one."""
        return self._connections.get(address)

    def connect(self, address: Address) -> Connection:
        """The connection to `address`, opened if need be; over TCP it may still be opening.

        Raises:
            OSError: nobody listens there (any more).
        """
        connection = self._connections.get(address)
        if connection is None:
            assert self.address is not None
            if self.network is not None and not self.network.is_local(address):
                return self._dial(self.network, self.address, address)
            connection = self.adopt(connect_socket(self.socket_path(address)), address)
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

    def _all(self) -> list[Connection]:
        return [*self._connections.values(), *self._second, *self._leaving]

    def leave_fork(self) -> None:
        """In a forked child: close our copies of the sockets, leaving the parent's epoll alone."""
        for connection in self._all():
            connection._socket.close()
        if self._listener is not None:
            self._listener.close()
        self.strangers.leave_fork()
        if self.network is not None:
            self.network.leave_fork()

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
        for connection in self._all():
            connection.flush()
            connection.close()
        self.strangers.close()
        if self.network is not None:
            for opener in list(self.network.openers):
                opener.abandon()

    # ---- who connects ----------------------------------------------------------------------------

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
                self.strangers.drop_oldest("no descriptors are left")
                self.reactor.unregister(self._listener.fileno())
                self.reactor.call_later(_ACCEPT_AGAIN_S, self._accept_again)
                return
            uid = unix.peer_uid(sock)
            if uid != os.getuid():
                self.strangers.count_refusal(f"user {uid} is not the user of this cluster")
                sock.close()
                continue
            unix.widen(sock)
            self.strangers.admit(sock)

    def _accept_again(self) -> None:
        if self._listener is not None:
            self.reactor.register(self._listener.fileno(), self._on_accept)

    def admit(self, sock: socket.socket, *, is_tls: bool) -> None:
        """Somebody connected over TCP and wants this process; its preamble was read."""
        network = self.network
        if network is None and self.on_stranger_handed is not None:
            self.on_stranger_handed()
            network = self.network
        if network is None or network.identity.is_tls is not is_tls:
            ours = "no network" if network is None else "no TLS" if is_tls else "TLS alone"
            self.strangers.count_refusal(f"a stranger over TCP, but here is {ours}")
            sock.close()
            return
        self.strangers.admit(sock, network.identity)

    def _introduce(self, stranger: Stranger, messages: list[Message], rest: bytes) -> None:
        """First frame of an accepted connection: who is it, and does it mean us?"""
        hello = messages[0] if messages else None
        if not isinstance(hello, Hello):
            stranger.refuse("the first message must be a Hello")
            return
        second = messages[1] if len(messages) > 1 else None
        reason = self._why_not(stranger, hello)
        if not reason and isinstance(second, HandedOver):
            reason = self._why_not_handed(stranger, hello)
        if not reason and isinstance(second, OpenBulk) and self.on_bulk is None:
            reason = "stored bytes are a node manager's business"
        if reason:
            stranger.refuse(reason)
        elif isinstance(second, HandedOver):
            sock = socket.socket(fileno=stranger.fds.pop())
            stranger.release().close()
            self.admit(sock, is_tls=second.is_tls)
        else:
            self._welcome(stranger, hello, messages[1:], rest)

    def _why_not(self, stranger: Stranger, hello: Hello) -> str:
        """Why a Hello is not believed; empty if it is."""
        if hello.protocol != PROTOCOL:
            return f"protocol {hello.protocol} is not {PROTOCOL}: use one Freehold version"
        if hello.cluster != self.cluster or hello.target != self.address:
            return f"this is {self.address} of cluster {self.cluster}, not {hello.target}"
        if self.is_fenced(hello.source):
            return f"{hello.source} is of a node that was declared dead; it must join anew"
        if not stranger.is_remote:
            return ""
        network, source = self.network, hello.source
        assert network is not None
        if source.process == ANYONE:
            return "a process joins its node over the node's unix socket"
        if network.book.is_dead(source.node, source.incarnation):
            return f"node {source.node[:8]} was declared dead in incarnation {source.incarnation}"
        identity = network.identity
        try:
            if identity.is_tls:
                identity.check(stranger.sock, source)
            elif not identity.is_proof(
                hello.proof, "hello", stranger.nonce + hello.nonce, source, hello.target
            ):
                return "it does not know the cluster's secret"
        except ProtocolError as error:
            return str(error)
        return ""

    def _why_not_handed(self, stranger: Stranger, hello: Hello) -> str:
        """Why somebody may not hand sockets over: who is not the node manager by its pid."""
        manager = hello.source
        assert self.address is not None
        ours = self._connections.get(Address(self.address.node, 0, self.address.incarnation))
        if stranger.is_remote or ours is None or manager != ours.peer or not stranger.fds:
            return "only this node's manager hands connections over"
        if unix.peer_credentials(stranger.sock).pid != unix.peer_credentials(ours._socket).pid:
            return "only this node's manager hands connections over, and that is another process"
        return ""

    def _welcome(
        self, stranger: Stranger, hello: Hello, behind: list[Message], rest: bytes
    ) -> None:
        sock: Any = stranger.release()
        nonce, network = stranger.nonce, self.network
        if nonce and network is not None:
            assert self.address is not None
            proof = network.identity.prove("welcome", hello.nonce, self.address, hello.source)
            sock.send(frames.encode([Welcome(proof)]))  # its buffer is empty
        if behind and isinstance(behind[0], OpenBulk) and self.on_bulk is not None:
            self.on_bulk(hello.source, sock, rest)
            return
        connection: Connection
        if stranger.is_remote:
            connection = self._make(sock)
            connection.where = f"node {hello.source.node[:8]}"
        else:
            connection = Connection(
                sock, self.reactor, self._receive, self._closed, on_dropped=self.on_dropped
            )
        connection.peer = hello.source
        # Two processes may connect to each other at the same time: either stream serves, and each
        # side keeps sending on the one it opened, so that its own order holds.
        if self._connections.setdefault(hello.source, connection) is not connection:
            self._second[connection] = None
        if behind:
            receive = self._receive_far if stranger.is_remote else self._receive
            receive(connection, behind)
        if rest and not connection.is_closed:
            connection.preload(rest)
        if isinstance(connection, TlsConnection):
            connection.read_arrived()  # what came with the Hello's record no event tells of
        if stranger.is_remote:
            self._trim()

    # ---- other machines --------------------------------------------------------------------------

    def _make(self, sock: socket.socket | None) -> NetworkConnection:
        assert self.network is not None
        kind = TlsConnection if self.network.identity.is_tls else NetworkConnection
        return kind(sock, self.reactor, self._receive_far, self._closed, on_dropped=self.on_dropped)

    def open_bulk(
        self,
        target: Address,
        on_open: Callable[[Any], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Open a connection for stored bytes to another node's manager; neither is called at once.

        Nothing is said there before the other side's turn, so `on_open` gets a fresh socket.
        """
        network, source = self.network, self.address
        assert source is not None
        if network is not None and not network.is_local(target):
            Opener(
                network, source, target, lambda sock, _rest: on_open(sock), on_failed, (OpenBulk(),)
            )
            return
        hello = Hello(self.cluster, source, target, PROTOCOL, os.getpid())
        try:
            sock = connect_socket(self.socket_path(target), waits=False)
            sock.send(frames.encode([hello, OpenBulk()]))  # its buffer is empty
        except OSError as error:
            text = f"node {target.node[:8]}: {error}"
            self.reactor.call_later(0, lambda: on_failed(text))
            return
        self.reactor.call_later(0, lambda: on_open(sock))

    def _dial(self, network: Network, source: Address, target: Address) -> Connection:
        connection = self._make(None)
        connection.peer = target
        self._connections[target] = connection
        connection.opener = Opener(
            network, source, target, connection.open, lambda reason: connection.close(reason)
        )
        self._trim()
        return connection

    def node_died(self, node: str, incarnation: int) -> None:
        """A node was declared dead: hear its processes to their end, and no more of them."""
        if self.network is None:
            return
        self.network.book.died(node, incarnation)
        for connection in self._all():
            peer = connection.peer
            if peer and peer.node == node and isinstance(connection, NetworkConnection):
                connection.read_to_end()

    def _trim(self) -> None:
        """Bid the longest unused connections goodbye, if there are too many."""
        if len(self._connections) + len(self._second) <= self.most_network:
            return
        uses = {
            connection: Use(connection.used, self._is_needed(connection))
            for connection in self._all()
            if isinstance(connection, NetworkConnection) and not connection.is_leaving
        }
        for connection in pick_idle(uses, self.most_network, NETWORK_IDLE_S, time.monotonic()):
            self._bid_goodbye(connection)
        if len(uses) > self.most_network and not self._is_trim_due:
            self._is_trim_due = True
            self.reactor.call_later(NETWORK_IDLE_S, self._trim_again)

    def _trim_again(self) -> None:
        self._is_trim_due = False
        self._trim()

    def _is_needed(self, connection: NetworkConnection) -> bool:
        peer = connection.peer
        if peer is None or peer.process == 0 or connection.unsent_bytes:
            return True  # node managers and the control service go by a connection's end
        return self.is_needed is not None and self.is_needed(peer)

    def _bid_goodbye(self, connection: NetworkConnection) -> None:
        peer = connection.peer
        if peer is not None and self._connections.get(peer) is connection:
            del self._connections[peer]
        self._second.pop(connection, None)
        self._leaving[connection] = None
        connection.say_goodbye()
        self.reactor.call_later(GOODBYE_S, connection.close)

    def _receive_far(self, connection: Connection, messages: list[Message]) -> None:
        if not messages or type(messages[-1]) is not Goodbye:
            self._on_messages(connection, messages)
            return
        if len(messages) > 1:
            self._on_messages(connection, messages[:-1])
        assert isinstance(connection, NetworkConnection)
        if not connection.is_closed:
            if not connection.is_leaving:
                self._bid_goodbye(connection)
            connection.heard_goodbye()

    def _receive(self, connection: Connection, messages: list[Message]) -> None:
        self._on_messages(connection, messages)

    def _closed(self, connection: Connection, reason: str) -> None:
        peer = connection.peer
        if isinstance(connection, NetworkConnection) and connection.is_leaving:
            self._leaving.pop(connection, None)
            return
        self._second.pop(connection, None)
        if peer is not None and self._connections.get(peer) is connection:
            del self._connections[peer]
        self._on_closed(connection, reason)


def _ignore(_connection: Connection, _reason: str) -> None:
    pass


__all__ = ["ANYONE", "Connection", "Peers", "connect_socket"]
