"""What becomes of jobs: success and failure, retries, deadlines, suspension, their own clusters."""

from __future__ import annotations

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

from freehold.testing import eventually

ADD = """
import freehold
freehold.init()
@freehold.remote
def add(a, b):
    return a + b
print("sum", freehold.get(add.remote(1, 2)))
"""


@pytest.fixture(scope="module", autouse=True)
def small(cluster: Cluster, namespace: str, release: None) -> None:
    spec = fh.cluster_spec(fh.workers(), replicas=1)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)


def submit(cluster: Cluster, namespace: str, name: str, program: str, **fields: object) -> None:
    job = fh.futures_job(name, program, clusterRef={"name": "small"}, **fields)
    cluster.apply(job, namespace=namespace)


def test_outcomes_are_conditions_with_exit_codes(cluster: Cluster, namespace: str) -> None:
    submit(cluster, namespace, "good", ADD)
    submit(cluster, namespace, "bad", ADD + "raise SystemExit(7)", backoffLimit=1)
    submit(cluster, namespace, "late", "import time; time.sleep(600)", activeDeadlineSeconds=5)
    submit(cluster, namespace, "held", ADD, suspend=True)
    assert fh.await_end(cluster, "good", namespace) == "Complete"
    assert "sum 3" in fh.driver_log(cluster, "good", namespace)
    assert fh.await_end(cluster, "bad", namespace) == "Failed"
    job = cluster.get("fj", "bad", namespace)
    assert job["status"]["attempts"] == 2
    failed = fh.condition(cluster, "fj", "bad", namespace, "Failed")
    assert "7" in failed["message"]
    assert fh.await_end(cluster, "late", namespace) == "Failed"
    late = fh.condition(cluster, "fj", "late", namespace, "Failed")
    assert late["reason"] == "DeadlineExceeded"
    assert fh.condition(cluster, "fj", "held", namespace, "Suspended")["status"] == "True"
    assert cluster.find("job", "held-1", namespace) is None
    resume = '{"spec":{"suspend":false}}'
    cluster.kubectl("patch", "fj", "held", "--type=merge", "-p", resume, namespace=namespace)
    assert fh.await_end(cluster, "held", namespace) == "Complete"


def test_a_job_with_a_cluster_of_its_own_takes_it_away(cluster: Cluster, namespace: str) -> None:
    template = {"spec": fh.cluster_spec(fh.workers(replicas=1))}
    job = fh.futures_job("own", ADD, clusterTemplate=template, ttlSecondsAfterFinished=20)
    cluster.apply(job, namespace=namespace)
    assert fh.await_end(cluster, "own", namespace) == "Complete"
    eventually(lambda: cluster.find("fc", "own", namespace) is None, timeout_s=30.0, interval_s=0.5)
    eventually(lambda: cluster.find("fj", "own", namespace) is None, timeout_s=45.0, interval_s=0.5)
