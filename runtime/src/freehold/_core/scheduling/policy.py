"""Chooses the node for one lease: plain functions of a shape and what is known of the nodes.

The policy packs, then spreads: the asked node serves while less than half of any resource in
question is taken, then whichever node is used least, so that few leases share one node's store and
many share all nodes' CPUs. Ties go to the asked node, then to the lower node id. What is to be
spread goes to the node used least from the start, and of equals to the one chosen least often.
(Ray's hybrid policy picks at random among the best; we do not, so that runs can be repeated.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from freehold._core.resources import GPU, UNIT, Shape, describe, fits, lacking
from freehold._core.where import Where, allows, prefers

PACK_UNTIL = 0.5
"""Share of a resource in use up to which a node is filled before others are considered."""


GROUP = "group "
"""What the name of a room begins with that is no node yet, but a kind that could be added."""


class NodeRoom(msgspec.Struct):
    """What a node has in all and what is thought to be free there, in units.

    `chosen` counts what was sent there of late: it tells apart nodes of equal use.
    """

    node: str
    total: Mapping[str, int]
    available: dict[str, int]
    labels: Mapping[str, str] = {}
    chosen: int = 0

    @property
    def title(self) -> str:
        """What messages to users call it."""
        return self.node if self.node.startswith(GROUP) else f"node {self.node[:8]}"

    def may_run(self, shape: Shape, where: Where | None) -> bool:
        """Whether the shape could run here if the node were empty."""
        return is_feasible(shape, self.total) and allows(where, self.node, self.labels)


class Decision(msgspec.Struct, frozen=True):
    """Where one lease should come from.

    `kind` is "here" (fits now), "there" (fits now at `node`), "wait" (here), "wait there" (it will
    never fit here, but at `node`) or "nowhere".
    """

    kind: str
    node: str = ""


HERE = Decision("here")
WAIT = Decision("wait")
NOWHERE = Decision("nowhere")


def is_feasible(shape: Shape, total: Mapping[str, int]) -> bool:
    """Whether an empty node with these resources fits the shape."""
    return fits(shape, total) and is_whole(shape)


def is_whole(shape: Shape) -> bool:
    """Whether the shape asks for devices as devices come: a share of one, or whole ones."""
    return all(name != GPU or units <= UNIT or units % UNIT == 0 for name, units in shape)


def utilisation(shape: Shape, total: Mapping[str, int], available: Mapping[str, int]) -> float:
    """The largest share in use among the resources that the shape asks for, 0 if it asks none."""
    return max(
        (1.0 - available.get(name, 0) / total[name] for name, _ in shape if total.get(name)),
        default=0.0,
    )


def pick_node(
    shape: Shape,
    here: NodeRoom,
    others: Iterable[NodeRoom],
    *,
    may_leave: bool = True,
    where: Where | None = None,
    pack_until: float = PACK_UNTIL,
) -> Decision:
    """Decide for one lease of `shape`.

    Args:
        shape: what the lease needs.
        where: its placement, None for the default one.
        pack_until: the share in use up to which the asked node serves whatever others have.
        here: the node that was asked, whose figures are exact.
        others: the other living nodes in order of id; their figures may be old.
        may_leave: false if another node already sent it here: then it stays if it ever fits.
    """
    feasible_here = here.may_run(shape, where)
    if feasible_here and not may_leave:
        return HERE if fits(shape, here.available) else WAIT
    if where is not None:
        return _pick_placed(shape, here, others, where)
    if feasible_here and not shape:
        return HERE
    fits_here = feasible_here and fits(shape, here.available)
    lowest = utilisation(shape, here.total, here.available) if fits_here else float("inf")
    if fits_here and lowest < pack_until:
        return HERE
    best = here.node if fits_here else ""
    fallback, fallback_use = "", float("inf")
    for room in others:
        if not is_feasible(shape, room.total):
            continue
        use = utilisation(shape, room.total, room.available)
        if fits(shape, room.available):
            if use < lowest:
                best, lowest = room.node, use
        elif use < fallback_use:
            fallback, fallback_use = room.node, use
    if best:
        return HERE if best == here.node else Decision("there", best)
    if feasible_here:
        return WAIT
    return Decision("wait there", fallback) if fallback else NOWHERE


def _pick_placed(
    shape: Shape, here: NodeRoom, others: Iterable[NodeRoom], where: Where
) -> Decision:
    """The node for what has labels, a node or spreading to heed: the best by a rank.

    Preferred nodes come first whether they are full or not: a wait there is what was asked for,
    unless a soft affinity can be had elsewhere at once (as in Ray, it gives way to nothing but the
    node's absence, so that data stays together).
    """
    best: NodeRoom | None = None
    best_rank: tuple[object, ...] = ()
    for room in (here, *others):
        if not room.may_run(shape, where):
            continue
        use = utilisation(shape, room.total, room.available)
        is_here = room is here
        if not where.is_spread:
            use = -1.0 if is_here and use < PACK_UNTIL else use
        liked = prefers(where, room.node, room.labels)
        has_room = fits(shape, room.available)
        turn = room.chosen if where.is_spread else 0
        rank = (not liked, not has_room, use, turn, not is_here, room.node)
        if best is None or rank < best_rank:
            best, best_rank = room, rank
    if best is None:
        return NOWHERE
    has_room = fits(shape, best.available)
    if best is here:
        return HERE if has_room else WAIT
    return Decision("there" if has_room else "wait there", best.node)


def pick_other(shape: Shape, others: Iterable[NodeRoom], where: Where | None = None) -> str:
    """The node for a lease that cannot be granted here at all; empty if none will ever fit.

    Preferred nodes first, then where it fits now, and of those where least is in use.
    """
    best: NodeRoom | None = None
    best_rank: tuple[object, ...] = ()
    for room in others:
        if not room.may_run(shape, where):
            continue
        liked = prefers(where, room.node, room.labels)
        use = utilisation(shape, room.total, room.available)
        turn = room.chosen if where is not None and where.is_spread else 0
        rank = (not liked, not fits(shape, room.available), use, turn)
        if best is None or rank < best_rank:
            best, best_rank = room, rank
    return best.node if best is not None else ""


def why_infeasible(shape: Shape, rooms: Iterable[NodeRoom], where: Where | None = None) -> str:
    """Why no node will ever fit the shape, naming the one that comes closest."""
    if not is_whole(shape):
        return f"{describe(shape)}: GPU must be at most 1 or a whole number; round it"
    known = list(rooms)
    rooms = [room for room in known if allows(where, room.node, room.labels)]
    if known and not rooms:
        return f"no node of the cluster is one that the task may run on ({where}); {_labels(known)}"
    best: tuple[float, NodeRoom] | None = None
    for room in rooms:
        # How much is missing, each resource counted as the missing share of what is needed.
        gap = sum(1.0 - has / need for need, has in lacking(shape, room.total).values())
        if best is None or gap < best[0]:
            best = gap, room
    if best is None:
        return f"no node has {describe(shape)}: the cluster has no node; add one"
    missing = "; ".join(
        f"{name}: {need / UNIT:g} needed, {has / UNIT:g} there"
        for name, (need, has) in lacking(shape, best[1].total).items()
    )
    return (
        f"no node of the cluster can ever fit {describe(shape)}; {best[1].title} comes "
        f"closest ({missing}); ask for less, or add a node that has it"
    )


_SHOWN_NODES = 5


def _labels(rooms: list[NodeRoom]) -> str:
    """What labels there are, for whoever asked for others."""
    shown = [
        f"{room.title} has "
        + (", ".join(f"{name}={value}" for name, value in sorted(room.labels.items())) or "none")
        for room in rooms[:_SHOWN_NODES]
    ]
    if len(rooms) > _SHOWN_NODES:
        shown.append(f"{len(rooms) - _SHOWN_NODES} more nodes")
    return "labels: " + "; ".join(shown)
