"""Tasks that crash, are retried, time out or are cancelled, over the real runtime."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FAR, PLACES

import freehold
from freehold.exceptions import (
    GetTimeoutError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]


class MyError(Exception):
    """A user's error with arguments of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


@freehold.remote
def echo(*args: Any) -> Any:
    return args


@freehold.remote
def add(a: int, b: int) -> int:
    return a + b


# ---- crashes and retries -------------------------------------------------------------------------


def _count(path: str) -> int:
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
        return file.tell()


def _exit() -> None:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


CRASHES = [
    pytest.param(_exit, "exit code 3", id="os._exit"),
    pytest.param(_kill, "signal 9|SIGKILL", id="SIGKILL"),
    pytest.param(_segfault, "signal 11|SIGSEGV", id="segfault"),
]


@pytest.mark.parametrize(("crash", "said"), CRASHES)
def test_a_crash_without_retries_is_an_error_that_says_how(
    crash: Callable[[], None], said: str
) -> None:
    @freehold.remote(max_retries=0, resources=FAR)
    def die() -> None:
        crash()

    with pytest.raises(WorkerCrashedError, match=said):
        freehold.get(die.remote(), timeout=20)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


@pytest.mark.parametrize(("crash", "said"), CRASHES)
def test_a_crash_is_retried(crash: Callable[[], None], said: str, tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2, resources=FAR)
    def third_time() -> int:
        n = _count(count)
        if n < 3:
            crash()
        return n

    assert freehold.get(third_time.remote(), timeout=20) == 3


def test_retries_end(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2)
    def never() -> None:
        _count(count)
        _exit()

    with pytest.raises(WorkerCrashedError):
        freehold.get(never.remote(), timeout=20)
    assert os.path.getsize(count) == 3


def test_the_last_lines_of_a_dead_worker_are_in_the_error() -> None:
    @freehold.remote(max_retries=0)
    def die() -> None:
        print("famous last words", flush=True)
        _exit()

    with pytest.raises(WorkerCrashedError, match="famous last words"):
        freehold.get(die.remote(), timeout=20)


@pytest.mark.parametrize(
    ("wanted", "tries"),
    [(True, 3), (False, 1), ([MyError], 3), ([KeyError], 1), ([KeyError, Exception], 3)],
)
def test_retry_exceptions(wanted: Any, tries: int, tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2, retry_exceptions=wanted)
    def always() -> None:
        _count(count)
        raise MyError(1, "again")

    with pytest.raises(MyError):
        freehold.get(always.remote(), timeout=20)
    assert os.path.getsize(count) == tries


def test_a_retry_may_succeed(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(retry_exceptions=True, max_retries=-1)
    def fifth_time() -> int:
        n = _count(count)
        if n < 5:
            raise MyError(n, "not yet")
        return n

    assert freehold.get(fifth_time.remote(), timeout=20) == 5


def test_a_crash_leaves_others_of_the_same_worker_alone(tmp_path: Path) -> None:
    """Tasks sent ahead to a worker that dies are not charged for it."""

    @freehold.remote(max_retries=1)
    def maybe(i: int) -> int:
        if i == 50 and _count(str(tmp_path / "count")) == 1:
            _exit()
        return i

    refs = [maybe.remote(i) for i in range(200)]
    assert freehold.get(refs, timeout=30) == list(range(200))


def test_max_calls_replaces_the_worker() -> None:
    @freehold.remote(max_calls=2)
    def where() -> int:
        return os.getpid()

    pids = [freehold.get(where.remote(), timeout=20) for _ in range(6)]
    assert all(pids.count(one) <= 2 for one in pids)
    pids = freehold.get([where.remote() for _ in range(12)], timeout=30)
    assert all(pids.count(one) <= 2 for one in pids)


def test_a_task_sent_to_a_worker_that_leaves_is_not_lost() -> None:
    """Each worker ends after one task: what was sent to it then was not begun, so that even a task
    that may run once only runs elsewhere. The second half crosses grants of the same workers."""

    @freehold.remote(max_calls=1, max_retries=0)
    def last() -> int:
        return os.getpid()

    @freehold.remote(max_retries=0)
    def any_worker() -> int:
        return os.getpid()

    for _ in range(6):
        refs = [last.remote() for _ in range(5)]
        refs += [any_worker.remote() for _ in range(3)]
        pids = freehold.get(refs, timeout=30)
        assert len(set(pids[:5])) == 5
        freehold.get([any_worker.remote() for _ in range(3)], timeout=30)


def test_an_actor_is_not_lost_with_a_worker_that_leaves() -> None:
    @freehold.remote(max_calls=1)
    def last() -> int:
        return os.getpid()

    @freehold.remote(num_cpus=0)
    class Counter:
        def pid(self) -> int:
            return os.getpid()

    for _ in range(5):
        freehold.get(last.remote(), timeout=20)
        actor = Counter.remote()
        freehold.get(actor.pid.remote(), timeout=20)
        del actor


def test_sys_exit_in_a_task_ends_its_worker_and_nothing_else() -> None:
    @freehold.remote(max_retries=0)
    def leave() -> int:
        print(os.getpid())
        raise SystemExit(3)

    @freehold.remote(max_retries=0)
    def pid() -> int:
        return os.getpid()

    refs = [leave.remote() if i % 4 == 0 else pid.remote() for i in range(20)]
    found = freehold.get(refs, timeout=30, return_exceptions=True)
    for i, result in enumerate(found):
        assert isinstance(result, TaskError if i % 4 == 0 else int), result


def test_a_worker_past_max_calls_stays_while_its_objects_are_needed() -> None:
    """It gives its lease back at once, so that what it owns may need the same resources."""

    @freehold.remote(resources={"far": 1000}, num_cpus=0)
    def child() -> int:
        return 5

    @freehold.remote(max_calls=1, resources={"far": 1000}, num_cpus=0)
    def parent() -> tuple[int, list[Any]]:
        return os.getpid(), [child.remote()]

    pid, (ref,) = freehold.get(parent.remote(), timeout=20)
    assert freehold.get(ref, timeout=20) == 5
    del ref
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=10)


@freehold.remote(max_retries=0)
def sleep_long(seconds: float = 60.0) -> str:
    time.sleep(seconds)
    return "slept"


def test_timeout_s_ends_a_task_that_sleeps() -> None:
    started = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"timeout_s of 0\.2"):
        freehold.get(sleep_long.options(timeout_s=0.2).remote(), timeout=20)
    assert time.monotonic() - started < 5


def test_timeout_s_ends_a_task_in_a_c_loop() -> None:
    @freehold.remote(timeout_s=0.2, max_retries=0)
    def stuck() -> int:
        return _c_loop()

    started = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        freehold.get(stuck.remote(), timeout=20)
    assert time.monotonic() - started < 12
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def _c_loop() -> int:
    import itertools

    return max(zip(itertools.repeat(0), itertools.count(), strict=False))[0]


def test_timeout_s_leaves_a_quick_task_alone() -> None:
    assert freehold.get(add.options(timeout_s=5).remote(1, 1), timeout=20) == 2


# ---- cancelling ----------------------------------------------------------------------------------


def test_cancelling_a_task_that_waits_for_an_argument(tmp_path: Path) -> None:
    slow = sleep_long.remote()
    waiting = echo.remote(slow)
    freehold.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        freehold.get(waiting, timeout=10)
    assert slow.status() == "pending"
    freehold.cancel(slow)
    with pytest.raises(TaskCancelledError):
        freehold.get(slow, timeout=10)


def test_cancelling_a_task_that_waits_for_a_worker(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    @freehold.remote(resources={"far": 1000}, num_cpus=0)
    def hold() -> None:
        sleep_until(tmp_path / "go")

    @freehold.remote(resources={"far": 1000}, num_cpus=0)
    def leave_mark() -> None:
        mark.touch()

    holding, waiting = hold.remote(), leave_mark.remote()
    freehold.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        freehold.get(waiting, timeout=10)
    (tmp_path / "go").touch()
    freehold.get(holding, timeout=20)
    freehold.get(hold.remote(), timeout=20)
    assert not mark.exists()


def sleep_until(path: Path) -> None:
    eventually(path.exists, timeout_s=30)


@pytest.mark.parametrize("place", PLACES)
def test_cancelling_a_running_task_interrupts_it(place: dict[str, float], tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"

    @freehold.remote(resources=place)
    def run() -> None:
        try:
            started.touch()
            time.sleep(60)
        except KeyboardInterrupt:
            ended.touch()
            raise

    ref = run.remote()
    eventually(started.exists, timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert ended.exists()


def test_cancelling_finds_a_task_wherever_it_is() -> None:
    """On its way, queued, being unpacked, just before the system call that it sleeps in."""
    for i in range(150):
        ref = sleep_long.remote()
        until = time.perf_counter() + (i % 30) * 1e-4
        while time.perf_counter() < until:
            pass
        freehold.cancel(ref)
        with pytest.raises(TaskCancelledError):
            freehold.get(ref, timeout=10)


def test_cancelling_with_force_ends_a_c_loop(tmp_path: Path) -> None:
    started = tmp_path / "started"

    @freehold.remote
    def run() -> int:
        started.touch()
        return _c_loop()

    ref = run.remote()
    eventually(started.exists, timeout_s=10)
    freehold.cancel(ref, force=True)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def test_cancelling_is_recursive_unless_told_not_to(tmp_path: Path) -> None:
    @freehold.remote
    def child(name: str) -> None:
        try:
            (tmp_path / f"{name}-started").touch()
            time.sleep(30)
        finally:
            (tmp_path / f"{name}-ended").touch()

    @freehold.remote
    def parent(name: str) -> None:
        freehold.get(child.remote(name))

    ref = parent.remote("deep")
    eventually((tmp_path / "deep-started").exists, timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    eventually((tmp_path / "deep-ended").exists, timeout_s=5)

    ref = parent.remote("flat")
    eventually((tmp_path / "flat-started").exists, timeout_s=10)
    freehold.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    with pytest.raises(AssertionError):
        eventually((tmp_path / "flat-ended").exists, timeout_s=0.5)


def test_cancelling_a_finished_task_changes_nothing() -> None:
    ref = add.remote(1, 2)
    freehold.get(ref, timeout=20)
    freehold.cancel(ref)
    freehold.cancel(ref, force=True)
    assert freehold.get(ref) == 3


def test_a_cancelled_task_is_not_retried(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=5, retry_exceptions=True)
    def run() -> None:
        _count(count)
        time.sleep(60)

    ref = run.remote()
    eventually(lambda: os.path.exists(count), timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert os.path.getsize(count) == 1


def test_tasks_that_needed_a_cancelled_one_fail_with_it() -> None:
    slow = sleep_long.remote()
    after = echo.remote(slow)
    freehold.cancel(slow)
    with pytest.raises(TaskCancelledError):
        freehold.get(after, timeout=10)


def test_get_waits_no_longer_than_told() -> None:
    ref = sleep_long.remote()
    for timeout in (0, 0.05):
        started = time.monotonic()
        with pytest.raises(GetTimeoutError):
            freehold.get(ref, timeout=timeout)
        assert time.monotonic() - started < 2
    freehold.cancel(ref, force=True)
