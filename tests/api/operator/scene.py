"""A stage for the operator: a namespace with a kubelet and a head, and questions about what is
there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.api.client import Client, Manifest
from tests.api.support.head import FakeHead
from tests.api.support.kubelet import Kubelet
from tests.api.support.supervisor import Operator, Zygote

from freehold.testing import eventually

WAIT_S = 60.0
INTERVAL_S = 0.05

Place = tuple[Path, str, Path, int]
"""A kubeconfig, a namespace, a folder for logs and the head's port."""


def worker_group(name: str = "g", **fields: Any) -> dict[str, Any]:
    """A worker group."""
    return {"name": name, "maxReplicas": 5, **fields}


class Scene:
    """One operator in one namespace.

    Attributes:
        operator: under its supervisor.
        kubelet: of the namespace.
        head: of the cluster `c`; away until `serve`.
    """

    def __init__(
        self,
        zygote: Zygote,
        client: Client,
        place: Place,
        settings: dict[str, Any] | None = None,
        die: tuple[int, str] | None = None,
    ) -> None:
        kubeconfig, self.namespace, folder, port = place
        self.client = client
        self.operator = Operator(zygote, kubeconfig, self.namespace, folder, settings, die)
        self.kubelet = Kubelet(client, self.namespace)
        self.head = FakeHead(client, self.namespace, "c", port)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for part in (self.kubelet, self.head, self.operator):
            self._stack.enter_context(part)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        print(self.operator.log())  # shown if the test failed

    def cluster(self, *groups: dict[str, Any], name: str = "c", **spec: Any) -> Manifest:
        """Create a FuturesCluster."""
        return self.client.create(
            {
                "apiVersion": "freehold.dev/v1alpha1",
                "kind": "FuturesCluster",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"image": "x:1", "workerGroups": list(groups), **spec},
            }
        )

    def job(self, name: str = "j", **spec: Any) -> Manifest:
        """Create a FuturesJob."""
        return self.client.create(
            {
                "apiVersion": "freehold.dev/v1alpha1",
                "kind": "FuturesJob",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": spec,
            }
        )

    def patch(self, spec: dict[str, Any], kind: str = "FuturesCluster", name: str = "c") -> None:
        """Change a spec."""
        self.client.patch(kind, name, {"spec": spec}, self.namespace)

    def status(self, kind: str = "FuturesCluster", name: str = "c") -> Manifest:
        """A custom resource's status; empty if it is not there."""
        found = self.client.find(kind, name, self.namespace)
        return (found or {}).get("status", {})

    def condition(
        self, type_: str, kind: str = "FuturesCluster", name: str = "c"
    ) -> tuple[str, str, str]:
        """A condition's status, reason and message."""
        for one in self.status(kind, name).get("conditions", ()):
            if one["type"] == type_:
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    def wait_condition(
        self,
        type_: str,
        status: str,
        reason: str = "",
        kind: str = "FuturesCluster",
        name: str = "c",
    ) -> str:
        """Wait for a condition; its message."""

        def holds() -> bool:
            found = self.condition(type_, kind, name)
            return found[0] == status and (not reason or found[1] == reason)

        try:
            eventually(holds, WAIT_S, interval_s=INTERVAL_S)
        except Exception as error:
            raise AssertionError(
                f"{type_} is not {status} {reason}: {self.status(kind, name)}"
            ) from error
        return self.condition(type_, kind, name)[2]

    def pods(self, role: str = "worker") -> list[Manifest]:
        """The pods of a role, by name."""
        found = self.client.objects("Pod", self.namespace, labels=f"freehold.dev/role={role}")
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    def wait_pods(self, count: int, role: str = "worker") -> list[Manifest]:
        """Wait until there are that many."""
        eventually(lambda: len(self.pods(role)) == count, WAIT_S, interval_s=INTERVAL_S)
        return self.pods(role)

    def wait_ready(self, workers: int) -> None:
        """Wait until the cluster is ready with that many workers."""

        def is_ready() -> bool:
            status = self.status()
            is_that_many = status.get("readyReplicas") == status.get("desiredReplicas") == workers
            return is_that_many and self.condition("Ready")[0] == "True"

        eventually(is_ready, WAIT_S, interval_s=INTERVAL_S)
