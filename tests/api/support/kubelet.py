"""A scheduler and a kubelet for tests: pods are bound, become Running and Ready, and end.

Everything by patches of the pods' status, many times a second, so that a test waits for the
operator alone. A test says otherwise for single pods: `hold`, `fail`, `unschedulable`, …
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from tests.api.client import ApiError, Client, Manifest

PERIOD_S = 0.05
NODE = "test-node"

Rule = Callable[[Manifest], dict[str, Any] | None]
"""What becomes of a pod: a status to patch; None: as usual."""


def now() -> str:
    """A timestamp."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(type_: str, *, holds: bool, reason: str = "", message: str = "") -> dict[str, str]:
    """A pod's condition."""
    found = {"type": type_, "status": str(holds), "lastTransitionTime": now()}
    return (
        found | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
    )


def waiting(reason: str, message: str) -> dict[str, Any]:
    """The status of a pod whose container does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {
        "phase": "Pending",
        "conditions": [condition("PodScheduled", holds=True)],
        "containerStatuses": [_container(state)],
    }


def unschedulable(message: str = "0/1 nodes are available") -> dict[str, Any]:
    """The status of a pod that fits nowhere."""
    found = condition("PodScheduled", holds=False, reason="Unschedulable", message=message)
    return {"phase": "Pending", "conditions": [found]}


def ended(code: int, *, disrupted: bool = False, reason: str = "") -> dict[str, Any]:
    """The status of a pod whose container has ended."""
    state = {
        "terminated": {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": now(),
            "finishedAt": now(),
        }
    }
    conditions = [condition("PodScheduled", holds=True), condition("Ready", holds=False)]
    if disrupted:
        conditions.append(condition("DisruptionTarget", holds=True, reason="EvictionByEvictionAPI"))
    return {
        "phase": "Succeeded" if code == 0 else "Failed",
        "conditions": conditions,
        "containerStatuses": [_container(state)],
    }


def running() -> dict[str, Any]:
    """The status of a pod that runs and is ready."""
    return {
        "phase": "Running",
        "podIP": "10.1.0.1",
        "podIPs": [{"ip": "10.1.0.1"}],
        "startTime": now(),
        "conditions": [condition("PodScheduled", holds=True), condition("Ready", holds=True)],
        "containerStatuses": [_container({"running": {"startedAt": now()}}, is_ready=True)],
    }


def _container(state: dict[str, Any], *, is_ready: bool = False) -> dict[str, Any]:
    return {
        "name": "freehold",
        "image": "x",
        "imageID": "x",
        "ready": is_ready,
        "restartCount": 0,
        "state": state,
    }


class Kubelet:
    """Looks after the pods of one namespace.

    Attributes:
        rules: asked in order for each pod that is not ready yet; the first answer counts.
        is_slow_to_end: pods that are deleted stay until their grace period is over.
    """

    def __init__(self, client: Client, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.rules: list[Rule] = []
        self.graces: dict[str, list[int]] = {}
        self.is_slow_to_end = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def rule(self, role: str, status: Callable[[], dict[str, Any]]) -> Rule:
        """Let pods of a role have a status, until the rule is removed from `rules`."""

        def found(pod: Manifest) -> dict[str, Any] | None:
            is_its = pod["metadata"]["labels"].get("freehold.dev/role") == role
            return status() if is_its else None

        self.rules.append(found)
        return found

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            try:
                pods = self._client.objects("Pod", self._namespace)
            except OSError:
                continue  # the API server is away
            with self._lock:
                for pod in pods:
                    self._try(pod)

    def _try(self, pod: Manifest) -> None:
        try:
            self._look(pod)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        except OSError:
            pass  # the API server is away

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing happens to pods meanwhile."""
        with self._lock:
            yield

    def _look(self, pod: Manifest) -> None:
        metadata, status = pod["metadata"], pod.get("status", {})
        if "deletionTimestamp" in metadata:
            graces = self.graces.setdefault(metadata["name"], [])
            if metadata["deletionGracePeriodSeconds"] not in graces:
                graces.append(metadata["deletionGracePeriodSeconds"])
            if not self.is_slow_to_end and not metadata.get("finalizers"):
                uid = {"uid": metadata["uid"]}
                name, space = metadata["name"], self._namespace
                self._client.delete("Pod", name, space, gracePeriodSeconds=0, preconditions=uid)
            elif not self.is_slow_to_end and status.get("phase") == "Running":
                self._patch(pod, ended(143))
            return
        if status.get("phase") in ("Succeeded", "Failed"):
            return
        wanted = next((found for rule in self.rules if (found := rule(pod)) is not None), None)
        if wanted is None:
            wanted = running()
        if not _is_same(status, wanted):
            if wanted["phase"] != "Pending" or "containerStatuses" in wanted:
                self._bind(pod)
            self._patch(pod, wanted)

    def _bind(self, pod: Manifest) -> None:
        if pod["spec"].get("nodeName"):
            return
        name = pod["metadata"]["name"]
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": self._namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        }
        path = self._client.path("Pod", self._namespace, name)
        self._client.call("POST", f"{path}/binding", binding)

    def _patch(self, pod: Manifest, status: dict[str, Any]) -> None:
        name = pod["metadata"]["name"]
        self._client.patch("Pod", name, {"status": status}, self._namespace, subresource="status")


def _is_same(status: Manifest, wanted: dict[str, Any]) -> bool:
    """Whether a status says the same already, times aside."""

    def gist(of: Manifest) -> Any:
        conditions = {
            c["type"]: (c["status"], c.get("message", "")) for c in of.get("conditions", ())
        }
        states = [
            (kind, {k: v for k, v in state.items() if not k.endswith("At")})
            for container in of.get("containerStatuses", ())
            for kind, state in container["state"].items()
        ]
        return of.get("phase"), conditions, states

    return bool(gist(status) == gist(wanted))
