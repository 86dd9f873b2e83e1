"""Clusters that the tests of a module share, on one node and on two.

Tests of references, lineage and the store run on both: `cluster` is parametrized. A resource named
`far` is on the last node, so that `FAR` sends a task to the other node where there is one, and to
the only node where there is not; `near` is always the driver's.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import freehold
from freehold.testing import LocalCluster, eventually

STORE_BYTES = 192 << 20
FAR = {"far": 1}
NEAR = {"near": 1}
PLACES = [pytest.param(NEAR, id="near"), pytest.param(FAR, id="far")]
"""For what must hold on the driver's node and on another."""


def start_cluster(nodes: int, **settings: Any) -> LocalCluster:
    """A cluster whose driver's node has `near`, and whose last node has `far`."""
    resources: list[dict[str, float]] = [{} for _ in range(nodes)]
    resources[0]["near"] = 1000
    resources[-1]["far"] = 1000
    settings.setdefault("num_cpus", 4)
    settings.setdefault("object_store_memory", STORE_BYTES)
    settings.setdefault("replica_keep_s", 0.2)
    return LocalCluster(nodes=nodes, resources=resources, **settings)


OVER_TLS = frozenset(
    {"test_tasks", "test_references", "test_owner_death", "test_results_leave", "test_objects"}
)
"""Modules whose tests also run with nodes that speak TLS over TCP: each kind of conversation."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a module that shares `cluster` on one node, on two, and maybe on two over the network."""
    is_own = hasattr(metafunc.module, "cluster") or "actors" in metafunc.module.__name__
    if "cluster" in metafunc.fixturenames and not is_own:
        kinds = {"one-node": (1, "unix"), "two-nodes": (2, "unix"), "tls": (2, "tcp")}
        if metafunc.module.__name__.rpartition(".")[2] not in OVER_TLS:
            del kinds["tls"]
        metafunc.parametrize(
            "cluster", kinds.values(), ids=kinds.keys(), indirect=True, scope="module"
        )


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """One or two nodes, shared by a module; nothing may be left in the stores at its end."""
    nodes, network = request.param
    with start_cluster(nodes, network=network) as running:
        yield running
        gc.collect()
        store_is_empty()


@pytest.fixture(scope="module")
def one_node() -> Iterator[LocalCluster]:
    """One node, shared by a module's tests."""
    with start_cluster(1) as running:
        yield running


def store_bytes_in_use() -> int:
    """Bytes in use in the stores of all living nodes."""
    total = freehold.cluster_resources()["object_store_memory"]
    return int(total - freehold.available_resources().get("object_store_memory", 0))


REPORTED_WITHIN_S = 0.4
"""What is in use is told with a delay: a zero must hold for longer than that."""


def store_is_empty(timeout_s: float = 15.0) -> None:
    """Wait until nothing is held in any store; a slab is given back a second after its last use."""
    since: float | None = None

    def is_empty() -> bool:
        nonlocal since
        if store_bytes_in_use() != 0:
            since = None
        elif since is None:
            since = time.monotonic()
        return since is not None and time.monotonic() - since > REPORTED_WITHIN_S

    eventually(is_empty, timeout_s=timeout_s, interval_s=0.05)


@pytest.fixture
def nothing_stored() -> Iterator[None]:
    """Nothing is in the store after the test, which must have dropped all of its references."""
    yield
    store_is_empty()


@pytest.fixture
def run_script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of its own, for what must be in `__main__` or starts its own cluster."""

    def run(source: str, timeout_s: float = 40) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return subprocess.run(
            [sys.executable, str(path)],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run
