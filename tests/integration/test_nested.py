"""Tasks that submit tasks: from tasks, threads, actors; recursion; the CPU of who waits."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FAR, PLACES

import freehold
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]


@freehold.remote
def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize("place", PLACES)
def test_tasks_submit_tasks(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def outer(n: int) -> int:
        return sum(freehold.get([square.remote(i) for i in range(n)]))

    wanted = sum(i * i for i in range(50))
    assert freehold.get([outer.remote(50) for _ in range(8)], timeout=40) == [wanted] * 8


@pytest.mark.parametrize("place", PLACES)
def test_tasks_submit_and_put_from_threads_of_their_own(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def outer() -> list[int]:
        import contextvars

        found: list[int] = []

        def work(i: int) -> None:
            found.append(freehold.get(square.remote(freehold.put(i))))

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work, i))
            for i in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(found)

    assert freehold.get(outer.remote(), timeout=30) == [i * i for i in range(10)]


def test_plain_threads_of_a_task_may_submit() -> None:
    """A thread starts with an empty context: it submits in the name of the worker's task."""

    @freehold.remote
    def outer() -> int:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(freehold.get(square.remote(7))))
        thread.start()
        thread.join()
        return found[0]

    assert freehold.get(outer.remote(), timeout=30) == 49


def test_threads_of_the_driver_submit() -> None:
    found: list[int] = []

    def work(i: int) -> None:
        for k in range(20):
            found.append(freehold.get(square.remote(i * 100 + k)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == sorted((i * 100 + k) ** 2 for i in range(6) for k in range(20))


@pytest.mark.parametrize("place", PLACES)
def test_actors_submit_tasks_and_make_actors(place: dict[str, float]) -> None:
    @freehold.remote
    class Inner:
        def triple(self, x: int) -> int:
            return 3 * x

    @freehold.remote
    class Outer:
        def __init__(self) -> None:
            self.inner = Inner.remote()

        def work(self, x: int) -> int:
            return freehold.get(square.remote(x)) + freehold.get(self.inner.triple.remote(x))

    outer = Outer.options(resources=place).remote()
    assert freehold.get([outer.work.remote(i) for i in range(10)], timeout=40) == [
        i * i + 3 * i for i in range(10)
    ]


def test_async_actors_await_tasks() -> None:
    @freehold.remote
    class Async:
        async def work(self, n: int) -> int:
            return sum(await asyncio.gather(*(_awaited(square.remote(i)) for i in range(n))))

    assert freehold.get(Async.remote().work.remote(20), timeout=30) == sum(i * i for i in range(20))


async def _awaited(ref: Any) -> Any:
    return await ref


def test_recursion_deeper_than_there_are_cpus() -> None:
    @freehold.remote
    def depth(n: int) -> int:
        return 1 + freehold.get(depth.remote(n - 1)) if n else 0

    assert freehold.get(depth.remote(30), timeout=50) == 30


def test_a_tree_of_tasks() -> None:
    @freehold.remote
    def fib(n: int) -> int:
        return n if n < 2 else sum(freehold.get([fib.remote(n - 1), fib.remote(n - 2)]))

    assert freehold.get(fib.remote(9), timeout=50) == 34


def test_who_waits_gives_its_cpu_back(tmp_path: Path) -> None:
    """Eight tasks wait for one that needs a CPU: there are four CPUs a node."""

    @freehold.remote
    def last() -> None:
        (tmp_path / "last").touch()

    @freehold.remote
    def waits(refs: list[Any]) -> bool:
        freehold.wait(refs, timeout=40)
        return True

    @freehold.remote(num_cpus=4)
    def everything() -> int:
        return freehold.get(square.remote(3))

    done = [waits.remote([last.options(resources=FAR).remote()]) for _ in range(8)]
    assert freehold.get(done, timeout=50) == [True] * 8
    assert freehold.get([everything.remote() for _ in range(3)], timeout=50) == [9, 9, 9]


def test_what_was_sent_ahead_to_a_task_that_waits_runs_elsewhere(tmp_path: Path) -> None:
    go = tmp_path / "go"

    @freehold.remote
    def step(i: int) -> int:
        if i == 100:
            freehold.get(wait_for.remote(str(go)))
        return i

    freehold.get([step.remote(i) for i in range(50)], timeout=20)  # measured as quick
    refs = [step.remote(i) for i in range(100, 200)]
    ready, _ = freehold.wait(refs[1:], num_returns=99, timeout=20)
    assert len(ready) == 99
    go.touch()
    assert freehold.get(refs, timeout=20) == list(range(100, 200))


@freehold.remote
def wait_for(path: str) -> None:
    eventually(lambda: os.path.exists(path), timeout_s=40)


def test_chains_of_tasks_by_reference() -> None:
    ref = freehold.put(0)
    for _ in range(300):
        ref = _increment.remote(ref)
    assert freehold.get(ref, timeout=40) == 300


@freehold.remote
def _increment(x: int) -> int:
    return x + 1


def test_ids_of_children_do_not_depend_on_who_runs_when() -> None:
    @freehold.remote
    def children() -> list[str]:
        refs = [square.remote(i) for i in range(5)]
        freehold.get(refs)
        return [ref.hex() for ref in refs] + [freehold.put(1).hex()]

    ids = freehold.get([children.remote() for _ in range(4)], timeout=30)
    assert len({one for some in ids for one in some}) == 24


def test_a_task_that_waits_a_short_time_and_a_long_time() -> None:
    @freehold.remote
    def outer() -> float:
        started = time.monotonic()
        ready, pending = freehold.wait([wait_for.remote("/nonexistent-file")], timeout=0.3)
        assert not ready
        freehold.cancel(pending[0])
        return time.monotonic() - started

    assert 0.29 <= freehold.get(outer.remote(), timeout=20) < 5
