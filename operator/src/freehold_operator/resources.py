"""What a pod offers to tasks: logical resources from the container's limits, the arena within them.

A container's limits (requests where there is none) say CPU, GPUs and memory; the object store's
arena is taken out of the memory, as its pages count to the container. `resources.logical` overrides
and adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from freehold_operator.model import Resources
from freehold_operator.quantity import parse_quantity, plain_number

ARENA_FRACTION = Decimal("0.3")
"""Of the memory limit, as a node on a machine takes it (DESIGN §4)."""

GPU_SUFFIX = "/gpu"
"""Of extended resources that count as GPU: nvidia.com/gpu, amd.com/gpu, gpu.intel.com/… name
theirs."""


class Offer(msgspec.Struct, frozen=True):
    """What one pod offers.

    Attributes:
        resources: by name as tasks ask for them: CPU, GPU, memory (bytes), custom ones.
        object_store_bytes: the arena; None if the node is to decide by its cgroup.
        labels: of the node.
    """

    resources: dict[str, int | float]
    object_store_bytes: int | None
    labels: dict[str, str] = {}


def container_resources(
    given: Resources, template: Mapping[str, Any], default: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """A container's `resources`: the template's, over the spec's, over the default.

    A request is set where a user said one, and else equals its limit: a pod that gets what it may
    use is not the first to be evicted. The default holds only for what nothing is said about.
    """
    theirs = template.get("resources") or {}
    limits = dict(given.limits) | dict(theirs.get("limits") or {})
    requests = dict(given.requests) | dict(theirs.get("requests") or {})
    for name, value in default.items():
        if name not in limits and name not in requests:
            limits[name] = value
    for name, value in limits.items():
        requests.setdefault(name, value)
    found: dict[str, dict[str, Any]] = {"limits": limits, "requests": requests}
    return found | {k: v for k, v in theirs.items() if k not in found}


def offer(
    container: Mapping[str, Any],
    logical: Mapping[str, Any],
    store: str | None,
    labels: Mapping[str, str],
) -> Offer:
    """What a pod with this container offers."""
    limits, requests = container.get("limits") or {}, container.get("requests") or {}
    physical = {**requests, **limits}
    found: dict[str, Decimal] = {}
    if "cpu" in physical:
        found["CPU"] = parse_quantity(physical["cpu"])
    gpus = sum(parse_quantity(v) for k, v in physical.items() if k.endswith(GPU_SUFFIX))
    if gpus:
        found["GPU"] = Decimal(gpus)
    arena = parse_quantity(store) if store is not None else None
    if "memory" in physical:
        memory = parse_quantity(physical["memory"])
        if arena is None:
            arena = (memory * ARENA_FRACTION).to_integral_value()
        found["memory"] = max(Decimal(0), memory - arena)
    for name, value in logical.items():
        found[name] = parse_quantity(value)
    return Offer(
        {name: plain_number(value) for name, value in sorted(found.items())},
        None if arena is None else int(arena),
        dict(labels),
    )
