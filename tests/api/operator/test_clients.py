"""Clusters made by the Python client, over a real API server with the operator behind it.

A scripted kubelet runs the pods and serves their logs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.client import Client, Manifest
from tests.api.operator.client_kit import (
    CLUSTER,
    awake,
    driver,
    end,
    grant,
    interrupt_when,
    is_gone,
    token_of,
    wait_for,
)
from tests.api.operator.scene import WAIT_S, Scene, worker_group
from tests.api.server import ApiServer
from tests.api.support.kubelet import unschedulable, waiting
from tests.api.support.pod_logs import PodLogs
from tests.api.tcp_proxy import TcpProxy

from freehold._processes.driver import function_job
from freehold.errors import (
    ClusterNotReadyError,
    KubernetesError,
)
from freehold.kubernetes import FuturesCluster, FuturesJob

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]


IMPATIENT = {"image": "x:1", "patience_s": 4.0}


def test_with_makes_it_and_takes_it_away(scene: Make, where: dict[str, Any], logs: PodLogs) -> None:
    one = scene()
    with FuturesCluster("c", workers=2, image="x:1", **where) as cluster:
        assert (cluster.namespace, cluster.status["readyReplicas"]) == (one.namespace, 2)
        cluster.scale(3)
        assert len(one.pods()) == 3
        assert one.client.get(CLUSTER, "c", one.namespace)["spec"]["replicas"] == 3
        [head] = one.pods("head")
        logs.write(head["metadata"]["name"], "serving", "a node joined")
        assert list(cluster.logs(tail=1)) == ["[c-head-0] a node joined"]
    assert is_gone(one, CLUSTER, "c")
    cluster.delete()  # once more: fine


def test_a_range_scales_on_the_queue(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with FuturesCluster("c", workers=(0, 2), image="x:1", **where) as cluster:
        assert one.client.get(CLUSTER, "c", one.namespace)["spec"]["autoscaling"]["enabled"]
        with pytest.raises(KubernetesError, match="cannot be set while autoscaling is on"):
            cluster.scale(1)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (lambda: waiting("ImagePullBackOff", 'image "x:1"'), "ImagePullBackOff", 'image "x:1"'),
        (lambda: unschedulable("0/1: Insufficient cpu"), "Unschedulable", "Insufficient cpu"),
    ],
)
def test_the_pods_own_reason_is_raised(
    scene: Make, where: dict[str, Any], status: Any, reason: str, words: str
) -> None:
    one = awake(scene)
    one.kubelet.rule("worker", status)
    with (
        pytest.raises(ClusterNotReadyError, match=words) as caught,
        FuturesCluster("c", **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")
    assert caught.value.reason == reason
    assert caught.value.pod.startswith("c-workers-")
    assert is_gone(one, CLUSTER, "c"), "what cannot come up is taken away"


def test_a_crash_has_its_last_lines(scene: Make, where: dict[str, Any], logs: PodLogs) -> None:
    one = awake(scene)

    def crashing() -> Manifest:
        found = waiting("CrashLoopBackOff", "back-off 10s restarting")
        before = {"exitCode": 3, "reason": "Error"}
        found["containerStatuses"][0]["lastState"] = {"terminated": before}
        return found

    logs.write("c-head-0", "starting", "no room left on the volume", previous=True)
    one.kubelet.rule("head", crashing)
    with (
        pytest.raises(ClusterNotReadyError) as caught,
        FuturesCluster("c", **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")
    assert caught.value.reason == "CrashLoopBackOff"
    assert caught.value.last_log_lines == ("starting", "no room left on the volume")
    assert str(caught.value).endswith("\n  no room left on the volume")


def test_a_quota_is_told_though_there_is_no_pod(scene: Make, where: dict[str, Any]) -> None:
    one = awake(scene)
    spec = {"hard": {"pods": "2"}}
    metadata = {"name": "few", "namespace": one.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    one.client.create(quota)
    # The quota counts nothing before its controller has seen it.
    wait_for(lambda: one.client.get("ResourceQuota", "few", one.namespace)["status"].get("hard"))
    with (
        pytest.raises(ClusterNotReadyError, match="exceeded quota: few"),
        FuturesCluster("c", workers=2, **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")


def test_time_runs_out_without_an_operator(
    api: Client, where: dict[str, Any], namespace: str
) -> None:
    cluster = FuturesCluster("c", timeout_s=2.0, **where)
    with pytest.raises(ClusterNotReadyError, match="no operator has looked at it"), cluster:
        pytest.fail("it is not ready")
    assert api.find(CLUSTER, "c", namespace) is None


def test_one_that_is_there_is_attached_to_and_stays(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    one.cluster(worker_group(replicas=1))
    with pytest.raises(KubernetesError, match=r"FuturesCluster\.attach\('c'\)"):
        FuturesCluster("c", **where).create()
    with FuturesCluster.attach("c", **where) as cluster:
        assert cluster.status["readyReplicas"] == 1
    assert one.client.find(CLUSTER, "c", one.namespace) is not None
    with pytest.raises(KubernetesError, match=r"there is no FuturesCluster none .*kubectl get fc"):
        FuturesCluster.attach("none", **where)


def test_what_the_crd_refuses_is_told_in_its_words(where: dict[str, Any]) -> None:
    with pytest.raises(KubernetesError, match="runsTasks") as caught:
        FuturesCluster("c", spec={"workerGroups": []}, **where).create()
    assert caught.value.status == 422


def test_an_interrupt_while_it_starts_takes_it_away(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    one.kubelet.rule("worker", lambda: waiting("ContainerCreating", ""))
    thread = interrupt_when(one.pods)
    with pytest.raises(KeyboardInterrupt), FuturesCluster("c", image="x:1", **where):
        pytest.fail("it is not ready")
    thread.join()
    assert is_gone(one, CLUSTER, "c")


def test_an_error_in_the_block_takes_it_away(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with (
        pytest.raises(ZeroDivisionError),
        FuturesCluster("c", workers=0, image="x:1", **where),
    ):
        raise ZeroDivisionError
    assert is_gone(one, CLUSTER, "c")


def test_another_cluster_of_the_same_name_is_left_alone(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with FuturesCluster("c", workers=0, image="x:1", **where):
        one.client.delete(CLUSTER, "c", one.namespace)
        assert is_gone(one, CLUSTER, "c")
        one.cluster(worker_group(replicas=0))
    assert one.client.find(CLUSTER, "c", one.namespace) is not None


def test_broken_connections_are_lived_through(
    scene: Make, where: dict[str, Any], api_server: ApiServer, tcp_proxy: TcpProxy, tmp_path: Path
) -> None:
    one = scene()
    one.kubelet.rule("worker", lambda: waiting("ContainerCreating", ""))
    config = api_server.kubeconfig_for(tcp_proxy.url, tmp_path / "through-proxy")
    cluster = FuturesCluster("c", image="x:1", **{**where, "kubeconfig": str(config)})
    cluster.create()

    def disturb() -> None:
        one.wait_pods(1)
        for _ in range(3):
            tcp_proxy.drop_connections()
        one.kubelet.rules.clear()

    thread = threading.Thread(target=disturb)
    thread.start()
    cluster.wait_ready()
    thread.join()


def test_missing_rights_are_told_and_the_documented_ones_suffice(
    scene: Make, api_server: ApiServer, tmp_path: Path, logs: PodLogs
) -> None:
    one = scene()
    token = token_of(one.client, one.namespace)
    config = api_server.kubeconfig_for(api_server.url, tmp_path / "config", token=token)
    where = {"kubeconfig": str(config), "namespace": one.namespace}
    with pytest.raises(KubernetesError, match=r"cannot create .* lists the rights") as caught:
        FuturesCluster("c", **where).create()
    assert caught.value.reason == "Forbidden"
    rules = [
        ("freehold.dev", ["futuresclusters", "futuresjobs"], ["create", "get", "delete"]),
        ("freehold.dev", ["futuresclusters/scale"], ["patch"]),
        ("", ["configmaps"], ["create"]),
        ("", ["pods"], ["list", "get"]),
        ("", ["pods/log"], ["get"]),
    ]
    grant(one.client, one.namespace, rules)
    wait_for(lambda: can_create(where))
    with FuturesCluster("c", image="x:1", **where) as cluster:
        cluster.scale(2)
        job = FuturesJob.submit(print, cluster=cluster)
        pod = driver(one)
        logs.write(pod, "said")
        logs.end(pod)
        end(one, 0, function_job.encoded("done"))
        assert list(job.logs(follow=True)) == ["said"]
        assert job.result() == "done"
        job.delete()
    assert is_gone(one, CLUSTER, "c")


def can_create(where: dict[str, Any]) -> bool:
    """Whether a right that was just given is in force."""
    probe = FuturesCluster("probe", workers=0, **where)
    try:
        probe.create()
    except KubernetesError:
        return False
    probe.delete()
    return True


def test_an_outage_of_the_api_is_lived_through(
    scene: Make, where: dict[str, Any], api_server: ApiServer
) -> None:
    one = scene()
    one.kubelet.rule("worker", lambda: waiting("ContainerCreating", ""))
    cluster = FuturesCluster("c", image="x:1", **where)
    cluster.create()
    one.wait_pods(1)
    waited = threading.Thread(target=cluster.wait_ready)
    waited.start()
    api_server.stop_api()
    api_server.start_api()
    one.kubelet.rules.clear()
    waited.join(WAIT_S)
    assert not waited.is_alive()
    assert cluster.status["readyReplicas"] == 1
