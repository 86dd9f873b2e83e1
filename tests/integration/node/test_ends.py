"""Whatever is killed, nothing stays behind: no process, no file. The leak fixture looks too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.node.driving import HERE, Driver, is_alive, start, zygotes

from freehold._io import session
from freehold.errors import FreeholdSystemError, SettingsError
from freehold.testing import eventually

WITHIN_S = 5.0


def sessions() -> list[str]:
    root = Path(os.environ["FREEHOLD_DIR"]) / f"freehold-{os.getuid()}"
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


@pytest.mark.parametrize("worker", ["idle", "spin"])
def test_an_orderly_end_leaves_nothing(worker: str) -> None:
    node = start(worker)
    with Driver(node) as driver:
        pid = driver.lease().pid
    assert node.stop() == 0
    assert not is_alive(pid)
    assert sessions() == []


@pytest.mark.parametrize("worker", ["idle", "spin"])
def test_a_killed_node_process_leaves_nothing(worker: str) -> None:
    node = start(worker)
    with Driver(node) as driver:
        pids = [driver.lease().pid, *zygotes(node)]
        node.kill()
        eventually(lambda: not any(map(is_alive, pids)), WITHIN_S)
        eventually(lambda: sessions() == [], WITHIN_S)


def test_workers_end_although_node_and_zygote_are_killed_at_once() -> None:
    node = start("spin")
    with Driver(node) as driver:
        pids = [driver.lease().pid, *zygotes(node)]
        for pid in (node.pid, *zygotes(node)):
            os.kill(pid, signal.SIGSTOP)
        for pid in (*pids[1:], node.pid):
            os.kill(pid, signal.SIGKILL)
        node.kill()
        eventually(lambda: not any(map(is_alive, pids)), WITHIN_S)
    assert sessions() == [node.cluster]  # nobody was left to delete it
    other = start()
    try:
        eventually(lambda: sessions() == [other.cluster], WITHIN_S)
    finally:
        other.stop()


def test_a_sweep_spares_the_living() -> None:
    node = start()
    try:
        root = os.path.dirname(node.sockets)
        os.mkdir(os.path.join(root, "abandoned"))
        assert session.sweep(root) == ["abandoned"]
        assert sessions() == [node.cluster]
    finally:
        node.stop()


DRIVER = f"""
import sys, os
sys.path.insert(0, {HERE!r})
sys.path.insert(0, os.getcwd())
from tests.integration.node.driving import Driver, start, zygotes
node = start("spin")
driver = Driver(node)
print(node.pid, driver.lease().pid, *zygotes(node), flush=True)
sys.stdin.read()
"""


def test_a_killed_driver_takes_its_cluster_along() -> None:
    command = [sys.executable, "-c", DRIVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        assert len(pids) == 3
        driver.kill()
        driver.wait()
        eventually(lambda: not any(map(is_alive, pids)), WITHIN_S)
        eventually(lambda: sessions() == [], WITHIN_S)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    folder = tmp_path / f"freehold-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="not a folder that only this user can use"):
        start(dir=str(tmp_path))


def test_a_zygote_that_cannot_start_ends_the_node_with_its_words() -> None:
    node = start(preload=["os", "stand_in_that_is_missing.part"])
    node.stop()
    node = start("no_such_function")
    with Driver(node) as driver, pytest.raises(ConnectionError, match="no_such_function"):
        driver.lease()
    node.stop()


def test_a_broken_interpreter_path_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FreeholdSystemError, match="ended at its start"):
        start()
