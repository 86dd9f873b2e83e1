"""Which reason is told of a cluster that does not come up, and where a job stands."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.support import kubelet

from freehold.kubernetes import _reasons as reasons
from freehold.kubernetes._reasons import JobStatus, Patience, Trouble


def pod(role: str, name: str, status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    labels = {"freehold.dev/role": role, **metadata.pop("labels", {})}
    return {"metadata": {"name": name, "labels": labels, **metadata}, "status": status}


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def cluster(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    known = {"observedGeneration": 1, "conditions": list(conditions), **status}
    return {"metadata": {"name": "c", "generation": 1}, "status": known}


def crashed() -> dict[str, Any]:
    found = kubelet.waiting("CrashLoopBackOff", "back-off 10s restarting")
    found["containerStatuses"][0]["lastState"] = {"terminated": {"exitCode": 3}}
    return found


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (kubelet.running(), None),
        ({"phase": "Pending"}, None),
        (kubelet.waiting("ContainerCreating", ""), None),
        (
            kubelet.waiting("ImagePullBackOff", 'Back-off pulling image "x:1"'),
            Trouble("ImagePullBackOff", 'Back-off pulling image "x:1"', "p"),
        ),
        (
            kubelet.unschedulable("0/3 nodes: 3 Insufficient memory"),
            Trouble("Unschedulable", "0/3 nodes: 3 Insufficient memory", "p"),
        ),
        (
            crashed(),
            Trouble(
                "CrashLoopBackOff",
                "back-off 10s restarting (it ended before with exit code 3)",
                "p",
                "freehold",
                True,
            ),
        ),
        (
            kubelet.ended(1),
            Trouble("Error", "container freehold ended with exit code 1", "p", "freehold"),
        ),
        (
            kubelet.ended(137, reason="OOMKilled"),
            Trouble("OOMKilled", "container freehold ended with exit code 137", "p", "freehold"),
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
            Trouble("Evicted", "low on memory", "p"),
        ),
    ],
)
def test_a_pods_own_reason(status: dict[str, Any], expected: Trouble | None) -> None:
    assert reasons.pod_trouble(pod("worker", "p", status)) == expected


def test_the_head_is_asked_first() -> None:
    pods = [
        pod("worker", "w", kubelet.unschedulable()),
        pod("head", "h", kubelet.waiting("ErrImagePull", "no such image")),
    ]
    found = reasons.cluster_trouble(cluster(), pods)
    assert found is not None
    assert (found.pod, found.reason) == ("h", "ErrImagePull")


def test_pods_that_go_and_drivers_do_not_count() -> None:
    pods = [
        pod("worker", "w", kubelet.ended(1), deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("driver", "d", kubelet.ended(1)),
    ]
    assert reasons.cluster_trouble(cluster(), pods) is None


def test_what_has_no_pod_is_told_by_the_operator() -> None:
    body = cluster(
        condition("HeadReady", "True", "Serving"),
        condition("WorkersReady", "False", "QuotaExceeded", "workers: exceeded quota: few"),
    )
    expected = Trouble("QuotaExceeded", "workers: exceeded quota: few")
    assert reasons.cluster_trouble(body, [pod("head", "h", kubelet.running())]) == expected


def test_what_is_under_way_is_no_trouble() -> None:
    body = cluster(
        condition("HeadReady", "False", "Starting"), condition("Degraded", "False", "AsExpected")
    )
    assert reasons.cluster_trouble(body, []) is None


def test_an_operator_that_does_not_look_is_told() -> None:
    found = reasons.cluster_trouble({"metadata": {"name": "c", "generation": 1}}, [])
    assert found is not None
    assert found.reason == "NotSeen"


def test_ready_is_of_the_spec_as_it_is_now() -> None:
    body = cluster(condition("Ready", "True", "Ready"), readyReplicas=2)
    assert reasons.is_ready(body)
    assert reasons.is_ready(body, 2)
    assert not reasons.is_ready(body, 3)
    body["metadata"]["generation"] = 2
    assert not reasons.is_ready(body)


def test_progress_tells_counts_and_trouble() -> None:
    body = cluster(condition("HeadReady", "True", "Serving"), readyReplicas=1, desiredReplicas=2)
    trouble = Trouble("Unschedulable", "no room")
    assert reasons.cluster_progress(body, trouble) == (
        "head ready, 1 of 2 workers – Unschedulable: no room"
    )


def test_patience_ends_with_what_stays_under_changing_names() -> None:
    patience = Patience(60.0)
    for now in range(0, 60, 5):
        name = "ErrImagePull" if now % 10 else "ImagePullBackOff"
        assert not patience.is_over(Trouble(name, ""), float(now))
        assert not patience.is_over(None, now + 2.0), "between two looks"
    assert patience.is_over(Trouble("ImagePullBackOff", "x"), 60.0)
    assert patience.last == Trouble("ImagePullBackOff", "x")


def test_patience_forgives_what_has_passed() -> None:
    patience = Patience(60.0)
    assert not patience.is_over(Trouble("Unschedulable", ""), 0.0)
    assert not patience.is_over(None, 30.0)
    assert patience.last is None
    assert not patience.is_over(Trouble("Unschedulable", ""), 61.0)


def test_no_patience_raises_at_once() -> None:
    assert Patience(0.0).is_over(Trouble("Unschedulable", ""), 5.0)
    assert not Patience(0.0).is_over(None, 5.0)


def job(*conditions: dict[str, str], **status: Any) -> dict[str, Any]:
    return cluster(*conditions, **status)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"metadata": {"name": "j", "generation": 1}},
            JobStatus("Pending", "NotSeen", "no operator has looked at it yet", None, 0),
        ),
        (
            job(condition("Running", "False", "NotRunning"), attempts=0),
            JobStatus("Pending", "Starting", "the operator is about to start it", None, 0),
        ),
        (
            job(condition("Running", "False", "ClusterStarting", "c is starting")),
            JobStatus("Pending", "ClusterStarting", "c is starting", None, 0),
        ),
        (
            job(condition("Running", "True", "Running", "attempt 2 runs"), attempts=2),
            JobStatus("Running", "Running", "attempt 2 runs", None, 2),
        ),
        (
            job(condition("Suspended", "True", "Suspended")),
            JobStatus("Suspended", "Suspended", "", None, 0),
        ),
        (
            job(
                condition("Failed", "True", "ProgramFailed", "exit code 3: words"),
                attempts=1,
                result={"reason": "ProgramFailed", "message": "words", "exitCode": 3},
            ),
            JobStatus("Failed", "ProgramFailed", "words", 3, 1),
        ),
    ],
)
def test_where_a_job_stands(body: dict[str, Any], expected: JobStatus) -> None:
    assert reasons.job_status(body) == expected


def test_only_an_end_is_final() -> None:
    finished = {
        s: JobStatus(s, "", "", None, 0).is_finished
        for s in ("Pending", "Running", "Suspended", "Complete", "Failed")
    }
    assert [s for s, is_final in finished.items() if is_final] == ["Complete", "Failed"]


def test_the_newest_pod_of_an_attempt_counts() -> None:
    labels = {"freehold.dev/attempt": "2"}
    old = pod("driver", "a", {}, labels=labels, creationTimestamp="2026-01-01T00:00:00Z")
    new = pod("driver", "b", {}, labels=labels, creationTimestamp="2026-01-01T00:00:05Z")
    other = pod("driver", "c", {}, labels={"freehold.dev/attempt": "1"})
    assert reasons.driver_pod([old, new, other], 2) == new
    assert reasons.driver_pod([other], 2) is None


def test_a_containers_state() -> None:
    ended = reasons.container_state(pod("driver", "p", kubelet.ended(3)), "freehold")
    assert (ended[0], ended[1]["exitCode"]) == ("terminated", 3)
    assert reasons.container_state(pod("driver", "p", {}), "freehold") == ("waiting", {})
