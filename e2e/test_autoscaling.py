"""A cluster grows with its queue from nothing, and goes back when it has nothing to do."""

from __future__ import annotations

import json

from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

from freehold.testing import eventually

QUEUE = """
import threading, time, freehold
freehold.init()
@freehold.remote
def hold():
    threading.Event().wait(4.0)
@freehold.remote(num_cpus=64)
def huge():
    pass
try:
    freehold.get(huge.remote())
except freehold.exceptions.TaskUnschedulableError as error:
    print("infeasible:", error)
refs = [hold.remote() for _ in range(10_000)]
time.sleep(20)
for ref in refs[12:]:
    freehold.cancel(ref)
freehold.get(refs[:12])
print("done")
"""


def test_the_queue_brings_workers_and_its_end_takes_them_away(
    cluster: Cluster, namespace: str, release: None
) -> None:
    autoscaling = {"downscaling": {"idleTimeoutSeconds": 5}}
    spec = fh.cluster_spec(fh.workers(maxReplicas=2), autoscaling=autoscaling)
    cluster.apply(fh.futures_cluster("elastic", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/elastic", namespace, "HeadReady", timeout_s=60.0)
    assert fh.pods(cluster, namespace) == []
    job = fh.futures_job("queue", QUEUE, clusterRef={"name": "elastic"})
    cluster.apply(job, namespace=namespace)

    def queued() -> int:
        status = cluster.get("fc", "elastic", namespace).get("status", {})
        return int(status.get("queue", {}).get("queued", 0))

    eventually(lambda: 9_900 <= queued() <= 10_000, timeout_s=60.0, interval_s=0.2)
    eventually(lambda: len(fh.pods(cluster, namespace)) == 2, timeout_s=15.0, interval_s=0.2)
    assert fh.await_end(cluster, "queue", namespace, timeout_s=90.0) == "Complete"
    log = fh.driver_log(cluster, "queue", namespace)
    assert "infeasible:" in log
    assert "group workers comes closest" in log
    eventually(lambda: fh.pods(cluster, namespace) == [], timeout_s=45.0, interval_s=0.5)
    status = cluster.get("fc", "elastic", namespace)["status"]
    assert status["queue"]["queued"] == 0, json.dumps(status)
