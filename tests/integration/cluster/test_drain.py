"""A node that joined over the network drains: asked for by command, and by SIGTERM.

It has a session folder of its own, so that all it says to the head's node goes over TLS, and it is
the first process of its container: what it prints and its exit code are those that a pod shows.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.cluster.kit import Machines

import freehold
from freehold.errors import NodeDiedError
from freehold.testing import eventually

BIG = 300_000
THERE = {"there": 1}

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(machines: Machines) -> Iterator[Start]:
    """Start a head, attach to it, and start nodes that share no folder with it."""
    machines.start_head("--node-name", "first", "--resources", '{"here": 100}')
    folders: list[str] = []

    def start(**variables: str) -> tuple[subprocess.Popen[str], str]:
        known = machines.states()
        folders.append(tempfile.mkdtemp(prefix="fh-"))
        process = machines.start_blocking(
            *("--host", "127.0.0.1", "--num-cpus", "2", "--resources", '{"there": 100}'),
            FREEHOLD_ADDRESS=machines.join_string(),
            FREEHOLD_DIR=folders[-1],
            FREEHOLD_NODE_NAME=f"worker-{len(folders)}",
            **variables,
        )
        assert process.stdout is not None
        assert "freehold: node" in process.stdout.readline()
        (node,) = machines.states().keys() - known.keys()
        eventually(lambda: "there" in freehold.cluster_resources(), timeout_s=10.0)
        return process, node

    with freehold.init("auto", log_to_driver=False):
        yield start
    machines.end()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@freehold.remote(max_retries=0, num_cpus=0, resources=THERE)
def make(number: int) -> Any:
    """A large result, with references to a large and a small object that the worker owns."""
    inside = [freehold.put(np.full(BIG, number, np.uint8)), freehold.put(("small", number))]
    return inside, np.full(BIG, number, np.uint8)


@freehold.remote(max_retries=0, num_cpus=1, resources=THERE)
def work(seconds: float, sign: Path) -> str:
    sign.touch()
    time.sleep(seconds)
    return freehold.get_runtime_context().get_node_id()


def begin_work(seconds: float, folder: Path) -> Any:
    """A task that runs there."""
    sign = folder / f"{time.monotonic_ns()}.began"
    running = work.remote(seconds, sign)
    eventually(sign.exists, timeout_s=30.0)
    return running


def check(made: list[list[Any]]) -> None:
    """All that `make(0)`, `make(1)`, … made is there."""
    for number, (inside, array) in enumerate(made):
        big, small = freehold.get(freehold.get(inside, timeout=30), timeout=30)
        assert (big == number).all()
        assert small == ("small", number)
        assert (freehold.get(array, timeout=30) == number).all()


def make_some() -> list[list[Any]]:
    """Objects that are on the node alone."""
    made = [make.options(num_returns=2).remote(i) for i in range(4)]
    freehold.wait([ref for refs in made for ref in refs], num_returns=8, timeout=30)
    return made


def test_a_node_that_is_drained_by_command(
    machines: Machines, start: Start, tmp_path: Path
) -> None:
    process, node = start()
    made, running = make_some(), begin_work(8.0, tmp_path)
    done = machines.cli("drain", "worker-1", "--message", "kernel update")
    assert done.returncode == 0, done.stderr
    eventually(lambda: machines.states()[node] == "draining", timeout_s=10.0)
    assert freehold.get(running, timeout=30) == node, "what ran there was finished there"
    eventually(lambda: machines.states()[node] == "drained", timeout_s=30.0, interval_s=0.5)
    assert "kernel update" in machines.cli("status").stdout
    assert process.poll() is None, "whoever asked takes it away"
    again = machines.cli("drain", "worker-1")
    assert again.returncode == 0
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "the node ended: it was drained: kernel update" in text
    eventually(lambda: machines.states()[node] == "dead", timeout_s=10.0)
    check(made)


def test_sigterm_drains_and_ends(machines: Machines, start: Start, tmp_path: Path) -> None:
    process, node = start()
    made, running = make_some(), begin_work(8.0, tmp_path)
    process.send_signal(signal.SIGTERM)
    eventually(lambda: machines.states()[node] == "draining", timeout_s=10.0)
    text, _ = process.communicate(timeout=50)
    assert process.returncode == 0, text
    assert "the node ended: it was drained: SIGTERM" in text
    assert "left" not in text
    assert freehold.get(running, timeout=10) == node
    check(made)
    eventually(lambda: machines.states()[node] == "dead", timeout_s=10.0)


def test_its_time_ends_the_drain_and_a_second_sigterm_at_once(
    machines: Machines, start: Start, tmp_path: Path
) -> None:
    slow, _ = start(FREEHOLD_DRAIN_TIMEOUT_S="1.5")
    first = begin_work(60.0, tmp_path)
    slow.send_signal(signal.SIGTERM)
    text, _ = slow.communicate(timeout=20)
    assert slow.returncode == 0
    assert "its time was over with 1 workers left" in text
    with pytest.raises(NodeDiedError):
        freehold.get(first, timeout=20)

    other, node = start()
    second = begin_work(60.0, tmp_path)
    other.send_signal(signal.SIGTERM)
    eventually(lambda: machines.states()[node] == "draining", timeout_s=10.0)
    other.send_signal(signal.SIGTERM)
    text, _ = other.communicate(timeout=10)
    assert other.returncode == 0
    assert "it was asked to end (SIGTERM)" in text
    with pytest.raises(NodeDiedError):
        freehold.get(second, timeout=20)


def test_only_an_idle_node_is_drained_if_that_is_asked(machines: Machines, start: Start) -> None:
    process, node = start()
    inside, array = make.options(num_returns=2).remote(0)
    freehold.wait([inside, array], num_returns=2, timeout=30)
    refused = machines.cli("drain", node[:12], "--if-idle")
    assert refused.returncode == 1
    assert "bytes are kept there that are nowhere else" in refused.stderr
    assert machines.states()[node] == "alive"
    del inside, array
    eventually(
        lambda: machines.cli("drain", node[:12], "--if-idle").returncode == 0,
        timeout_s=30.0,
        interval_s=0.5,
    )
    eventually(lambda: machines.states()[node] == "drained", timeout_s=20.0, interval_s=0.5)
    assert process.poll() is None


def test_stop_does_not_wait_for_a_drain(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    node = machines.start_node("--resources", '{"there": 100}')
    with freehold.init("auto", log_to_driver=False):
        eventually(lambda: "there" in freehold.cluster_resources(), timeout_s=10.0)
        running = begin_work(60.0, tmp_path)
        assert not freehold.wait([running], timeout=0)[0]
    began = time.monotonic()
    done = machines.cli("stop", "--timeout", "20")
    assert done.returncode == 0, done.stderr
    assert f"node {node.node[:8]}" in done.stdout
    assert "killed" not in done.stdout
    assert time.monotonic() - began < 15.0
