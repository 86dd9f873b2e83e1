"""What a node answers at its health port: whether it lives, whether it has joined, its figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from freehold._io import hosts
from freehold._io.health import HealthServer, Page

if TYPE_CHECKING:
    from freehold._processes.node.service import NodeManager

_UNIT = 10_000.0


def serve(node: NodeManager, host: str, port: int) -> HealthServer:
    """Answer probes and scrapers.

    Raises:
        OSError: the port cannot be listened on.
    """
    pages = {
        "/healthz": lambda: Page(200, "ok"),
        "/readyz": lambda: _ready(node),
        "/metrics": lambda: Page(200, "\n".join(_metrics(node))),
    }
    return HealthServer(node.reactor, hosts.bind_address(host), port, pages)


def _ready(node: NodeManager) -> Page:
    plane = node.plane
    if plane is None or plane.is_ready:
        return Page(200, "ready")
    return Page(503, "not joined yet")


def _metrics(node: NodeManager) -> Iterator[str]:
    """Prometheus's text format, 0.0.4: figures alone, no names of users' code."""
    leases = node.leases.scheduler.snapshot()
    store = node.store.use()
    yield from _metric("freehold_workers", "gauge", "Worker processes of this node by state.")
    for state in ("idle", "starting", "leased", "actors", "ending", "blocked"):
        yield f'freehold_workers{{state="{state}"}} {getattr(leases, state)}'
    yield from _metric("freehold_leases_granted_total", "counter", "Leases granted so far.")
    yield f"freehold_leases_granted_total {leases.granted}"
    yield from _metric("freehold_queued", "gauge", "Leases and actors that wait on this node.")
    yield f"freehold_queued {sum(leases.queued.values())}"
    yield from _metric("freehold_cpus", "gauge", "CPUs of this node by use.")
    for name, amounts in (("total", leases.total), ("available", leases.available)):
        yield f'freehold_cpus{{kind="{name}"}} {amounts.get("CPU", 0) / _UNIT:g}'
    yield from _metric("freehold_store_bytes", "gauge", "The object store of this node.")
    for name, size_bytes in (
        ("used", store.in_use_bytes),
        ("total", node.arena.size_bytes),
    ):
        yield f'freehold_store_bytes{{kind="{name}"}} {size_bytes}'
    yield from _metric(
        "freehold_refused_connections_total", "counter", "Who was not let in, by plane and kind."
    )
    yield f'freehold_refused_connections_total{{plane="peer",kind="any"}} {node.hub.peers.refused}'
    if node.plane is not None:
        name = json.dumps(node.start.settings.cluster_name)
        yield from _metric("freehold_cluster_info", "gauge", "Which cluster this is a node of.")
        yield f'freehold_cluster_info{{cluster="{node.hub.cluster}",name={name}}} 1'
        for kind, count in sorted(node.plane.refusals.items()):
            labels = f'plane="control",kind="{kind}"'
            yield f"freehold_refused_connections_total{{{labels}}} {count}"
        yield from _metric(
            "freehold_control_frames_total", "counter", "Frames to and from the control service."
        )
        for direction, count in node.plane.frames.items():
            yield f'freehold_control_frames_total{{direction="{direction}"}} {count}'
    if node.control is not None:
        members = node.control.membership.snapshot()
        yield from _metric("freehold_nodes", "gauge", "Nodes of the cluster by state.")
        yield f'freehold_nodes{{state="alive"}} {members.alive}'
        yield f'freehold_nodes{{state="dead"}} {members.dead}'


def _metric(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
