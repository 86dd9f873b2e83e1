"""A FuturesJob's life on a real API server with a real Job controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.api.client import Manifest
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.support.kubelet import ended, waiting

from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]
COMMAND = {"command": ["python", "main.py"]}
JOB = "FuturesJob"


def with_cluster(one: Scene) -> dict[str, Any]:
    """A cluster that is there, and how a job names it."""
    one.cluster(worker_group(replicas=1))
    return {"clusterRef": {"name": "c"}, **COMMAND}


def own_cluster(**fields: Any) -> dict[str, Any]:
    """How a job asks for a cluster of its own."""
    spec = {"image": "x:1", "workerGroups": [worker_group(replicas=1)]}
    return {"clusterTemplate": {"spec": spec}, **COMMAND, **fields}


def attempts(one: Scene) -> list[str]:
    """The Jobs of attempts."""
    return sorted(j["metadata"]["name"] for j in one.client.objects("Job", one.namespace))


def wait_running(one: Scene) -> Manifest:
    """Wait for a driver that runs."""
    one.wait_condition("Running", "True", kind=JOB, name="j")
    return one.pods("driver")[-1]


def end_drivers(one: Scene, code: int, **how: Any) -> None:
    """Let drivers end with an exit code from now on."""
    one.kubelet.rules.clear()
    one.kubelet.rule("driver", lambda: ended(code, **how))


def test_success(scene: Make) -> None:
    one = scene()
    one.job(**with_cluster(one), args=["--rows", "7"])
    pod = wait_running(one)
    args = pod["spec"]["containers"][0]["args"]
    assert args[args.index("--") + 1 :] == ["python", "main.py", "--rows", "7"]
    assert args[:4] == ["job", "run", "--address", f"c-head.{one.namespace}.svc:7400"]
    end_drivers(one, 0)
    one.wait_condition("Complete", "True", "Succeeded", JOB, "j")
    status = one.status(JOB, "j")
    assert status["result"]["exitCode"] == 0
    assert (status["attempts"], status["failures"], status["disruptions"]) == (1, 0, 0)
    assert one.condition("Ready")[0] == "True", "the cluster of clusterRef stays"


def test_an_exit_code_is_told(scene: Make) -> None:
    one = scene()
    one.job(**with_cluster(one))
    wait_running(one)
    end_drivers(one, 3)
    assert "exit code 3" in one.wait_condition("Failed", "True", "ProgramFailed", JOB, "j")
    assert one.status(JOB, "j")["result"]["exitCode"] == 3


def test_retries_up_to_the_limit(scene: Make) -> None:
    one = scene()
    end_drivers(one, 1)
    one.job(**with_cluster(one), backoffLimit=2)
    one.wait_condition("Failed", "True", "ProgramFailed", JOB, "j")
    assert attempts(one) == ["j-1", "j-2", "j-3"]
    assert one.status(JOB, "j")["failures"] == 3


def test_a_disruption_is_no_failure(scene: Make) -> None:
    one = scene()
    one.job(**with_cluster(one))
    wait_running(one)
    end_drivers(one, 137, disrupted=True)
    eventually(lambda: one.status(JOB, "j").get("disruptions") == 1, WAIT_S, interval_s=INTERVAL_S)
    end_drivers(one, 0)
    one.wait_condition("Complete", "True", kind=JOB, name="j")
    status = one.status(JOB, "j")
    assert status["failures"] == 0
    assert status["attempts"] == status["disruptions"] + 1


def test_too_many_disruptions(scene: Make) -> None:
    one = scene()
    end_drivers(one, 137, disrupted=True)
    one.job(**with_cluster(one), maxDisruptions=1)
    one.wait_condition("Failed", "True", "TooManyDisruptions", JOB, "j")
    assert attempts(one) == ["j-1", "j-2"]


def test_a_deadline(scene: Make) -> None:
    one = scene()
    one.job(**with_cluster(one), activeDeadlineSeconds=8)
    one.wait_condition("Failed", "True", "DeadlineExceeded", JOB, "j")
    eventually(
        lambda: all("deletionTimestamp" in p["metadata"] for p in one.pods("driver")), WAIT_S
    )


def test_a_deadline_holds_while_the_cluster_does_not_come(scene: Make) -> None:
    one = scene()
    one.job(clusterRef={"name": "none"}, **COMMAND, activeDeadlineSeconds=2)
    one.wait_condition("Running", "False", "ClusterMissing", JOB, "j")
    one.wait_condition("Failed", "True", "DeadlineExceeded", JOB, "j")


def test_time_to_live(scene: Make) -> None:
    one = scene()
    end_drivers(one, 0)
    one.job(**own_cluster(ttlSecondsAfterFinished=1))
    eventually(lambda: one.client.find(JOB, "j", one.namespace) is None, WAIT_S, interval_s=0.1)
    eventually(lambda: not one.client.objects("Job", one.namespace), WAIT_S, interval_s=0.1)
    eventually(lambda: not one.client.objects("Pod", one.namespace), WAIT_S, interval_s=0.1)


def test_suspend_ends_the_attempt_and_counts_nothing(scene: Make) -> None:
    one = scene()
    one.job(**own_cluster())
    wait_running(one)
    one.patch({"suspend": True}, JOB, "j")
    one.wait_condition("Suspended", "True", kind=JOB, name="j")
    eventually(lambda: not one.client.objects("Pod", one.namespace), WAIT_S, interval_s=0.1)
    assert (
        "suspend" not in one.client.get("FuturesCluster", "j", one.namespace)["spec"]
        or not (one.client.get("FuturesCluster", "j", one.namespace)["spec"]["suspend"])
    )
    one.patch({"suspend": False}, JOB, "j")
    wait_running(one)
    end_drivers(one, 0)
    one.wait_condition("Complete", "True", kind=JOB, name="j")
    status = one.status(JOB, "j")
    assert (status["attempts"], status["failures"], status["disruptions"]) == (2, 0, 0)


def test_a_cluster_of_its_own_is_cleaned_up(scene: Make) -> None:
    one = scene()
    end_drivers(one, 0)
    one.job(**own_cluster())
    one.wait_condition("Complete", "True", kind=JOB, name="j")
    eventually(
        lambda: one.client.find("FuturesCluster", "j", one.namespace) is None,
        WAIT_S,
        interval_s=0.1,
    )
    one.wait_pods(0)
    assert len(one.pods("driver")) == 1, "its log can still be read"


def test_workers_alone_may_go(scene: Make) -> None:
    one = scene()
    end_drivers(one, 1)
    one.job(**own_cluster(deletionPolicy={"onFailure": "DeleteWorkers"}))
    one.wait_condition("Failed", "True", kind=JOB, name="j")
    one.wait_pods(0)
    assert len(one.pods("head")) == 1


def test_keep(scene: Make) -> None:
    one = scene()
    end_drivers(one, 0)
    one.job(**own_cluster(deletionPolicy={"onSuccess": "Keep"}))
    one.wait_condition("Complete", "True", kind=JOB, name="j")
    eventually(lambda: one.condition("Ready", name="j")[0] == "True", WAIT_S, interval_s=INTERVAL_S)


def test_finished_while_the_operator_was_away(scene: Make) -> None:
    one = scene()
    one.job(**with_cluster(one))
    wait_running(one)
    with one.operator.away():
        end_drivers(one, 4)

        def has_failed() -> bool:
            job = one.client.get("Job", "j-1", one.namespace)
            conditions = job.get("status", {}).get("conditions", ())
            return any(c["type"] == "Failed" and c["status"] == "True" for c in conditions)

        eventually(has_failed, WAIT_S, interval_s=INTERVAL_S)
    one.wait_condition("Failed", "True", "ProgramFailed", JOB, "j")
    assert one.status(JOB, "j")["result"]["exitCode"] == 4


def test_a_drivers_own_reason_is_visible(scene: Make) -> None:
    one = scene()
    one.kubelet.rule("driver", lambda: waiting("ErrImagePull", "no such image"))
    one.job(**with_cluster(one))
    assert "no such image" in one.wait_condition("Running", "False", "ErrImagePull", JOB, "j")


def test_a_name_that_is_taken_is_said(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=0), name="j")
    one.job(**own_cluster())
    one.wait_condition("Running", "False", "NameTaken", JOB, "j")


def test_a_deleted_job_takes_its_driver_along(scene: Make) -> None:
    one = scene()
    one.job(**own_cluster())
    wait_running(one)
    started = time.monotonic()
    one.client.delete(JOB, "j", one.namespace)
    eventually(lambda: not one.client.objects("Pod", one.namespace), WAIT_S, interval_s=0.1)
    print(f"gone after {time.monotonic() - started:.1f} s")
