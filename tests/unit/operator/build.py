"""Short ways to what plans look at: clusters, pods, reports, views."""

from __future__ import annotations

from typing import Any

import msgspec

from freehold_operator import names, render
from freehold_operator.facts import DemandFacts, HeadReport, NodeFacts, Plain, PodFacts, parse_set
from freehold_operator.facts import Trouble as Trouble
from freehold_operator.model import Cluster, Meta, parse_cluster
from freehold_operator.render import Defaults
from freehold_operator.view import ClusterView

NOW = 1_000_000.0
DEFAULTS = Defaults(image="freehold/runtime:default")
UID = "uid-of-c"


def group(name: str = "g", **fields: Any) -> dict[str, Any]:
    """A worker group's JSON; one CPU a worker unless told otherwise."""
    return {"name": name, "maxReplicas": 10, **fields}


def cluster(*groups: dict[str, Any], status: dict[str, Any] | None = None, **spec: Any) -> Cluster:
    """A FuturesCluster named c."""
    return parse_cluster(
        {
            "metadata": {"name": "c", "namespace": "n", "uid": UID, "generation": 1},
            "spec": {"workerGroups": list(groups), **spec},
            "status": status or {},
        }
    )


def autoscaled(*groups: dict[str, Any], **rules: Any) -> Cluster:
    """A cluster that follows its queue."""
    return cluster(*groups, autoscaling=rules)


def template_hash(of: Cluster, name: str = "g") -> str:
    """The hash that up-to-date pods of a group carry."""
    found = next((g for g in of.spec.groups if g.name == name), None)
    return render.template_hash(of, found) if found is not None else ""


def pod(
    of: Cluster, ordinal: int = 0, name: str = "g", attempt: int = 0, **fields: Any
) -> PodFacts:
    """A worker's pod: ready, unless told otherwise."""
    state = fields.pop("state", "ready")
    meta = Meta(
        name=names.worker_pod_name("c", UID, name, ordinal, attempt),
        namespace="n",
        uid=fields.pop("uid", f"uid-{name}-{ordinal}-{attempt}"),
        created=fields.pop("created", NOW - 1000),
        deleting=state == "terminating",
        owner_uid=UID,
        owner_kind="FuturesCluster",
    )
    how: dict[str, dict[str, Any]] = {
        "ready": {"phase": "Running", "is_ready": True, "is_scheduled": True, "node": "k"},
        "terminating": {"phase": "Running", "is_ready": True, "node": "k", "grace_s": 75},
        "starting": {"phase": "Pending", "is_scheduled": True, "node": "k"},
        "pending": {"phase": "Pending", "is_scheduled": False},
        "failed": {"phase": "Failed", "node": "k", "exit_code": 1},
    }
    given = {"template_hash": template_hash(of, name), "drain_timeout_s": 60.0}
    return PodFacts(
        meta=meta,
        role=names.ROLE_WORKER,
        group=name,
        ordinal=ordinal,
        attempt=attempt,
        **(given | how[state] | fields),
    )


def head(**fields: Any) -> PodFacts:
    """The head's pod, ready unless told otherwise."""
    meta = Meta(
        name="c-head-0",
        namespace="n",
        uid="uid-head",
        owner_uid="uid-set",
        owner_kind="StatefulSet",
        deleting=fields.pop("deleting", False),
    )
    given: dict[str, Any] = {"phase": "Running", "is_ready": True, "is_scheduled": True}
    given |= {"node": "k", "ip": "10.0.0.9", "revision": "r1"}
    return PodFacts(meta=meta, role=names.ROLE_HEAD, **(given | fields))


def node(of: PodFacts, state: str = "ALIVE", **fields: Any) -> NodeFacts:
    """What the head says of a pod's node; busy unless told otherwise."""
    return NodeFacts(id=f"id-of-{of.meta.uid}", name=of.meta.name, state=state, **fields)


def report(*nodes: NodeFacts, demand: tuple[DemandFacts, ...] = (), told: str = "") -> HeadReport:
    """A head's report."""
    return HeadReport(incarnation=1, nodes=nodes, demand=demand, received=NOW, groups_told=told)


def work(queued: int = 0, running: int = 0, **fields: Any) -> DemandFacts:
    """Work of one CPU a task."""
    resources = fields.pop("resources", {"CPU": 1.0})
    return DemandFacts(resources=resources, queued=queued, running=running, **fields)


def settled(of: Cluster, *pods: PodFacts, **fields: Any) -> ClusterView:
    """A view in which all but the workers is as it should be."""
    replicas = 0 if of.spec.suspend else 1
    manifest = render.stateful_set(of, DEFAULTS, replicas=replicas)
    manifest["metadata"]["uid"] = "uid-set"
    manifest["metadata"]["creationTimestamp"] = "1970-01-12T13:00:00Z"
    manifest["status"] = {"updateRevision": "r1", "observedGeneration": 1}
    plain = Meta(name="x", namespace="n", uid="u", owner_uid=UID)
    given: dict[str, Any] = {
        "pods": (head(), *pods),
        "stateful_set": parse_set(manifest),
        "service": Plain(plain, render.service(of)),
        "account": Plain(plain, render.service_account(of)),
        "has_secrets": True,
    }
    return ClusterView(cluster=of, defaults=DEFAULTS, **(given | fields))


def told_groups(view: ClusterView) -> ClusterView:
    """The view in which the head knows of the groups already."""
    from freehold_operator.actions import SetGroups
    from freehold_operator.plan import plan_cluster

    if view.report is None:
        return view
    found = [a for a in plan_cluster(view, NOW).actions if isinstance(a, SetGroups)]
    if not found:
        return view
    known = msgspec.structs.replace(view.report, groups_told=found[0].hash)
    return msgspec.structs.replace(view, report=known)
