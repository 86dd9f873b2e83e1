"""Deleted is gone soon whatever runs, and no finalizer is in the way when the operator is away."""

from __future__ import annotations

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster, Manifest

from freehold.testing import eventually

FOREVER = """
import time, freehold
freehold.init()
@freehold.remote
def hour():
    time.sleep(3600)
print("begun", flush=True)
freehold.get([hour.remote() for _ in range(4)])
"""


def scale_operator(cluster: Cluster, replicas: int) -> None:
    cluster.kubectl("scale", "deployment/freehold", f"--replicas={replicas}", namespace=fh.SYSTEM)
    if replicas:
        cluster.kubectl(
            "rollout", "status", "deployment/freehold", "--timeout=60s", namespace=fh.SYSTEM
        )
    else:
        eventually(
            lambda: not cluster.objects("pods", namespace=fh.SYSTEM), timeout_s=45.0, interval_s=0.5
        )


def busy_cluster(cluster: Cluster, namespace: str, name: str) -> None:
    drain = {"timeoutSeconds": 5}
    spec = fh.cluster_spec(fh.workers(drain=drain), replicas=1)
    cluster.apply(fh.futures_cluster(name, spec), namespace=namespace)
    cluster.apply(
        fh.futures_job(f"{name}-job", FOREVER, clusterRef={"name": name}), namespace=namespace
    )
    eventually(
        lambda: "begun" in fh.driver_log(cluster, f"{name}-job", namespace),
        timeout_s=75.0,
        interval_s=0.5,
    )


def of(cluster: Cluster, namespace: str) -> list[Manifest]:
    """The pods of clusters: their heads and workers."""
    return fh.pods(cluster, namespace, "worker") + fh.pods(cluster, namespace, "head")


def is_gone(cluster: Cluster, namespace: str, name: str) -> bool:
    """Whether nothing of a cluster is left, pods that are about to go included."""
    if of(cluster, namespace) or cluster.find("fc", name, namespace):
        return False
    pods = cluster.objects("pods", namespace=namespace)
    return all(f"{name}-job" in pod["metadata"]["name"] for pod in pods)


@pytest.mark.usefixtures("release")
def test_a_cluster_with_hour_long_tasks_is_gone_within_30_s(
    cluster: Cluster, namespace: str
) -> None:
    busy_cluster(cluster, namespace, "busy")
    cluster.kubectl("delete", "fc", "busy", "--wait=false", namespace=namespace)

    eventually(lambda: is_gone(cluster, namespace, "busy"), timeout_s=30.0, interval_s=0.5)
    cluster.kubectl("delete", "fj", "busy-job", "--wait=false", namespace=namespace)


@pytest.mark.usefixtures("release")
def test_without_the_operator_it_takes_the_pods_grace_and_no_finalizer_is_in_the_way(
    cluster: Cluster, namespace: str
) -> None:
    busy_cluster(cluster, namespace, "left")
    grace_s = max(pod["spec"]["terminationGracePeriodSeconds"] for pod in of(cluster, namespace))
    scale_operator(cluster, 0)
    try:
        cluster.kubectl("delete", "fc", "left", "--wait=false", namespace=namespace)
        eventually(
            lambda: is_gone(cluster, namespace, "left"),
            timeout_s=grace_s + 30.0,
            interval_s=0.5,
        )
        other = f"{namespace}-2"
        metadata = {"name": other, "labels": {"freehold.dev/tests": "e2e"}}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        spec = fh.cluster_spec(fh.workers(), replicas=1)
        cluster.apply(fh.futures_cluster("never", spec), namespace=other)
        cluster.kubectl("delete", "namespace", other, "--timeout=30s")
    finally:
        scale_operator(cluster, 1)
