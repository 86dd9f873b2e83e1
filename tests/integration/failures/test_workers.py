"""Whatever user code does to its worker: its own error for each, and the cluster goes on."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.failures.kit import WITHIN_S, gone, is_alive, node_of

import freehold
from freehold.exceptions import (
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with freehold.init(num_cpus=2):
        yield


@pytest.fixture(autouse=True)
def _goes_on() -> Iterator[None]:
    yield
    assert freehold.get([double.remote(i) for i in range(20)], timeout=10) == list(range(0, 40, 2))


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote(max_retries=0)
def die(how: str) -> None:
    print("last words", flush=True)
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(8)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fds":
        os.closerange(3, 4096)
        time.sleep(60)
    if how == "all-fds":
        os.closerange(0, 4096)
        time.sleep(60)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("exit", ["7", "last words"]),
        ("segfault", ["signal 11", "last words"]),
        ("abort", ["signal 6", "last words"]),
        ("kill", ["signal 9", "last words"]),
        ("fds", ["signal 9"]),
        ("all-fds", ["signal 9"]),
    ],
)
def test_a_crash_is_told_with_its_cause(how: str, words: list[str]) -> None:
    with pytest.raises(WorkerCrashedError) as caught:
        freehold.get(die.remote(how), timeout=15)
    for word in words:
        assert word in str(caught.value)


@freehold.remote(max_retries=3)
def die_once(path: str) -> str:
    try:
        os.mkdir(path)
    except FileExistsError:
        return "done"
    os._exit(1)


def test_a_crash_is_retried(tmp_path: Path) -> None:
    assert freehold.get(die_once.remote(str(tmp_path / "mark"))) == "done"


@freehold.remote(max_retries=0)
def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0, 3, "a reason"])
def test_sys_exit_is_an_error_of_the_task(code: object) -> None:
    with pytest.raises((TaskError, WorkerCrashedError), match=r"SystemExit|exited"):
        freehold.get(leave.remote(code), timeout=10)


@freehold.remote(max_retries=0)
def raise_base() -> None:
    raise KeyboardInterrupt("mine")


def test_a_base_exception_is_an_error_of_the_task() -> None:
    with pytest.raises(TaskError, match="KeyboardInterrupt"):
        freehold.get(raise_base.remote(), timeout=10)


@freehold.remote(max_retries=0)
def fork_and_return() -> tuple[int, int]:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)  # holds copies of all the worker's descriptors
    return os.getpid(), pid


def test_a_forked_child_that_stays_does_not_hold_up_its_worker() -> None:
    worker, child = freehold.get(fork_and_return.remote(), timeout=10)
    assert is_alive(child)
    assert freehold.get(double.remote(1)) == 2
    os.kill(worker, signal.SIGKILL)
    gone([worker, child])


@freehold.remote(max_retries=0)
def fork_and_die() -> None:
    if os.fork() == 0:
        time.sleep(600)
    os._exit(5)


@freehold.remote(max_retries=0)
def fork_into_own_session(path: str) -> None:
    if os.fork() == 0:
        os.setsid()
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)
    eventually(lambda: Path(path).read_text() if os.path.exists(path) else "")
    os._exit(6)


def test_a_worker_that_dies_before_its_child_is_told() -> None:
    with pytest.raises(WorkerCrashedError, match="5"):
        freehold.get(fork_and_die.remote(), timeout=10)


def test_a_worker_whose_child_got_away_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(WorkerCrashedError, match="6"):
        freehold.get(fork_into_own_session.remote(str(path)), timeout=10)
    assert time.monotonic() - started < WITHIN_S
    assert freehold.get(double.remote(3), timeout=5) == 6
    os.kill(int(path.read_text()), signal.SIGKILL)


@freehold.remote(max_retries=0)
def child_comes_back(how: str) -> int:
    """The child of a fork inside a task leaves the function: nobody may answer twice."""
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(9)
        if how == "raise":
            raise ValueError("in the child")
        return -1
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(("how", "code"), [("exit", 9), ("raise", 1), ("return", 0)])
def test_a_forked_child_never_answers(how: str, code: int) -> None:
    assert freehold.get(child_comes_back.remote(how), timeout=10) == code
    assert freehold.get([double.remote(i) for i in range(50)]) == list(range(0, 100, 2))


@freehold.remote
def use_children() -> list[object]:
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        squares = pool.map(abs, [-1, -2, -3])
    text = subprocess.check_output([sys.executable, "-c", "print('hi')"], text=True)
    return [squares, text.strip(), freehold.get(double.remote(4))]


def test_children_of_a_task_work() -> None:
    assert freehold.get(use_children.remote(), timeout=30) == [[1, 2, 3], "hi", 8]


@freehold.remote
def flood(lines: int) -> int:
    line = "x" * 99
    for _ in range(lines // 1000):
        sys.stdout.write((line + "\n") * 1000)
    sys.stdout.flush()
    return lines


@freehold.remote
def one_long_line(size: int) -> int:
    os.write(1, b"y" * 1000)
    for _ in range(size >> 16):
        written = 0
        while written < 1 << 16:
            written += os.write(1, b"y" * ((1 << 16) - written))
    return size


def anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def test_a_flood_of_lines_is_bounded_and_blocks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    node = node_of(os.getpid())
    before = anonymous_bytes(node), anonymous_bytes(os.getpid())
    assert freehold.get(flood.remote(1_000_000), timeout=40) == 1_000_000
    shown = ""

    def is_cut() -> bool:
        nonlocal shown
        captured = capsys.readouterr()
        shown += captured.out + captured.err
        return "lines left out" in shown

    eventually(is_cut, timeout_s=10)
    assert len(shown) < 50 << 20
    assert "x" * 99 in shown
    assert anonymous_bytes(node) < before[0] + (32 << 20)
    del shown
    assert anonymous_bytes(os.getpid()) < before[1] + (160 << 20)


def test_a_line_without_an_end_costs_no_memory() -> None:
    node = node_of(os.getpid())
    before = anonymous_bytes(node)
    assert freehold.get(one_long_line.remote(64 << 20), timeout=40) == 64 << 20
    assert anonymous_bytes(node) < before + (32 << 20)


@freehold.remote(max_retries=0)
def forever(in_c: bool) -> None:
    while True:
        if in_c:
            sum(range(10**12))


@pytest.mark.parametrize("in_c", [False, True])
def test_a_task_that_never_returns_times_out(in_c: bool) -> None:
    started = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        freehold.get(forever.options(timeout_s=0.3).remote(in_c), timeout=20)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("in_c", [False, True])
def test_a_task_that_never_returns_is_cancelled_by_force(in_c: bool) -> None:
    ref = forever.remote(in_c)
    freehold.wait([ref], timeout=0.3)
    freehold.cancel(ref, force=True)
    with pytest.raises((TaskCancelledError, WorkerCrashedError)):
        freehold.get(ref, timeout=10)


@freehold.remote
class Deaf:
    def spin(self) -> None:
        sum(range(10**12))

    def pid(self) -> int:
        return os.getpid()

    def socket(self) -> str:
        return own_path()


def test_an_actor_in_a_c_loop_is_killed() -> None:
    actor = Deaf.remote()
    pid = freehold.get(actor.pid.remote())
    ref = actor.spin.remote()
    freehold.wait([ref], timeout=0.1)
    freehold.kill(actor)
    with pytest.raises(freehold.exceptions.ActorDiedError):
        freehold.get(ref, timeout=WITHIN_S)
    gone([pid])


def own_path() -> str:
    from freehold._api import state

    core = state.require()
    return str(core.peers.socket_path(core.owner.address))  # type: ignore[attr-defined]


@freehold.remote
def where() -> tuple[int, str]:
    return os.getpid(), own_path()


def test_a_killed_worker_leaves_no_socket() -> None:
    pid, path = freehold.get(where.remote())
    assert os.path.exists(path)
    actor = Deaf.remote()
    worker = freehold.get(actor.pid.remote())
    own = freehold.get(actor.socket.remote())
    assert is_alive(pid)
    assert os.path.exists(own)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not os.path.exists(own), timeout_s=WITHIN_S)
