"""Finished results do not wait behind what runs next, nor go with it when it ends the process."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import PLACES

import freehold
from freehold.exceptions import ActorDiedError, WorkerCrashedError

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

BEFORE = [pytest.param(0, id="new"), pytest.param(300, id="known-short")]


def hold_the_lock(fifo: str) -> str:
    """Hold the interpreter's lock until somebody writes into `fifo`."""
    fd = os.open(fifo, os.O_RDWR)
    ctypes.PyDLL(None).read(fd, ctypes.create_string_buffer(1), 1)
    os.close(fd)
    return "held"


class Worker:
    def quick(self, number: int) -> int:
        return number

    def hold(self, fifo: str) -> str:
        return hold_the_lock(fifo)

    def end(self, code: int) -> None:
        os._exit(code)


class AsyncWorker:
    async def quick(self, number: int) -> int:
        return number

    async def hold(self, fifo: str) -> str:
        return hold_the_lock(fifo)

    async def end(self, code: int) -> None:
        os._exit(code)


@freehold.remote(max_retries=0)
def task(record: str, number: int) -> int:
    if number < 0:
        os._exit(3)
    with Path(record).open("a") as file:
        file.write(f"{number}\n")
    return number


@freehold.remote(max_retries=0)
def quick_task(number: int) -> int:
    return number


@freehold.remote(max_retries=0)
def hold_task(fifo: str) -> str:
    return hold_the_lock(fifo)


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "go-on"
    os.mkfifo(path)
    return str(path)


def let_go(fifo: str) -> None:
    fd = os.open(fifo, os.O_RDWR)
    os.write(fd, b".")
    # Kept open until the process ends: what is written is lost with the last descriptor.
    HELD_OPEN.append(fd)


HELD_OPEN: list[int] = []


@pytest.fixture(autouse=True)
def close_fifos() -> Any:
    yield
    while HELD_OPEN:
        os.close(HELD_OPEN.pop())


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", [Worker, AsyncWorker])
@pytest.mark.parametrize("place", PLACES)
def test_results_of_calls_do_not_wait_behind_one_that_holds_the_lock(
    place: dict[str, float], kind: type[Any], before: int, fifo: str
) -> None:
    actor = freehold.remote(kind).options(resources=place).remote()
    assert freehold.get([actor.quick.remote(i) for i in range(before)], timeout=20) == list(
        range(before)
    )
    refs = [actor.quick.remote(i) for i in range(10)]
    holding = actor.hold.remote(fifo)
    try:
        assert freehold.get(refs, timeout=10) == list(range(10))
    finally:
        let_go(fifo)
    assert freehold.get(holding, timeout=20) == "held"


@pytest.mark.parametrize("before", BEFORE)
def test_results_of_tasks_do_not_wait_behind_one_that_holds_the_lock(
    before: int, fifo: str
) -> None:
    shape = {"num_cpus": 4}  # all there is on a node: one worker runs them all
    freehold.get([quick_task.options(**shape).remote(i) for i in range(before)], timeout=20)
    refs = [quick_task.options(**shape).remote(i) for i in range(10)]
    holding = hold_task.options(**shape).remote(fifo)
    try:
        assert freehold.get(refs, timeout=10) == list(range(10))
    finally:
        let_go(fifo)
    assert freehold.get(holding, timeout=20) == "held"


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", [Worker, AsyncWorker])
@pytest.mark.parametrize("place", PLACES)
def test_completed_calls_keep_their_results_when_a_later_one_ends_the_process(
    place: dict[str, float], kind: type[Any], before: int
) -> None:
    for _ in range(5):
        actor = freehold.remote(kind).options(resources=place).remote()
        freehold.get([actor.quick.remote(i) for i in range(before)], timeout=20)
        refs = [actor.quick.remote(i) for i in range(10)]
        ending = actor.end.remote(3)
        assert freehold.get(refs, timeout=20) == list(range(10))
        with pytest.raises(ActorDiedError):
            freehold.get(ending, timeout=20)


@pytest.mark.parametrize("place", PLACES)
def test_completed_tasks_keep_their_results_and_run_once(
    place: dict[str, float], tmp_path: Path
) -> None:
    for attempt in range(5):
        record = tmp_path / str(attempt)
        call = task.options(resources=place)
        refs = [call.remote(str(record), i) for i in (*range(10), -1)]
        assert freehold.get(refs[:10], timeout=20) == list(range(10))
        with pytest.raises(WorkerCrashedError):
            freehold.get(refs[10], timeout=20)
        assert sorted(map(int, record.read_text().split())) == list(range(10))
