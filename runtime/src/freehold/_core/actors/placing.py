"""Chooses a node for an actor: what the control service knows of the nodes, and a plain function.

Place in the flow: the directory asks where to place; the node manager it names has the last word
and queues the actor if its figures say that there is no room yet. What was just placed is counted
against the node until the next word from it, so that a burst is spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from freehold._core.messages import ActorSpec, NodeInfo
from freehold._core.resources import CPU, UNIT, Shape, describe, fits, lacking
from freehold._core.where import Where, allows, prefers

PACK_UNTIL = 0.5
"""Share of a resource in use up to which the owner's own node is preferred."""


class NodeRoom(msgspec.Struct):
    """A living node's resources in units; `available` is charged with what was placed since."""

    node: str
    incarnation: int
    total: dict[str, int]
    available: dict[str, int]
    labels: dict[str, str] = {}
    placed: int = 0
    """Actors sent there: tells apart nodes of equal use when they are to be spread."""

    def may_run(self, shape: Shape, where: Where | None) -> bool:
        """Whether an empty node like this could have the actor."""
        return fits(shape, self.total) and allows(where, self.node, self.labels)

    def charge(self, shape: Shape) -> None:
        """An actor was just placed there."""
        self.placed += 1
        for name, units in shape:
            self.available[name] = self.available.get(name, 0) - units

    def use(self, shape: Shape) -> float:
        """The largest share in use of what the shape asks for; above 1 if others wait there."""
        return max(
            (1.0 - self.available.get(n, 0) / self.total[n] for n, _ in shape if self.total.get(n)),
            default=0.0,
        )


def room_of(info: NodeInfo) -> NodeRoom:
    """A node's room as it was just reported."""
    return NodeRoom(info.node, info.incarnation, info.total, dict(info.available), info.labels)


def rooms_for(spec: ActorSpec, rooms: Mapping[str, NodeRoom]) -> Iterable[NodeRoom]:
    """The nodes to choose from. One without CPUs is mostly a driver's own and ends with it, so a
    detached actor lives there only if there is no other that fits."""
    shape = placing_shape(spec)
    lasting = [
        room
        for room in (rooms.values() if spec.options.detached else ())
        if room.total.get(CPU) and room.may_run(shape, spec.where)
    ]
    return lasting or rooms.values()


def placing_shape(spec: ActorSpec) -> Shape:
    """What a node must have for the actor: for its life, and to be chosen."""
    if not spec.placement_shape:
        return spec.shape
    amounts = dict(spec.shape)
    for name, units in spec.placement_shape:
        amounts[name] = max(units, amounts.get(name, 0))
    return tuple(sorted(amounts.items()))


def pick_room(
    shape: Shape,
    preferred: str,
    rooms: Iterable[NodeRoom],
    refused: Iterable[str],
    where: Where | None = None,
) -> NodeRoom | None:
    """The node for an actor of `shape`, None if none can ever fit it.

    Args:
        shape: what the node must have, see `placing_shape`.
        preferred: the owner's node, taken while less than half of it is in use.
        rooms: the living nodes.
        refused: nodes that have refused this placement.
        where: labels, a node or spreading to heed.
    """
    best: NodeRoom | None = None
    best_rank: tuple[bool, bool, float, int, bool, str] = (True, True, 0.0, 0, True, "")
    is_spread = where is not None and where.is_spread
    for room in rooms:
        if room.node in refused or not room.may_run(shape, where):
            continue
        use = room.use(shape)
        is_near = room.node == preferred and not is_spread
        is_liked = prefers(where, room.node, room.labels)
        # What was asked for, then room now (the owner's own node while it is less than half used),
        # then the least use, then nearness, then id.
        use_rank = -1.0 if is_near and use < PACK_UNTIL else use
        turn = room.placed if is_spread else 0
        has_room = fits(shape, room.available)
        rank = (not is_liked, not has_room, use_rank, turn, not is_near, room.node)
        if best is None or rank < best_rank:
            best, best_rank = room, rank
    return best


def why_infeasible(shape: Shape, rooms: Iterable[NodeRoom], where: Where | None = None) -> str:
    """Why no node can ever fit the shape, naming the one that comes closest."""
    known = list(rooms)
    rooms = [room for room in known if allows(where, room.node, room.labels)]
    if not rooms:
        return f"infeasible: no node of the cluster is one that it may run on ({where})"
    gaps = [
        (sum(1.0 - has / need for need, has in lacking(shape, room.total).values()), room.node)
        for room in rooms
    ]
    totals = {room.node: room.total for room in rooms}
    node = min(gaps)[1]
    missing = "; ".join(
        f"{name}: {need / UNIT:g} needed, {has / UNIT:g} there"
        for name, (need, has) in lacking(shape, totals[node]).items()
    )
    return (
        f"infeasible: no node of the cluster can ever fit {describe(shape)}; node {node[:8]} comes "
        f"closest ({missing}); ask for less, or add a node that has it"
    )
