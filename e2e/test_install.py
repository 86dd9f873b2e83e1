"""From `helm install` to a finished job and back: nothing is left but what is meant to stay."""

from __future__ import annotations

import json

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

PROGRAM = """
import socket, freehold
freehold.init()
@freehold.remote
def where(number):
    return f"{number} on {socket.gethostname()}"
print(freehold.get([where.remote(number) for number in range(4)]))
"""


@pytest.mark.usefixtures("release")
def test_a_cluster_of_two_workers_is_ready_and_a_job_on_it_completes(
    cluster: Cluster, namespace: str
) -> None:
    spec = fh.cluster_spec(fh.workers(), replicas=2)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)
    fh.await_ready(cluster, namespace, 2)
    job = fh.futures_job("hello", PROGRAM, clusterRef={"name": "small"})
    cluster.apply(job, namespace=namespace)
    assert fh.await_end(cluster, "hello", namespace) == "Complete"
    log = fh.driver_log(cluster, "hello", namespace)
    assert "3 on small-workers-" in log


def test_what_is_up_can_be_read_off_kubectl_get(cluster: Cluster, namespace: str) -> None:
    line = cluster.kubectl("get", "fc", "small", "--no-headers", namespace=namespace).split()
    assert line[:2] == ["small", "True"]
    line = cluster.kubectl("get", "fj", "hello", "--no-headers", namespace=namespace).split()
    assert line[:4] == ["hello", "Complete", "1", "0"]


def test_scaled_by_kubectl(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("scale", "fc/small", "--replicas=3", namespace=namespace)
    fh.await_ready(cluster, namespace, 3, timeout_s=60.0)


def test_uninstalled_it_leaves_the_kinds_and_whatever_runs(
    cluster: Cluster, namespace: str, operator_image: str, runtime_image: str
) -> None:
    before = {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace)}
    cluster.helm("uninstall", fh.RELEASE, "--namespace", fh.SYSTEM, "--wait", timeout_s=60.0)
    kinds = json.loads(cluster.kubectl("get", "crds", "-o", "json"))["items"]
    names = {kind["metadata"]["name"] for kind in kinds}
    assert {"futuresclusters.freehold.dev", "futuresjobs.freehold.dev"} <= names
    assert {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace)} == before
    # Whoever comes back finds what there is.
    fh.install(cluster, operator_image, runtime_image)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=30.0)
    assert {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace)} == before
