"""Processes that the driver's program starts: forks are inert and harmless, the rest just works."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.failures.kit import WITHIN_S, Script, family, gone, sessions

import freehold
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with freehold.init(num_cpus=2):
        yield


def in_child(act: Callable[[], Any]) -> str:
    """What `act` comes to in a forked child, which ends without the parent's handlers."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            told = repr(act())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


async def awaiting(ref: Any) -> Any:
    return await ref


def calls() -> dict[str, Callable[[], Any]]:
    ref, actor = double.remote(1), Counter.remote()
    freehold.get([ref, actor.add.remote()])
    return {
        "remote": lambda: double.remote(2),
        "fresh remote": lambda: freehold.remote(abs).remote(2),
        "get": lambda: freehold.get(ref),
        "get many": lambda: freehold.get([ref, ref]),
        "put": lambda: freehold.put(1),
        "wait": lambda: freehold.wait([ref]),
        "actor call": lambda: actor.add.remote(),
        "actor": lambda: Counter.remote(),
        "kill": lambda: freehold.kill(actor),
        "cancel": lambda: freehold.cancel(ref),
        "get_actor": lambda: freehold.get_actor("nobody"),
        "nodes": lambda: freehold.nodes(),
        "resources": lambda: freehold.cluster_resources(),
        "available": lambda: freehold.available_resources(),
        "await": lambda: asyncio.run(awaiting(ref)),
        "future": lambda: ref.future().result(5),
        "explain": lambda: freehold.explain(ref),
        "init": lambda: freehold.init(),
    }


def test_every_call_in_a_fork_says_so() -> None:
    for name, call in calls().items():
        told = in_child(call)
        assert told.startswith("ForkedProcessError"), f"{name}: {told}"
        assert str(os.getpid()) in told
    assert freehold.get(double.remote(3)) == 6


def test_shutdown_in_a_fork_leaves_the_parents_cluster() -> None:
    in_child(freehold.shutdown)
    assert freehold.get(double.remote(3)) == 6
    assert in_child(freehold.is_initialized) == "False"


def test_references_dropped_in_a_fork_stay_the_parents() -> None:
    refs = [freehold.put(number) for number in range(100)]
    refs += [freehold.put(bytes(200_000)) for _ in range(3)]
    counter = Counter.remote()
    freehold.get(counter.add.remote())

    def drop() -> int:
        nonlocal counter
        refs.clear()
        del counter
        return gc.collect() * 0

    assert in_child(drop) == "0"
    assert freehold.get(refs[:100]) == list(range(100))
    assert len(freehold.get(refs[-1])) == 200_000
    assert freehold.get(counter.add.remote()) == 2


def test_values_got_before_a_fork_can_be_read_in_it() -> None:
    import numpy as np

    array = freehold.get(freehold.put(np.arange(1_000_000)))
    assert in_child(lambda: int(array.sum())) == str(int(array.sum()))


def test_forks_while_threads_wait_and_submit() -> None:
    is_over = threading.Event()
    wrong: list[Any] = []

    def hammer() -> None:
        while not is_over.is_set():
            try:
                got = freehold.get([double.remote(i) for i in range(20)])
                if got != list(range(0, 40, 2)):
                    wrong.append(got)
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        assert in_child(lambda: freehold.put(1)).startswith("ForkedProcessError")
    is_over.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []


def test_pools_of_processes_work(tmp_path: Path) -> None:
    """In a program of its own: multiprocessing leaves a tracker with a pipe behind."""
    source = """
import multiprocessing

def use_freehold(number):
    try:
        return freehold.get(freehold.remote(abs).remote(number))
    except freehold.exceptions.ForkedProcessError as error:
        return "told"

if __name__ == "__main__":
    freehold.init(num_cpus=1)
    freehold.get(freehold.remote(abs).remote(-1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        say(pool.map(abs, [-1, -2]))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say(pool.map(abs, range(-3, 0)), pool.map(use_freehold, range(2)))
    say(freehold.get(freehold.remote(abs).remote(-3)))
"""
    with Script(source, tmp_path) as script:
        assert script.line() == "[1, 2]"
        assert script.line() == "[3, 2, 1] ['told', 'told']"
        assert script.line() == "3"
        assert script.wait() == 0


def test_subprocesses_work_and_inherit_nothing(tmp_path: Path) -> None:
    source = """
import subprocess
listing = "import os; print(*sorted(os.listdir('/proc/self/fd')))"

def inherited():
    return subprocess.check_output([sys.executable, "-c", listing], close_fds=False, text=True)

before = inherited()
freehold.init(num_cpus=1)
freehold.get([freehold.put(bytes(1 << 20)), freehold.remote(abs).remote(1)])
say(inherited() == before)
"""
    with Script(source, tmp_path) as script:
        assert script.line() == "True"
        assert script.wait() == 0


def test_a_fork_that_exits_runs_no_handler_of_ours(tmp_path: Path) -> None:
    source = """
import atexit
atexit.register(lambda: say("atexit", os.getpid()))
freehold.init(num_cpus=1)
ref = freehold.put(bytes(1 << 20))
double = freehold.remote(lambda n: 2 * n)
freehold.get(double.remote(1))
parent = os.getpid()
for how in ("exit", "end", "raise"):
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(4)
        if how == "raise":
            raise ValueError("in the child")
        break
    _, status = os.waitpid(pid, 0)
    say(how, os.waitstatus_to_exitcode(status), freehold.get(double.remote(4)))
    say(len(freehold.get(ref)))
if os.getpid() == parent:
    say("done")
"""
    with Script(source, tmp_path) as script:
        lines = script.rest().splitlines()
        assert script.wait() == 0
        errors = script.errors()
        assert [line for line in lines if not line.startswith("atexit")] == [
            *("exit 4 8", "1048576", "end 0 8", "1048576", "raise 1 8", "1048576", "done")
        ]
        assert len([line for line in lines if line.startswith("atexit")]) == 4
        assert errors.count("Traceback") == 1  # the child's own ValueError


def test_a_fork_that_outlives_its_driver_keeps_nothing_alive(tmp_path: Path) -> None:
    source = """
freehold.init(num_cpus=1)
freehold.get(freehold.remote(abs).remote(-1))
pid = os.fork()
if pid == 0:
    time.sleep(600)
say(pid)
sys.stdin.readline()
"""
    with Script(source, tmp_path) as script:
        child = script.numbers()[0]
        pids = [pid for pid in family(script.pid) if pid != child]
        before = sessions()
        assert len(before) == 2  # the module's own is one
        script.kill()
        script.wait()
        try:
            gone(pids)
            eventually(lambda: len(sessions()) == 1, timeout_s=WITHIN_S)
        finally:
            os.kill(child, 9)


def test_sys_exit_in_a_spawned_program_with_live_references(tmp_path: Path) -> None:
    source = """
freehold.init(num_cpus=1)
held = [freehold.put(i) for i in range(100)]
arrays = freehold.get([freehold.put(bytes(1 << 20)) for _ in range(3)])
task = freehold.remote(time.sleep).remote(600)
say("ready")
sys.exit(3)
"""
    with Script(source, tmp_path) as script:
        assert script.line() == "ready"
        assert script.wait(10) == 3
        assert script.errors() == ""
