"""Actors that many tests use, and what tests ask about actors from outside."""

from __future__ import annotations

import os
import signal
from typing import Any

import freehold
from freehold._api import state
from freehold.testing import eventually

THERE = {"there": 0.01}
"""Resources that only the other node has, where there are two."""


@freehold.remote
class Recorder:
    """Keeps what it is told, in the order it was told."""

    def __init__(self, start: Any = None) -> None:
        self.seen: list[Any] = [] if start is None else [start]

    def add(self, item: Any) -> int:
        self.seen.append(item)
        return len(self.seen)

    def all(self) -> list[Any]:
        return self.seen

    def pid(self) -> int:
        return os.getpid()

    def node(self) -> str:
        return freehold.get_runtime_context().get_node_id()

    def fail(self, text: str = "on purpose") -> None:
        raise ValueError(text)

    def die(self, code: int = 3) -> None:
        os._exit(code)

    def leave(self) -> None:
        freehold.actor.exit_actor()

    def was_restarted(self) -> bool:
        return freehold.get_runtime_context().was_current_actor_reconstructed

    def wait_for_file(self, path: str) -> str:
        return wait_for_file(path)


@freehold.remote
class Gate:
    """Opens once: tasks and other actors wait at it. `num_cpus=0` while it runs."""

    def __init__(self) -> None:
        import asyncio

        self._open = asyncio.Event()
        self.waiting = 0

    async def wait(self) -> str:
        self.waiting += 1
        await self._open.wait()
        return "open"

    async def count(self) -> int:
        return self.waiting

    async def open(self) -> None:
        self._open.set()


def wait_for_file(path: str) -> str:
    """Wait until a file is there."""
    eventually(lambda: os.path.exists(path), timeout_s=30)
    return path


@freehold.remote
def after_file(path: str, value: Any) -> Any:
    """`value`, once the file is there: an argument that is slow."""
    wait_for_file(path)
    return value


def actors_alive() -> list[str]:
    """The actors that the control service holds for not dead."""
    core = state.require()
    return [
        f"{info.options.class_name} {info.actor.hex()} {info.state}"
        for info in core.list_actors(None)
        if info.state != "dead"
    ]


def everything_is_free() -> bool:
    """Whether no actor or task holds a resource; copies in a store may stay until evicted."""
    held, total = freehold.available_resources(), freehold.cluster_resources()
    return all(held.get(name) == total[name] for name in total if "memory" not in name)


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_process(pid: int) -> None:
    """SIGKILL, and wait for the end."""
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid), timeout_s=10)
