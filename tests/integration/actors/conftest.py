"""Clusters for the tests of actors, and a look after each test that no actor outlived it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from freehold.testing import LocalCluster, eventually

from tests.integration.actors.kit import actors_alive, everything_is_free

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
    try:
        eventually(lambda: not actors_alive(), timeout_s=5)
    except AssertionError:
        from freehold._api import state
        from freehold._core.ownership.reference import ObjectRef
        core = state.core
        print("ALIVE", actors_alive(), core.owner.table.drops, core.owner.table.rows)
        for link in core.owner.actors.links.values():
            print("LINK", link.handle, link.state, link.calls, link.inflight, link.handle.borrowers)
            for o in gc.get_objects():
                if isinstance(o, ObjectRef) and o._row is link.handle:
                    print("REF", o, [type(x) for x in gc.get_referrers(o)])
                    for x in gc.get_referrers(o):
                        print("   <-", type(x), str(x)[:300], [ (type(y), str(y)[:200]) for y in gc.get_referrers(x)][:6])
        raise
    eventually(everything_is_free, timeout_s=10)
