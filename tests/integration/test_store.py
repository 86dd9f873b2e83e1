"""A store without room: who waits, who gets an error, and what it says."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster, store_bytes_in_use, store_is_empty

import freehold
from freehold.exceptions import ObjectStoreFullError, OwnerDiedError
from freehold.testing import LocalCluster, eventually

pytestmark = pytest.mark.module_cluster

STORE = 64 << 20
FULL_TIMEOUT_S = 2.0  # above the second after which an idle slab is given back
MB = 1 << 20


@pytest.fixture(scope="module", params=[1, 2], ids=["one-node", "two-nodes"], autouse=True)
def small(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    settings: dict[str, Any] = {"object_store_memory": STORE, "full_timeout_s": FULL_TIMEOUT_S}
    with start_cluster(request.param, **settings) as running:
        yield running
        gc.collect()
        store_is_empty()


@freehold.remote
def make(megabytes: float) -> Any:
    return np.ones(int(megabytes * MB), dtype=np.uint8)


@freehold.remote
def length(array: Any) -> int:
    return len(array)


def test_a_full_store_names_its_holders() -> None:
    held = [freehold.put(np.zeros(20 * MB, dtype=np.uint8)) for _ in range(3)]
    started = time.monotonic()
    with pytest.raises(ObjectStoreFullError) as caught:
        freehold.put(np.zeros(20 * MB, dtype=np.uint8))
    assert time.monotonic() - started >= FULL_TIMEOUT_S - 0.1
    error = caught.value
    assert error.capacity_bytes == STORE
    assert error.needed_bytes >= 20 * MB
    text = str(error)
    assert "held by" in text
    assert "3 objects" in text
    assert str(20 * MB)[:5] in text
    del held
    gc.collect()
    assert len(freehold.get(freehold.put(np.zeros(40 * MB, dtype=np.uint8)))) == 40 * MB


def test_a_result_without_room_is_an_error_and_the_cluster_goes_on() -> None:
    task = make.options(resources=FAR)
    held = [task.remote(20) for _ in range(3)]
    freehold.wait(held, num_returns=3, timeout=20)
    with pytest.raises(ObjectStoreFullError, match="held by"):
        freehold.get(task.remote(20), timeout=20)
    del held
    gc.collect()
    assert len(freehold.get(task.remote(20), timeout=20)) == 20 * MB


@pytest.mark.parametrize("megabytes", [65, 200])
def test_what_is_larger_than_the_store_is_refused_at_once(megabytes: int) -> None:
    started = time.monotonic()
    with pytest.raises(ObjectStoreFullError, match="never can"):
        freehold.put(np.zeros(megabytes * MB, dtype=np.uint8))
    assert time.monotonic() - started < FULL_TIMEOUT_S
    with pytest.raises(ObjectStoreFullError, match="never can"):
        freehold.get(make.options(resources=FAR).remote(megabytes), timeout=20)
    assert len(freehold.get(make.remote(1), timeout=20)) == MB


def test_an_argument_larger_than_the_store_is_refused() -> None:
    with pytest.raises(ObjectStoreFullError):
        length.remote(np.zeros(65 * MB, dtype=np.uint8))


def test_a_producer_waits_until_there_is_room(tmp_path: Path) -> None:
    import threading

    held = [freehold.put(np.zeros(24 * MB, dtype=np.uint8)) for _ in range(2)]
    found: list[Any] = []

    def produce() -> None:
        found.append(freehold.put(np.full(24 * MB, 7, dtype=np.uint8)))

    thread = threading.Thread(target=produce)
    thread.start()
    with pytest.raises(AssertionError):
        eventually(lambda: found, timeout_s=0.3)
    held.pop()
    gc.collect()
    thread.join(10)
    assert int(freehold.get(found[0])[-1]) == 7


def test_more_than_the_store_flows_through_it() -> None:
    """240 MB through 64: each result is let go when the next task has used it."""
    task = make.options(resources=FAR)
    total = 0
    for _ in range(8):
        refs = [length.remote(task.remote(8)) for _ in range(4)]
        total += sum(freehold.get(refs, timeout=40))
    assert total == 32 * 8 * MB


def test_results_wait_for_room_while_others_are_used() -> None:
    refs = [make.options(resources=FAR).remote(12) for _ in range(8)]  # 96 MB
    total = 0
    while refs:
        (ready,), refs = freehold.wait(refs, timeout=30)
        total += len(freehold.get(ready))
        del ready
    assert total == 8 * 12 * MB


def test_many_small_values_do_not_waste_the_store() -> None:
    refs = [freehold.put(np.zeros(110_000, dtype=np.uint8)) for _ in range(300)]
    eventually(lambda: store_bytes_in_use() < 300 * 110_000 + 18 * MB, timeout_s=5)
    assert len(freehold.get(refs)) == 300


def test_threads_that_put_at_once_keep_their_values() -> None:
    """Each fills the slab, so that one is closed while another thread still writes into it."""
    with ThreadPoolExecutor(3) as pool:
        for turn in range(30):
            arrays = [np.full(MB, turn + i, dtype=np.uint8) for i in range(12)]
            refs = list(pool.map(freehold.put, arrays))
            for array, ref in zip(arrays, refs, strict=True):
                assert np.array_equal(freehold.get(ref), array)
            del refs, ref


def test_a_worker_killed_while_it_writes_holds_no_room() -> None:
    import os

    @freehold.remote(max_retries=0)
    def put_and_die() -> None:
        refs = [freehold.put(np.zeros(8 * MB, dtype=np.uint8)) for _ in range(4)]
        os._exit(len(refs))

    with pytest.raises(Exception, match="exit code 4"):
        freehold.get(put_and_die.remote(), timeout=20)
    store_is_empty()


def test_views_in_a_dead_workers_memory_stay_valid() -> None:
    """What a dead owner's objects held is used again only when nobody reads it any more."""
    import os
    import signal

    @freehold.remote
    class Keeper:
        def keep(self, refs: list[Any]) -> None:
            self.kept = refs

    @freehold.remote
    class Owner:
        def make(self, keeper: Any) -> Any:
            self.kept = freehold.put(np.full(8 * MB, 5, dtype=np.uint8))
            # What a third process has is not handed over with the result.
            freehold.get(keeper.keep.remote([self.kept]))
            return [self.kept], os.getpid()

    owner, keeper = Owner.remote(), Keeper.remote()
    refs, pid = freehold.get(owner.make.remote(keeper), timeout=20)
    (array,) = freehold.get(refs, timeout=20)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OwnerDiedError):
        eventually(lambda: freehold.get(refs, timeout=20) is None, timeout_s=10)
    refs.clear()
    for _ in range(6):
        freehold.get(freehold.put(np.zeros(16 * MB, dtype=np.uint8)))
    assert (array == 5).all()
    del array
    store_is_empty()
