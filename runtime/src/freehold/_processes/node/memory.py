"""The machine's memory as the object store may use it: how much is left, and touching it ahead.

Place in the flow: `StoreDesk` asks `MemoryReader` before memory may have to be committed and tells
the store machine (`BudgetRead`); it hands `TouchPages` to the `Toucher`, whose thread works beside
the reactor and tells of the end through it. Neither decides anything.

What counts is the tightest of: the limit of this process's cgroup and of every cgroup above it
(version 2 or 1), each less its usage, with file cache that can be dropped counted as free; and the
kernel's own estimate for the whole machine, MemAvailable.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from freehold._core.limits import HEADROOM_BYTES
from freehold._io import clock
from freehold._io.reactor import Reactor
from freehold._io.shm import Arena

READ_MEMORY_S = 0.05
"""Least time between two looks: a look costs some 100 µs, and the machine counts in between."""

TOUCH_NICENESS = 19
"""Touching ahead takes what nobody else wants of the CPUs."""


class _Version(NamedTuple):
    """The names of one version of the memory controller."""

    root: str
    limit: str
    usage: str
    prefix: str


_V2 = _Version("sys/fs/cgroup", "memory.max", "memory.current", "")
_V1 = _Version("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


class MemoryLeft(NamedTuple):
    """What may still be committed, in bytes, and where the figure comes from."""

    budget_bytes: int
    told: str


class MemoryReader:
    """Reads limits and usage.

    Args:
        root: the folder that /proc and /sys are in; tests have their own.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._groups = list(self._find_groups())

    def limit_bytes(self) -> int:
        """Memory of the machine, or the tightest cgroup's limit if that is less."""
        limits = [limit for _, _, limit in self._limited()]
        return min([self._meminfo().get("MemTotal", 0), *limits])

    def left(self) -> MemoryLeft:
        """What is left above the headroom now; negative if it is infringed already."""
        meminfo = self._meminfo()
        available = meminfo.get("MemAvailable", 0)
        headroom = _headroom(meminfo.get("MemTotal", 0))
        told = f"this machine has {available} bytes available"
        found = [MemoryLeft(available - headroom, f"{told} and keeps {headroom} free")]
        for version, folder, limit in self._limited():
            usage = self._number(os.path.join(folder, version.usage)) or 0
            cache = min(self._droppable(version, folder), usage)
            headroom = _headroom(limit)
            told = (
                f"the memory limit of this node's cgroup is {limit} bytes, {usage} are used "
                f"({cache} of it is file cache that can be dropped) and {headroom} are kept free"
            )
            found.append(MemoryLeft(limit - usage + cache - headroom, told))
        return min(found)

    def _find_groups(self) -> Iterable[tuple[_Version, str]]:
        """The folders of this process's cgroup and of those above it, the nearest first."""
        for line in self._read("proc/self/cgroup").splitlines():
            number, controllers, path = [*line.split(":", 2), "", ""][:3]
            if number == "0" and not controllers:
                version = _V2
            elif "memory" in controllers.split(","):
                version = _V1
            else:
                continue
            # In a container the path may be the host's: then only the root is there.
            while True:
                folder = os.path.join(version.root, path.strip("/")).rstrip("/")
                if self._read(os.path.join(folder, version.limit)):
                    yield version, folder
                if path in ("", "/"):
                    break
                path = os.path.dirname(path)

    def _limited(self) -> Iterable[tuple[_Version, str, int]]:
        total = self._meminfo().get("MemTotal", 0)
        for version, folder in self._groups:
            limit = self._number(os.path.join(folder, version.limit))
            if limit is not None and limit < total:
                yield version, folder, limit

    def _droppable(self, version: _Version, folder: str) -> int:
        """File cache that the kernel drops before it kills anybody.

        All of the inactive list; half of the active one, as MemAvailable counts: what was read
        twice is cache too, but part of it is running code.
        """
        figures = {}
        for line in self._read(os.path.join(folder, "memory.stat")).splitlines():
            name, _, value = line.partition(" ")
            if value.isdigit():
                figures[name] = int(value)
        inactive = figures.get(f"{version.prefix}inactive_file", 0)
        return inactive + figures.get(f"{version.prefix}active_file", 0) // 2

    def _meminfo(self) -> dict[str, int]:
        found = {}
        for line in self._read("proc/meminfo").splitlines()[:3]:
            words = line.split()
            if len(words) >= 2 and words[1].isdigit():
                found[words[0].rstrip(":")] = int(words[1]) << 10
        return found

    def _number(self, path: str) -> int | None:
        text = self._read(path).strip()
        return int(text) if text.isdigit() else None

    def _read(self, path: str) -> str:
        try:
            with open(os.path.join(self._root, path), encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""


def _headroom(limit_bytes: int) -> int:
    return min(HEADROOM_BYTES, limit_bytes // 8)


class Toucher:
    """A thread of low priority that touches pages of the arena; started when first needed.

    Args:
        on_end: told offset, length and whether it was done, on the reactor, under its lock.
    """

    def __init__(
        self, reactor: Reactor, arena: Arena, on_end: Callable[[int, int, bool], None]
    ) -> None:
        self._reactor = reactor
        self._arena = arena
        self._on_end = on_end
        self._steps: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def touch(self, offset: int, length: int) -> None:
        """Touch these pages soon."""
        if self._thread is None:
            # A daemon: at the end of the process nothing of what it does matters.
            self._thread = threading.Thread(target=self._run, name="freehold-toucher", daemon=True)
            self._thread.start()
        self._steps.put((offset, length))

    def _run(self) -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), TOUCH_NICENESS)
        except OSError:
            pass  # it touches at the priority of the others
        while True:
            self._touch(*self._steps.get())

    def _touch(self, offset: int, length: int) -> None:
        is_done = True
        try:
            self._arena.touch(offset, length)
        except (OSError, ValueError):
            is_done = False
        with self._reactor.lock:
            self._reactor.call_later(0, lambda: self._on_end(offset, length, is_done))


class MemoryWatch:
    """Paces the looks at memory: at most one every `READ_MEMORY_S`."""

    def __init__(self, reader: MemoryReader) -> None:
        self._reader = reader
        self._read_at = -READ_MEMORY_S

    def left(self, *, is_due: bool = False) -> MemoryLeft | None:
        """What is left, or None if it was looked at just now and no look `is_due`."""
        now = clock.now()
        if not is_due and now - self._read_at < READ_MEMORY_S:
            return None
        self._read_at = now
        return self._reader.left()
