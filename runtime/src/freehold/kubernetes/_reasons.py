"""Why something does not come about, and where a job stands: read from objects of the API. Pure.

A pod's own words come first (they are there the moment the kubelet or the scheduler has written
them), then the operator's conditions, which also know of what no pod exists for: a quota, a
template that the API server refuses. `Patience` decides when a trouble is no passing one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from freehold.kubernetes._objects import LABEL_ATTEMPT, LABEL_ROLE, Manifest

WAITING_TROUBLE = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RegistryUnavailable",
        "RunContainerError",
    }
)
"""Of a waiting container; others (ContainerCreating, PodInitializing) are the way of the world."""

UNDER_WAY = frozenset({"", "Starting", "Restarting", "Ready", "Serving", "AllReady"})
"""Reasons of the operator's conditions that are none for worry."""

FORGIVEN_S = 10.0
"""So long without trouble, and an earlier one counts no more: reasons of one failure alternate."""


class Trouble(NamedTuple):
    """A reason, in one word and in the words of whoever found it.

    Attributes:
        pod: whose it is, if a pod's.
        container: of it, if it ran and has a log that tells more.
        is_previous: whether that log is of the container before the one that waits.
    """

    reason: str
    detail: str
    pod: str = ""
    container: str = ""
    is_previous: bool = False


class Patience:
    """Tells a trouble that stays from one that passes.

    Args:
        limit_s: how long it may last.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None
        self._last_seen = 0.0
        self.last: Trouble | None = None

    def is_over(self, trouble: Trouble | None, now: float) -> bool:
        """Note what is wrong now, if anything; whether it was so for too long."""
        if trouble is not None:
            self._since = now if self._since is None else self._since
            self._last_seen, self.last = now, trouble
        elif now - self._last_seen > FORGIVEN_S:
            self._since = self.last = None
        return self._since is not None and now - self._since >= self._limit_s


def condition(body: Manifest, type_: str) -> dict[str, Any]:
    """A condition of an object's status; empty if it has none of that type."""
    for found in (body.get("status") or {}).get("conditions") or ():
        if found.get("type") == type_:
            return dict(found)
    return {}


def holds(body: Manifest, type_: str) -> bool:
    """Whether a condition is True."""
    return bool(condition(body, type_).get("status") == "True")


def _containers(pod: Manifest) -> Iterator[Manifest]:
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or ()


def pod_trouble(pod: Manifest) -> Trouble | None:
    """What keeps a pod from running, in its own words; None if nothing does yet."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        reason = scheduled.get("reason") or "Unschedulable"
        return Trouble(reason, scheduled.get("message") or "no node takes it", name)
    for container in _containers(pod):
        found = _container_trouble(name, container)
        if found is not None:
            return found
    if status.get("phase") == "Failed":
        return Trouble(status.get("reason") or "Failed", status.get("message") or "it failed", name)
    return None


def _container_trouble(pod: str, container: Manifest) -> Trouble | None:
    state, name = container.get("state") or {}, container.get("name", "")
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    if waiting.get("reason") in WAITING_TROUBLE:
        before = (container.get("lastState") or {}).get("terminated") or {}
        words = waiting.get("message") or f"container {name} waits"
        if not before:
            return Trouble(waiting["reason"], words, pod)
        words += f" (it ended before with exit code {before.get('exitCode')})"
        return Trouble(waiting["reason"], words, pod, name, is_previous=True)
    if ended and (ended.get("exitCode", 0) != 0 or ended.get("reason") == "OOMKilled"):
        words = f"container {name} ended with exit code {ended.get('exitCode')}"
        if ended.get("message"):
            words += f": {ended['message']}"
        return Trouble(ended.get("reason") or "Error", words, pod, name)
    return None


def _is_of_cluster(pod: Manifest) -> bool:
    metadata = pod["metadata"]
    role = (metadata.get("labels") or {}).get(LABEL_ROLE)
    return role in ("head", "worker") and "deletionTimestamp" not in metadata


def cluster_trouble(cluster: Manifest, pods: Sequence[Manifest]) -> Trouble | None:
    """Why a cluster is not ready: the head's pod first, then the workers', then its conditions."""
    mine = [pod for pod in pods if _is_of_cluster(pod)]
    for pod in sorted(mine, key=lambda p: p["metadata"]["labels"][LABEL_ROLE] != "head"):
        found = pod_trouble(pod)
        if found is not None:
            return found
    if not is_seen(cluster):
        return Trouble(
            "NotSeen",
            "no operator has looked at it yet: does one run (kubectl get deploy -A -l "
            "app.kubernetes.io/name=freehold), and does it watch this namespace?",
        )
    for type_ in ("HeadReady", "WorkersReady", "Degraded"):
        told = condition(cluster, type_)
        is_wrong = told.get("status") == ("True" if type_ == "Degraded" else "False")
        if is_wrong and told.get("reason") not in UNDER_WAY:
            return Trouble(told["reason"], told.get("message") or "the operator says no more")
    return None


def is_seen(body: Manifest) -> bool:
    """Whether the operator has seen an object as it is now."""
    seen = (body.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= body["metadata"].get("generation", 1))


def is_ready(cluster: Manifest, workers: int | None = None) -> bool:
    """Whether a cluster is as its spec says, and has that many workers if a number is given."""
    ready = (cluster.get("status") or {}).get("readyReplicas")
    return is_seen(cluster) and holds(cluster, "Ready") and workers in (None, ready)


def cluster_progress(cluster: Manifest, trouble: Trouble | None) -> str:
    """How far a cluster is, in a line."""
    status = cluster.get("status") or {}
    head = "head ready" if holds(cluster, "HeadReady") else "head starting"
    count = f"{status.get('readyReplicas', 0)} of {status.get('desiredReplicas', '?')} workers"
    words = "" if trouble is None else f" – {trouble.reason}: {trouble.detail}"
    return f"{head}, {count}{words}"


@dataclasses.dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands.

    Attributes:
        state: ``"Pending"``, ``"Running"``, ``"Suspended"``, ``"Complete"`` or ``"Failed"``.
        reason: why, in one word.
        message: why, for people.
        exit_code: of the last attempt that ended; None if there is none.
        attempts: times that the driver was started.

    Example:
        >>> JobStatus("Failed", "ProgramFailed", "exit code 3", 3, 1).is_finished
        True
    """

    state: str
    reason: str
    message: str
    exit_code: int | None
    attempts: int

    @property
    def is_finished(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("Complete", "Failed")


def job_status(job: Manifest) -> JobStatus:
    """Where a job stands, from its conditions."""
    status = job.get("status") or {}
    result = status.get("result") or {}
    for type_ in ("Complete", "Failed", "Suspended", "Running"):
        told = condition(job, type_)
        is_pending = type_ == "Running" and told.get("reason") not in (None, "NotRunning")
        if told.get("status") == "True" or is_pending:
            state = type_ if told["status"] == "True" else "Pending"
            reason, words = told.get("reason", ""), told.get("message", "")
            if state in ("Complete", "Failed"):
                reason, words = result.get("reason", reason), result.get("message", words)
            break
    else:
        state, reason, words = "Pending", "Starting", "the operator is about to start it"
        if not is_seen(job):
            reason, words = "NotSeen", "no operator has looked at it yet"
    return JobStatus(state, reason, words, result.get("exitCode"), status.get("attempts", 0))


def driver_pod(pods: Sequence[Manifest], attempt: int) -> Manifest | None:
    """The pod of an attempt; the newest if there are several."""
    mine = [p for p in pods if p["metadata"]["labels"].get(LABEL_ATTEMPT) == str(attempt)]
    return max(mine, key=lambda p: p["metadata"].get("creationTimestamp", ""), default=None)


def container_state(pod: Manifest, container: str) -> tuple[str, dict[str, Any]]:
    """``"waiting"``, ``"running"`` or ``"terminated"`` of a container, and what is told of it."""
    for found in (pod.get("status") or {}).get("containerStatuses") or ():
        if found.get("name") == container:
            for state, told in (found.get("state") or {}).items():
                return state, told or {}
    return "waiting", {}
