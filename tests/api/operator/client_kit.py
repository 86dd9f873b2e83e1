"""What tests of the Python client ask of a scene: waiting, and doing what a driver would."""

from __future__ import annotations

import base64
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from tests.api.client import Client, Manifest
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.support.kubelet import ended

from freehold.testing import eventually

JOB, CLUSTER = "FuturesJob", "FuturesCluster"
Make = Callable[..., Scene]


def wait_for(predicate: Callable[[], Any]) -> Any:
    return eventually(predicate, WAIT_S, interval_s=INTERVAL_S)


def is_gone(one: Scene, kind: str, name: str) -> bool:
    """Wait until an object is not there any more."""
    return bool(wait_for(lambda: one.client.find(kind, name, one.namespace) is None))


def interrupt_when(predicate: Callable[[], Any]) -> threading.Thread:
    """^C for this process as soon as something holds."""

    def watch() -> None:
        wait_for(predicate)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def awake(scene: Make) -> Scene:
    """A scene whose operator is seen to work: until then it would try an impatient client."""
    one = scene()
    one.cluster(worker_group(replicas=0), name="warm")
    wait_for(lambda: one.status(name="warm"))
    return one


def small(one: Scene) -> None:
    """A cluster for jobs."""
    one.cluster(worker_group(replicas=1))


def files_of(one: Scene, name: str) -> tuple[str, dict[str, bytes]]:
    """The ConfigMap of a job, and what is in it."""
    spec = one.client.get(JOB, name, one.namespace)["spec"]
    config_map = spec["workingDir"]["configMap"]["name"]
    found = wait_for(lambda: one.client.find("ConfigMap", config_map, one.namespace))
    files = {key: text.encode() for key, text in found.get("data", {}).items()}
    binary = found.get("binaryData", {})
    return config_map, files | {key: base64.b64decode(text) for key, text in binary.items()}


def driver(one: Scene, attempt: int = 1) -> str:
    """Wait for the driver of an attempt that runs; its pod's name."""

    def running() -> str:
        for pod in one.pods("driver"):
            is_its = pod["metadata"]["labels"]["freehold.dev/attempt"] == str(attempt)
            if is_its and pod["status"].get("phase") == "Running":
                return str(pod["metadata"]["name"])
        return ""

    return str(wait_for(running))


def end(one: Scene, code: int, message: str = "", attempt: int = 1) -> None:
    """Let the driver of an attempt end."""
    status = ended(code)
    if message:
        status["containerStatuses"][0]["state"]["terminated"]["message"] = message

    def rule(pod: Manifest) -> Manifest | None:
        is_its = pod["metadata"]["labels"].get("freehold.dev/attempt") == str(attempt)
        return status if is_its else None

    one.kubelet.rules.append(rule)


def token_of(client: Client, namespace: str, account: str = "default") -> str:
    """A token of a service account."""
    path = client.path("ServiceAccount", namespace, account) + "/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token: str = client.call("POST", path, request)["status"]["token"]
    return token


def grant(client: Client, namespace: str, rules: list[tuple[str, list[str], list[str]]]) -> None:
    """Give the namespace's default account (group, resources, verbs)."""
    named = {"name": "client", "namespace": namespace}
    api = "rbac.authorization.k8s.io"
    listed = [{"apiGroups": [g], "resources": r, "verbs": v} for g, r, v in rules]
    head = {"apiVersion": f"{api}/v1", "metadata": named}
    client.create({**head, "kind": "Role", "rules": listed})
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    reference = {"apiGroup": api, "kind": "Role", "name": "client"}
    client.create({**head, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference})
