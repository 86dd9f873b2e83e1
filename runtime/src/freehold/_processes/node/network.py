"""The node's part of the network: its one TCP port, where other nodes are, and who is told of it.

Where the setting `host` is empty all of this does nothing: the cluster is on one machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold._core.messages import (
    Credentials,
    CredentialsChanged,
    NetworkStart,
    NodeDied,
    NodeInfo,
    NodePlace,
    PlacesChanged,
)
from freehold._io import tcp
from freehold._io.gate import Gate
from freehold._io.network import Network
from freehold._processes.node.hub import Hub
from freehold._processes.node.start import NodeStart


class NetworkDesk:
    """Opens the node to other machines, and keeps its processes informed.

    Args:
        start: what the starter said.
    """

    def __init__(self, hub: Hub, start: NodeStart) -> None:
        self._hub = hub
        self._start = start
        self._gate: Gate | None = None
        self._news: dict[str, NodePlace] = {}
        """What the processes of this node have not been told yet."""
        self.place = NodePlace(hub.node, hub.incarnation, "", 0)
        """Where this node is reached."""
        self.notes: list[str] = []
        """What its starter should know of that."""

    def open(self, host: str, credentials: Credentials | None) -> None:
        """Listen, if this node has a network.

        Args:
            host: this machine's address as others reach it; "" for a cluster on one machine.

        Raises:
            ValueError: the settings cannot be carried out.
        """
        settings, hub = self._start.settings, self._hub
        if not host:
            return
        if credentials is None:
            raise ValueError("host is given, but this node has no credentials to be believed with")
        try:
            self._gate = self._listen(tcp.resolve(host))
        except OSError as error:
            raise ValueError(
                f"host is {host!r} with peer_port {settings.peer_port} but must be an address of "
                f"this machine with a free port ({error})"
            ) from None
        self.place = NodePlace(hub.node, hub.incarnation, self._gate.host, self._gate.port)
        head = self._start.head_place
        places = [self.place] if head is None else [self.place, head]
        network = NetworkStart(credentials, settings.tls, places)
        hub.peers.network = Network(hub.reactor, hub.cluster, hub.node, network)

    def _listen(self, host: str) -> Gate:
        port = self._start.settings.peer_port
        try:
            return Gate(self._hub.peers, host, port)
        except OSError as error:
            if not self._start.is_peer_port_optional:
                raise
            gate = Gate(self._hub.peers, host, 0)
            self.notes.append(
                f"peer port {port} cannot be listened on ({error.strerror}; a second node of this "
                f"machine?): this node took {gate.port}. Let other machines reach that, or choose "
                "one: --peer-port"
            )
            return gate

    def start(self) -> NetworkStart | None:
        """What a process that begins is told."""
        network = self._hub.peers.network
        if network is None:
            return None
        identity = network.identity
        return NetworkStart(identity.credentials, identity.is_tls, network.book.places())

    def learn(self, nodes: Iterable[NodeInfo]) -> None:
        """Take in a view; the node's processes are told what is new, together in a moment."""
        network = self._hub.peers.network
        if network is None:
            return
        places = [
            NodePlace(info.node, info.incarnation, info.host, info.port)
            for info in nodes
            if info.is_alive
        ]
        news = network.learn(places)
        if news and not self._news:
            self._hub.reactor.call_later(0, self._tell)
        self._news.update((place.node, place) for place in news)

    def _tell(self) -> None:
        news, self._news = self._news, {}
        self._hub.broadcast(PlacesChanged(list(news.values())))

    def change(self, credentials: Credentials) -> None:
        """Prove this node with these from now on, here and in its processes."""
        network = self._hub.peers.network
        if network is not None:
            network.identity.change(credentials)
            self._hub.broadcast(CredentialsChanged(credentials))

    def node_died(self, died: NodeDied) -> None:
        """Nothing of that node is heard any more."""
        self._hub.peers.node_died(died.node, died.incarnation)

    def close(self) -> None:
        """Stop listening."""
        if self._gate is not None:
            self._gate.close()
