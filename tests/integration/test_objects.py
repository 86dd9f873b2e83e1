"""`put`, `get`, `wait`, statuses and futures over the real runtime; values of every size."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.integration.conftest import FAR, NEAR, PLACES, store_bytes_in_use, store_is_empty

import freehold
from freehold.exceptions import GetTimeoutError, TaskError
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]


@freehold.remote
def same(value: Any) -> Any:
    return value


@freehold.remote
def total(array: Any) -> float:
    return float(array.sum())


@freehold.remote
def ones(count: int) -> Any:
    return np.ones(count)


@freehold.remote
def wait_for(path: str, value: Any = None) -> Any:
    eventually(lambda: os.path.exists(path), timeout_s=30)
    return value


@freehold.remote
def fail() -> None:
    raise KeyError("failed")


# ---- values ------------------------------------------------------------------------------------

VALUES = [
    None,
    b"",
    "",
    0,
    [],
    {"a": (1, 2.5, None), "b": {frozenset([1])}},
    b"x" * 99_000,
    b"x" * 110_000,
    os.urandom(5_000_000),
    "ä" * 200_000,
    list(range(100_000)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__}-{len(repr(v))}")
def test_values_come_back(value: Any) -> None:
    ref = freehold.put(value)
    assert freehold.get(ref, timeout=20) == value
    for place in (NEAR, FAR):
        assert freehold.get(same.options(resources=place).remote(ref), timeout=20) == value
        assert freehold.get(same.options(resources=place).remote(value), timeout=20) == value


@pytest.mark.parametrize("place", PLACES)
def test_arrays_come_back(place: dict[str, float]) -> None:
    task = same.options(resources=place)
    for array in (
        np.arange(10),
        np.arange(1_000_000.0).reshape(1000, 1000),
        np.asfortranarray(np.arange(250_000).reshape(500, 500)),
        np.arange(600_000)[::3],
        np.array(["a", None], dtype=object),
        np.zeros((0, 3)),
    ):
        found = freehold.get(task.remote(array), timeout=20)
        assert (found == array).all()
        assert found.dtype == array.dtype
        assert found.shape == array.shape


@pytest.mark.parametrize("place", PLACES)
def test_arrow_tables_come_back(place: dict[str, float]) -> None:
    table = pa.table({"n": np.arange(200_000), "s": ["text"] * 200_000})
    assert freehold.get(same.options(resources=place).remote(table), timeout=20) == table


@pytest.mark.parametrize("place", PLACES)
def test_large_arrays_are_read_only_views_without_a_copy(
    place: dict[str, float], nothing_stored: None
) -> None:
    ref = ones.options(resources=place).remote(1_000_000)
    first, second = freehold.get(ref, timeout=20), freehold.get(ref, timeout=20)
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 2
    pointer = first.__array_interface__["data"][0]
    assert pointer == second.__array_interface__["data"][0]
    assert pointer % 64 == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_view_outlives_its_reference_and_its_memory_is_used_again_after_it(
    place: dict[str, float],
) -> None:
    store_is_empty()
    ref = ones.options(resources=place).remote(1_000_000)
    array = freehold.get(ref, timeout=20)
    part = array[10:20]
    del ref, array
    gc.collect()
    # Others write to the store meanwhile; the viewed bytes must not be theirs.
    for _ in range(10):
        freehold.get(same.remote(freehold.put(np.zeros(1_000_000))), timeout=20)
    assert (part == 1).all()
    eventually(lambda: store_bytes_in_use() >= 8_000_000, timeout_s=5)
    del part
    store_is_empty()


def test_a_view_in_a_worker_outlives_the_reference() -> None:
    @freehold.remote
    class Keeper:
        def keep(self, array: Any) -> None:
            self.part = array[5:10]

        def look(self) -> float:
            return float(self.part.sum())

    keeper = Keeper.options(resources=FAR).remote()
    ref = freehold.put(np.ones(500_000))
    freehold.get(keeper.keep.remote(ref), timeout=20)
    del ref
    for _ in range(5):
        freehold.get(same.remote(freehold.put(np.zeros(500_000))), timeout=20)
    assert freehold.get(keeper.look.remote(), timeout=20) == 5


def test_memory_is_used_again(nothing_stored: None) -> None:
    for i in range(60):  # 480 MB through a store of 192
        array = freehold.get(freehold.put(np.full(1_000_000, i)), timeout=20)
        assert array[0] == i
        del array


def test_a_thousand_objects_alive() -> None:
    refs = [freehold.put(i) for i in range(1000)]
    assert freehold.get(refs) == list(range(1000))
    refs = [freehold.put(bytes([i % 256]) * 120_000) for i in range(200)]
    assert [value[0] for value in freehold.get(refs)] == [i % 256 for i in range(200)]


def test_many_outputs_share_a_segment() -> None:
    @freehold.remote(num_returns=100, resources=FAR)
    def blocks() -> list[Any]:
        return [np.full(1000, i) for i in range(100)]

    refs = blocks.remote()
    assert [int(freehold.get(ref, timeout=20)[0]) for ref in refs[::-1]] == list(range(99, -1, -1))
    last = freehold.get(refs[99])
    del refs
    assert int(last.sum()) == 99_000
    sums = freehold.get([total.remote(ref) for ref in blocks.remote()], timeout=20)
    assert sums == [1000.0 * i for i in range(100)]


# ---- get ---------------------------------------------------------------------------------------


def test_get_of_the_same_reference_twice() -> None:
    ref = same.remote(5)
    assert freehold.get([ref, ref], timeout=20) == [5, 5]


def test_get_of_something_else() -> None:
    for wrong in (5, "x", [1], {}, None, same):
        with pytest.raises(TypeError):
            freehold.get(wrong)  # type: ignore[call-overload]


def test_get_with_timeout_counts_what_is_missing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    refs = [same.remote(1), wait_for.remote(str(go), 2)]
    freehold.get(refs[0], timeout=20)
    for timeout in (0, 0.1):
        started = time.monotonic()
        with pytest.raises(GetTimeoutError, match="1 of 2"):
            freehold.get(refs, timeout=timeout)
        with pytest.raises(TimeoutError):
            freehold.get(refs, timeout=timeout)
        assert time.monotonic() - started < 3
    go.touch()
    assert freehold.get(refs, timeout=20) == [1, 2]


def test_get_with_timeout_0_of_what_is_there() -> None:
    ref = same.remote(3)
    freehold.wait([ref], timeout=20)
    assert freehold.get(ref, timeout=0) == 3


def test_get_of_a_list_raises_the_first_error() -> None:
    with pytest.raises(KeyError):
        freehold.get([same.remote(1), fail.remote()], timeout=20)


# ---- wait --------------------------------------------------------------------------------------


def test_wait_gives_what_is_ready_in_the_order_given(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow, quick = wait_for.remote(str(go)), [same.remote(i) for i in range(3)]
    refs = [quick[0], slow, quick[1], quick[2]]
    ready, pending = freehold.wait(refs, num_returns=3, timeout=20)
    assert (ready, pending) == (quick, [slow])
    ready, pending = freehold.wait(refs, num_returns=4, timeout=0.1)
    assert (ready, pending) == (quick, [slow])
    go.touch()
    assert freehold.wait(refs, num_returns=4, timeout=20) == (refs, [])


def test_wait_gives_no_more_than_asked_for() -> None:
    refs = [same.remote(i) for i in range(5)]
    freehold.get(refs, timeout=20)
    ready, pending = freehold.wait(refs, num_returns=2)
    assert (ready, pending) == (refs[:2], refs[2:])


def test_wait_with_timeout_0_only_looks(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = wait_for.remote(str(go))
    started = time.monotonic()
    assert freehold.wait([slow], timeout=0) == ([], [slow])
    assert time.monotonic() - started < 1
    go.touch()
    assert freehold.wait([slow], timeout=20) == ([slow], [])


def test_wait_tells_failed_from_succeeded(tmp_path: Path) -> None:
    go = tmp_path / "go"
    good, bad, slow = same.remote(1), fail.remote(), wait_for.remote(str(go))
    assert freehold.wait([good, bad, slow], num_returns=2, timeout=20, separate_failures=True) == (
        [good],
        [bad],
        [slow],
    )
    go.touch()
    freehold.get(slow, timeout=20)


def test_wait_refuses_a_reference_twice_and_wrong_numbers() -> None:
    ref = same.remote(1)
    with pytest.raises(ValueError, match="twice"):
        freehold.wait([ref, ref])
    with pytest.raises(ValueError, match="from 1 to 1"):
        freehold.wait([ref], num_returns=2)


def test_draining_with_wait() -> None:
    left = [same.remote(i) for i in range(200)]
    found = []
    while left:
        ready, left = freehold.wait(left, timeout=20)
        found += freehold.get(ready)
    assert sorted(found) == list(range(200))


# ---- status, futures, asyncio --------------------------------------------------------------------


def test_status_without_the_value(tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow, bad = wait_for.remote(str(go)), fail.remote()
    freehold.wait([bad], timeout=20)
    assert (slow.status(), bad.status(), freehold.put(1).status()) == ("pending", "failed", "ready")
    go.touch()
    freehold.get(slow, timeout=20)
    assert slow.status() == "ready"


def test_status_of_a_borrowed_reference(tmp_path: Path) -> None:
    @freehold.remote(resources=FAR)
    def look(refs: list[Any]) -> list[str]:
        freehold.wait(refs, num_returns=len(refs), timeout=20)
        return [ref.status() for ref in refs]

    assert freehold.get(look.remote([freehold.put(1), fail.remote()]), timeout=20) == [
        "ready",
        "failed",
    ]


def test_futures_from_threads() -> None:
    def work(i: int) -> int:
        return same.remote(i).future().result(timeout=20)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(100))) == list(range(100))
    with pytest.raises(KeyError):
        fail.remote().future().result(timeout=20)


def test_a_future_calls_back() -> None:
    called = threading.Event()
    future = same.remote(1).future()
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)


def test_references_can_be_awaited() -> None:
    async def one(i: int) -> int:
        return await same.remote(i)

    async def main() -> list[int]:
        with pytest.raises(KeyError):
            await fail.remote()
        return await asyncio.gather(*(one(i) for i in range(100)))

    assert asyncio.run(main()) == list(range(100))


def test_an_await_can_be_given_up(tmp_path: Path) -> None:
    go = tmp_path / "go"

    async def main() -> int:
        ref = wait_for.remote(str(go), 7)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ref.as_future(), 0.1)
        go.touch()
        return await asyncio.wait_for(ref.as_future(), 20)

    assert asyncio.run(main()) == 7


def test_several_event_loops_in_threads_at_once() -> None:
    async def main(base: int) -> int:
        return sum(await asyncio.gather(*(same.remote(base + i) for i in range(30))))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda base: asyncio.run(main(base)), [0, 100, 200, 300]))
    assert found == [sum(range(b, b + 30)) for b in (0, 100, 200, 300)]


def test_get_from_many_threads_at_once() -> None:
    ref = same.remote("shared")

    def work(i: int) -> Any:
        return freehold.get([same.remote(i), ref], timeout=20)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(work, range(160)))
    assert found == [[i, "shared"] for i in range(160)]


def test_an_error_of_get_is_a_fresh_traceback_each_time() -> None:
    ref = fail.remote()
    depths = []
    for _ in range(3):
        with pytest.raises(TaskError) as caught:
            freehold.get(ref, timeout=20)
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1
