"""The cluster that every other file stands on: pods reach each other, names resolve, nodes drain.

Nothing here is Freehold's; when this file fails, so will the others, and not by their own fault.
"""

from __future__ import annotations

from typing import Any

import pytest
from e2e.support.cluster import POLL_S, Cluster, CommandError, kind_cluster, run

from freehold.testing import eventually

PORT = 8080
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def server_spec(image: str, **extra: Any) -> dict[str, Any]:
    """A pod that serves its own name: what a request gets tells which pod answered."""
    program = f"echo $HOSTNAME > /tmp/name && cd /tmp && exec python3 -m http.server {PORT}"
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", program],
        "securityContext": RESTRICTED,
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    return {"terminationGracePeriodSeconds": 1, "containers": [container], **extra}


def fetch(cluster: Cluster, namespace: str, pod: str, host: str) -> str:
    """What a pod gets from a host, name or address."""
    code = (
        "import sys, urllib.request as u;"
        f"print(u.urlopen('http://{host}:{PORT}/name', timeout=5).read().decode().strip())"
    )
    return cluster.execute(pod, namespace, "python3", "-c", code).strip()


@pytest.fixture(scope="module")
def pods(cluster: Cluster, namespace: str, base_image: str) -> list[str]:
    """A server on each worker, named like a Service that leads to it."""
    nodes = cluster.worker_nodes()
    assert len(nodes) >= 2
    names = [f"server-{index}" for index in range(2)]
    for name, node in zip(names, nodes, strict=False):
        labels = {"app": "server", "name": name}
        choice = {"nodeSelector": {"kubernetes.io/hostname": node}}
        metadata = {"name": name, "labels": labels}
        spec = server_spec(base_image, **choice)
        service = {"selector": {"name": name}, "ports": [{"port": PORT}]}
        cluster.apply(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
            namespace=namespace,
        )
    for name in names:
        cluster.wait("condition=Ready", f"pod/{name}", namespace)
    return names


def test_pods_of_two_nodes_reach_each_other(
    cluster: Cluster, namespace: str, pods: list[str]
) -> None:
    first, second = (cluster.get("pod", name, namespace) for name in pods)
    assert first["spec"]["nodeName"] != second["spec"]["nodeName"]
    assert fetch(cluster, namespace, pods[0], second["status"]["podIP"]) == pods[1]
    assert fetch(cluster, namespace, pods[1], first["status"]["podIP"]) == pods[0]


def test_a_cluster_whose_engine_was_restarted_is_connected_again(
    cluster: Cluster, namespace: str, pods: list[str]
) -> None:
    """The routes between nodes end with their containers; kindnet brings them back by itself."""
    if cluster.kind_name is None:
        pytest.skip("only the nodes of kind's clusters are this machine's containers")
    first, second = (cluster.get("pod", name, namespace) for name in pods)
    cidr = cluster.get("node", second["spec"]["nodeName"])["spec"]["podCIDR"]
    run(["docker", "exec", first["spec"]["nodeName"], "ip", "route", "delete", cidr])
    kind_cluster(cluster.kind_name)

    def reached() -> bool:
        try:
            return fetch(cluster, namespace, pods[0], second["status"]["podIP"]) == pods[1]
        except CommandError:
            return False

    eventually(reached, 30, interval_s=POLL_S)


def test_a_service_is_found_by_name_from_the_other_node(
    cluster: Cluster, namespace: str, pods: list[str]
) -> None:
    assert fetch(cluster, namespace, pods[0], f"{pods[1]}.{namespace}.svc") == pods[1]
    assert fetch(cluster, namespace, pods[1], f"{pods[0]}.{namespace}.svc") == pods[0]


def test_a_careless_pod_is_refused(cluster: Cluster, namespace: str, base_image: str) -> None:
    container = {"name": "main", "image": base_image}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"}}
    with pytest.raises(CommandError, match="violates PodSecurity"):
        cluster.apply({**pod, "spec": {"containers": [container]}}, namespace=namespace)


def test_a_volume_is_written_by_a_pod_that_is_not_root(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    metadata = {"name": "kept"}
    spec = server_spec(
        base_image, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "kept"}}]
    )
    spec["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/kept"}]
    cluster.apply(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec},
        namespace=namespace,
    )
    cluster.wait("condition=Ready", "pod/writer", namespace)
    cluster.execute("writer", namespace, "sh", "-c", "echo hello > /kept/file")
    assert cluster.execute("writer", namespace, "cat", "/kept/file") == "hello\n"


def test_a_drained_node_loses_its_pods_to_another(
    cluster: Cluster, namespace: str, base_image: str
) -> None:
    labels = {"app": "movable"}
    template = {"metadata": {"labels": labels}, "spec": server_spec(base_image)}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"name": "movable"}
    cluster.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
        namespace=namespace,
    )
    cluster.wait("condition=Available", "deployment/movable", namespace)
    (before,) = cluster.objects("pod", namespace, labels="app=movable")
    node = before["spec"]["nodeName"]
    # Only this pod: a cluster given by --kubeconfig may have other users.
    try:
        chosen = ("--pod-selector=app=movable", "--delete-emptydir-data", "--timeout=60s")
        cluster.kubectl("drain", node, *chosen)

        def moved() -> bool:
            listed = cluster.objects("pod", namespace, labels="app=movable")
            nodes = [one["spec"].get("nodeName") for one in listed if is_ready(one)]
            return len(nodes) == 1 and nodes != [node]

        eventually(moved, 60, interval_s=POLL_S)
    finally:
        cluster.kubectl("uncordon", node)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]
