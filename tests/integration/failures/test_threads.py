"""Threads of the user's: many at once, ending while others wait, with event loops of their own."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import freehold
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote
def size_of(values: list[Any]) -> int:
    return sum(len(freehold.get(value)) for value in values)


@freehold.remote
def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@freehold.remote
class Adder:
    def __init__(self) -> None:
        self.total = 0

    def add(self, number: int) -> int:
        self.total += number
        return self.total


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with freehold.init(num_cpus=2):
        yield
        gc.collect()
        total = freehold.cluster_resources()["object_store_memory"]
        eventually(lambda: freehold.available_resources().get("object_store_memory") == total)


def run_all(acts: list[Callable[[], Any]], timeout_s: float = 40) -> None:
    """Run each in a thread; the first failure of any is raised here."""
    failures: list[BaseException] = []

    def guarded(act: Callable[[], Any]) -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
    stuck = [thread for thread in threads if thread.is_alive()]
    if failures:
        raise failures[0]
    assert not stuck


def hammer(seed: int, seconds: float) -> None:
    """A random mix of calls, each result checked."""
    choose = random.Random(seed)
    adder = Adder.options(num_cpus=0).remote()
    total = 0
    held: list[tuple[Any, Any]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = choose.randrange(7)
        number = choose.randrange(10_000)
        if kind == 0:
            held.append((double.remote(number), 2 * number))
        elif kind == 1:
            held.append((freehold.put([number]), [number]))
        elif kind == 2:
            total += number
            held.append((adder.add.remote(number), total))
        elif kind == 3:
            value = freehold.put(bytes(150_000))
            held.append((size_of.remote([value, value]), 300_000))
        elif kind == 4 and held:
            refs = [ref for ref, _ in held]
            ready, rest = freehold.wait(refs, num_returns=choose.randint(1, len(refs)))
            assert sorted(ready + rest, key=id) == sorted(refs, key=id)
        elif kind == 5 and held:
            del held[choose.randrange(len(held)) :]
        elif len(held) > 30:
            assert freehold.get([ref for ref, _ in held]) == [value for _, value in held]
            held.clear()
    assert freehold.get([ref for ref, _ in held]) == [value for _, value in held]


def test_eight_threads_hammer() -> None:
    run_all([lambda seed=seed: hammer(seed, 4.0) for seed in range(8)])  # type: ignore[misc]


def test_the_first_calls_of_a_function_come_from_many_threads_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each prepares the function; all must come to one number, the one that tasks bear."""
    from freehold._processes.owner import core

    together = threading.Barrier(4)
    pickle = core.dumps_function

    def slowly(*args: Any, **kwargs: Any) -> Any:
        together.wait(10)
        return pickle(*args, **kwargs)

    monkeypatch.setattr(core, "dumps_function", slowly)

    @freehold.remote
    def negated(number: int) -> int:
        return -number

    def act(first: int) -> None:
        refs = [negated.remote(first + i) for i in range(500)]
        assert freehold.get(refs) == [-first - i for i in range(500)]

    run_all([lambda first=first: act(first) for first in range(4)])  # type: ignore[misc]


def test_threads_that_end_while_others_wait() -> None:
    slow = sleep_for.remote(1.5)
    got: list[float] = []
    waiting = [threading.Thread(target=lambda: got.append(freehold.get(slow))) for _ in range(3)]
    for thread in waiting:
        thread.start()
    while any(thread.is_alive() for thread in waiting):
        short = [threading.Thread(target=lambda: freehold.get(double.remote(1))) for _ in range(5)]
        for thread in short:
            thread.start()
        for thread in short:
            thread.join(10)
            assert not thread.is_alive()
    assert got == [1.5] * 3


def test_a_value_is_got_by_many_threads_at_once() -> None:
    ref = sleep_for.remote(0.2)
    run_all([lambda: freehold.get(ref)] * 16)


def test_time_outs_in_many_threads() -> None:
    ref = sleep_for.remote(1.0)

    def give_up() -> None:
        started = time.monotonic()
        with pytest.raises(freehold.exceptions.GetTimeoutError):
            freehold.get(ref, timeout=0.2)
        assert time.monotonic() - started < 0.8

    run_all([give_up] * 8)
    assert freehold.get(ref) == 1.0


def test_event_loops_in_several_threads() -> None:
    async def one(number: int) -> None:
        assert await double.remote(number) == 2 * number

    async def many(seed: int) -> None:
        for _ in range(5):
            await asyncio.gather(*(one(seed * 100 + n) for n in range(40)))
        refs = [double.remote(n) for n in range(10)]
        assert await asyncio.gather(*refs) == list(range(0, 20, 2))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sleep_for.remote(1.0), 0.05)

    acts: list[Callable[[], Any]] = [
        lambda seed=seed: asyncio.run(many(seed))  # type: ignore[misc]
        for seed in range(4)
    ]
    run_all([*acts, lambda: hammer(99, 1.0)])


def test_a_loop_that_closed_before_its_result_disturbs_nobody() -> None:
    ref = sleep_for.remote(0.5)

    async def leave() -> None:
        task = asyncio.ensure_future(ref.__await__ and wrap(ref))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def wrap(ref: Any) -> Any:
        return await ref

    run_all([lambda: asyncio.run(leave())] * 3)
    assert freehold.get(ref) == 0.5
    assert freehold.get(double.remote(2)) == 4


class Cycle:
    """Held only by itself: its references go when the collector says so."""

    def __init__(self) -> None:
        self.me = self
        self.refs = [freehold.put(n) for n in range(3)] + [double.remote(1)]


class Reborn:
    """Calls the runtime where it may hardly stand it."""

    seen: list[Any] = []

    def __init__(self, ref: Any) -> None:
        self.me = self
        self.ref = ref

    def __del__(self) -> None:
        self.seen.append(double.remote(21))


def test_storms_of_the_collector() -> None:
    is_over = threading.Event()

    def collect() -> None:
        while not is_over.is_set():
            gc.collect()

    def make() -> None:
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            for _ in range(20):
                Cycle()
            refs = [double.remote(n) for n in range(20)]
            assert freehold.get(refs) == list(range(0, 40, 2))
        is_over.set()

    run_all([collect, make, make])


def test_a_finalizer_may_submit() -> None:
    thresholds = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        for number in range(300):
            Reborn(freehold.put(number))
            assert freehold.get(double.remote(number)) == 2 * number
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert len(Reborn.seen) == 300
    assert freehold.get(Reborn.seen) == [42] * 300
    Reborn.seen.clear()
