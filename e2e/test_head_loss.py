"""The head pod is deleted in the middle of a job: tasks go on, what needs the head waits for it."""

from __future__ import annotations

from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

from freehold.testing import eventually

PROGRAM = """
import time, freehold
freehold.init()

@freehold.remote
def add(a, b):
    time.sleep(0.05)
    return a + b

@freehold.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count

known = Counter.options(name="known").remote()
freehold.get(known.add.remote())
print("begun", flush=True)
ended = time.monotonic() + 40
rounds = 0
while time.monotonic() < ended:
    assert freehold.get([add.remote(n, 1) for n in range(8)]) == list(range(1, 9))
    rounds += 1
    if rounds == 20:
        late = Counter.remote()  # while the head is away: it waits, then succeeds
        pending = late.add.remote()
assert freehold.get(pending) == 1
assert freehold.get(known.add.remote()) == 2
assert freehold.get(freehold.get_actor("known").add.remote()) == 3
print("rounds", rounds)
"""


def uids(cluster: Cluster, namespace: str, role: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in fh.pods(cluster, namespace, role)}


def test_a_job_outlives_its_head_pod(cluster: Cluster, namespace: str, release: None) -> None:
    spec = fh.cluster_spec(fh.workers(), replicas=2)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)
    before = uids(cluster, namespace, "worker")
    job = fh.futures_job("steady", PROGRAM, clusterRef={"name": "small"})
    cluster.apply(job, namespace=namespace)
    eventually(
        lambda: "begun" in fh.driver_log(cluster, "steady", namespace),
        timeout_s=45.0,
        interval_s=0.5,
    )
    head = uids(cluster, namespace, "head")
    cluster.kubectl("delete", "pod", "small-head-0", "--wait=false", namespace=namespace)
    assert fh.await_end(cluster, "steady", namespace, timeout_s=90.0) == "Complete"
    assert "rounds" in fh.driver_log(cluster, "steady", namespace)
    assert uids(cluster, namespace, "worker") == before
    assert uids(cluster, namespace, "head").isdisjoint(head)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=45.0)
