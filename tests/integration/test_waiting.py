"""A task that waits gives its CPU back, however it waits."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import NEAR, PLACES

import freehold
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

ALL = 4  # the CPUs of a node


@freehold.remote(num_cpus=ALL)
def child(value: int) -> int:
    return value


@freehold.remote(num_cpus=ALL)
def fail() -> None:
    raise TimeoutError("mine")


@freehold.remote(num_cpus=ALL)
def wait_for(path: str) -> bool:
    return eventually(lambda: Path(path).exists(), timeout_s=30)


def by_future(place: dict[str, float]) -> Any:
    return child.options(resources=place).remote(1).future().result()


def by_future_with_timeout(place: dict[str, float]) -> Any:
    return child.options(resources=place).remote(1).future().result(timeout=20)


def by_exception(place: dict[str, float]) -> Any:
    error = fail.options(resources=place).remote().future().exception()
    return int(isinstance(error, TimeoutError) and "mine" in str(error))


def by_await(place: dict[str, float]) -> Any:
    async def main() -> int:
        return await child.options(resources=place).remote(1)

    return asyncio.run(main())


def by_gather(place: dict[str, float]) -> Any:
    async def main() -> int:
        refs = [child.options(resources=place).remote(i) for i in range(3)]
        return len(await asyncio.gather(*refs, asyncio.sleep(0.01))) - 3

    return asyncio.run(main())


WAYS = [by_future, by_future_with_timeout, by_exception, by_await, by_gather]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
def test_a_child_that_needs_all_cpus_gets_them(place: dict[str, float], way: Any) -> None:
    task = freehold.remote(num_cpus=ALL, resources=place)(way)
    assert freehold.get(task.remote(place), timeout=30) == 1
    whole = freehold.cluster_resources()["CPU"]
    eventually(lambda: freehold.available_resources().get("CPU") == whole, timeout_s=10)


def test_a_future_gives_up_when_told(tmp_path: Path) -> None:
    @freehold.remote(num_cpus=ALL, resources=NEAR)
    def impatient(path: str) -> str:
        future = wait_for.options(resources=NEAR).remote(path).future()
        started = time.monotonic()
        try:
            future.result(timeout=0.3)
        except FutureTimeoutError:
            assert time.monotonic() - started >= 0.3
            Path(path).touch()
        return "gave up" if future.result(timeout=20) else ""

    assert freehold.get(impatient.remote(str(tmp_path / "go")), timeout=30) == "gave up"


@pytest.mark.parametrize("place", PLACES)
def test_a_worker_whose_task_left_a_wait_behind_runs_the_next(
    place: dict[str, float], tmp_path: Path
) -> None:
    @freehold.remote(num_cpus=1, resources=place)
    def leave_behind(path: str) -> int:
        loop = asyncio.new_event_loop()

        async def main() -> None:
            ref = wait_for.options(num_cpus=1, resources=place).remote(path)
            waiting = asyncio.ensure_future(ref.as_future())
            keep.append((loop, waiting))
            # Long enough to be told as blocked.
            await asyncio.wait([waiting], timeout=0.3)

        keep: list[Any] = []
        loop.run_until_complete(main())
        import builtins

        builtins.left_behind = keep  # type: ignore[attr-defined]
        return 1

    assert freehold.get(leave_behind.remote(str(tmp_path / "go")), timeout=30) == 1
    assert freehold.get([leave_behind.remote(str(tmp_path / "go"))], timeout=30) == [1]
    (tmp_path / "go").touch()
    whole = freehold.cluster_resources()["CPU"]
    eventually(lambda: freehold.available_resources().get("CPU") == whole, timeout_s=20)
