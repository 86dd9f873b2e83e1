"""Machines as the tests have them: nodes that `freehold start` starts, all on this one.

They share a session folder, so that their processes reach each other over unix sockets, but join
their head over TLS, as machines do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from freehold._processes.driver.bootstrap import resolve_settings
from freehold._processes.node import record
from freehold._processes.node.record import NodeRecord
from freehold.testing import eventually

STORE_BYTES = 64 << 20


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Machines:
    """Heads and nodes of one test, and the command line to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = str(folder / "state")
        self.port = free_port()
        self._foreground: list[subprocess.Popen[str]] = []

    def variables(self, **more: str) -> dict[str, str]:
        """The environment of a command."""
        return {
            **os.environ,
            "FREEHOLD_STATE_DIR": self.state_dir,
            "FREEHOLD_OBJECT_STORE_MEMORY": str(STORE_BYTES),
            "FREEHOLD_HEALTH_PORT": "0",
            **more,
        }

    def cli(
        self, *words: str, given: str = "", timeout_s: float = 60.0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `freehold …` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "freehold.cli", *words],
            input=given,
            env=self.variables(**variables),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start_head(self, *options: str, **variables: str) -> NodeRecord:
        """A head with one CPU."""
        words = ("start", "--head", "--host", "127.0.0.1", "--port", str(self.port))
        done = self.cli(*words, "--num-cpus", "1", *options, **variables)
        assert done.returncode == 0, done.stderr
        return next(node for node in self.nodes() if node.is_head)

    def start_node(self, *options: str, **variables: str) -> NodeRecord:
        """A node with one CPU that joins it."""
        known = {node.node for node in self.nodes()}
        words = ("start", "--address", "-", "--num-cpus", "1", *options)
        done = self.cli(*words, given=self.join_string(), **variables)
        assert done.returncode == 0, done.stderr
        return next(node for node in self.nodes() if node.node not in known)

    def start_blocking(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """`freehold start --block …`, as a container does; ended by `end`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "freehold.cli", "start", "--block", *words],
            env=self.variables(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._foreground.append(process)
        return process

    def nodes(self) -> list[NodeRecord]:
        """The running nodes, as their records say."""
        return record.find(resolve_settings({}))

    def join_string(self) -> str:
        """What the head printed."""
        return next(node.control.join_string() for node in self.nodes() if node.is_head)

    def status(self) -> dict[str, Any]:
        """The cluster, as `freehold status` has it."""
        done = self.cli("status", "--format", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def states(self) -> dict[str, str]:
        """Node id → state."""
        prefix = "NODE_STATE_"
        return {
            node["id"]: node["state"].removeprefix(prefix).lower()
            for node in self.status()["nodes"]
        }

    def log(self, node: NodeRecord) -> str:
        """What a node's process wrote."""
        return Path(node.log_path).read_text(encoding="utf-8")

    def end(self) -> None:
        """End all, and wait for it."""
        done = self.cli("stop", "--timeout", "10")
        assert done.returncode == 0, done.stderr
        for process in self._foreground:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)


def is_gone(node: NodeRecord) -> bool:
    """Whether a node's process has ended."""
    return not node.is_running


def until_gone(node: NodeRecord) -> None:
    """Wait for a node's end."""
    eventually(lambda: is_gone(node), timeout_s=15.0)
