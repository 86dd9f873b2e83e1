"""A worker that owns objects is killed, and the owner of its task has them made again.

The counterpart of `test_owner_death`, whose owners are actors: what their methods made cannot be.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, NEAR, PLACES

import freehold
from freehold.exceptions import OwnerDiedError
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

BIG = 400_000


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=10)


def pid_in(path: Path) -> int:
    """The process that noted itself there last."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"), timeout_s=20)
    return int(path.read_text().split()[-1])


def note(path: str) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


@freehold.remote(num_cpus=0)
def wait_for(path: str, value: Any) -> Any:
    """A value that is there once there is a file."""
    eventually(lambda: os.path.exists(path), timeout_s=60)
    return value


@freehold.remote(num_cpus=0)
def make(folder: str, place: dict[str, float]) -> list[Any]:
    """References to a child that is not done, to a stored and to a small object: all owned here."""
    note(f"{folder}/make")
    child = wait_for.options(resources=place).remote(f"{folder}/go", "from the child")
    return [child, freehold.put(np.full(BIG, 7, dtype=np.uint8)), freehold.put("small"), child]


@freehold.remote(num_cpus=0)
class Keeper:
    def keep(self, refs: list[Any]) -> None:
        self.refs = refs

    def pid(self) -> int:
        return os.getpid()

    def get(self, index: int) -> Any:
        value = freehold.get(self.refs[index], timeout=40)
        return int(value[0]) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("owner_at", PLACES)
def test_a_child_that_a_dead_task_left_is_made_again(
    owner_at: dict[str, float], tmp_path: Path
) -> None:
    refs = freehold.get(make.options(resources=owner_at).remote(str(tmp_path), NEAR), timeout=20)
    child = refs[0]
    waiting = child.future()
    kill(pid_in(tmp_path / "make"))
    (tmp_path / "go").touch()
    assert waiting.result(timeout=40) == "from the child"
    assert freehold.get(child, timeout=40) == "from the child"
    assert len((tmp_path / "make").read_text().split()) == 2


@pytest.mark.parametrize("owner_at", PLACES)
@pytest.mark.parametrize("borrower_at", PLACES)
def test_an_actor_goes_on_with_what_a_dead_worker_owned(
    owner_at: dict[str, float], borrower_at: dict[str, float], tmp_path: Path
) -> None:
    """The task runs still when its worker is killed: its second attempt makes them again."""

    @freehold.remote(num_cpus=0)
    def hand_on(keeper: Any, folder: str) -> str:
        note(f"{folder}/hand_on")
        big = freehold.put(np.full(BIG, 9, dtype=np.uint8))
        child = wait_for.options(resources=owner_at).remote(f"{folder}/go", "from the child")
        freehold.get(keeper.keep.remote([big, child, freehold.put("small")]))
        note(f"{folder}/handed")
        freehold.get(wait_for.remote(f"{folder}/end", None))
        return "ended"

    keeper = Keeper.options(resources=borrower_at, max_concurrency=4).remote()
    task = hand_on.options(resources=owner_at).remote(keeper, str(tmp_path))
    first = pid_in(tmp_path / "handed")
    waiting = [keeper.get.remote(index) for index in (1, 2)]
    kill(first)
    (tmp_path / "go").touch()
    assert freehold.get(waiting, timeout=60) == ["from the child", "small"]
    (tmp_path / "end").touch()
    assert freehold.get(task, timeout=40) == "ended"
    assert freehold.get(keeper.get.remote(0), timeout=40) == 9


def test_two_generations_of_dead_owners(tmp_path: Path) -> None:
    """The grandchild's owner and that one's supervisor both die: the driver begins one higher."""

    @freehold.remote(num_cpus=0)
    def child(folder: str) -> Any:
        note(f"{folder}/child")
        return [wait_for.options(resources=NEAR).remote(f"{folder}/go", "grandchild")]

    @freehold.remote(num_cpus=0)
    def parent(folder: str) -> Any:
        note(f"{folder}/parent")
        return [child.options(resources=FAR).remote(folder)]

    outer = freehold.get(parent.remote(str(tmp_path)), timeout=20)[0]
    inner = freehold.get(outer, timeout=20)[0]
    owners = {pid_in(tmp_path / "parent"), pid_in(tmp_path / "child")}
    for pid in owners:
        os.kill(pid, signal.SIGKILL)
    (tmp_path / "go").touch()
    assert freehold.get(inner, timeout=60) == "grandchild"


def test_what_may_run_only_once_is_not_run_again(tmp_path: Path) -> None:
    task = make.options(max_retries=0, resources=FAR)
    child = freehold.get(task.remote(str(tmp_path), NEAR), timeout=20)[0]
    kill(pid_in(tmp_path / "make"))
    with pytest.raises(OwnerDiedError, match="max_retries=0"):
        freehold.get(child, timeout=20)
    assert len((tmp_path / "make").read_text().split()) == 1


def test_what_another_thread_of_the_task_made_is_not_made_again(tmp_path: Path) -> None:
    """Threads have no certain order, so what they make has no certain name."""

    @freehold.remote(num_cpus=0)
    def threaded(folder: str) -> list[Any]:
        note(f"{folder}/threaded")

        async def submit() -> Any:
            return await asyncio.to_thread(wait_for.remote, f"{folder}/go", "never")

        return [asyncio.run(submit()), wait_for.remote(f"{folder}/go", "mine")]

    apart, own = freehold.get(threaded.remote(str(tmp_path)), timeout=20)
    kill(pid_in(tmp_path / "threaded"))
    (tmp_path / "go").touch()
    assert freehold.get(own, timeout=40) == "mine"
    with pytest.raises(OwnerDiedError):
        freehold.get(apart, timeout=20)


def test_a_task_that_fails_the_second_time_says_so(tmp_path: Path) -> None:
    @freehold.remote(num_cpus=0)
    def once(folder: str) -> list[Any]:
        note(f"{folder}/once")
        if len(Path(f"{folder}/once").read_text().split()) > 1:
            raise ValueError("no second time")
        return [wait_for.remote(f"{folder}/go", 1)]

    ref = freehold.get(once.remote(str(tmp_path)), timeout=20)[0]
    kill(pid_in(tmp_path / "once"))
    with pytest.raises(OwnerDiedError, match="executing the task that made it again failed"):
        freehold.get(ref, timeout=40)


def test_an_actor_is_not_kept_by_what_it_keeps(tmp_path: Path) -> None:
    """A task gave it something that could be made again: that needs no handle of the actor."""

    @freehold.remote(num_cpus=0)
    def feed(keeper: Any) -> None:
        freehold.get(keeper.keep.remote([freehold.put(np.zeros(BIG, dtype=np.uint8))]))

    keeper = Keeper.remote()
    pid = freehold.get(keeper.pid.remote(), timeout=20)
    freehold.get(feed.remote(keeper), timeout=20)
    del keeper
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=20)
