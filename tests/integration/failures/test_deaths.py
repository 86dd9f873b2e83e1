"""SIGKILL of anything: what is left behind, what goes on, and what the driver is told."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.failures.kit import (
    WITHIN_S,
    Script,
    family,
    gone,
    is_alive,
    node_of,
    nothing_left,
    sessions,
    zygotes_of,
)

import freehold
from freehold.exceptions import ClusterDiedError, FreeholdError
from freehold.testing import LocalCluster, eventually

BUSY_DRIVER = """
import subprocess
freehold.init(num_cpus=4)
folder = sys.argv[0] + ".d"
os.mkdir(folder)

def note(name):
    open(f"{folder}/{name}-{os.getpid()}", "w").close()

@freehold.remote
def c_loop():
    note("loop")
    sum(range(10**12))

@freehold.remote
def hashing():
    import hashlib
    note("hash")
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 10**9)

@freehold.remote
def with_child():
    child = subprocess.Popen(["sleep", "600"])
    note("child")
    child.wait()

@freehold.remote
class Keeper:
    def __init__(self):
        self.child = subprocess.Popen(["sleep", "600"])
    def pid(self):
        return os.getpid()

keepers = [Keeper.remote() for _ in range(2)]
freehold.get([k.pid.remote() for k in keepers])
refs = [c_loop.remote(), hashing.remote(), with_child.remote()]
big = freehold.put(bytes(10 << 20))
while len(os.listdir(folder)) < 3:
    time.sleep(0.01)
say("busy")
sys.stdin.readline()
"""


def pids_of(script: Script) -> list[int]:
    """Everything that a busy driver has started: node, zygote, ≥ 5 workers, 3 `sleep`s."""
    pids = family(script.pid)
    assert len(pids) >= 10
    return pids


@pytest.mark.parametrize("victim", ["driver", "node"])
def test_nothing_is_left_after_a_kill(victim: str, tmp_path: Path) -> None:
    with Script(BUSY_DRIVER, tmp_path) as script:
        assert script.line() == "busy"
        pids = pids_of(script)
        os.kill(script.pid if victim == "driver" else node_of(script.pid), signal.SIGKILL)
        if victim == "driver":
            script.wait()
        nothing_left(pids)
        if victim == "node":
            script.tell()
            script.wait()


def test_nothing_is_left_when_all_are_killed_at_once(tmp_path: Path) -> None:
    with Script(BUSY_DRIVER, tmp_path) as script:
        assert script.line() == "busy"
        pids = pids_of(script)
        node = node_of(script.pid)
        chiefs = [script.pid, node, *zygotes_of(node)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in chiefs:
                os.kill(pid, number)
        script.wait()
        gone(pids)
    left = sessions()
    assert len(left) == 1  # nobody was left to delete it
    with freehold.init(num_cpus=1):
        eventually(lambda: left[0] not in sessions(), timeout_s=WITHIN_S)
    assert sessions() == []


@freehold.remote
def pid_here() -> int:
    return os.getpid()


@freehold.remote
def sleep_until(path: str) -> int:
    eventually(lambda: os.path.exists(path), timeout_s=30)
    return os.getpid()


@freehold.remote
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def pid(self) -> int:
        return os.getpid()


def test_a_killed_zygote_stops_nothing(tmp_path: Path) -> None:
    with freehold.init(num_cpus=2):
        counter = Counter.remote()
        assert freehold.get(counter.add.remote()) == 1
        path = str(tmp_path / "go")
        running = sleep_until.remote(path)
        assert isinstance(freehold.get(pid_here.remote()), int)
        node = node_of(os.getpid())
        old = zygotes_of(node)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        # Enough blocked tasks that the workers there are do not suffice.
        more = [sleep_until.options(num_cpus=0).remote(path) for _ in range(6)]
        assert freehold.get(counter.add.remote()) == 2
        fresh = Counter.options(num_cpus=0).remote()
        assert freehold.get(fresh.add.remote(), timeout=WITHIN_S) == 1
        assert time.monotonic() - started < WITHIN_S
        Path(path).touch()
        assert is_alive(freehold.get(running))
        assert len(set(freehold.get(more))) == 6
        assert not set(zygotes_of(node)) & set(old)


def every_call(ref: Any, pending: Any, actor: Any) -> list[Any]:
    return [
        lambda: freehold.get(pid_here.remote(), timeout=5),
        lambda: freehold.get(pending, timeout=5),
        lambda: freehold.put(1),
        lambda: freehold.put(bytes(1 << 20)),
        lambda: freehold.get(actor.pid.remote(), timeout=5),
        lambda: freehold.nodes(),
        lambda: freehold.cluster_resources(),
        lambda: freehold.get_actor("nobody"),
        lambda: freehold.kill(actor),
        lambda: freehold.cancel(pending),
        lambda: freehold.wait([pid_here.remote(), ref]),
        lambda: Counter.remote(),
    ]


def test_a_dead_cluster_is_told_by_every_call_and_can_be_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        freehold.init(num_cpus=2)
        actor = Counter.remote()
        freehold.get(actor.pid.remote())
        ref = freehold.put(1)
        pending = sleep_until.remote(str(tmp_path / "never"))
        told: list[BaseException] = []

        def wait_in_thread(pending: Any = pending, told: list[BaseException] = told) -> None:
            try:
                freehold.get(pending)
            except FreeholdError as failure:
                told.append(failure)

        threads = [threading.Thread(target=wait_in_thread) for _ in range(3)]
        for thread in threads:
            thread.start()
        pids = family(os.getpid())
        os.kill(node_of(os.getpid()), signal.SIGKILL)
        with pytest.raises(ClusterDiedError, match=r"call shutdown\(\) and init\(\) again"):
            freehold.get(pending, timeout=WITHIN_S)
        for thread in threads:
            thread.join(WITHIN_S)
        assert [type(error) for error in told] == [ClusterDiedError] * 3
        for call in every_call(ref, pending, actor):
            with pytest.raises(ClusterDiedError, match=r"call shutdown\(\) and init\(\) again"):
                call()
        assert freehold.get(ref) == 1  # what this process holds itself it still has
        with pytest.raises(RuntimeError, match="shutdown"):
            freehold.init()
        nothing_left(pids)
        freehold.shutdown()
        del actor, ref, pending
    with freehold.init(num_cpus=1):
        assert freehold.get(pid_here.remote()) != os.getpid()


def test_node_one_is_only_a_node(tmp_path: Path) -> None:
    with LocalCluster(nodes=2, num_cpus=2, resources=[{"near": 9}, {"far": 9}]) as cluster:
        there = Counter.options(num_cpus=0, resources={"far": 1}, max_restarts=0).remote()
        freehold.get(there.add.remote())
        here = Counter.options(num_cpus=0, resources={"near": 1}).remote()
        freehold.get(here.add.remote())
        path = str(tmp_path / "go")
        moved = sleep_until.options(resources={"far": 0.1}, max_retries=0).remote(path)
        waiting = sleep_until.options(resources={"near": 0.1}).remote(path)
        node = cluster.nodes[1]
        assert is_alive(freehold.get(pid_here.options(resources={"far": 0.1}).remote()))
        children = family(node.pid)
        assert children
        cluster.kill_node(1)
        gone(children)
        with pytest.raises(FreeholdError, match="node"):
            freehold.get(moved, timeout=WITHIN_S)
        with pytest.raises(FreeholdError):
            freehold.get(there.add.remote(), timeout=WITHIN_S)
        assert freehold.get(here.add.remote()) == 2
        Path(path).touch()
        assert is_alive(freehold.get(waiting))
        folder = Path(node.sockets) / node.node[:8]
        eventually(lambda: not folder.exists(), timeout_s=WITHIN_S)
        cluster.add_node(resources={"far": 1})
        assert is_alive(freehold.get(pid_here.options(resources={"far": 0.1}).remote()))


def own_state() -> tuple[int, int, int]:
    process = psutil.Process()
    memfds = sum("memfd:" in os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors())
    return len(descriptors()), process.num_threads(), memfds


def descriptors() -> list[str]:
    names = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own
        names.append(name)
    return names


def maps_of_arena() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:")


@pytest.mark.timeout(300)
def test_twenty_clusters_one_after_another_leak_nothing() -> None:
    states = []
    threads = psutil.Process().num_threads()
    for cycle in range(20):
        freehold.init(num_cpus=1, object_store_memory=32 << 20)
        ref = freehold.put(bytes(1 << 20))
        assert len(freehold.get(ref)) == 1 << 20
        assert freehold.get(pid_here.remote()) != os.getpid()
        if cycle % 5 == 4:
            os.kill(node_of(os.getpid()), signal.SIGKILL)
            with pytest.raises(ClusterDiedError):
                freehold.get(sleep_until.remote("/never"), timeout=WITHIN_S)
        del ref
        freehold.shutdown()
        # A joined thread is the kernel's for a moment longer.
        eventually(lambda: psutil.Process().num_threads() == threads, timeout_s=2)
        states.append((*own_state(), maps_of_arena()))
    assert set(states[1:]) == {states[1]}


@pytest.mark.parametrize("who", ["worker", "node"])
def test_a_stopped_process_goes_on_where_it_was(who: str) -> None:
    with freehold.init(num_cpus=1):
        counter = Counter.options(num_cpus=0).remote()
        pid = freehold.get(counter.pid.remote())
        victim = pid if who == "worker" else node_of(os.getpid())
        os.kill(victim, signal.SIGSTOP)
        try:
            eventually(lambda: psutil.Process(victim).status() == psutil.STATUS_STOPPED)
            refs = [counter.add.remote() for _ in range(100)]
            late = pid_here.options(resources={}).remote()
            if who == "worker":
                ready, _ = freehold.wait(refs, timeout=0.3)
                assert not ready
            else:  # the node is not on the way of an actor's calls
                assert freehold.get(refs, timeout=10) == list(range(1, 101))
        finally:
            os.kill(victim, signal.SIGCONT)
        assert freehold.get(refs, timeout=10) == list(range(1, 101))
        assert is_alive(freehold.get(late, timeout=10))


def test_a_driver_killed_while_its_node_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    with Script(BUSY_DRIVER, tmp_path) as script:
        assert script.line() == "busy"
        pids = pids_of(script)
        node = node_of(script.pid)
        os.kill(node, signal.SIGSTOP)
        script.kill()
        script.wait()
        os.kill(node, signal.SIGCONT)
        nothing_left(pids)
