"""The cluster as clients and the operator see it: what `GetCluster` answers."""

from __future__ import annotations

import msgspec

from freehold._core.jobs.events import JobRecord
from freehold._core.membership.events import NodeStatus
from freehold._core.resources import Shape, to_floats
from freehold._core.where import Where

JOBS_SHOWN = 100
"""Jobs that have ended, of those remembered: the last."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node, in the words of control.proto's `Node`; amounts as people write them."""

    id: str
    name: str
    incarnation: int
    state: str
    is_head: bool
    total: dict[str, float]
    available: dict[str, float]
    labels: dict[str, str]
    idle_s: float
    actors: int
    drivers: int
    reason: str
    store_bytes: int
    store_total_bytes: int
    hostname: str
    address: str


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one shape and placement in the whole cluster; `reason` why no node can ever run it,
    if so."""

    shape: Shape
    where: Where | None
    queued: int
    running: int
    oldest_s: float
    reason: str = ""


class ClusterState(msgspec.Struct, frozen=True, kw_only=True):
    """The living nodes, those that died lately, what they have to do, and the jobs."""

    cluster: str
    head_incarnation: int
    nodes: list[NodeView]
    demand: list[Demand]
    jobs: list[JobRecord]
    problem: str = ""
    """Why the head cannot write its state at the moment; empty if it can."""


def view_of(status: NodeStatus) -> NodeView:
    """One node."""
    info = status.info
    host = f"[{info.host}]" if ":" in info.host else info.host
    return NodeView(
        id=info.node,
        name=info.name,
        incarnation=info.incarnation,
        state=info.state if info.is_alive else "dead",
        is_head=info.is_head,
        total=to_floats(info.total),
        available=to_floats(info.available),
        labels=info.labels,
        idle_s=status.idle_s,
        actors=status.actors,
        drivers=status.drivers,
        reason=info.reason,
        store_bytes=info.store_bytes,
        store_total_bytes=info.store_total_bytes,
        hostname=info.hostname,
        address=f"{host}:{info.port}" if info.host else "",
    )


def sum_demand(statuses: list[NodeStatus]) -> list[Demand]:
    """What the living nodes report, by shape and placement, in a fixed order."""
    sums: dict[tuple[Shape, Where | None], list[float]] = {}
    for status in statuses:
        if not status.info.is_alive:
            continue
        for each in status.demand:
            queued = sums.setdefault((each.shape, each.where), [0, 0, 0.0])
            queued[0] += each.queued
            queued[1] += each.running
            if each.queued:
                queued[2] = max(queued[2], each.oldest_s + status.demand_age_s)
    return [
        Demand(
            shape=shape, where=where, queued=int(queued), running=int(running), oldest_s=oldest_s
        )
        for (shape, where), (queued, running, oldest_s) in sorted(
            sums.items(), key=lambda item: (item[0][0], str(item[0][1]))
        )
    ]


def shown_jobs(records: list[JobRecord]) -> list[JobRecord]:
    """All that run, and the last that ended."""
    running = [record for record in records if not record.ended_unix_ms]
    return [record for record in records if record.ended_unix_ms][-JOBS_SHOWN:] + running
