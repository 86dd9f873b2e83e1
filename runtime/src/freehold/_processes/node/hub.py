"""What the parts of a node manager share: how to reach whom, and the reactor.

The parts (leases, store, transfer, actors, pool) do not know each other; the service wires them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core.ids import Address
from freehold._core.messages import Message
from freehold._io.reactor import Reactor
from freehold._io.transport import Connection, Peers
from freehold._processes.node.processes import LocalProcess, ProcessTable
from freehold._processes.node.settings import NodeSettings

Handler = Callable[[Address, Any], None]
"""Takes the sender and its message."""


class Hub:
    """The node's identity, its processes and its connections."""

    def __init__(
        self,
        reactor: Reactor,
        node: str,
        cluster: str,
        settings: NodeSettings,
        incarnation: int = 0,
    ) -> None:
        self.reactor = reactor
        self.node = node
        self.cluster = cluster
        self.incarnation = incarnation
        self.settings = settings
        self.address = Address(node, 0, self.incarnation)
        self.processes = ProcessTable(node, self.incarnation)
        self.peers: Peers
        """Set by the service, which is who messages come to."""
        self.to_control: Callable[[Message], None]
        """Sends to the control service, wherever it is; set by the service."""

    def local(self, address: Address) -> LocalProcess | None:
        """The process of this node with that address."""
        if address.node != self.node:
            return None
        return self.processes.by_number.get(address.process)

    def send(self, address: Address, message: Message) -> bool:
        """Send to a connected process or another node's manager; False if it is gone."""
        connection = self.peers.get(address)
        if connection is None and address.process == 0 and address != self.address:
            connection = self._connect(address)
        if connection is None or connection.is_closed:
            return False
        connection.send(message)
        return True

    def send_to(self, number: int, message: Message) -> None:
        """Send to a local process by its number; nothing if it is gone."""
        process = self.processes.by_number.get(number)
        if process is not None and process.connection is not None and process.is_registered:
            process.connection.send(message)

    def broadcast(self, message: Message) -> None:
        """Send to every local process."""
        for process in self.processes.registered():
            if process.connection is not None:
                process.connection.send(message)

    def _connect(self, address: Address) -> Connection | None:
        try:
            return self.peers.connect(address)
        except OSError:
            return None
