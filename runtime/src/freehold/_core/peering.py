"""Which way leads to an address, and which connection goes when there are too many.

Place in the flow: `_io.network` asks for the way before it opens a connection, and for what to
close after; it does what is said here. The book is filled by the node manager, from the membership
view. Nothing here opens, closes or waits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import Enum
from typing import TypeVar

import msgspec

from freehold._core.ids import Address
from freehold._core.limits import DEAD_NODES
from freehold._core.messages.network import NodePlace

Key = TypeVar("Key", bound=Hashable)


class Nearby(Enum):
    """Ways that need no network."""

    UNIX = "the session's folder"
    UNKNOWN = "not in the book yet"
    DEAD = "declared dead"


Way = Nearby | NodePlace


class AddressBook:
    """Where the cluster's nodes are, as one process knows it.

    Args:
        node: this process's own node.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._places: dict[str, NodePlace] = {}
        self._dead: dict[tuple[str, int], None] = {}
        """The oldest first; of very old ones nobody speaks any more."""

    def learn(self, places: Iterable[NodePlace]) -> list[NodePlace]:
        """Take in where nodes are; those that are news."""
        news = []
        for place in places:
            known = self._places.get(place.node)
            if known is not None and known.incarnation > place.incarnation:
                continue
            if known != place and not self.is_dead(place.node, place.incarnation):
                self._places[place.node] = place
                news.append(place)
        return news

    def died(self, node: str, incarnation: int) -> None:
        """A node was declared dead: nothing leads there any more, nothing from there is heard."""
        self._dead[node, incarnation] = None
        while len(self._dead) > DEAD_NODES:
            del self._dead[next(iter(self._dead))]
        known = self._places.get(node)
        if known is not None and known.incarnation <= incarnation:
            del self._places[node]

    def is_dead(self, node: str, incarnation: int) -> bool:
        """Whether that incarnation of the node was declared dead."""
        return (node, incarnation) in self._dead

    def way_to(self, address: Address) -> Way:
        """How to reach a process."""
        if address.node == self._node:
            return Nearby.UNIX
        if self.is_dead(address.node, address.incarnation):
            return Nearby.DEAD
        place = self._places.get(address.node)
        if place is None:
            return Nearby.UNKNOWN
        return place if place.host else Nearby.UNIX

    def places(self) -> list[NodePlace]:
        """All that is known, for a process that begins."""
        return list(self._places.values())


class Use(msgspec.Struct, frozen=True):
    """How a connection was used last."""

    last: float
    """When something was last sent or received on it."""
    is_needed: bool = False
    """Something hangs on it though nothing is said: a lease, a call, bytes unsent."""


def pick_idle(uses: dict[Key, Use], limit: int, idle_s: float, now: float) -> list[Key]:
    """The connections to close so that `limit` are left, the longest unused first.

    None that is needed or was used within `idle_s`: then there are more than the limit.
    """
    surplus = len(uses) - limit
    if surplus <= 0:
        return []
    idle = [
        (use.last, position, key)
        for position, (key, use) in enumerate(uses.items())
        if not use.is_needed and now - use.last >= idle_s
    ]
    idle.sort(key=lambda entry: entry[:2])
    return [key for _, _, key in idle[:surplus]]
