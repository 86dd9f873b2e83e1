"""Who is not of the cluster is not heard, wherever it comes from; the pods hold no API token."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

PORTS = {"head": {7400, 7401, 7402}, "worker": {7401, 7402}}
"""What docs/machines.md lists; nothing else may listen."""

LISTENING = """
import json
found = set()
for name in ("tcp", "tcp6"):
    for line in open(f"/proc/net/{name}").read().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            found.add(int(fields[1].rpartition(":")[2], 16))
print(json.dumps(sorted(found)))
"""

METRICS = """
import urllib.request
print(urllib.request.urlopen("http://HOST:7402/metrics").read().decode())
"""

STRANGER = """
import json, socket, sys, urllib.error, urllib.request
host, control = sys.argv[1], sys.argv[2] == "head"
found = {}

def raw(port, data):
    with socket.create_connection((host, port), 5) as sock:
        sock.settimeout(15)
        sock.sendall(data)
        answer = b""
        try:
            while part := sock.recv(4096):
                answer += part
        except OSError:
            pass
        return len(answer)

found["peer-garbage"] = raw(7401, b"GET / HTTP/1.1\\r\\n\\r\\n")
found["peer-nothing"] = raw(7401, b"\\0" * 20)

def http(method, path):
    request = urllib.request.Request(f"http://{host}:7402{path}", method=method)
    try:
        return urllib.request.urlopen(request, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code

found["healthz"] = http("GET", "/healthz")
found["metrics"] = http("GET", "/metrics")
found["post"] = http("POST", "/healthz")
found["other"] = http("GET", "/etc/passwd")
if control:
    import grpc
    from freehold._proto import control_pb2 as pb
    ca, cluster = sys.argv[3].encode(), sys.argv[4]
    name = f"control.{cluster}.freehold.invalid"
    options = [("grpc.ssl_target_name_override", name)]
    wrong = (("authorization", "Bearer " + "x" * 32),)
    for label, metadata in (("no-token", ()), ("wrong-token", wrong)):
        credentials = grpc.ssl_channel_credentials(ca)
        with grpc.secure_channel(f"{host}:7400", credentials, options) as channel:
            call = channel.unary_unary(
                "/freehold.v1.Control/GetCluster",
                pb.GetClusterRequest.SerializeToString,
                pb.ClusterState.FromString,
            )
            try:
                call(pb.GetClusterRequest(), timeout=5, metadata=metadata)
                found[label] = "OK"
            except grpc.RpcError as error:
                found[label] = error.code().name
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pods(cluster: Cluster, namespace: str, release: None) -> dict[str, dict[str, Any]]:
    """A head and a worker in a namespace that enforces `restricted`."""
    spec = fh.cluster_spec(fh.workers(), replicas=1)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)
    return {role: fh.pods(cluster, namespace, role)[0] for role in PORTS}


@pytest.fixture(scope="module")
def stranger(cluster: Cluster, namespace: str, runtime_image: str) -> Any:
    """A pod in another namespace."""
    other = f"{namespace}-other"
    metadata = {"name": other}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    container = {
        "name": "stranger",
        "image": runtime_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import time; time.sleep(3600)"],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    cluster.apply(pod, namespace=other)
    cluster.kubectl(
        "wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s", namespace=other
    )
    yield other
    cluster.kubectl("delete", "namespace", other, "--wait=false")


@pytest.mark.parametrize("role", sorted(PORTS))
def test_pods_listen_on_the_documented_ports_alone(
    cluster: Cluster, namespace: str, pods: dict[str, dict[str, Any]], role: str
) -> None:
    name = pods[role]["metadata"]["name"]
    found = json.loads(cluster.execute(name, namespace, "python", "-c", LISTENING))
    assert set(found) == PORTS[role]


def cluster_id(head: dict[str, Any]) -> str:
    """What the operator told the head."""
    variables = head["spec"]["containers"][0]["env"]
    return next(str(each["value"]) for each in variables if each["name"] == "FREEHOLD_CLUSTER")


@pytest.mark.parametrize("role", sorted(PORTS))
def test_a_stranger_is_refused_on_every_port(
    cluster: Cluster,
    namespace: str,
    pods: dict[str, dict[str, Any]],
    stranger: str,
    role: str,
) -> None:
    address = pods[role]["status"]["podIP"]
    secret = cluster.get("secret", "small-auth", namespace)["data"]
    ca = base64.b64decode(secret["ca.crt"]).decode()
    given = (address, role, ca, cluster_id(pods["head"]))
    said = cluster.execute("stranger", stranger, "python", "-c", STRANGER, *given)
    found = json.loads(said)
    expected = {
        "peer-garbage": 0,
        "peer-nothing": 0,
        "healthz": 200,
        "metrics": 200,
        "post": 405,
        "other": 404,
    }
    if role == "head":
        expected |= {"no-token": "UNAUTHENTICATED", "wrong-token": "UNAUTHENTICATED"}
    assert found == expected
    # It was heard of: refused connections are counted.
    metrics = cluster.execute(
        pods[role]["metadata"]["name"],
        namespace,
        "python",
        "-c",
        METRICS.replace("HOST", address),
    )
    assert "refused" in metrics


def test_no_runtime_pod_has_an_api_token(
    cluster: Cluster, namespace: str, pods: dict[str, dict[str, Any]]
) -> None:
    look = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))"
    for pod in pods.values():
        name = pod["metadata"]["name"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert cluster.execute(name, namespace, "python", "-c", look).strip() == "False"
        mounted = {volume.get("secret", {}).get("secretName") for volume in pod["spec"]["volumes"]}
        assert ("small-ca" in mounted) is (name == "small-head-0")
