"""Clusters for the tests of actors, and a look after each test that no actor outlived it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.integration.actors.kit import actors_alive, everything_is_free

from freehold.testing import LocalCluster, eventually

CPUS = 4


@pytest.fixture(scope="module", params=[1, 2], ids=["one-node", "two-nodes"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster whose resource "there" is on another node than the driver's, if there is one."""
    nodes: int = request.param
    places = [{"there": 100.0}] if nodes == 1 else [{}, {"there": 100.0}]
    with LocalCluster(nodes=nodes, num_cpus=CPUS, resources=places) as started:
        yield started


@pytest.fixture
def clean(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """The module's cluster; afterwards no actor lives and every resource is free again."""
    yield cluster
    gc.collect()
    eventually(lambda: not actors_alive(), timeout_s=10)
    eventually(everything_is_free, timeout_s=10)
