"""Workers of one node: they come, they are heard, and however they end it is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from tests.integration.node.driving import Driver, is_alive, start, zygotes

from freehold._core import messages as m
from freehold.testing import eventually


@contextmanager
def driven(worker: str = "idle", **settings: Any) -> Iterator[Driver]:
    node = start(worker, **settings)
    try:
        with Driver(node) as driver:
            yield driver
    finally:
        node.stop()


def test_a_lease_is_granted_and_the_arena_comes_along() -> None:
    with driven() as driver:
        granted = driver.lease()
        assert granted.worker.node == driver.node.node
        assert is_alive(granted.pid)
        assert os.fstat(driver.fds[0]).st_size == driver.registered.arena_bytes == 16 << 20
        assert driver.registered.total["CPU"] == 20_000


def test_a_killed_worker_is_told_with_its_signal() -> None:
    with driven() as driver:
        granted = driver.lease()
        os.kill(granted.pid, signal.SIGSEGV)
        revoked = driver.await_message(m.LeaseRevoked)
        assert revoked.lease == granted.lease
        assert revoked.cause.signal == signal.SIGSEGV
        died = driver.await_message(m.ProcessDied)
        assert died.address == granted.worker


def test_an_exit_is_told_with_its_code_and_last_lines() -> None:
    with driven("leave", prestart_workers=0) as driver:
        granted = driver.lease()
        driver.send(m.TaskEventsWanted(1))  # any message ends this stand-in
        died = driver.await_message(m.ProcessDied, address=granted.worker)
        assert (died.cause.code, died.cause.signal) == (3, None)
        assert died.cause.log == ["last words"]
        assert driver.await_message(m.TaskEvents).is_last  # who died is not waited for


def test_a_worker_that_cannot_start_is_told_with_its_traceback() -> None:
    with driven("fail") as driver:
        driver.send(m.LeaseDemand(0, (("CPU", 10_000),), "", 1, 1))
        failed = driver.await_message(m.EnvFailed, 15.0)
        assert "fails on purpose" in failed.reason
        assert "exited with code 1" in failed.reason


def test_output_reaches_the_driver() -> None:
    with driven("talk", prestart_workers=0) as driver:
        granted = driver.lease()
        lines = driver.await_message(m.LogLines, is_error=False)
        assert lines.lines == ["a line to standard output"]
        assert (lines.process, lines.pid) == (granted.worker, granted.pid)
        assert driver.lines(is_error=True) == ["a line to standard error"]


def test_a_worker_inherits_nothing_but_its_own() -> None:
    with driven("tell", prestart_workers=0) as driver:
        driver.lease()
        first, second = driver.lines()
        assert "threads=None" in first or "OMP_NUM_THREADS" in os.environ
        count = len(second.split(","))
        assert count <= 6  # three streams, the arena, the guard, the pipe's twin


def test_a_zygote_is_replaced_and_living_workers_go_on() -> None:
    with driven() as driver:
        first = driver.lease()
        (zygote,) = zygotes(driver.node)
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: zygotes(driver.node) not in ([], [zygote]))
        driver.send(m.ReturnLease(first.lease, kill=True))
        died = driver.await_message(m.ProcessDied, address=first.worker)
        assert died.cause.signal == signal.SIGKILL  # reaped by the node manager itself
        granted = [driver.lease(wanted=3), driver.await_message(m.LeaseGranted, 5.0)]
        assert all(is_alive(lease.pid) for lease in granted)
        new = [g.pid for g in granted if psutil.Process(g.pid).ppid() != driver.node.pid]
        assert new  # at least one of them was forked by the new zygote


def test_an_orphaned_workers_crash_is_told() -> None:
    with driven() as driver:
        granted = driver.lease()
        (zygote,) = zygotes(driver.node)
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: zygote not in zygotes(driver.node))
        assert is_alive(granted.pid)
        os.kill(granted.pid, signal.SIGABRT)
        died = driver.await_message(m.ProcessDied, address=granted.worker)
        assert died.cause.signal == signal.SIGABRT


def test_an_environment_has_a_zygote_of_its_own(tmp_path: Any) -> None:
    with driven("tell", prestart_workers=0) as driver:
        folder = str(tmp_path.resolve())
        driver.send(m.PrepareEnv(m.Environment("blue", {"COLOUR": "blue"}, working_dir=folder)))
        driver.lease(env="blue")
        lines = driver.lines()
        assert f"COLOUR=blue cwd={folder}" in lines[0]
        assert len(zygotes(driver.node)) == 2
        driver.lease(key=1)
        assert "COLOUR=None" in driver.lines()[0]


def test_an_environment_that_cannot_be_entered_is_told() -> None:
    with driven() as driver:
        driver.send(m.PrepareEnv(m.Environment("bad", {}, working_dir="/does/not/exist")))
        driver.send(m.LeaseDemand(0, (("CPU", 10_000),), "bad", 1, 1))
        failed = driver.await_message(m.EnvFailed, 15.0)
        assert failed.env == "bad"
        assert "/does/not/exist" in failed.reason


def test_a_segment_is_granted() -> None:
    with driven() as driver:
        driver.send(m.CreateSegment(7, 100_000))
        granted = driver.await_message(m.SegmentGranted)
        assert (granted.request, granted.size) == (7, 102_400)
        driver.send(m.CreateSegment(8, 1 << 40))
        assert driver.await_message(m.SegmentRefused).request == 8


def test_the_node_stays_small() -> None:
    with driven() as driver:
        granted = driver.lease()
        assert anonymous_bytes(driver.node.pid) < 40 << 20
        assert anonymous_bytes(granted.pid) < 60 << 20


def anonymous_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("RssAnon"):
                return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")
