"""What a node knows of the other nodes, charged with what it has just sent there.

A view is up to a second old, a tenth while something waits here. Whoever is spilled to a node is
counted against its free resources until the next word from it, so that a burst does not all go to
one node. A wrong guess costs one more queueing, never an overcommitment: the node that grants
decides by its own figures.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

from freehold._core.limits import REPLACEMENT_S
from freehold._core.messages import NodeGroup, NodeInfo
from freehold._core.resources import Shape
from freehold._core.scheduling.events import Instant
from freehold._core.scheduling.policy import GROUP, NodeRoom
from freehold._core.where import Where


class ClusterView:
    """The other living nodes, in order of id."""

    def __init__(self, node: str) -> None:
        self._own = node
        self._rooms: dict[str, NodeRoom] = {}
        self._said: dict[str, dict[str, int]] = {}
        """What was free by each node's own last word."""
        self._order: list[str] = []
        self._lost: dict[str, tuple[NodeRoom, Instant]] = {}
        """Dead nodes, and until when another of their kind is waited for."""
        self.groups: list[NodeRoom] = []
        """Nodes that could be added, each as the largest of its kind, empty."""

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[NodeRoom]:
        return (self._rooms[node] for node in self._order)

    def update(self, info: NodeInfo, now: Instant) -> None:
        """A node is as `info` says now."""
        if info.node == self._own:
            return
        if not info.is_alive or info.state != "alive":
            self.remove(info.node, now)  # one that drains takes nothing any more
            return
        self._lost.pop(info.node, None)
        if info.node not in self._rooms:
            insort(self._order, info.node)
        self._rooms[info.node] = NodeRoom(info.node, info.total, dict(info.available), info.labels)
        self._said[info.node] = info.available

    def remove(self, node: str, now: Instant) -> None:
        """A node is gone."""
        room = self._rooms.pop(node, None)
        if room is not None:
            self._lost[node] = (room, now + REPLACEMENT_S)
            del self._said[node]
            self._order.remove(node)

    @property
    def may_change(self) -> bool:
        """Whether there are other nodes, were until lately, or could be."""
        return bool(self._order or self._lost or self.groups)

    def set_groups(self, groups: list[NodeGroup]) -> None:
        """These kinds of nodes could be added, and no others."""
        self.groups = [
            NodeRoom(GROUP + group.name, group.resources, {}, group.labels) for group in groups
        ]

    def may_come(self, shape: Shape, where: Where | None, now: Instant) -> bool:
        """Whether a node may yet come that could run the shape: one of a group that can grow, or
        one in the place of a node that died lately."""
        self._lost = {node: lost for node, lost in self._lost.items() if lost[1] > now}
        rooms = [*self.groups, *(room for room, _ in self._lost.values())]
        return any(room.may_run(shape, where) for room in rooms)

    def charge(self, node: str, shape: Shape) -> None:
        """A lease of the shape was just sent there."""
        self._rooms[node].chosen += 1
        available = self._rooms[node].available
        for name, units in shape:
            available[name] = available.get(name, 0) - units

    def forget_charges(self) -> None:
        """What was sent has arrived, or never will: a node that it left as it was says nothing."""
        for node, room in self._rooms.items():
            room.available = dict(self._said[node])
