"""An operator under a supervisor, a kubelet and a scripted head, in the test's own namespace; and
what tests of the Python client need."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.api.client import Client
from tests.api.operator.scene import Scene
from tests.api.server import ApiServer
from tests.api.support.kubelet import NODE
from tests.api.support.pod_logs import PodLogs
from tests.api.support.supervisor import Zygote


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    """What operators are forked from; one a module, so that a module leaves no process."""
    made = Zygote()
    yield made
    made.close()


@pytest.fixture(scope="module", autouse=True)
def machine(api_server: ApiServer) -> None:
    """A node for pods to be bound to: those of an unknown node are garbage."""
    client = api_server.client()
    if client.find("Node", NODE) is None:
        client.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def scene(
    zygote: Zygote, api: Client, api_server: ApiServer, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., Scene]]:
    """Makes scenes: `scene()` starts an operator and a kubelet; keywords are its settings."""
    with ExitStack() as stack:

        def make(kubeconfig: Path | None = None, **settings: Any) -> Scene:
            port = free_port()
            settings.setdefault("head_address", f"127.0.0.1:{port}")
            where = kubeconfig or api_server.kubeconfig
            made = Scene(zygote, api, (where, namespace, tmp_path, port), settings)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def logs(api_server: ApiServer, api: Client) -> Iterator[PodLogs]:
    """The kubelet's logs."""
    with PodLogs(api_server.certificates) as served:
        served.serve_as(api, NODE)
        yield served


@pytest.fixture
def where(api_server: ApiServer, namespace: str) -> dict[str, Any]:
    """How the client reaches the test's namespace."""
    return {"kubeconfig": str(api_server.kubeconfig), "namespace": namespace}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program."""
    path = tmp_path / "train.py"
    path.write_text("print('trained')\n")
    return path
