"""`wait(fetch_local=True)`: what is ready and stored elsewhere is brought here before it counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster

import freehold
from freehold.testing import LocalCluster, eventually

SIZE = 3_000_000


@freehold.remote(resources=FAR)
def make(value: int = 1) -> Any:
    return np.full(SIZE, value, dtype=np.uint8)


@freehold.remote(resources=FAR)
def make_large() -> Any:
    """What takes a while to come, however busy this process is."""
    return np.ones(20 * SIZE, dtype=np.uint8)


@freehold.remote(resources=FAR, num_returns=20)
def make_many() -> Any:
    return [np.full(200_000, index, dtype=np.uint8) for index in range(20)]


@freehold.remote
def ready_in_a_worker(refs: list[Any]) -> tuple[int, int]:
    """How many are here, in another process than their owner's, at once and when waited for."""
    found, _ = freehold.wait(refs, num_returns=len(refs), timeout=0)
    awaited, _ = freehold.wait(refs, num_returns=len(refs), timeout=20)
    return len(found), len(awaited)


def bytes_here() -> int:
    here = freehold.get_runtime_context().get_node_id()
    [node] = [node for node in freehold.nodes() if node["NodeID"] == here]
    found: int = node["object_store"]["in_use"]
    return found


def store_is_empty_now() -> bool:
    return sum(node["object_store"]["in_use"] for node in freehold.nodes()) == 0


@pytest.fixture(params=["unix", "tcp"])
def two_nodes(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with start_cluster(2, replica_keep_s=20.0, network=request.param) as cluster:
        yield cluster
        gc.collect()


def test_value_of_another_node_is_brought_here(two_nodes: LocalCluster) -> None:
    ref = make.remote()
    assert freehold.wait([ref], timeout=20, fetch_local=False) == ([ref], [])
    copied = [make.remote(2), make.remote(3)]
    assert freehold.wait(copied, num_returns=2, timeout=20) == (copied, [])
    # The figures of `nodes()` may be a second old: those of the two that were fetched come, and
    # with them it is known that the third was not.
    eventually(lambda: bytes_here() >= 2 * SIZE, timeout_s=10)
    assert bytes_here() < 3 * SIZE
    assert freehold.wait([ref], timeout=20) == ([ref], [])
    eventually(lambda: bytes_here() >= 3 * SIZE, timeout_s=10)
    assert [int(value[-1]) for value in freehold.get([ref, *copied], timeout=20)] == [1, 2, 3]


def test_what_is_ready_elsewhere_does_not_count_before_it_has_come(
    two_nodes: LocalCluster,
) -> None:
    ref = make_large.remote()
    freehold.wait([ref], timeout=20, fetch_local=False)
    assert ref.status() == "ready"
    assert freehold.wait([ref], timeout=0) == ([], [ref])  # it was only sent for
    assert freehold.wait([ref], timeout=0, fetch_local=False) == ([ref], [])
    eventually(lambda: freehold.wait([ref], timeout=0) == ([ref], []), timeout_s=10)


def test_every_output_of_a_task_is_brought_here(two_nodes: LocalCluster) -> None:
    refs = make_many.remote()
    assert freehold.wait(refs, num_returns=20, timeout=30) == (refs, [])
    assert {ref.status() for ref in refs} == {"ready"}
    eventually(lambda: bytes_here() >= 20 * 200_000, timeout_s=10)
    assert [int(value[0]) for value in freehold.get(refs)] == list(range(20))


def test_drain_by_ones_gets_each_once(two_nodes: LocalCluster) -> None:
    pending = [make.remote(value) for value in range(8)] + [freehold.put(b"") for _ in range(8)]
    wanted = set(pending)
    seen = set()
    while pending:
        [ref], pending = freehold.wait(pending, timeout=30)
        seen.add(ref)
    assert seen == wanted


def test_reference_let_go_while_it_is_on_its_way_leaves_nothing() -> None:
    with start_cluster(2, replica_keep_s=0.2):
        ref = make_large.remote()
        freehold.wait([ref], timeout=20, fetch_local=False)
        assert freehold.wait([ref], timeout=0) == ([], [ref])
        del ref
        eventually(store_is_empty_now, timeout_s=20)
        assert int(freehold.get(make.remote(4), timeout=20)[0]) == 4


def test_value_that_is_lost_before_it_has_come_is_made_again(two_nodes: LocalCluster) -> None:
    ref = make.options(resources={}, num_cpus=1).remote(7)
    on_far = make.remote(8)
    freehold.wait([ref, on_far], num_returns=2, timeout=20, fetch_local=False)
    two_nodes.kill_node(1)
    replacement = two_nodes.add_node(num_cpus=2, resources={"far": 1000})
    assert replacement
    started = time.monotonic()
    assert freehold.wait([ref, on_far], num_returns=2, timeout=40)[1] == []
    assert time.monotonic() - started < 40
    assert [int(value[0]) for value in freehold.get([ref, on_far], timeout=20)] == [7, 8]


def test_borrowed_values_are_brought_to_the_borrower(two_nodes: LocalCluster) -> None:
    refs = [freehold.put(np.full(SIZE, value, dtype=np.uint8)) for value in range(3)]
    task = ready_in_a_worker.options(resources=FAR).remote(refs)
    at_once, awaited = freehold.get(task, timeout=40)
    assert at_once < 3
    assert awaited == 3
