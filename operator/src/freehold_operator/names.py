"""Names, labels and ids of everything the operator makes: the same input gives the same name.

Deterministic names are what makes creation safe to repeat: an operator that died after a create, or
whose watch is slow, runs into a 409 instead of making a second one.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

GROUP = "freehold.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "freehold-operator"

CONTROL_PORT = 7400
PEER_PORT = 7401
HEALTH_PORT = 7402

CONTAINER = "freehold"
"""The runtime's container in every pod; a user's template merges into it by this name."""

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_CLUSTER = f"{GROUP}/cluster"
LABEL_ROLE = f"{GROUP}/role"
LABEL_GROUP = f"{GROUP}/group"
LABEL_JOB = f"{GROUP}/job"
LABEL_ATTEMPT = f"{GROUP}/attempt"
ANNOTATION_ORDINAL = f"{GROUP}/ordinal"
ANNOTATION_TEMPLATE = f"{GROUP}/template-hash"
ANNOTATION_FAILURES = f"{GROUP}/failures"
"""Of a worker's pod: how often in a row its predecessors failed young."""

ROLE_HEAD = "head"
ROLE_WORKER = "worker"
ROLE_DRIVER = "driver"

MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
"""Selects what the operator made; everything it watches but the custom resources carries it."""


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def cluster_id(uid: str) -> str:
    """The id of a cluster in its certificates: 12 hex digits of its UID's hash."""
    return _hash(uid, 12)


def control_name(uid: str) -> str:
    """The TLS name that clients of a cluster's control service pin."""
    return f"control.{cluster_id(uid)}.freehold.invalid"


def head_name(cluster: str) -> str:
    """Name of the head's StatefulSet and Service."""
    return f"{cluster}-head"


def head_pod_name(cluster: str) -> str:
    """Name of the head's pod, given by the StatefulSet."""
    return f"{cluster}-head-0"


def claim_name(cluster: str) -> str:
    """Name of the head's PersistentVolumeClaim, given by the StatefulSet."""
    return f"state-{cluster}-head-0"


def auth_secret_name(cluster: str) -> str:
    """Secret of token and CA certificate, for all pods."""
    return f"{cluster}-auth"


def ca_secret_name(cluster: str) -> str:
    """Secret of the CA's key, for the head alone."""
    return f"{cluster}-ca"


def worker_pod_name(cluster: str, uid: str, group: str, ordinal: int, attempt: int) -> str:
    """Name of a worker's pod; another attempt of the same ordinal has another name."""
    return f"{cluster}-{group}-{_hash(f'{uid}/{group}/{ordinal}/{attempt}', 8)}"


def attempt_name(job: str, attempt: int) -> str:
    """Name of an attempt's batch/v1 Job."""
    return f"{job}-{attempt}"


def job_id(job: str, uid: str) -> str:
    """What the control service knows a FuturesJob by: one made anew under its name is another."""
    return f"{job}-{_hash(uid, 8)}"


def control_address(cluster: str, namespace: str) -> str:
    """Where the control service of a cluster is reached from within Kubernetes."""
    return f"{head_name(cluster)}.{namespace}.svc:{CONTROL_PORT}"


def head_pod_address(cluster: str, namespace: str) -> str:
    """The head's pod by the name that it has within its Service: with CoreDNS there as soon as the
    pod's address is known, while a Service's own rules take up to a second more. Elsewhere it may
    be no name at all: nothing may rely on it."""
    head = head_name(cluster)
    return f"{head}-0.{head}.{namespace}.svc:{CONTROL_PORT}"


def at(ip: str) -> str:
    """The control service of a head's pod that has this address."""
    return f"[{ip}]:{CONTROL_PORT}" if ":" in ip else f"{ip}:{CONTROL_PORT}"


def content_hash(content: Any) -> str:
    """A short hash of a JSON value, independent of the order of its keys."""
    return _hash(json.dumps(content, sort_keys=True, separators=(",", ":")), 12)


def labels(cluster: str, role: str, **more: str) -> dict[str, str]:
    """The labels of an object of a cluster; `group`, `job` and `attempt` by keyword."""
    found = {
        LABEL_NAME: "freehold",
        LABEL_MANAGED_BY: FIELD_MANAGER,
        LABEL_CLUSTER: cluster,
        LABEL_ROLE: role,
    }
    return found | {f"{GROUP}/{key}": value for key, value in more.items()}
