"""A worker that owns objects is killed: borrowers hear of it at once, with who and why."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, NEAR, PLACES

import freehold
from freehold.exceptions import OwnerDiedError
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

SOON_S = 5.0


@freehold.remote(num_cpus=0)
class Owner:
    def make(self) -> tuple[list[Any], str, int]:
        """Objects that stay with this process: another one holds them before they are returned."""
        self.kept = [
            freehold.put(np.zeros(400_000, dtype=np.uint8)),
            forever.remote(),
            freehold.put("small"),
        ]
        self.keeper = Borrower.remote()
        freehold.get(self.keeper.hold.remote(self.kept))
        return self.kept, freehold.get_runtime_context().get_worker_id(), os.getpid()


@freehold.remote(num_cpus=0)
class Borrower:
    def hold(self, refs: list[Any]) -> None:
        self.refs = refs

    def get(self, index: int, timeout: float) -> Any:
        return freehold.get(self.refs[index], timeout=timeout)


@freehold.remote(num_cpus=0)
def forever() -> None:
    eventually(lambda: False, timeout_s=120)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=10)


@pytest.mark.parametrize("owner_at", PLACES)
def test_the_driver_hears_of_an_owners_death(owner_at: dict[str, float]) -> None:
    owner = Owner.options(resources=owner_at).remote()
    refs, _worker, pid = freehold.get(owner.make.remote(), timeout=20)
    kill(pid)
    for ref in refs[:2]:
        started = time.monotonic()
        with pytest.raises(OwnerDiedError, match=r"signal 9|SIGKILL") as caught:
            freehold.get(ref, timeout=20)
        assert time.monotonic() - started < SOON_S
        assert caught.value.owner in str(caught.value)
        assert caught.value.object_id == ref.hex()


@pytest.mark.parametrize("owner_at", PLACES)
def test_who_waits_already_is_told(owner_at: dict[str, float]) -> None:
    owner = Owner.options(resources=owner_at).remote()
    refs, _worker, pid = freehold.get(owner.make.remote(), timeout=20)
    future = refs[1].future()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.3)
    kill(pid)
    with pytest.raises(OwnerDiedError):
        future.result(timeout=SOON_S)


@pytest.mark.parametrize("borrower_at", PLACES)
@pytest.mark.parametrize("owner_at", PLACES)
def test_another_worker_hears_of_it(
    owner_at: dict[str, float], borrower_at: dict[str, float]
) -> None:
    owner = Owner.options(resources=owner_at).remote()
    borrower = Borrower.options(resources=borrower_at).remote()
    refs, _worker, pid = freehold.get(owner.make.remote(), timeout=20)
    freehold.get(borrower.hold.remote(refs), timeout=20)
    waiting = borrower.get.remote(1, 30.0)
    kill(pid)
    with pytest.raises(Exception, match="its owner died"):
        freehold.get(waiting, timeout=SOON_S + 5)
    with pytest.raises(Exception, match="its owner died"):
        freehold.get(borrower.get.remote(0, 30.0), timeout=SOON_S + 5)


def test_a_value_that_was_fetched_stays() -> None:
    owner = Owner.options(resources=FAR).remote()
    refs, _worker, pid = freehold.get(owner.make.remote(), timeout=20)
    array = freehold.get(refs[0], timeout=20)
    assert freehold.get(refs[2], timeout=20) == "small"
    kill(pid)
    assert int(array.sum()) == 0
    assert freehold.get(refs[2], timeout=20) == "small"


def test_a_task_that_needs_what_a_dead_owner_had_fails_with_it() -> None:
    owner = Owner.options(resources=FAR).remote()
    refs, _worker, pid = freehold.get(owner.make.remote(), timeout=20)
    kill(pid)

    @freehold.remote
    def use(value: Any) -> None:
        return None

    with pytest.raises(OwnerDiedError):
        freehold.get(use.remote(refs[1]), timeout=SOON_S + 5)


def test_children_of_a_dead_task_are_ended() -> None:
    @freehold.remote(num_cpus=0)
    class Parent:
        def start(self, place: dict[str, float]) -> int:
            pid = freehold.get(Reporter.options(resources=place).remote().pid.remote())
            self.ref = report_pid.options(resources=place).remote()
            return pid

        def pid(self) -> int:
            return os.getpid()

    parent = Parent.options(resources=FAR).remote()
    freehold.get(parent.start.remote(NEAR), timeout=20)
    kill(freehold.get(parent.pid.remote(), timeout=20))
    # All that it held is free again: tasks that need everything run.
    assert freehold.get(square.options(resources={"near": 1000}).remote(3), timeout=20) == 9


@freehold.remote(num_cpus=0)
class Reporter:
    def pid(self) -> int:
        return os.getpid()


@freehold.remote(num_cpus=0)
def report_pid() -> None:
    eventually(lambda: False, timeout_s=120)


@freehold.remote
def square(x: int) -> int:
    return x * x
