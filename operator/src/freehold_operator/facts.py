"""What there is: objects of the API and a head's report, slimmed to what a plan looks at.

A pod's JSON is some ten kilobytes, most of it field managers; of a thousand pods the cache keeps
these few fields instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from freehold_operator import names
from freehold_operator.model import Json, Meta, parse_meta
from freehold_operator.quantity import parse_time

WAITING_TROUBLE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
    }
)
"""Reasons of a waiting container that do not pass by themselves, or say why one ended before."""

LOST_REASONS = frozenset({"NodeLost", "NodeShutdown"})
DRAIN_MARGIN_S = 15
"""Of a pod's grace period, between the end of its drain and SIGKILL (DESIGN §8)."""

MESSAGE_MAX = 600
"""Characters kept of a pod's own words; a schedulers' list of 1,000 nodes is cut there."""


class Trouble(msgspec.Struct, frozen=True):
    """Why something does not come about, in the words of whoever knows."""

    reason: str
    message: str


class PodFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A pod of ours.

    Attributes:
        grace_s: of a deletion under way, and `gone_by`, when it should be over.
        drain_timeout_s: its own; the spec's may have changed since.
        is_scheduled: None until the scheduler has said anything.
        unscheduled_since: when the scheduler first said that it fits nowhere.
        is_running: the runtime's container runs; whether it serves already is another question.
        ready_since: when it last became ready, or last was.
        failures: how often in a row those that it replaces failed before they had run for long.
        trouble: the pod's own reason for not being ready.
        exit_code: of the runtime's container, once it has ended.
        is_disrupted: Kubernetes ended it for the node's sake: eviction, preemption, a lost node.
    """

    meta: Meta
    role: str = ""
    group: str = ""
    ordinal: int = 0
    attempt: int = 0
    failures: int = 0
    template_hash: str = ""
    revision: str = ""
    phase: str = "Pending"
    grace_s: int | None = None
    gone_by: float | None = None
    drain_timeout_s: float = 0.0
    is_running: bool = False
    is_ready: bool = False
    ready_since: float | None = None
    is_scheduled: bool | None = None
    unscheduled_since: float | None = None
    trouble: Trouble | None = None
    node: str = ""
    ip: str = ""
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    is_disrupted: bool = False
    is_lost: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether none of its containers runs or ever will again."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_living(self) -> bool:
        """Neither ended nor on its way out."""
        return not self.has_ended and not self.meta.deleting


class SetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The head's StatefulSet."""

    meta: Meta
    replicas: int = 0
    applied_hash: str = ""
    update_revision: str = ""
    observed_generation: int = 0
    claim_templates: tuple[dict[str, Any], ...] = ()
    body: dict[str, Any] = {}


class AttemptFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A batch/v1 Job: one attempt of a FuturesJob."""

    meta: Meta
    attempt: int = 0
    started: float | None = None
    finished: float | None = None
    succeeded: bool = False
    failed: bool = False
    reason: str = ""
    message: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether it is complete or failed for good."""
        return self.succeeded or self.failed


class Plain(msgspec.Struct, frozen=True):
    """A small object that is compared with what it should be: its JSON without the server's own."""

    meta: Meta
    body: dict[str, Any]


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the head reports it; `state` is one of ALIVE, DRAINING, DRAINED, DEAD."""

    id: str
    name: str
    state: str = "ALIVE"
    is_head: bool = False
    idle_s: float = 0.0
    actors: int = 0
    drivers: int = 0
    reason: str = ""
    total: dict[str, float] = {}


class DemandFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one shape."""

    resources: dict[str, float] = {}
    labels: dict[str, str] = {}
    queued: int = 0
    running: int = 0
    oldest_s: float = 0.0
    infeasible: bool = False
    reason: str = ""


class HeadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the control service last told, and what it was last told of the groups.

    Attributes:
        received: when its last frame came.
        groups_told: hash of the groups this incarnation was given; empty before.
    """

    incarnation: int = 0
    nodes: tuple[NodeFacts, ...] = ()
    demand: tuple[DemandFacts, ...] = ()
    received: float = 0.0
    groups_told: str = ""


def _conditions(body: Json) -> dict[str, Json]:
    found = (body.get("status") or {}).get("conditions") or ()
    return {c.get("type", ""): c for c in found}


def _cut(text: Any) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= MESSAGE_MAX else words[: MESSAGE_MAX - 1] + "…"


def _container_states(body: Json) -> Iterator[Json]:
    status = body.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(key) or ()


def _ended_trouble(body: Json) -> Trouble | None:
    status = body.get("status") or {}
    for container in _container_states(body):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode", 0) != 0 or ended.get("reason") == "OOMKilled":
            words = ended.get("message") or f"exit code {ended.get('exitCode')}"
            reason = ended.get("reason") or "Error"
            return Trouble(reason, _cut(f"container {container.get('name')}: {words}"))
    if status.get("phase") == "Failed":
        return Trouble(status.get("reason") or "Failed", _cut(status.get("message")))
    return None


def _pod_trouble(body: Json, conditions: dict[str, Json]) -> Trouble | None:
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        reason = scheduled.get("reason") or "Unschedulable"
        return Trouble(reason, _cut(scheduled.get("message")))
    for container in _container_states(body):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in WAITING_TROUBLE:
            last = (container.get("lastState") or {}).get("terminated") or {}
            words = waiting.get("message") or waiting["reason"]
            if last:
                words += f" (ended before with exit code {last.get('exitCode')})"
            return Trouble(waiting["reason"], _cut(f"container {container.get('name')}: {words}"))
    return _ended_trouble(body)


def _runtime_container(body: Json) -> Json:
    found = (body.get("status") or {}).get("containerStatuses") or ()
    return next((c for c in found if c.get("name") == names.CONTAINER), {})


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def parse_pod(body: Json) -> PodFacts:
    """A pod's facts from its JSON."""
    meta = parse_meta(body)
    status, spec = body.get("status") or {}, body.get("spec") or {}
    notes = body["metadata"].get("annotations") or {}
    conditions = _conditions(body)
    scheduled, ready = conditions.get("PodScheduled", {}), conditions.get("Ready", {})
    container = _runtime_container(body)
    ended = (container.get("state") or {}).get("terminated") or {}
    running = (container.get("state") or {}).get("running") or {}
    is_unscheduled = scheduled.get("status") == "False"
    return PodFacts(
        meta=meta,
        role=meta.labels.get(names.LABEL_ROLE, ""),
        group=meta.labels.get(names.LABEL_GROUP, ""),
        ordinal=_number(notes.get(names.ANNOTATION_ORDINAL)),
        attempt=_number(meta.labels.get(names.LABEL_ATTEMPT)),
        failures=_number(notes.get(names.ANNOTATION_FAILURES)),
        template_hash=notes.get(names.ANNOTATION_TEMPLATE, ""),
        revision=meta.labels.get("controller-revision-hash", ""),
        phase=status.get("phase", "Pending"),
        grace_s=body["metadata"].get("deletionGracePeriodSeconds"),
        gone_by=parse_time(body["metadata"].get("deletionTimestamp")),
        drain_timeout_s=max(0.0, spec.get("terminationGracePeriodSeconds", 30) - DRAIN_MARGIN_S),
        is_running=bool(running),
        is_ready=ready.get("status") == "True",
        ready_since=parse_time(ready.get("lastTransitionTime")),
        is_scheduled=None if not scheduled else scheduled.get("status") == "True",
        unscheduled_since=parse_time(scheduled.get("lastTransitionTime"))
        if is_unscheduled
        else None,
        trouble=_pod_trouble(body, conditions),
        node=spec.get("nodeName", ""),
        ip=status.get("podIP", ""),
        exit_code=ended.get("exitCode"),
        started=parse_time(ended.get("startedAt") or running.get("startedAt")),
        finished=parse_time(ended.get("finishedAt")),
        is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        is_lost=status.get("phase") == "Unknown" or status.get("reason") in LOST_REASONS,
    )


def parse_set(body: Json) -> SetFacts:
    """The facts of the head's StatefulSet."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    return SetFacts(
        meta=parse_meta(body),
        replicas=spec.get("replicas", 1),
        update_revision=status.get("updateRevision", ""),
        observed_generation=status.get("observedGeneration", 0),
        claim_templates=tuple(spec.get("volumeClaimTemplates") or ()),
        body=_without_server_fields(body),
    )


def parse_attempt(body: Json) -> AttemptFacts:
    """The facts of a batch/v1 Job."""
    meta = parse_meta(body)
    status = body.get("status") or {}
    conditions = _conditions(body)
    complete, failed = conditions.get("Complete", {}), conditions.get("Failed", {})
    is_complete, is_failed = complete.get("status") == "True", failed.get("status") == "True"
    told = complete if is_complete else failed
    return AttemptFacts(
        meta=meta,
        attempt=_number(meta.labels.get(names.LABEL_ATTEMPT)),
        started=parse_time(status.get("startTime")),
        finished=parse_time(told.get("lastTransitionTime")) if is_complete or is_failed else None,
        succeeded=is_complete,
        failed=is_failed,
        reason=told.get("reason", ""),
        message=_cut(told.get("message")),
    )


def _without_server_fields(body: Json) -> dict[str, Any]:
    kept = {key: value for key, value in body.items() if key != "status"}
    kept["metadata"] = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    return kept


def parse_plain(body: Json) -> Plain:
    """A Service, ServiceAccount or claim as it is, without status and field managers."""
    return Plain(parse_meta(body), _without_server_fields(body))
