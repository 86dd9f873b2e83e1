"""Freehold on the tests' cluster: the release, small clusters and jobs, and what they said."""

from __future__ import annotations

import json
from typing import Any

from e2e.support.cluster import Cluster, CommandError, Manifest
from e2e.support.tools import ROOT

from freehold.testing import eventually

API = "freehold.dev/v1alpha1"
CHART = ROOT / "charts" / "freehold"
RELEASE = "freehold"
SYSTEM = "freehold-system"
SMALL = {"limits": {"cpu": "500m", "memory": "384Mi"}, "requests": {"cpu": "50m"}}
"""Of a head or driver: the nodes of kind share two processors, so what is asked for is little."""


def install(
    cluster: Cluster, operator: str, runtime: str, *, namespace: str = SYSTEM, **values: Any
) -> None:
    """Install the chart, or upgrade it, and wait until the operator is ready."""
    repository, _, tag = operator.rpartition(":")
    given = {
        "image.repository": repository,
        "image.tag": tag,
        "runtimeImage": runtime,
        "resources.requests.cpu": "50m",
        **values,
    }
    settings = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    cluster.helm(
        "upgrade",
        "--install",
        RELEASE,
        str(CHART),
        "--namespace",
        namespace,
        "--create-namespace",
        "--wait",
        "--timeout",
        "120s",
        *settings,
        timeout_s=150.0,
    )


def workers(cpu: str = "1", memory: str = "512Mi", **fields: Any) -> Manifest:
    """A worker group."""
    resources = {"limits": {"cpu": cpu, "memory": memory}, "requests": {"cpu": "100m"}}
    return {"name": "workers", "resources": resources, **fields}


def cluster_spec(*groups: Manifest, **fields: Any) -> Manifest:
    """The spec of a small cluster."""
    return {"head": {"resources": SMALL}, "workerGroups": list(groups), **fields}


def futures_cluster(name: str, spec: Manifest) -> Manifest:
    """A FuturesCluster."""
    return {
        "apiVersion": API,
        "kind": "FuturesCluster",
        "metadata": {"name": name},
        "spec": spec,
    }


def futures_job(name: str, program: str | list[str], **fields: Any) -> Manifest:
    """A FuturesJob that runs Python code, or a command."""
    command = ["python", "-c", program] if isinstance(program, str) else program
    container = {"name": "freehold", "resources": SMALL}
    return {
        "apiVersion": API,
        "kind": "FuturesJob",
        "metadata": {"name": name},
        "spec": {
            "command": command,
            "driver": {"template": {"spec": {"containers": [container]}}},
            **fields,
        },
    }


def condition(cluster: Cluster, kind: str, name: str, namespace: str, type_: str) -> Manifest:
    """A condition of an object; empty if it has none of that type."""
    found = cluster.find(kind, name, namespace) or {}
    for each in found.get("status", {}).get("conditions", []):
        if each["type"] == type_:
            return dict(each)
    return {}


def await_condition(
    cluster: Cluster,
    what: str,
    namespace: str,
    type_: str,
    *,
    status: str = "True",
    timeout_s: float = 60.0,
) -> Manifest:
    """Wait for a condition of `kind/name`; the condition."""
    kind, _, name = what.partition("/")

    def is_there() -> Manifest | None:
        found = condition(cluster, kind, name, namespace, type_)
        return found if found.get("status") == status else None

    found: Manifest = eventually(is_there, timeout_s=timeout_s, interval_s=0.5)
    return found


def await_end(cluster: Cluster, job: str, namespace: str, timeout_s: float = 90.0) -> str:
    """Wait until a job is Complete or Failed; which."""

    def ended() -> str:
        for type_ in ("Complete", "Failed"):
            if condition(cluster, "fj", job, namespace, type_).get("status") == "True":
                return type_
        return ""

    found: str = eventually(ended, timeout_s=timeout_s, interval_s=0.5)
    return found


def driver_log(cluster: Cluster, job: str, namespace: str, attempt: int = 1) -> str:
    """What the driver of an attempt has written."""
    try:
        return cluster.kubectl("logs", f"job/{job}-{attempt}", namespace=namespace)
    except CommandError:
        return ""


def pods(cluster: Cluster, namespace: str, role: str = "worker") -> list[Manifest]:
    """The pods of a role that are not about to go."""
    selector = f"freehold.dev/role={role}"
    text = cluster.kubectl("get", "pods", "-l", selector, "-o", "json", namespace=namespace)
    found = json.loads(text)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def await_ready(cluster: Cluster, namespace: str, count: int, timeout_s: float = 10.0) -> None:
    """Wait until so many workers' pods are Ready, as probes see it: the cluster is so before."""
    eventually(
        lambda: sum(map(is_ready, pods(cluster, namespace))) == count, timeout_s, interval_s=0.5
    )


def is_ready(pod: Manifest) -> bool:
    """Whether a pod's condition says so."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
