"""Manifests of what a cluster is made of, from its spec alone: the same spec, the same bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from freehold_operator import names, pods
from freehold_operator.facts import DRAIN_MARGIN_S
from freehold_operator.model import Cluster, GroupSpec, Meta
from freehold_operator.pods import Draft, PodTemplate

HEAD_GRACE_S = 30
ANNOTATION_APPLIED = f"{names.GROUP}/applied"
"""Of the head's StatefulSet: a hash of what was applied. Its own fields cannot be compared, since
the server writes quantities and defaults its own way."""


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What an installation decides for specs that do not say it."""

    image: str


def owner(meta: Meta, kind: str) -> list[dict[str, Any]]:
    """The reference that lets Kubernetes clean up after the custom resource.

    It does not block the owner's deletion: that would need the right to change its finalizers.
    """
    reference = {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
    }
    return [reference]


def _metadata(cluster: Cluster, name: str, role: str, **more: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": cluster.meta.namespace,
        "labels": names.labels(cluster.meta.name, role, **more),
        "ownerReferences": owner(cluster.meta, "FuturesCluster"),
    }


def service(cluster: Cluster) -> dict[str, Any]:
    """Where the control service is reached: there is one head, so nobody waits for its probe."""
    name = names.head_name(cluster.meta.name)
    selector = names.labels(cluster.meta.name, names.ROLE_HEAD)
    selector.pop(names.LABEL_MANAGED_BY)
    port = {"name": "control", "port": names.CONTROL_PORT, "targetPort": names.CONTROL_PORT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(cluster, name, names.ROLE_HEAD),
        "spec": {
            "type": "ClusterIP",
            "selector": selector,
            "publishNotReadyAddresses": True,
            "ports": [{**port, "protocol": "TCP"}],
        },
    }


def service_account(cluster: Cluster) -> dict[str, Any]:
    """The account of all pods; it has no rights and its token is mounted nowhere."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(cluster, cluster.meta.name, names.ROLE_HEAD),
        "automountServiceAccountToken": False,
    }


def secret(
    meta: Meta, name: str, data: dict[str, str], kind: str = "FuturesCluster"
) -> dict[str, Any]:
    """A Secret of ours; `data` is base64 already."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": names.labels(meta.name, names.ROLE_HEAD),
            "ownerReferences": owner(meta, kind),
        },
        "data": data,
    }


def head_template(cluster: Cluster, defaults: Defaults) -> PodTemplate:
    """The head's pod."""
    spec, name = cluster.spec.head, cluster.meta.name
    ca = {"secretName": names.ca_secret_name(name), "defaultMode": 0o440}
    volumes: tuple[dict[str, Any], ...] = ({"name": "ca", "secret": ca},)
    if not spec.storage.is_volume:
        volumes = (*volumes, {"name": "state", "emptyDir": {}})
    found = pods.finish(
        Draft(
            cluster=name,
            role=names.ROLE_HEAD,
            path="head.template",
            image=cluster.spec.image or defaults.image,
            args=("start", "--head", "--block"),
            template=spec.template,
            env=(
                pods.variable("FREEHOLD_CLUSTER", names.cluster_id(cluster.meta.uid)),
                pods.variable("FREEHOLD_CA_DIR", pods.CA_DIR),
                pods.variable("FREEHOLD_STATE_DIR", pods.STATE_DIR),
            ),
            given=spec.resources,
            default=pods.HEAD_DEFAULT,
            grace_s=HEAD_GRACE_S,
            restart="Always",
            mounts=(
                {"name": "ca", "mountPath": pods.CA_DIR, "readOnly": True},
                {"name": "state", "mountPath": pods.STATE_DIR},
            ),
            volumes=volumes,
            offers=spec.runs_tasks,
        )
    )
    container = next(c for c in found.spec["containers"] if c["name"] == names.CONTAINER)
    control = {"name": "control", "containerPort": names.CONTROL_PORT}
    container["ports"] = [control, *container["ports"]]
    return found


def head_pod(cluster: Cluster, defaults: Defaults) -> dict[str, Any]:
    """The pod that the StatefulSet is to make, to ask the API server what it thinks of it."""
    template = head_template(cluster, defaults)
    metadata = _metadata(cluster, names.head_pod_name(cluster.meta.name), names.ROLE_HEAD)
    spec = dict(template.spec)
    if cluster.spec.head.storage.is_volume:
        claim = {"claimName": names.claim_name(cluster.meta.name)}
        spec["volumes"] = [*spec["volumes"], {"name": "state", "persistentVolumeClaim": claim}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def claim_template(cluster: Cluster) -> dict[str, Any]:
    """The claim of the head's state."""
    storage = cluster.spec.head.storage
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class is not None:
        spec["storageClassName"] = storage.storage_class
    labels = names.labels(cluster.meta.name, names.ROLE_HEAD)
    return {"metadata": {"name": "state", "labels": labels}, "spec": spec}


def stateful_set(
    cluster: Cluster, defaults: Defaults, *, replicas: int, claims: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    """The head's StatefulSet of one, or of none while the cluster is suspended.

    Args:
        claims: of the set that is there already: they cannot be changed, only be said again.
    """
    template = head_template(cluster, defaults)
    storage = cluster.spec.head.storage
    labels = names.labels(cluster.meta.name, names.ROLE_HEAD)
    selector = {k: v for k, v in labels.items() if k != names.LABEL_MANAGED_BY}
    spec: dict[str, Any] = {
        "serviceName": names.head_name(cluster.meta.name),
        "replicas": replicas,
        "revisionHistoryLimit": 2,
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {
                "labels": {**template.labels, **labels},
                "annotations": template.annotations,
            },
            "spec": template.spec,
        },
    }
    if storage.is_volume:
        spec["persistentVolumeClaimRetentionPolicy"] = {
            "whenDeleted": "Retain" if storage.retain else "Delete",
            "whenScaled": "Retain",
        }
        spec["volumeClaimTemplates"] = [_said_again(c) for c in claims] or [claim_template(cluster)]
    metadata = _metadata(cluster, names.head_name(cluster.meta.name), names.ROLE_HEAD)
    applied = names.content_hash({"metadata": metadata, "spec": spec})
    metadata["annotations"] = {ANNOTATION_APPLIED: applied}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def _said_again(claim: dict[str, Any]) -> dict[str, Any]:
    metadata = {k: claim["metadata"][k] for k in ("name", "labels") if k in claim["metadata"]}
    kept = ("accessModes", "resources", "storageClassName")
    return {"metadata": metadata, "spec": {k: v for k, v in claim["spec"].items() if k in kept}}


def claim(cluster: Cluster) -> dict[str, Any]:
    """The head's claim at the size the spec says: applied where the volume is to grow."""
    size = {"storage": cluster.spec.head.storage.size}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.claim_name(cluster.meta.name),
            "namespace": cluster.meta.namespace,
        },
        "spec": {"resources": {"requests": size}},
    }


def worker_template(cluster: Cluster, group: GroupSpec, defaults: Defaults) -> PodTemplate:
    """The pod of a group's workers."""
    return pods.finish(
        Draft(
            cluster=cluster.meta.name,
            role=names.ROLE_WORKER,
            path=f"workerGroups[{group.name}].template",
            image=cluster.spec.image or defaults.image,
            args=(
                *("start", "--block", "--address"),
                names.control_address(cluster.meta.name, cluster.meta.namespace),
            ),
            template=group.template,
            env=(
                pods.head_pod_variable(cluster.meta.name, cluster.meta.namespace),
                pods.variable("FREEHOLD_DRAIN_TIMEOUT_S", group.drain_timeout_s),
            ),
            given=group.resources,
            default=pods.WORKER_DEFAULT,
            object_store=group.object_store,
            node_labels=pods.group_labels(group.name, group.labels),
            grace_s=group.drain_timeout_s + DRAIN_MARGIN_S,
            writable={"scratch": pods.SCRATCH_DIR},
        )
    )


def template_hash(cluster: Cluster, group: GroupSpec) -> str:
    """A hash of the user's own fields of a group, so that a new operator makes no pod look old.

    The image counts only where the user named it: another default comes with another chart.
    """
    mine = {
        "image": cluster.spec.image,
        "resources": msgspec.to_builtins(group.resources),
        "labels": group.labels,
        "objectStore": group.object_store,
        "drain": group.drain_timeout_s,
        "template": group.template,
    }
    return names.content_hash(mine)


def worker_pod(
    cluster: Cluster,
    group: GroupSpec,
    template: PodTemplate,
    ordinal: int,
    attempt: int,
    failures: int = 0,
) -> dict[str, Any]:
    """One worker's pod, owned by the cluster object itself.

    Args:
        failures: of those that it replaces, in a row.
    """
    meta = cluster.meta
    name = names.worker_pod_name(meta.name, meta.uid, group.name, ordinal, attempt)
    more = {"group": group.name, "attempt": str(attempt)}
    metadata = _metadata(cluster, name, names.ROLE_WORKER, **more)
    metadata["labels"] = {**template.labels, **metadata["labels"]}
    metadata["annotations"] = {
        **template.annotations,
        names.ANNOTATION_ORDINAL: str(ordinal),
        names.ANNOTATION_TEMPLATE: template_hash(cluster, group),
    }
    if failures:
        metadata["annotations"][names.ANNOTATION_FAILURES] = str(failures)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.spec}
