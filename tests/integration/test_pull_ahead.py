"""Several values of another node at once: in order, none left pinned, and no CPU lent meanwhile."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster

import freehold
from freehold._core.limits import PULLS_AHEAD
from freehold.testing import LocalCluster, eventually
from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy

MANY = 2 * PULLS_AHEAD + 10
SIZE = 150_000  # stored, not inline
LARGE = 8_000_000  # takes longer than what counts as a wait


@pytest.fixture
def two_nodes() -> Iterator[LocalCluster]:
    with start_cluster(2, num_cpus=1, network="tcp") as cluster:
        yield cluster


def make(count: int, size: int = SIZE) -> list[Any]:
    """Values of the other node, each full of its number."""

    @freehold.remote(resources=FAR, num_returns=count)
    def made() -> list[Any]:
        return [np.full(size, index, dtype=np.int16) for index in range(count)]

    refs = made.remote()
    assert freehold.wait(refs, num_returns=count, timeout=30, fetch_local=False) == (refs, [])
    return list(refs)


def pinned_here() -> int:
    here = freehold.get_runtime_context().get_node_id()
    [node] = [node for node in freehold.nodes() if node["NodeID"] == here]
    found: int = node["object_store"]["pinned_replicas"]
    return found


def test_many_come_in_order_also_those_that_are_asked_for_twice(two_nodes: LocalCluster) -> None:
    refs = make(MANY)
    here = freehold.put(np.full(SIZE, -1, dtype=np.int16))
    wanted = [*refs, here, refs[3], refs[3], *refs[:5]]
    found = [int(array[-1]) for array in freehold.get(wanted, timeout=30)]
    assert found == [*range(MANY), -1, 3, 3, *range(5)]
    eventually(lambda: pinned_here() == 0)


def test_what_was_on_its_way_is_given_back_when_one_of_them_fails(two_nodes: LocalCluster) -> None:
    @freehold.remote
    def fail() -> None:
        raise ValueError("this one")

    refs, failed = make(20), fail.remote()
    freehold.wait([failed], timeout=20)
    with pytest.raises(freehold.exceptions.TaskError, match="this one"):
        freehold.get([*refs[:3], failed, *refs[3:]], timeout=30)
    eventually(lambda: pinned_here() == 0)
    assert [int(array[0]) for array in freehold.get(refs, timeout=30)] == list(range(20))


def test_readers_in_opposite_orders_do_not_keep_each_other_waiting(tmp_path: Path) -> None:
    """Each has copies ahead in the room that the other waits for."""
    count, size = 40, 1_000_000

    @freehold.remote(resources=FAR, num_returns=count)
    def make_bytes() -> list[bytes]:
        return [bytes([index]) * size for index in range(count)]

    @freehold.remote
    def read(refs: list[Any]) -> list[int]:
        (tmp_path / "began").touch()
        return [value[0] for value in freehold.get(refs)]

    with start_cluster(2, num_cpus=1, network="tcp", object_store_memory=48 << 20):
        filler = freehold.put(np.zeros(24 << 20, dtype=np.uint8))
        refs = list(make_bytes.remote())
        freehold.wait(refs, num_returns=count, timeout=30, fetch_local=False)
        here = freehold.get_runtime_context().get_node_id()
        near = NodeAffinitySchedulingStrategy(here, soft=False)
        other = read.options(scheduling_strategy=near).remote(refs[::-1])
        eventually((tmp_path / "began").exists)
        began = time.monotonic()
        assert [value[0] for value in freehold.get(refs, timeout=60)] == list(range(count))
        assert freehold.get(other, timeout=60) == list(range(count))[::-1]
        assert time.monotonic() - began < 20  # not by the store's patience with who waits
        del filler


def test_arguments_come_in_order(two_nodes: LocalCluster) -> None:
    @freehold.remote
    def lasts(*arrays: Any, last: Any) -> list[int]:
        return [int(array[-1]) for array in (*arrays, last)]

    refs = make(MANY)
    assert freehold.get(lasts.remote(*refs[:-1], last=refs[-1]), timeout=30) == list(range(MANY))


def test_a_cpu_is_kept_while_arguments_come(two_nodes: LocalCluster) -> None:
    """Or all tasks whose arguments are elsewhere would begin on one node, and then run at once."""

    @freehold.remote
    def look(array: Any) -> tuple[int, float, float]:
        began = time.monotonic()
        time.sleep(0.1)
        return os.getpid(), began, time.monotonic()

    here = freehold.get_runtime_context().get_node_id()
    pinned = look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False))
    runs = freehold.get([pinned.remote(ref) for ref in make(4, LARGE)], timeout=30)
    ordered = sorted((began, ended) for _, began, ended in runs)
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(ordered))
    assert len({pid for pid, _, _ in runs}) == 1
