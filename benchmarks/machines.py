"""Machines as a benchmark has them: a head and nodes that `freehold start` starts on this one.

Each has a session folder of its own, so that nothing but its ports leads from one to another; they
join over TLS and speak TCP. Started by a row's program in its side process; whatever is left of
them carries the run's mark and is killed by the host.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.model import BenchError

START_S = 60.0
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A running node: its process, its id, its folder, the word to join it with, its metrics."""

    pid: int
    node: str
    folder: Path
    join_string: str
    health_port: int

    def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric by their labels, as /metrics has them."""
        url = f"http://127.0.0.1:{self.health_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return samples(answer.read().decode(), name)


class Machines:
    """The head and the nodes of one round.

    Args:
        folder: an empty one, for all they write.
        store_bytes: of each object store; 0 for the default.
    """

    def __init__(self, folder: Path, store_bytes: int = 0) -> None:
        self._folder = folder
        self._store_bytes = store_bytes
        self._port = free_port()
        self._started: list[Machine] = []

    def start_head(self, num_cpus: int = 0) -> Machine:
        """The head, or the head again, on what the one before it left."""
        words = ["--head", "--port", str(self._port), "--num-cpus", str(num_cpus)]
        return self._start(f"head-{len(self._started)}", words, "")

    def start_node(
        self, head: Machine, *, resources: dict[str, float] | None = None, by_way_of: int = 0
    ) -> Machine:
        """A node of one CPU; `by_way_of` is a port of this machine to reach the head through."""
        word = head.join_string
        if by_way_of:
            word = word.replace(f":{self._port}?", f":{by_way_of}?")
        words = ["--address", "-", "--num-cpus", "1", "--resources", json.dumps(resources or {})]
        return self._start(f"node-{len(self._started)}", words, word)

    def attach(self, api: Any, machine: Machine) -> None:
        """This process becomes a driver of the cluster, on that machine."""
        os.environ["FREEHOLD_DIR"] = str(machine.folder)
        api.init(address="auto")

    @property
    def port(self) -> int:
        """The head's."""
        return self._port

    def kill(self, machine: Machine) -> None:
        """SIGKILL a node's process, and wait until it is gone."""
        self._started.remove(machine)
        os.kill(machine.pid, signal.SIGKILL)
        if not _await_end(machine.pid):
            raise BenchError(f"process {machine.pid} was killed and lives")

    def end(self) -> None:
        """End all at once, the head last."""
        for machine in reversed(self._started):
            if proc.alive([machine.pid]):
                os.kill(machine.pid, signal.SIGUSR1)  # `freehold stop --force`: without a drain
                _await_end(machine.pid)
        self._started.clear()

    def _start(self, name: str, words: Sequence[str], given: str) -> Machine:
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        health_port = free_port()
        variables = {
            "FREEHOLD_DIR": str(folder),
            "FREEHOLD_STATE_DIR": str(self._folder / "state"),
            "FREEHOLD_HEALTH_PORT": str(health_port),
            "FREEHOLD_PEER_PORT": str(free_port()),
            "FREEHOLD_HOST": "127.0.0.1",
        }
        if self._store_bytes:
            variables["FREEHOLD_OBJECT_STORE_MEMORY"] = str(self._store_bytes)
        done = subprocess.run(
            [sys.executable, "-m", "freehold.cli", "start", *words],
            input=given,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"freehold start {words[0]} failed:\n{done.stderr[-2000:]}")
        (path,) = folder.rglob("node.json")
        record = json.loads(path.read_text())
        control = record["control"]
        word = (
            f"freehold://{control['token']}@127.0.0.1:{self._port}?ca={control['ca_sha256']}"
            if "token" in control
            else ""
        )
        machine = Machine(record["pid"], record["node"], folder, word, health_port)
        self._started.append(machine)
        return machine


def _await_end(pid: int) -> bool:
    return proc.seconds_until(lambda: not proc.alive([pid]), STOP_S) is not None


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def samples(text: str, name: str) -> dict[str, float]:
    """The samples of one metric in Prometheus's text, by what stands in their braces."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        key, _, value = line.rpartition(" ")
        base, brace, labels = key.partition("{")
        if base == name:
            found[labels.rstrip("}") if brace else ""] = float(value)
    return found


def await_nodes(api: Any, count: int, timeout_s: float = 30.0) -> None:
    """Until the cluster has that many living nodes."""
    deadline = time.monotonic() + timeout_s
    while sum(node["Alive"] for node in api.nodes()) < count:
        if time.monotonic() > deadline:
            raise BenchError(f"there were no {count} nodes within {timeout_s:g} s")
        time.sleep(0.05)
