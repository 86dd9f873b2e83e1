"""What users ask for: a FuturesCluster's and a FuturesJob's spec, as values.

The CRD's schema has set defaults and refused what cannot work before the operator sees an object;
what is read here repeats its defaults only so that a plan can be made from a short spec in a test,
and so that an object written under an older schema still means something. Templates stay the plain
JSON they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from freehold_operator.quantity import parse_time

Json = Mapping[str, Any]

DRAIN_TIMEOUT_S = 60
IDLE_TIMEOUT_S = 60
PENDING_TIMEOUT_S = 300
UNLIMITED = 10_000
"""Workers of a group without maxReplicas: the schema's own upper bound."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What all objects have."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    resource_version: str = ""
    created: float = 0.0
    deleting: bool = False
    owner_uid: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    labels: dict[str, str] = {}


class Resources(msgspec.Struct, frozen=True):
    """A container's requests and limits, and what it offers to tasks under other figures."""

    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    logical: dict[str, Any] = {}


class Storage(msgspec.Struct, frozen=True):
    """The head's volume; size "0" is none."""

    size: str = "1Gi"
    storage_class: str | None = None
    retain: bool = False

    @property
    def is_volume(self) -> bool:
        """Whether there is one at all."""
        return self.size != "0"


class HeadSpec(msgspec.Struct, frozen=True):
    """The pod of the control service."""

    resources: Resources = Resources()
    storage: Storage = Storage()
    runs_tasks: bool = False
    template: dict[str, Any] = {}


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A group of equal workers."""

    name: str
    replicas: int | None = None
    min_replicas: int = 0
    max_replicas: int = UNLIMITED
    priority: int = 0
    resources: Resources = Resources()
    labels: dict[str, str] = {}
    object_store: str | None = None
    drain_timeout_s: int = DRAIN_TIMEOUT_S
    template: dict[str, Any] = {}

    def clamp(self, count: int) -> int:
        """The count, or what is nearest to it within the group's bounds."""
        return max(self.min_replicas, min(self.max_replicas, count))


class Autoscaling(msgspec.Struct, frozen=True, kw_only=True):
    """How groups follow the queue; absent from a spec when it is off."""

    dry_run: bool = False
    target_queue_per_slot: int = 1
    pending_timeout_s: int = PENDING_TIMEOUT_S
    stabilization_s: int = 0
    max_pending: int | None = None
    idle_timeout_s: int = IDLE_TIMEOUT_S
    max_draining: int | None = None


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesCluster's spec."""

    image: str | None = None
    suspend: bool = False
    replicas: int | None = None
    head: HeadSpec = HeadSpec()
    groups: tuple[GroupSpec, ...] = ()
    autoscaling: Autoscaling | None = None

    @property
    def is_autoscaled(self) -> bool:
        """Whether groups are changed by the queue, not merely reported on."""
        return self.autoscaling is not None and not self.autoscaling.dry_run

    def fixed_replicas(self, group: GroupSpec) -> int:
        """Workers of a group whose size a user sets: its own, the cluster's, or one."""
        wanted = group.replicas if group.replicas is not None else self.replicas
        return group.clamp(1 if wanted is None else wanted)


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesCluster: who it is, what it should be, and what was last said of it."""

    meta: Meta
    spec: ClusterSpec
    status: dict[str, Any] = {}
    deletes_workers: bool = False
    """Its job ended with the policy DeleteWorkers: no workers from now on."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesJob's spec."""

    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[dict[str, Any], ...] = ()
    working_dir: dict[str, Any] = {}
    cluster_ref: str | None = None
    cluster_template: dict[str, Any] | None = None
    driver: dict[str, Any] = {}
    suspend: bool = False
    backoff_limit: int = 0
    max_disruptions: int = 3
    active_deadline_s: int | None = None
    ttl_s: int | None = None
    on_success: str = "DeleteCluster"
    on_failure: str = "DeleteCluster"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesJob."""

    meta: Meta
    spec: JobSpec
    status: dict[str, Any] = {}


def parse_meta(body: Json) -> Meta:
    """The metadata of any object."""
    raw = body.get("metadata", {})
    owner: Json = next((o for o in raw.get("ownerReferences", ()) if o.get("controller")), {})
    return Meta(
        name=raw.get("name", ""),
        namespace=raw.get("namespace", ""),
        uid=raw.get("uid", ""),
        generation=raw.get("generation", 0),
        resource_version=raw.get("resourceVersion", ""),
        created=parse_time(raw.get("creationTimestamp")) or 0.0,
        deleting="deletionTimestamp" in raw,
        owner_uid=owner.get("uid", ""),
        owner_kind=owner.get("kind", ""),
        owner_name=owner.get("name", ""),
        labels=dict(raw.get("labels") or {}),
    )


def _resources(raw: Json | None) -> Resources:
    raw = raw or {}
    return Resources(*(dict(raw.get(key) or {}) for key in ("requests", "limits", "logical")))


def _head(raw: Json) -> HeadSpec:
    storage = raw.get("storage") or {}
    return HeadSpec(
        resources=_resources(raw.get("resources")),
        storage=Storage(
            str(storage.get("size", "1Gi")),
            storage.get("storageClassName"),
            bool(storage.get("retain")),
        ),
        runs_tasks=bool(raw.get("runsTasks")),
        template=dict(raw.get("template") or {}),
    )


def _group(raw: Json) -> GroupSpec:
    drain = raw.get("drain") or {}
    return GroupSpec(
        name=raw["name"],
        replicas=raw.get("replicas"),
        min_replicas=raw.get("minReplicas", 0),
        max_replicas=raw.get("maxReplicas", UNLIMITED),
        priority=raw.get("priority", 0),
        resources=_resources(raw.get("resources")),
        labels=dict(raw.get("labels") or {}),
        object_store=(raw.get("objectStore") or {}).get("size"),
        drain_timeout_s=drain.get("timeoutSeconds", DRAIN_TIMEOUT_S),
        template=dict(raw.get("template") or {}),
    )


def _autoscaling(raw: Json | None) -> Autoscaling | None:
    if raw is None or not raw.get("enabled", True):
        return None
    up, down = raw.get("upscaling") or {}, raw.get("downscaling") or {}
    return Autoscaling(
        dry_run=bool(raw.get("dryRun")),
        target_queue_per_slot=raw.get("targetQueuePerSlot", 1),
        pending_timeout_s=raw.get("pendingTimeoutSeconds", PENDING_TIMEOUT_S),
        stabilization_s=up.get("stabilizationSeconds", 0),
        max_pending=up.get("maxPending"),
        idle_timeout_s=down.get("idleTimeoutSeconds", IDLE_TIMEOUT_S),
        max_draining=down.get("maxDraining"),
    )


def parse_cluster(body: Json) -> Cluster:
    """A FuturesCluster from its JSON."""
    spec = body.get("spec") or {}
    return Cluster(
        meta=parse_meta(body),
        spec=ClusterSpec(
            image=spec.get("image"),
            suspend=bool(spec.get("suspend")),
            replicas=spec.get("replicas"),
            head=_head(spec.get("head") or {}),
            groups=tuple(_group(group) for group in spec.get("workerGroups") or ()),
            autoscaling=_autoscaling(spec.get("autoscaling")),
        ),
        status=dict(body.get("status") or {}),
    )


def parse_job(body: Json) -> Job:
    """A FuturesJob from its JSON."""
    spec = body.get("spec") or {}
    policy = spec.get("deletionPolicy") or {}
    return Job(
        meta=parse_meta(body),
        spec=JobSpec(
            command=tuple(spec.get("command") or ()),
            entrypoint=spec.get("entrypoint"),
            args=tuple(spec.get("args") or ()),
            env=tuple(spec.get("env") or ()),
            working_dir=dict(spec.get("workingDir") or {}),
            cluster_ref=(spec.get("clusterRef") or {}).get("name"),
            cluster_template=spec.get("clusterTemplate"),
            driver=dict(spec.get("driver") or {}),
            suspend=bool(spec.get("suspend")),
            backoff_limit=spec.get("backoffLimit", 0),
            max_disruptions=spec.get("maxDisruptions", 3),
            active_deadline_s=spec.get("activeDeadlineSeconds"),
            ttl_s=spec.get("ttlSecondsAfterFinished"),
            on_success=policy.get("onSuccess", "DeleteCluster"),
            on_failure=policy.get("onFailure", "DeleteCluster"),
        ),
        status=dict(body.get("status") or {}),
    )
