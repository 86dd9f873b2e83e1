"""What a FuturesCluster's status says: conditions, counts per group, the queue.

Made anew from what is observed each time and compared with what is there: an unchanged status is
not written. Conditions are observations, never states that a later plan depends on; of the status
only each group's `desired` is read back, when the head cannot be asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold_operator import backoff, names
from freehold_operator.conditions import Condition, written
from freehold_operator.facts import PodFacts, Trouble
from freehold_operator.quantity import format_time
from freehold_operator.scaling import Limit, Targets
from freehold_operator.supply import State, Worker
from freehold_operator.view import ClusterView, Refusal

NODE_LOST_S = 30.0
"""Past the end of its grace period, a head pod that is still there says that its machine is gone.
"""


CONNECT_S = 15.0
"""After a head became ready, until its report is missed."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What planning found out beside actions."""

    workers: tuple[Worker, ...]
    targets: Targets
    limit: Limit | None = None
    refused_fields: tuple[str, ...] = ()
    waits_for_head: bool = False
    waits_for_actors: int = 0


def head_pod(view: ClusterView) -> PodFacts | None:
    """The head's pod, if it is there."""
    return next((p for p in view.pods if p.role == names.ROLE_HEAD), None)


def _is_stopped(view: ClusterView) -> bool:
    return view.cluster.spec.suspend or view.cluster.meta.deleting


_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def _lost_head(pod: PodFacts) -> Condition:
    node, name = pod.node or "its node", pod.meta.name
    return Condition(
        "HeadReady",
        False,
        "NodeLost",
        f"pod {name} cannot be ended because node {node} does not answer, and a second head "
        f"beside it would harm the cluster: bring the node back, or, once it is certainly off, "
        f"tell Kubernetes: kubectl taint node {node} {_OUT_OF_SERVICE}; "
        "running jobs go on meanwhile",
    )


def head_condition(view: ClusterView, now: float) -> Condition:
    """Whether the head serves, and if not, the pod's own reason."""
    pod = head_pod(view)
    if _is_stopped(view):
        return Condition("HeadReady", False, "Suspended", "the cluster is suspended")
    for key in ("Secret", "Service", "ServiceAccount", "StatefulSet", "PersistentVolumeClaim"):
        if key in view.refusals:
            trouble = view.refusals[key].trouble
            return Condition("HeadReady", False, trouble.reason, trouble.message)
    if pod is None:
        if "CheckPod" in view.refusals:
            trouble = view.refusals["CheckPod"].trouble
            return Condition("HeadReady", False, trouble.reason, trouble.message)
        return Condition("HeadReady", False, "Starting", "the head's pod is being created")
    if pod.meta.deleting and pod.gone_by is not None and now > pod.gone_by + NODE_LOST_S:
        return _lost_head(pod)
    if pod.is_lost:
        return _lost_head(pod)
    if pod.meta.deleting:
        return Condition("HeadReady", False, "Restarting", f"pod {pod.meta.name} is ending")
    if pod.is_ready or (pod.is_running and view.report is not None):
        # It has spoken to the operator: the readiness probe's next look need not be waited for.
        return Condition("HeadReady", True, "Serving", f"pod {pod.meta.name} serves")
    if pod.trouble is not None:
        message = f"pod {pod.meta.name}: {pod.trouble.message}"
        return Condition("HeadReady", False, pod.trouble.reason, message)
    return Condition("HeadReady", False, "Starting", f"pod {pod.meta.name} is starting")


def _trouble(workers: Sequence[Worker], refusal: Refusal | None) -> Trouble | None:
    """A group's trouble: the refusal to make pods, or what most of its pods suffer from."""
    if refusal is not None:
        return refusal.trouble
    told = [(w, found) for w in workers if (found := _pods_trouble(w)) is not None]
    if not told:
        return None
    count = Counter(found.reason for _, found in told)
    reason = min(count.items(), key=lambda item: (-item[1], item[0]))[0]
    first, found = min((one for one in told if one[1].reason == reason), key=lambda o: o[0].name)
    return Trouble(reason, f"pod {first.name}: {found.message}")


def _pods_trouble(worker: Worker) -> Trouble | None:
    """A missing worker's own words; of one that ended also when the next try is, and from the
    second failure in a row on that it is a loop."""
    trouble = worker.pod.trouble
    if worker.state is not State.ENDED:
        return trouble if worker.state in _MISSING else None
    if trouble is None:
        trouble = Trouble("Completed", "its program has ended with exit code 0")
    failures = backoff.failures(worker)
    if not failures:
        return trouble
    due = format_time(backoff.retry_at(worker))
    if failures == 1:
        return Trouble(trouble.reason, f"{trouble.message}; it is made again at {due}")
    words = f"{trouble.message}; it failed {failures} times in a row, the next try is at {due}"
    return Trouble(LOOP_REASON, words)


LOOP_REASON = "CrashLoopBackOff"
"""Of a group whose workers fail again and again, in the word that Kubernetes has for it."""

_MISSING = (State.PENDING, State.STARTING)


def group_status(
    name: str, workers: Sequence[Worker], targets: Targets, refusal: Refusal | None
) -> dict[str, Any]:
    """The counts of one group."""
    count = Counter(w.state for w in workers)
    found: dict[str, Any] = {
        "name": name,
        "desired": targets.desired.get(name, 0),
        "replicas": sum(w.pod.is_living for w in workers),
        "ready": count[State.READY],
        "pending": sum(w.is_supply for w in workers) - count[State.READY],
        "draining": count[State.DRAINING] + count[State.DRAINED],
    }
    if name in targets.found:
        found["target"] = targets.found[name]
    trouble = _trouble(workers, refusal)
    if trouble is not None and found["ready"] < found["desired"]:
        found["reason"], found["message"] = trouble.reason, trouble.message
    if refusal is not None:
        found["unavailableUntil"] = format_time(refusal.until)
    return found


def _groups(view: ClusterView, findings: Findings) -> list[dict[str, Any]]:
    listed = [group.name for group in view.cluster.spec.groups]
    others = sorted({w.pod.group for w in findings.workers} - set(listed))
    return [
        group_status(
            name,
            [w for w in findings.workers if w.pod.group == name],
            findings.targets,
            view.refusals.get(f"Pod/{name}"),
        )
        for name in (*listed, *others)
    ]


def _workers_condition(groups: Sequence[Mapping[str, Any]], *, is_stopped: bool) -> Condition:
    if is_stopped:
        return Condition("WorkersReady", False, "Suspended", "the cluster is suspended")
    missing = [g for g in groups if g["ready"] < g["desired"]]
    if not missing:
        total = sum(g["ready"] for g in groups)
        return Condition("WorkersReady", True, "AllReady", f"{total} workers take tasks")
    worst = next((g for g in missing if "reason" in g), missing[0])
    counts = ", ".join(f"{g['name']} has {g['ready']} of {g['desired']}" for g in missing)
    words = f": {worst['message']}" if "message" in worst else ""
    return Condition("WorkersReady", False, worst.get("reason", "Starting"), counts + words)


def blind_from(view: ClusterView, findings: Findings) -> float | None:
    """When the head's silence became, or becomes, worth telling; None while it is not missed."""
    if view.report is not None or view.cluster.spec.autoscaling is None or _is_stopped(view):
        return None
    if not any(w.state is State.READY for w in findings.workers):
        return None
    pod = head_pod(view)
    if pod is None or not pod.is_ready or pod.ready_since is None:
        return 0.0
    return pod.ready_since + CONNECT_S


def _limit_condition(view: ClusterView, findings: Findings, now: float) -> Condition:
    blind = blind_from(view, findings)
    if findings.waits_for_head or (blind is not None and now >= blind):
        return Condition(
            "ScalingLimited",
            True,
            "HeadUnreachable",
            "the head does not answer: no worker is taken away until it does",
        )
    limit = findings.limit or findings.targets.limit
    if limit is not None:
        return Condition("ScalingLimited", True, limit.reason, limit.message)
    if findings.waits_for_actors:
        return Condition(
            "ScalingLimited",
            True,
            "WorkersInUse",
            f"{findings.waits_for_actors} workers too many run actors or drivers, and are not "
            "drained before those end",
        )
    return Condition("ScalingLimited", False, "NotLimited")


def _degraded_condition(view: ClusterView, findings: Findings, head: Condition) -> Condition:
    told: list[tuple[str, str]] = []
    if head.reason == "NodeLost":
        told.append((head.reason, head.message))
    for key in sorted(view.refusals):
        trouble = view.refusals[key].trouble
        told.append((trouble.reason, f"{key}: {trouble.message}"))
    if findings.refused_fields:
        words = "; ".join(findings.refused_fields)
        told.append(("TemplateFieldsRefused", f"left out of the pods: {words}"))
    if not told:
        return Condition("Degraded", False, "AsExpected")
    return Condition("Degraded", True, told[0][0], "; ".join(words for _, words in told))


def _progress_condition(
    view: ClusterView, findings: Findings, head: Condition, groups: Sequence[Mapping[str, Any]]
) -> Condition:
    if _is_stopped(view):
        left = sum(p.role in (names.ROLE_HEAD, names.ROLE_WORKER) for p in view.pods)
        if left:
            return Condition("Progressing", True, "Suspending", f"{left} pods are ending")
        return Condition("Progressing", False, "Suspended", "all pods are gone")
    if not head.holds:
        return Condition("Progressing", True, "HeadStarting", head.message)
    if any(g["ready"] < g["desired"] for g in groups):
        return Condition("Progressing", True, "WorkersStarting", "workers are on their way")
    is_leaving = any(w.state in (State.DRAINING, State.DRAINED) for w in findings.workers)
    if is_leaving or any(g["replicas"] > g["desired"] for g in groups):
        return Condition("Progressing", True, "ScalingDown", "workers are leaving")
    return Condition("Progressing", False, "Settled", "everything is as it should be")


def _ready_condition(head: Condition, workers: Condition, *, is_stopped: bool) -> Condition:
    if is_stopped:
        return Condition("Ready", False, "Suspended", "the cluster is suspended")
    for part in (head, workers):
        if not part.holds:
            return Condition("Ready", False, part.reason, part.message)
    return Condition("Ready", True, "Ready", "the head serves and all workers take tasks")


def _last_scale(
    view: ClusterView, groups: Sequence[Mapping[str, Any]], targets: Targets, now: float
) -> dict[str, Any] | None:
    before = {g["name"]: g.get("desired", 0) for g in view.cluster.status.get("groups") or ()}
    for group in groups:
        old = before.get(group["name"], 0)
        if group["desired"] != old:
            return {
                "time": format_time(now),
                "group": group["name"],
                "from": old,
                "to": group["desired"],
                "reason": targets.why,
            }
    return view.cluster.status.get("lastScale")


def _queue(view: ClusterView) -> dict[str, int] | None:
    if view.report is None:
        return None
    demand = view.report.demand
    waiting = [d.oldest_s for d in demand if d.queued]
    found = {"queued": sum(d.queued for d in demand), "running": sum(d.running for d in demand)}
    if waiting:
        found["oldestSeconds"] = int(max(waiting))
    return found


def _head_status(view: ClusterView, head: Condition) -> dict[str, Any] | None:
    pod = head_pod(view)
    if pod is None:
        return None
    found: dict[str, Any] = {"podName": pod.meta.name, "ready": head.holds}
    if pod.ip:
        found["podIP"] = pod.ip
    if pod.node:
        found["nodeName"] = pod.node
    if view.report is not None:
        found["incarnation"] = view.report.incarnation
    return found


def cluster_status(view: ClusterView, findings: Findings, now: float) -> dict[str, Any]:
    """The whole status."""
    meta = view.cluster.meta
    is_stopped = _is_stopped(view)
    groups = _groups(view, findings)
    head = head_condition(view, now)
    workers = _workers_condition(groups, is_stopped=is_stopped)
    left = [p for p in view.pods if p.role in (names.ROLE_HEAD, names.ROLE_WORKER)]
    suspended = Condition("Suspended", False, "Running")
    if view.cluster.spec.suspend:
        suspended = Condition("Suspended", not left, "Suspending" if left else "Suspended")
    conditions = [
        _ready_condition(head, workers, is_stopped=is_stopped),
        head,
        workers,
        _progress_condition(view, findings, head, groups),
        suspended,
        _limit_condition(view, findings, now),
        _degraded_condition(view, findings, head),
    ]
    selector = {names.LABEL_CLUSTER: meta.name, names.LABEL_ROLE: names.ROLE_WORKER}
    optional = {
        "queue": _queue(view),
        "lastScale": _last_scale(view, groups, findings.targets, now),
        "head": _head_status(view, head),
    }
    before = view.cluster.status.get("conditions") or ()
    return {
        "observedGeneration": meta.generation,
        "conditions": written(conditions, before, meta.generation, now),
        "clusterId": names.cluster_id(meta.uid),
        "replicas": sum(g["replicas"] for g in groups),
        "readyReplicas": sum(g["ready"] for g in groups),
        "desiredReplicas": sum(g["desired"] for g in groups),
        "selector": ",".join(f"{k}={v}" for k, v in selector.items()),
        "groups": groups,
        "endpoints": {"control": names.control_address(meta.name, meta.namespace)},
    } | {key: value for key, value in optional.items() if value is not None}


def without_figures(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without what changes all the time: two that differ in nothing else need not both be
    written at once."""
    return {key: value for key, value in status.items() if key != "queue"}
