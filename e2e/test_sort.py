"""The main job: records made, sorted and checked over two nodes that share no file system."""

from __future__ import annotations

import json

from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

RECORDS = 2_000_000  # 200 MB


def test_a_sort_over_two_nodes_is_valid(cluster: Cluster, namespace: str, release: None) -> None:
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"freehold.dev/group": "workers"}},
    }
    group = fh.workers(
        memory="1Gi",
        replicas=2,
        objectStore={"size": "400Mi"},
        template={"spec": {"topologySpreadConstraints": [spread]}},
    )
    cluster.apply(fh.futures_cluster("two", fh.cluster_spec(group)), namespace=namespace)
    # A driver begins with the head, whoever has joined by then: all of so short a job on one node.
    fh.await_condition(cluster, "fc/two", namespace, "Ready", timeout_s=60.0)
    program = ["freehold", "sort", "--records", str(RECORDS), "--format", "json"]
    job = fh.futures_job("sort", program, clusterRef={"name": "two"})
    cluster.apply(job, namespace=namespace)
    assert fh.await_end(cluster, "sort", namespace, timeout_s=120.0) == "Complete"
    log = fh.driver_log(cluster, "sort", namespace)
    result = json.loads(log[log.index("{") :])
    assert result["valid"]
    assert result["records"] == RECORDS
    nodes = {pod["spec"]["nodeName"] for pod in fh.pods(cluster, namespace)}
    names = {pod["metadata"]["name"] for pod in fh.pods(cluster, namespace)}
    assert len(nodes) == 2
    assert set(result["partitions_by_host"]) == names
