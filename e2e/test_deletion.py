"""Deleted is gone soon whatever runs, and no finalizer is in the way when the operator is away."""

from __future__ import annotations

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

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


@pytest.mark.usefixtures("release")
def test_a_cluster_with_hour_long_tasks_is_gone_within_30_s(
    cluster: Cluster, namespace: str
) -> None:
    busy_cluster(cluster, namespace, "busy")
    cluster.kubectl("delete", "fc", "busy", "--wait=false", namespace=namespace)

    def is_gone() -> bool:
        left = fh.pods(cluster, namespace, "worker") + fh.pods(cluster, namespace, "head")
        all_pods = cluster.objects("pods", namespace=namespace)
        return not left and not [p for p in all_pods if "busy-job" not in p["metadata"]["name"]]

    eventually(is_gone, timeout_s=30.0, interval_s=0.5)
    cluster.kubectl("delete", "fj", "busy-job", "--wait=false", namespace=namespace)
