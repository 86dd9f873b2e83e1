"""What a process needs to speak to other machines: where they are, who it is, what is opening.

A process of a cluster on one machine has none of this. It comes with `Registered`, over the unix
connection to the node manager, and is kept up to date over the same.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold._core.ids import Address
from freehold._core.messages import NetworkStart, NodePlace
from freehold._core.peering import AddressBook, Nearby
from freehold._io.identity import Identity
from freehold._io.opening import Opener
from freehold._io.reactor import Reactor


class Network:
    """One process's knowledge of the network.

    Args:
        node: this process's own node.
    """

    def __init__(self, reactor: Reactor, cluster: str, node: str, start: NetworkStart) -> None:
        self.reactor = reactor
        self.identity = Identity(cluster, start.credentials, is_tls=start.is_tls)
        self.book = AddressBook(node)
        self.openers: dict[Opener, None] = {}
        """Connections that are opening."""
        self.book.learn(start.places)

    def is_local(self, address: Address) -> bool:
        """Whether a unix socket leads there."""
        return self.book.way_to(address) is Nearby.UNIX

    def learn(self, places: Iterable[NodePlace]) -> list[NodePlace]:
        """Take in where nodes are; those that are news."""
        news = self.book.learn(places)
        nodes = {place.node for place in news}
        for opener in list(self.openers):
            if opener.target.node in nodes:
                opener.place_known()
        return news

    def leave_fork(self) -> None:
        """In a forked child: use no connection and no key of the parent's."""
        for opener in self.openers:
            opener.leave_fork()
        self.identity.forget()
