"""What the cluster consists of and has free, and what its processes did lately."""

from __future__ import annotations

from typing import Any

from freehold._api import state
from freehold._core.resources import UNIT


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, with Ray's keys where they mean something here.

    Returns:
        A dict a node: `NodeID`, `Alive`, `NodeManagerHostname`, `NodeManagerPid`, `IsHead`,
        `Resources` (in all), `Available`, `Labels`, and `object_store`, in bytes: `capacity`,
        `in_use` by living objects, `touched_free` (memory that is free and kept because it is
        faster to write again, up to the setting `touched_free_bytes`) and `pinned_replicas`
        (copies of other nodes' objects that are being read). All of `object_store` and `Available`
        may be a second old: nodes tell what changed at most once a second, and this asks none of
        them. Wait for a figure with `freehold.testing.eventually`.

    Example:
        >>> [node["Alive"] for node in freehold.nodes()]
        [True]
    """
    return node_records(None)


def node_records(timeout_s: float | None) -> list[dict[str, Any]]:
    """What `nodes` returns; raises if it takes longer than `timeout_s`."""
    return [
        {
            "NodeID": node.node,
            "Alive": node.is_alive,
            "alive": node.is_alive,
            "IsHead": node.is_head,
            "NodeManagerHostname": node.hostname,
            "NodeName": node.name or node.hostname,
            "NodeManagerPid": node.pid,
            "Resources": _floats(node.total),
            "Available": _floats(node.available),
            "Labels": dict(node.labels),
            "object_store": {
                "capacity": node.store_total_bytes,
                "in_use": node.store_bytes,
                "touched_free": node.store_touched_free_bytes,
                "pinned_replicas": node.store_pinned_bytes,
            },
        }
        for node in state.require().nodes(timeout_s)
    ]


def cluster_resources() -> dict[str, float]:
    """What the living nodes have in all, by resource; `object_store_memory` in bytes.

    Example:
        >>> freehold.cluster_resources()["CPU"] >= 1
        True
    """
    return _sum("total")


def available_resources() -> dict[str, float]:
    """What the living nodes have free, by resource; it may be a second old.

    Example:
        >>> free, total = freehold.available_resources(), freehold.cluster_resources()
        >>> free.get("CPU", 0) <= total["CPU"]
        True
    """
    return {name: amount for name, amount in _sum("available").items() if amount}


def get_gpu_ids() -> list[int]:
    """The indices of the GPUs that the calling task or actor may use; `CUDA_VISIBLE_DEVICES` too.

    Example:
        >>> freehold.get_gpu_ids()
        []
    """
    context = state.require().context()
    return list(context.gpu_ids) if context is not None else []


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """What ran where and when, as Chrome's trace viewer reads it (`chrome://tracing`).

    Args:
        filename: where to write it as JSON; None returns it.

    Returns:
        The events, or None when written to a file. Each process keeps those of its
        last 2,000 tasks.

    Example:
        >>> isinstance(freehold.timeline(), list)
        True
    """
    from freehold._api.task_records import trace_events

    events = trace_events(state.require().task_events())
    if filename is None:
        return events
    import json

    with open(filename, "w", encoding="utf-8") as target:
        json.dump(events, target)
    return None


def _sum(field: str) -> dict[str, float]:
    units: dict[str, int] = {}
    store_bytes = 0
    for node in state.require().nodes():
        if node.is_alive:
            for name, amount in getattr(node, field).items():
                units[name] = units.get(name, 0) + amount
            used = node.store_bytes if field == "available" else 0
            store_bytes += node.store_total_bytes - used
    found = _floats(units)
    if store_bytes:
        found["object_store_memory"] = float(store_bytes)
    return found


def _floats(units: dict[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in sorted(units.items())}
