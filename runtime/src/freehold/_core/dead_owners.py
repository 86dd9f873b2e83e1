"""Owners known to be dead, one by one or with their node: what they said may come after that.

Place in the flow: the store machine notes deaths here and asks at every seal and adoption, the
lease scheduler at every demand. An address is never used twice, so what is noted stays true; it is
bounded by forgetting the oldest, since nothing is later than a connection's life.
"""

from __future__ import annotations

from freehold._core.ids import Address

DEAD_OWNERS = 10_000
"""Dead owners remembered, unless told otherwise."""

DEAD_NODES = 1_000
"""Dead nodes remembered, each by its last incarnation."""


class DeadOwners:
    """Who owns nothing, and wants nothing, any more."""

    def __init__(self, limit: int = DEAD_OWNERS) -> None:
        self._limit = limit
        self._owners: dict[Address, None] = {}
        self._nodes: dict[str, int] = {}

    def __contains__(self, owner: Address) -> bool:
        return owner in self._owners or owner.incarnation <= self._nodes.get(owner.node, -1)

    def dead_nodes(self) -> list[tuple[str, int]]:
        """Each node that died, by its last incarnation that did."""
        return list(self._nodes.items())

    def add(self, owner: Address) -> None:
        """One owner died."""
        self._owners[owner] = None
        if len(self._owners) > self._limit:
            del self._owners[next(iter(self._owners))]

    def add_node(self, node: str, incarnation: int) -> None:
        """A node died, and all owners of this incarnation and those before it."""
        self._nodes[node] = max(incarnation, self._nodes.pop(node, -1))
        if len(self._nodes) > DEAD_NODES:
            del self._nodes[next(iter(self._nodes))]
