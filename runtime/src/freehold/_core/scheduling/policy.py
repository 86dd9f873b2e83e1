"""Chooses the node for one lease: plain functions of a shape and what is known of the nodes.

The policy packs, then spreads: the asked node serves while less than half of any resource in
question is taken, then whichever node is used least, so that few leases share one node's store and
many share all nodes' CPUs. Ties go to the asked node, then to the lower node id.
(Ray's hybrid policy picks at random among the best; we do not, so that runs can be repeated.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from freehold._core.resources import GPU, UNIT, Shape, describe, fits, lacking

PACK_UNTIL = 0.5
"""Share of a resource in use up to which a node is filled before others are considered."""


class NodeRoom(msgspec.Struct):
    """What a node has in all and what is thought to be free there, in units."""

    node: str
    total: Mapping[str, int]
    available: dict[str, int]


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
    shape: Shape, here: NodeRoom, others: Iterable[NodeRoom], *, may_leave: bool = True
) -> Decision:
    """Decide for one lease of `shape`.

    Args:
        shape: what the lease needs.
        here: the node that was asked, whose figures are exact.
        others: the other living nodes in order of id; their figures may be old.
        may_leave: false if another node already sent it here: then it stays if it ever fits.
    """
    feasible_here = is_feasible(shape, here.total)
    if feasible_here and (not shape or not may_leave):
        return HERE if fits(shape, here.available) else WAIT
    fits_here = feasible_here and fits(shape, here.available)
    lowest = utilisation(shape, here.total, here.available) if fits_here else float("inf")
    if fits_here and lowest < PACK_UNTIL:
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


def pick_other(shape: Shape, others: Iterable[NodeRoom]) -> str:
    """The node for a lease that cannot be granted here at all; empty if none will ever fit.

    Where it fits now, and of those where least is in use.
    """
    best, best_rank = "", (True, 0.0)
    for room in others:
        if is_feasible(shape, room.total):
            use = utilisation(shape, room.total, room.available)
            rank = (not fits(shape, room.available), use)
            if not best or rank < best_rank:
                best, best_rank = room.node, rank
    return best


def why_infeasible(shape: Shape, rooms: Iterable[NodeRoom]) -> str:
    """Why no node will ever fit the shape, naming the one that comes closest."""
    if not is_whole(shape):
        return f"{describe(shape)}: GPU must be at most 1 or a whole number; round it"
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
        f"no node of the cluster can ever fit {describe(shape)}; node {best[1].node[:8]} comes "
        f"closest ({missing}); ask for less, or add a node that has it"
    )
