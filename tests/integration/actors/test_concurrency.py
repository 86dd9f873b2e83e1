"""Threaded and async actors, and concurrency groups."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import THERE, Gate, Recorder, after_file, wait_for_file

import freehold
from freehold.testing import LocalCluster, eventually

pytestmark = pytest.mark.module_cluster


@freehold.remote
class Threaded:
    """Plain methods that wait for each other."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)
        self.names: list[int] = []

    def meet(self) -> str:
        self.barrier.wait(20)
        return threading.current_thread().name

    def add(self, item: int) -> None:
        self.names.append(item)

    def added(self) -> list[int]:
        return self.names

    def nested_get(self, box: list[Any]) -> Any:
        return freehold.get(box[0])

    def fail(self) -> None:
        raise ValueError("in a thread")


@freehold.remote
class Async:
    """Coroutines, and methods that are none."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.running = 0
        self.most = 0
        self.cancelled = 0

    async def wait(self) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.event.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return "done"

    async def open(self) -> None:
        self.event.set()

    def count(self) -> tuple[int, int, int]:
        return self.running, self.most, self.cancelled

    async def double(self, x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    async def await_ref(self, box: list[Any]) -> Any:
        return await box[0]

    async def blocking_get(self, box: list[Any]) -> Any:
        return freehold.get(box[0])

    def plain_get(self, box: list[Any]) -> Any:
        return freehold.get(box[0])

    async def spawn(self, count: int) -> list[int]:
        return await asyncio.gather(*(square.remote(i) for i in range(count)))

    async def call_other(self, other: Any, count: int) -> list[int]:
        return list(await asyncio.gather(*(other.add.remote(i) for i in range(count))))

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("in a coroutine")

    async def die(self) -> None:
        os._exit(4)

    async def names(self) -> tuple[str | None, str | None]:
        context = freehold.get_runtime_context()
        await asyncio.sleep(0)
        return context.get_task_name(), context.get_actor_id()

    async def big(self) -> bytes:
        return b"a" * 2_000_000


@freehold.remote
def square(x: int) -> int:
    return x * x


@freehold.remote
def slow(path: str) -> str:
    wait_for_file(path)
    return "slow"


# ---- threads ----------------------------------------------------------------------------------


def test_max_concurrency_calls_run_at_once(clean: LocalCluster) -> None:
    actor = Threaded.options(max_concurrency=4, resources=THERE).remote(4)
    names = freehold.get([actor.meet.remote() for _ in range(4)], timeout=20)
    assert len(set(names)) == 4


def test_without_it_they_do_not(clean: LocalCluster) -> None:
    actor = Threaded.remote(2)
    ref = actor.meet.remote()
    second = actor.meet.remote()
    ready, _ = freehold.wait([ref, second], num_returns=1, timeout=0.3)
    assert ready == []
    freehold.kill(actor)


def test_thread_pool_errors_and_gets_inside(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Threaded.options(max_concurrency=3).remote(1)
    ref = slow.remote(str(tmp_path / "gate"))
    waiting = [actor.nested_get.remote([ref]) for _ in range(2)]
    with pytest.raises(ValueError, match="in a thread"):
        freehold.get(actor.fail.remote())
    (tmp_path / "gate").touch()
    assert freehold.get(waiting) == ["slow", "slow"]
    freehold.get([actor.add.remote(i) for i in range(500)])
    assert sorted(freehold.get(actor.added.remote())) == list(range(500))


# ---- coroutines --------------------------------------------------------------------------------


def test_thousands_of_coroutines_are_in_flight(clean: LocalCluster) -> None:
    actor = Async.options(max_concurrency=5000, resources=THERE).remote()
    refs = [actor.wait.remote() for _ in range(3000)]
    eventually(lambda: freehold.get(actor.count.remote())[0] == 3000, timeout_s=20)
    freehold.get(actor.open.remote())
    assert freehold.get(refs) == ["done"] * 3000


def test_max_concurrency_bounds_coroutines(clean: LocalCluster) -> None:
    actor = Async.options(max_concurrency=10).remote()
    refs = [actor.wait.remote() for _ in range(9)]
    eventually(lambda: freehold.get(actor.count.remote())[0] == 9)
    refs += [actor.wait.remote()]
    blocked = actor.count.remote()
    ready, _ = freehold.wait([blocked], timeout=0.2)
    assert ready == []
    freehold.cancel(refs[0])
    assert freehold.get(blocked, timeout=10)[1] == 10
    freehold.get(actor.open.remote())
    assert freehold.get(refs[1:]) == ["done"] * 9


def test_ten_thousand_small_coroutines(clean: LocalCluster) -> None:
    actor = Async.remote()
    refs = [actor.double.remote(i) for i in range(10_000)]
    assert freehold.get(refs) == [2 * i for i in range(10_000)]


def test_refs_are_awaited_inside(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Async.options(resources=THERE).remote()
    gate = str(tmp_path / "gate")
    ref = slow.remote(gate)
    waiting = actor.await_ref.remote([ref])
    assert freehold.get(actor.double.remote(4)) == 8  # the loop goes on
    Path(gate).touch()
    assert freehold.get(waiting) == "slow"
    assert freehold.get(actor.spawn.remote(30)) == [i * i for i in range(30)]
    other = Recorder.remote()
    assert freehold.get(actor.call_other.remote(other, 30)) == list(range(1, 31))


@pytest.mark.parametrize("method", ["blocking_get", "plain_get"])
def test_a_blocking_get_inside_works(clean: LocalCluster, tmp_path: Path, method: str) -> None:
    actor = Async.remote()
    gate = str(tmp_path / "gate")
    waiting = getattr(actor, method).remote([slow.remote(gate)])
    behind = [actor.double.remote(i) for i in range(50)]
    freehold.wait(behind, timeout=0.2)
    Path(gate).touch()
    assert freehold.get(waiting, timeout=20) == "slow"
    assert freehold.get(behind, timeout=20) == [2 * i for i in range(50)]


def test_exceptions_of_coroutines(clean: LocalCluster) -> None:
    actor = Async.remote()
    with pytest.raises(ValueError, match="in a coroutine") as caught:
        freehold.get(actor.fail.remote())
    assert isinstance(caught.value, freehold.exceptions.TaskError)
    assert freehold.get(actor.double.remote(1)) == 2


def test_a_coroutine_is_cancelled(clean: LocalCluster) -> None:
    actor = Async.options(resources=THERE).remote()
    first, second = actor.wait.remote(), actor.wait.remote()
    eventually(lambda: freehold.get(actor.count.remote())[0] == 2)
    freehold.cancel(first)
    with pytest.raises(freehold.exceptions.TaskCancelledError):
        freehold.get(first, timeout=10)
    assert freehold.get(actor.count.remote()) == (1, 2, 1)
    freehold.get(actor.open.remote())
    assert freehold.get(second) == "done"


def test_the_context_follows_the_coroutine(clean: LocalCluster) -> None:
    actor = Async.remote()
    found = freehold.get([actor.names.remote() for _ in range(20)])
    assert set(found) == {("Async.names", actor._actor_id.hex())}


def test_large_results_of_coroutines(clean: LocalCluster) -> None:
    actor = Async.options(resources=THERE).remote()
    assert [len(value) for value in freehold.get([actor.big.remote() for _ in range(5)])] == [
        2_000_000
    ] * 5


def test_a_crash_fails_every_coroutine(clean: LocalCluster) -> None:
    actor = Async.remote()
    refs = [actor.wait.remote() for _ in range(100)]
    eventually(lambda: freehold.get(actor.count.remote())[0] == 100)
    refs.append(actor.die.remote())
    for ref in refs:
        with pytest.raises(freehold.exceptions.ActorDiedError, match=r"exit code 4|exited with"):
            freehold.get(ref, timeout=20)


def test_async_order_of_starts_with_a_slow_argument(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Async.remote()
    gate = str(tmp_path / "gate")
    first = actor.double.remote(after_file.remote(gate, 1))
    second = actor.double.remote(2)
    ready, _ = freehold.wait([second], timeout=0.3)
    assert ready == []
    Path(gate).touch()
    assert freehold.get([first, second]) == [2, 4]


# ---- groups ------------------------------------------------------------------------------------


@freehold.remote(concurrency_groups={"io": 2, "compute": 1})
class Grouped:
    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)

    @freehold.method(concurrency_group="io")
    def meet(self) -> str:
        self.barrier.wait(20)
        return threading.current_thread().name

    @freehold.method(concurrency_group="compute")
    def compute(self) -> str:
        return threading.current_thread().name

    def plain(self) -> str:
        return threading.current_thread().name

    @freehold.method(concurrency_group="io")
    def block(self, path: str) -> str:
        return wait_for_file(path)


def test_threaded_groups_have_threads_of_their_own(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Grouped.options(resources=THERE).remote()
    names = freehold.get([actor.meet.remote(), actor.meet.remote()], timeout=20)
    assert len(set(names)) == 2
    compute, plain = freehold.get([actor.compute.remote(), actor.plain.remote()])
    assert len({*names, compute, plain}) == 4
    moved = freehold.get(actor.plain.options(concurrency_group="compute").remote())
    assert moved == compute
    gate = str(tmp_path / "gate")
    blocked = [actor.block.remote(gate) for _ in range(4)]
    assert freehold.get(actor.compute.remote(), timeout=10) == compute
    assert freehold.get(actor.plain.remote(), timeout=10) == plain
    Path(gate).touch()
    assert freehold.get(blocked) == [gate] * 4


@freehold.remote(concurrency_groups={"io": 2})
class AsyncGrouped:
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = 0

    @freehold.method(concurrency_group="io")
    async def wait(self) -> str:
        self.running += 1
        await self.gate.wait()
        self.running -= 1
        return "done"

    async def count(self) -> int:
        return self.running

    async def open(self) -> None:
        self.gate.set()


def test_async_groups_bound_their_coroutines(clean: LocalCluster) -> None:
    actor = AsyncGrouped.remote()
    refs = [actor.wait.remote() for _ in range(5)]
    eventually(lambda: freehold.get(actor.count.remote()) == 2)
    counted = actor.count.options(concurrency_group="io").remote()
    ready, _ = freehold.wait([counted], timeout=0.2)
    assert ready == []
    freehold.get(actor.open.remote())
    assert freehold.get(refs) == ["done"] * 5
    assert freehold.get(counted) == 0


def test_an_unknown_group_is_refused(clean: LocalCluster) -> None:
    actor = Grouped.remote()
    with pytest.raises(ValueError, match=r"no concurrency group 'comput'.*compute"):
        actor.plain.options(concurrency_group="comput")


# ---- cancelling --------------------------------------------------------------------------------


def test_queued_calls_of_a_plain_actor_are_cancelled(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Recorder.options(resources=THERE).remote()
    gate = str(tmp_path / "gate")
    running = actor.wait_for_file.remote(gate)
    queued = [actor.add.remote(i) for i in range(10)]
    waiting = actor.add.remote(after_file.remote(gate, "slow"))
    for ref in [*queued[::2], waiting]:
        freehold.cancel(ref)
    for ref in [*queued[::2], waiting]:
        with pytest.raises(freehold.exceptions.TaskCancelledError):
            freehold.get(ref, timeout=10)
    Path(gate).touch()
    assert freehold.get(running) == gate
    assert freehold.get(actor.all.remote()) == [1, 3, 5, 7, 9]


def test_a_running_plain_method_is_not_interrupted(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Recorder.remote()
    gate = str(tmp_path / "gate")
    running = actor.wait_for_file.remote(gate)
    freehold.cancel(running)
    Path(gate).touch()
    try:
        assert freehold.get(running, timeout=10) == gate
    except freehold.exceptions.TaskCancelledError:
        pass  # it had not started
    assert freehold.get(actor.add.remote(1)) == 1


def test_gates_are_shared_by_tasks(clean: LocalCluster) -> None:
    @freehold.remote(num_cpus=0.1)
    def pass_through(gate: Any) -> str:
        return freehold.get(gate.wait.remote())

    gate = Gate.remote()
    refs = [pass_through.remote(gate) for _ in range(6)]
    eventually(lambda: freehold.get(gate.count.remote()) == 6, timeout_s=20)
    freehold.get(gate.open.remote())
    assert freehold.get(refs) == ["open"] * 6
