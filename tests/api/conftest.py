"""The API server of the run, a namespace per test, and proxies in front of the server.

The server is made once; a test has it to itself, as tests of a run follow each other. A failed test
gets the ends of the control plane's logs in its report.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.support.reports import refuse_skip
from e2e.support.tools import ROOT, binaries
from tests.api.client import Client
from tests.api.http_proxy import HttpProxy
from tests.api.server import ApiServer
from tests.api.tcp_proxy import TcpProxy

from freehold.testing import eventually

CRD_TIMEOUT_S = 20.0
_namespaces = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make api-all` is `pytest tests/api --api-all`."""
    group = parser.getgroup("kubernetes")
    group.addoption("--api-all", action="store_true", help="every case instead of a sample")


@pytest.fixture(scope="session")
def is_every_case_wanted(request: pytest.FixtureRequest) -> bool:
    """Whether to run every case of what is otherwise sampled from a seed."""
    # The option is not known where this folder is one of several that were not named.
    return bool(request.config.getoption("api_all", default=False))


def install_crds(client: Client) -> None:
    """Apply the project's CRDs and wait until the server serves them."""
    names = []
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            names.append(client.apply(manifest)["metadata"]["name"])

    def is_served(name: str) -> bool:
        status = client.get("CustomResourceDefinition", name).get("status", {})
        return any(
            condition["type"] == "Established" and condition["status"] == "True"
            for condition in status.get("conditions") or ()
        )

    for name in names:
        eventually(functools.partial(is_served, name), CRD_TIMEOUT_S)


@pytest.fixture(scope="session")
def kubernetes_binaries() -> dict[str, Path]:
    """The programs of the control plane; the first run on a machine builds them, in minutes."""
    return binaries("api")


@pytest.fixture(scope="session", autouse=True)
def api_server(
    kubernetes_binaries: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    """The running control plane, with the project's CRDs installed."""
    server = ApiServer(tmp_path_factory.mktemp("api-server"))
    server.start(before_controllers=install_crds)
    yield server
    server.stop()


@pytest.fixture
def api(api_server: ApiServer) -> Client:
    """A client with an administrator's rights."""
    return api_server.client()


@pytest.fixture
def namespace(api: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, with its default service account; deleted after the test.

    It is not waited for: its deletion goes on beside the next test, in another namespace.
    """
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].rstrip("-")
    name = f"{words}-{next(_namespaces)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api.wait_for("ServiceAccount", "default", name)
    yield name
    api.delete("Namespace", name)


@pytest.fixture
def tcp_proxy(api_server: ApiServer) -> Iterator[TcpProxy]:
    """A proxy that passes bytes to the server, until it is told to hold them or to break."""
    with TcpProxy(api_server.port) as proxy:
        yield proxy


@pytest.fixture
def http_proxy(api_server: ApiServer) -> Iterator[HttpProxy]:
    """A proxy that reads requests: counts them, and lets faults answer."""
    with HttpProxy(api_server.url, api_server.certificates) as proxy:
        yield proxy


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Put the control plane's last words beside a failure."""
    report = yield
    refuse_skip(report)
    server = getattr(item, "funcargs", {}).get("api_server")
    if report.failed and server is not None:
        report.sections.append(("control plane", server.report()))
    return report
