"""A cluster's life on a real API server: made, grown, shrunk, suspended, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.http_proxy import HttpProxy
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.server import ApiServer
from tests.api.support.kubelet import ended, unschedulable, waiting

from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]


def test_a_cluster_is_made_and_becomes_ready(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    for kind, name in (
        ("StatefulSet", "c-head"),
        ("Service", "c-head"),
        ("ServiceAccount", "c"),
        ("Secret", "c-ca"),
        ("Secret", "c-auth"),
        ("PersistentVolumeClaim", "state-c-head-0"),
    ):
        assert one.client.find(kind, name, one.namespace) is not None, (kind, name)
    status = one.status()
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (2, 2, 2)
    assert one.condition("Degraded")[0] == "False"
    assert one.operator.restarts == 0


def test_replicas_up_and_down(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=1))
    one.head.start_when_ready()
    one.wait_ready(1)
    one.patch({"workerGroups": [worker_group(replicas=4)]})
    one.wait_ready(4)
    one.patch({"workerGroups": [worker_group(replicas=2)]})
    one.wait_ready(2)
    one.wait_pods(2)
    assert [reason for _, reason in one.head.drains] == ["requested", "requested"]


def test_the_scale_subresource(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(), replicas=1)
    one.wait_ready(1)
    one.client.patch(
        "FuturesCluster", "c", {"spec": {"replicas": 3}}, one.namespace, subresource="scale"
    )
    one.wait_ready(3)
    path = one.client.path("FuturesCluster", one.namespace, "c") + "/scale"
    scale = one.client.call("GET", path)
    assert scale["status"]["replicas"] == 3
    assert len(one.client.objects("Pod", one.namespace, labels=scale["status"]["selector"])) == 3


def test_without_the_head_nothing_is_taken_away(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    one.patch({"workerGroups": [worker_group(replicas=0)]})
    one.wait_condition("ScalingLimited", "True", "HeadUnreachable")
    assert len(one.pods()) == 2
    one.head.start_when_ready()
    one.wait_pods(0)


def test_the_queue_makes_workers_and_idleness_takes_them(scene: Make) -> None:
    one = scene()
    one.cluster(
        worker_group(minReplicas=0),
        autoscaling={"downscaling": {"idleTimeoutSeconds": 1}},
    )
    one.head.start_when_ready()
    one.wait_condition("Ready", "True")
    one.head.is_busy = True
    one.head.set_demand(queued=3)
    started = time.monotonic()
    eventually(lambda: len(one.pods()) == 3, WAIT_S, interval_s=0.01)
    print(f"queue to pods: {time.monotonic() - started:.3f} s")
    one.wait_ready(3)
    one.head.set_demand(running=3)
    eventually(lambda: one.status()["queue"]["running"] == 3, WAIT_S, interval_s=INTERVAL_S)
    one.head.set_demand()
    one.head.is_busy = False
    one.wait_pods(0)
    assert [reason for _, reason in one.head.drains] == ["idle"] * 3
    assert [g.name for g in one.head.groups] == ["g"]


def test_a_refused_drain_leaves_the_worker(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(minReplicas=0), autoscaling={"downscaling": {"idleTimeoutSeconds": 1}})
    one.head.start_when_ready()
    one.wait_condition("Ready", "True")
    one.head.refuses_idle = True
    one.head.set_demand(queued=1)
    one.wait_ready(1)
    one.head.set_demand()
    eventually(lambda: len(one.head.drains) >= 1, WAIT_S, interval_s=INTERVAL_S)
    assert len(one.pods()) == 1
    one.head.refuses_idle = False
    one.wait_pods(0)


def test_suspend_and_resume(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    one.patch({"suspend": True})
    one.wait_condition("Suspended", "True", "Suspended")
    assert one.pods() == []
    assert one.pods("head") == []
    # The head's pod is first asked to end by its StatefulSet, and may be quicker than the operator.
    graces = [g for name, g in one.kubelet.graces.items() if name != "c-head-0"]
    assert graces == [[5], [5]]
    one.patch({"suspend": False})
    one.wait_ready(2)


def test_a_deleted_cluster_goes_within_seconds(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    one.kubelet.is_slow_to_end = True
    one.client.delete("FuturesCluster", "c", one.namespace)

    def is_shortened() -> bool:
        pods = [*one.pods(), *one.pods("head")]
        return all(p["metadata"].get("deletionGracePeriodSeconds") == 5 for p in pods)

    eventually(is_shortened, WAIT_S, interval_s=INTERVAL_S)
    one.kubelet.is_slow_to_end = False
    one.wait_pods(0)
    for kind in ("StatefulSet", "Service", "Secret"):
        eventually(lambda kind=kind: not one.client.objects(kind, one.namespace), WAIT_S)


def test_a_crash_loop_is_slowed_down_told_and_ended_by_a_new_template(scene: Make) -> None:
    one = scene()
    crash = one.kubelet.rule("worker", lambda: ended(3))
    started = time.monotonic()
    one.cluster(worker_group(replicas=1))

    def failures() -> list[str]:
        key = "freehold.dev/failures"
        return [pod["metadata"]["annotations"].get(key, "0") for pod in one.pods()]

    assert "exit code 3; it is made again at" in one.wait_condition(
        "WorkersReady", "False", "Error"
    )
    eventually(lambda: "1" in failures(), WAIT_S, interval_s=INTERVAL_S)
    assert time.monotonic() - started > 9
    # What it knows of that stands in the pod: the next operator goes on counting.
    one.operator.kill()
    words = one.wait_condition("WorkersReady", "False", "CrashLoopBackOff")
    assert "it failed 2 times in a row, the next try is at" in words
    one.kubelet.rules.remove(crash)
    one.patch({"image": "good:1"})
    one.wait_ready(1)
    assert failures() == ["0"]


def test_the_head_is_told_of_a_container_that_was_killed(scene: Make) -> None:
    one = scene()
    one.head.hears_ends = False
    one.cluster(worker_group(replicas=1))
    one.head.start_when_ready()
    one.wait_ready(1)
    (pod,) = one.pods()
    eventually(lambda: pod["metadata"]["name"] in one.head.states(), WAIT_S)
    one.kubelet.rule("worker", lambda: ended(137, reason="OOMKilled"))
    eventually(lambda: one.head.ended != [], WAIT_S, interval_s=INTERVAL_S)
    why = "its container ended with exit code 137 (OOMKilled)"
    assert set(one.head.ended) == {(pod["metadata"]["name"], why)}


def test_a_bad_image_is_visible_and_fixing_it_recovers(scene: Make) -> None:
    one = scene()
    bad = one.kubelet.rule("worker", lambda: waiting("ImagePullBackOff", "no such image"))
    one.cluster(worker_group(replicas=1))
    message = one.wait_condition("WorkersReady", "False", "ImagePullBackOff")
    assert "no such image" in message
    one.kubelet.rules.remove(bad)
    one.patch({"image": "good:1"})
    one.wait_ready(1)


def test_impossible_resources_are_visible(scene: Make) -> None:
    one = scene()
    rule = one.kubelet.rule("head", lambda: unschedulable("0/1 nodes: too little cpu"))
    one.cluster(worker_group(replicas=1))
    assert "too little cpu" in one.wait_condition("HeadReady", "False", "Unschedulable")
    assert "too little cpu" in one.wait_condition("Ready", "False", "Unschedulable")
    one.kubelet.rules.remove(rule)
    one.wait_ready(1)


def test_quota_is_visible_and_raising_it_recovers(scene: Make) -> None:
    one = scene()
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": one.namespace},
        "spec": {"hard": {"pods": "2"}},
    }
    one.client.create(quota)
    one.cluster(worker_group(replicas=2))
    assert "exceeded quota" in one.wait_condition("WorkersReady", "False", "QuotaExceeded")
    assert len(one.pods("head")) == 1
    one.client.patch("ResourceQuota", "q", {"spec": {"hard": {"pods": "9"}}}, one.namespace)
    one.wait_ready(2)


def test_a_bad_template_is_visible_and_fixing_it_recovers(scene: Make) -> None:
    one = scene()
    bad = {
        "spec": {
            "containers": [
                {"name": "freehold", "volumeMounts": [{"name": "nope", "mountPath": "/x"}]}
            ]
        }
    }
    one.cluster(worker_group(replicas=1, template=bad))
    assert "nope" in one.wait_condition("WorkersReady", "False", "Invalid")
    one.patch({"workerGroups": [worker_group(replicas=1)]})
    one.wait_ready(1)


def test_two_clusters_do_not_touch_each_other(scene: Make) -> None:
    one = scene()
    one.cluster(worker_group(replicas=1))
    one.cluster(worker_group(replicas=1), name="d")
    one.wait_pods(2)
    one.client.delete("FuturesCluster", "d", one.namespace)
    left = one.wait_pods(1)
    assert left[0]["metadata"]["labels"]["freehold.dev/cluster"] == "c"
    one.wait_ready(1)


def test_an_idle_system_writes_nothing(
    scene: Make, http_proxy: HttpProxy, api_server: ApiServer, tmp_path: Path
) -> None:
    config = api_server.kubeconfig_for(http_proxy.url, tmp_path / "kubeconfig")
    one = scene(config, look_s=2, resync_s=10)
    one.cluster(worker_group(replicas=2))
    one.head.start_when_ready()
    one.wait_ready(2)
    one.wait_condition("Progressing", "False", "Settled")
    eventually(lambda: "queue" in one.status(), WAIT_S, interval_s=INTERVAL_S)
    http_proxy.forget()
    deadline = time.monotonic() + 60
    eventually(lambda: time.monotonic() > deadline or http_proxy.writes, 70, interval_s=0.5)
    assert [request.body.decode() for request in http_proxy.writes] == []
    assert one.operator.restarts == 0
