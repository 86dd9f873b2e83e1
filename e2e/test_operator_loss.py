"""The operator is killed while it makes a cluster or shrinks it: its successor goes on, once."""

from __future__ import annotations

from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

from freehold.testing import eventually


def kill_operator(cluster: Cluster) -> None:
    arguments = ("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
    cluster.kubectl(*arguments, namespace=fh.SYSTEM)


def test_a_cluster_that_was_begun_is_finished_once(
    cluster: Cluster, namespace: str, release: None
) -> None:
    spec = fh.cluster_spec(fh.workers(), replicas=2)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    eventually(
        lambda: cluster.find("statefulset", "small-head", namespace),
        timeout_s=20.0,
        interval_s=0.1,
    )
    kill_operator(cluster)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=100.0)
    workers = [pod["metadata"]["name"] for pod in fh.pods(cluster, namespace)]
    assert len(workers) == 2
    secrets = cluster.objects("secrets", namespace, labels="freehold.dev/cluster=small")
    names = sorted(secret["metadata"]["name"] for secret in secrets)
    assert names == ["small-auth", "small-ca"]
    # Once there is peace nothing is made or deleted any more, whoever looks after it.
    kill_operator(cluster)
    cluster.kubectl(
        "rollout", "status", "deployment/freehold", "--timeout=60s", namespace=fh.SYSTEM
    )
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=30.0)
    assert [pod["metadata"]["name"] for pod in fh.pods(cluster, namespace)] == workers


def test_a_scale_down_that_was_begun_is_finished_once(
    cluster: Cluster, namespace: str, release: None
) -> None:
    """On the cluster of the test before: one of its two pods goes, and no other is made."""
    before = {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace)}
    assert len(before) == 2
    cluster.kubectl("scale", "fc/small", "--replicas=1", namespace=namespace)

    def goes() -> bool:
        groups = cluster.get("fc", "small", namespace)["status"].get("groups", [])
        is_draining = any(group.get("draining") for group in groups)
        return is_draining or len(fh.pods(cluster, namespace)) < 2

    eventually(goes, timeout_s=30.0, interval_s=0.05)
    kill_operator(cluster)
    seen: set[str] = set()

    def is_there() -> bool:
        now = {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace)}
        seen.update(now)
        return len(now) == 1

    eventually(is_there, timeout_s=60.0, interval_s=0.1)
    cluster.kubectl(
        "rollout", "status", "deployment/freehold", "--timeout=60s", namespace=fh.SYSTEM
    )
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=30.0)
    assert is_there()
    assert seen <= before
