"""How many workers each group should have, and why not the number that the queue asks for.

Demand of a shape = running + ceil(queued ÷ targetQueuePerSlot); packed onto the groups; clamped to
their bounds. Growing follows at once. Shrinking never follows from this count alone: `workers`
takes away only what is pending or drained, and drains only what is idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from freehold_operator.facts import DemandFacts, HeadReport
from freehold_operator.model import Autoscaling, Cluster
from freehold_operator.packing import Bin, Packing, Shape, pack
from freehold_operator.resources import Offer
from freehold_operator.supply import State, Worker


class Limit(msgspec.Struct, frozen=True):
    """Why groups are not as they would be; a condition's reason and message."""

    reason: str
    message: str


class Targets(msgspec.Struct, frozen=True, kw_only=True):
    """The decision.

    Attributes:
        desired: workers that there should be, by group.
        found: what the queue needs, by group; empty with autoscaling off or no word of the head.
        why: the figures it was decided on.
    """

    desired: dict[str, int]
    found: dict[str, int] = {}
    limit: Limit | None = None
    why: str = ""


def shapes(demand: Sequence[DemandFacts], rules: Autoscaling) -> list[Shape]:
    """The slots that are wanted. Work that is younger than the stabilization does not count yet."""
    found = []
    for one in demand:
        queued = one.queued if one.oldest_s >= rules.stabilization_s else 0
        slots = one.running + -(-queued // rules.target_queue_per_slot)
        if slots:
            found.append(Shape(one.resources, slots, one.labels))
    return found


def _bins(
    cluster: Cluster, offers: Mapping[str, Offer], workers: Sequence[Worker], closed: set[str]
) -> list[Bin]:
    """Groups as packing sees them: an unavailable one is as large as what really stands."""
    found = []
    for group in cluster.spec.groups:
        mine = [w for w in workers if w.pod.group == group.name and w.is_supply]
        overdue = sum(w.is_overdue for w in mine)
        is_closed = group.name in closed
        standing = len(mine) - (overdue if is_closed else 0)
        # What a user wants at least is there already, or about to be.
        standing = max(
            standing, min(group.min_replicas, group.max_replicas) if not is_closed else 0
        )
        found.append(
            Bin(
                name=group.name,
                resources=dict(offers[group.name].resources),
                labels=offers[group.name].labels,
                priority=group.priority,
                standing=min(standing, group.max_replicas),
                limit=standing if is_closed else group.max_replicas,
            )
        )
    return found


def _head_bin(report: HeadReport) -> list[Bin]:
    return [
        Bin(name="", resources=node.total, standing=1, limit=1)
        for node in report.nodes
        if node.is_head and node.state == "ALIVE" and node.total.get("CPU", 0) > 0
    ]


def unavailable(workers: Sequence[Worker], refused: Sequence[str]) -> set[str]:
    """Groups that get no more workers now: pods unscheduled for too long, or creations refused."""
    return {w.pod.group for w in workers if w.is_overdue} | set(refused)


def _limit(packing: Packing, report: HeadReport, closed: set[str]) -> Limit | None:
    if packing.infeasible or any(d.infeasible for d in report.demand):
        words = next((d.reason for d in report.demand if d.infeasible and d.reason), "")
        count = packing.infeasible or sum(d.queued for d in report.demand if d.infeasible)
        text = words or f"{count} slots are asked for in a shape that fits a worker of no group"
        return Limit("Infeasible", f"{text}: give a group such resources and labels")
    if packing.unplaced and closed:
        groups = ", ".join(sorted(closed))
        return Limit(
            "Unavailable",
            f"{packing.unplaced} slots find no room: no pod of {groups} can be scheduled or made",
        )
    if packing.unplaced:
        return Limit(
            "MaxReplicas",
            f"{packing.unplaced} slots wait, all groups that fit them are at maxReplicas: raise it",
        )
    return None


def _previous(cluster: Cluster) -> dict[str, int]:
    groups = cluster.status.get("groups") or ()
    return {g["name"]: g["desired"] for g in groups if "desired" in g}


def _fixed(cluster: Cluster) -> dict[str, int]:
    return {group.name: cluster.spec.fixed_replicas(group) for group in cluster.spec.groups}


def targets(
    cluster: Cluster,
    offers: Mapping[str, Offer],
    workers: Sequence[Worker],
    report: HeadReport | None,
    refused: Sequence[str] = (),
) -> Targets:
    """What each group should have. Groups that are no longer in the spec are not named: zero."""
    spec = cluster.spec
    if spec.suspend or cluster.deletes_workers:
        return Targets(desired={group.name: 0 for group in spec.groups}, why="suspended")
    rules = spec.autoscaling
    if rules is None:
        return Targets(desired=_fixed(cluster), why="replicas")
    before = _previous(cluster)
    if report is None:
        desired = _fixed(cluster)
        if spec.is_autoscaled:
            # Nobody knows the queue: what was decided last holds, within bounds that may be new.
            desired = {g.name: g.clamp(before.get(g.name, 0)) for g in spec.groups}
        return Targets(desired=desired, why="no word of the queue")
    demand = shapes(report.demand, rules)
    closed = unavailable(workers, refused)
    head = _head_bin(report)
    packing = pack(demand, _bins(cluster, offers, workers, closed), head)
    # Pods that wait for a machine stay as long as they would be wanted if there were one.
    hoped = pack(demand, _bins(cluster, offers, workers, set()), head) if closed else packing
    found = {}
    for group in spec.groups:
        overdue = sum(w.is_overdue for w in workers if w.pod.group == group.name)
        standing = sum(w.is_supply for w in workers if w.pod.group == group.name)
        kept = min(hoped.used[group.name], standing) if overdue else 0
        found[group.name] = group.clamp(max(packing.used[group.name], kept))
    slots = sum(shape.slots for shape in demand)
    queued, running = (sum(getattr(d, k) for d in report.demand) for k in ("queued", "running"))
    return Targets(
        desired=_desired(cluster, found, workers),
        found=found,
        limit=_limit(packing, report, closed),
        why=f"{queued} queued and {running} running make {slots} slots",
    )


def _desired(
    cluster: Cluster, found: Mapping[str, int], workers: Sequence[Worker]
) -> dict[str, int]:
    """The target, but never below what works: a group shrinks only by workers that are idle.

    One that a machine was found for is let come up, so that a queue that flickers does not pull the
    same image again and again; unless it never will, or no machine was found.
    """
    if not cluster.spec.is_autoscaled or cluster.spec.autoscaling is None:
        return _fixed(cluster)
    idle_s = cluster.spec.autoscaling.idle_timeout_s
    desired = {}
    for group in cluster.spec.groups:
        busy = sum(
            (w.state is State.READY and not is_idle(w, idle_s))
            or (w.state is State.STARTING and w.pod.trouble is None)
            for w in workers
            if w.pod.group == group.name
        )
        desired[group.name] = max(found[group.name], min(busy, group.max_replicas))
    return desired


def idle_from(cluster: Cluster, workers: Sequence[Worker], now: float) -> float | None:
    """When the next worker will have been idle for long enough to go."""
    rules = cluster.spec.autoscaling
    if rules is None or rules.dry_run:
        return None
    waits = [
        rules.idle_timeout_s - w.node.idle_s
        for w in workers
        if w.state is State.READY and w.node is not None and is_idle(w, 1e-9)
    ]
    return min((now + wait for wait in waits if wait > 0), default=None)


def is_idle(worker: Worker, for_s: float) -> bool:
    """Whether it has done and kept nothing for that long, and no actor lives there."""
    node = worker.node
    return (
        node is not None
        and node.state == "ALIVE"
        and node.idle_s >= for_s
        and node.actors == 0
        and node.drivers == 0
    )
