"""Pod specs of head, workers and drivers: safe defaults, the runtime's contract, the user's
template.

All pass Pod Security `restricted`: no root, no privileges, a read-only root file system, no API
token. Shared memory is a memfd that counts to the container's memory, so no volume is mounted for
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from freehold_operator import merge, names
from freehold_operator.model import Json, Resources
from freehold_operator.resources import Offer, container_resources, offer

AUTH_DIR = "/etc/freehold/auth"
CA_DIR = "/etc/freehold/ca"
STATE_DIR = "/var/lib/freehold"
SCRATCH_DIR = "/scratch"
USER = 65532

HEAD_DEFAULT = {"cpu": "1", "memory": "1Gi"}
WORKER_DEFAULT = {"cpu": "1", "memory": "2Gi"}
DRIVER_DEFAULT = {"cpu": "1", "memory": "2Gi"}

_GROUP_LABEL = f"{names.GROUP}/group"


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What a kind of pod has of its own, before the user's template.

    Attributes:
        role: head, worker or driver.
        path: where its template stands in the custom resource, for what is refused there.
        env: beside what all have.
        given: the spec's own resources.
        writable: emptyDir volumes by name and path, beside /tmp.
        offers: whether its resources are there for tasks; else it has no CPUs to give.
    """

    cluster: str
    role: str
    path: str
    image: str
    args: tuple[str, ...]
    template: Json
    env: tuple[dict[str, Any], ...] = ()
    given: Resources = Resources()
    default: dict[str, str] = {}
    object_store: str | None = None
    node_labels: dict[str, str] = {}
    grace_s: int = 30
    restart: str = "Never"
    writable: dict[str, str] = {}
    mounts: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    offers: bool = True
    has_probes: bool = True


class PodTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A finished template: labels and annotations of the user's, the spec, what was refused."""

    labels: dict[str, str]
    annotations: dict[str, str]
    spec: dict[str, Any]
    offer: Offer
    refused: tuple[str, ...]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def variable(name: str, value: Any) -> dict[str, Any]:
    """One environment variable; what is no text is written as JSON."""
    return {"name": name, "value": value if isinstance(value, str) else json.dumps(value)}


def head_pod_variable(cluster: str, namespace: str) -> dict[str, Any]:
    """Where a node looks for the head beside its Service."""
    return variable("FREEHOLD_SECOND_ADDRESS", names.head_pod_address(cluster, namespace))


def _probe(path: str, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": names.HEALTH_PORT},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _offer_env(given: Offer, *, offers: bool) -> list[dict[str, Any]]:
    custom = dict(given.resources)
    cpus, gpus = custom.pop("CPU", None), custom.pop("GPU", 0)
    memory = custom.pop("memory", None)
    found = []
    if not offers:
        cpus, gpus, custom = 0, 0, {}
    if cpus is not None:
        found.append(variable("FREEHOLD_NUM_CPUS", cpus))
    found.append(variable("FREEHOLD_NUM_GPUS", gpus))
    if memory is not None:
        found.append(variable("FREEHOLD_MEMORY", int(memory)))
    if given.object_store_bytes is not None:
        found.append(variable("FREEHOLD_OBJECT_STORE_MEMORY", given.object_store_bytes))
    if custom:
        found.append(variable("FREEHOLD_RESOURCES", custom))
    if given.labels:
        found.append(variable("FREEHOLD_LABELS", given.labels))
    return found


def _container_security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _user_container(template: Mapping[str, Any]) -> Json:
    containers = (template.get("spec") or {}).get("containers") or ()
    return next((c for c in containers if c.get("name") == names.CONTAINER), {})


def _base_spec(draft: Draft, resources: dict[str, Any], given: Offer) -> dict[str, Any]:
    volumes = {"tmp": "/tmp", **draft.writable}
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": draft.image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(draft.args),
        "env": [
            _field("FREEHOLD_NODE_NAME", "metadata.name"),
            _field("FREEHOLD_HOST", "status.podIP"),
            variable("FREEHOLD_CLUSTER_NAME", draft.cluster),
            variable("FREEHOLD_AUTH_DIR", AUTH_DIR),
            *_offer_env(given, offers=draft.offers),
            *draft.env,
        ],
        "resources": resources,
        "securityContext": _container_security(),
        "volumeMounts": [
            {"name": "auth", "mountPath": AUTH_DIR, "readOnly": True},
            *({"name": name, "mountPath": path} for name, path in volumes.items()),
            *draft.mounts,
        ],
    }
    if draft.has_probes:
        container["ports"] = [
            {"name": "peer", "containerPort": names.PEER_PORT},
            {"name": "health", "containerPort": names.HEALTH_PORT},
        ]
        container["readinessProbe"] = _probe("/readyz", 1, 6)
        container["livenessProbe"] = _probe("/healthz", 10, 6)
    secret = {"secretName": names.auth_secret_name(draft.cluster), "defaultMode": 0o440}
    return {
        "serviceAccountName": draft.cluster,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": draft.restart,
        "terminationGracePeriodSeconds": draft.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "auth", "secret": secret},
            *({"name": name, "emptyDir": {}} for name in volumes),
            *draft.volumes,
        ],
    }


def finish(draft: Draft) -> PodTemplate:
    """The draft with the user's template merged over it."""
    theirs, refused = merge.allowed(draft.template, draft.path)
    container = _user_container(theirs)
    resources = container_resources(draft.given, container, draft.default)
    given = offer(resources, draft.given.logical, draft.object_store, draft.node_labels)
    spec = merge.merged(_base_spec(draft, resources, given), theirs["spec"])
    for one in spec["containers"]:
        if one["name"] == names.CONTAINER:
            one["resources"] = resources  # merged key by key already
        else:
            one["securityContext"] = merge.merged(
                _container_security(), one.get("securityContext") or {}
            )
    for one in spec.get("initContainers") or ():
        one["securityContext"] = merge.merged(
            _container_security(), one.get("securityContext") or {}
        )
    return PodTemplate(
        labels=theirs["metadata"]["labels"],
        annotations=theirs["metadata"]["annotations"],
        spec=spec,
        offer=given,
        refused=tuple(refused),
    )


def group_labels(group: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of a group's nodes: the user's, and the group's own name."""
    return {_GROUP_LABEL: group, **labels}
