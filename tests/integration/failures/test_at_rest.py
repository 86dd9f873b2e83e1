"""After much work and its end: everything that it took is given back, and a second time too."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path
from typing import Any

import psutil
from tests.integration.failures.kit import node_of

import freehold
from freehold.testing import eventually

TASKS, SMALL, LARGE, ACTORS = 20_000, 1_500, 500, 20
GROWTH = 1.1


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote
def busy() -> int:
    """Long enough for a second worker: both then have their connection to the driver."""
    time.sleep(0.3)
    return os.getpid()


@freehold.remote
class Keeper:
    def __init__(self, value: bytes) -> None:
        self.value = value
        self.inner = freehold.put(value)

    def size(self) -> int:
        return len(freehold.get(self.inner))


def batch() -> None:
    """Many of each kind; nothing of them is kept."""
    refs = [freehold.put(number) for number in range(SMALL)]
    assert freehold.get(refs) == list(range(SMALL))
    for _ in range(5):
        refs = [freehold.put(bytes(1 << 20)) for _ in range(LARGE // 5)]
        assert all(len(value) == 1 << 20 for value in freehold.get(refs))
    for _ in range(2):
        actors = [Keeper.options(num_cpus=0).remote(bytes(300_000)) for _ in range(ACTORS // 2)]
        assert freehold.get([actor.size.remote() for actor in actors]) == [300_000] * (ACTORS // 2)
        del actors
    refs = [double.remote(number) for number in range(TASKS)]  # last: two workers are left
    assert freehold.get(refs) == list(range(0, 2 * TASKS, 2))


def anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
    raise AssertionError("no RssAnon")


def workers_of(node: int) -> list[int]:
    descendants = psutil.Process(node).children(recursive=True)
    return [p.pid for p in descendants if p.status() != "zombie" and os.getpgid(p.pid) == p.pid]


def descriptors(pid: int) -> int:
    """How many there are; the arena counts once, of which a process that created has two."""
    paths = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            paths.append(os.readlink(path))
    return len(paths) - max(0, sum("freehold-arena" in path for path in paths) - 1)


def at_rest(node: int) -> dict[str, Any]:
    """What there is once nothing is under way, idle workers have gone and slabs were closed."""
    eventually(lambda: len(set(freehold.get([busy.remote(), busy.remote()]))) == 2)
    gc.collect()
    total = freehold.cluster_resources()
    eventually(lambda: freehold.available_resources() == total, timeout_s=15)
    eventually(lambda: len(workers_of(node)) == 2, timeout_s=15)
    found: dict[str, Any] = {}

    def is_settled() -> bool:
        nonlocal found
        now = {
            "driver": descriptors(os.getpid()),
            "node": descriptors(node),
            "workers": sorted(descriptors(pid) for pid in workers_of(node)),
        }
        if now == found:
            return True
        found = now
        return False

    eventually(is_settled, timeout_s=10, interval_s=0.7)
    return found


def test_a_second_batch_costs_nothing() -> None:
    with freehold.init(num_cpus=2, _system_config={"idle_worker_s": 0.5, "idle_workers": 2}):
        node = node_of(os.getpid())
        batch()
        first = at_rest(node)
        memory = {pid: anonymous_bytes(pid) for pid in (os.getpid(), node)}
        batch()
        assert at_rest(node) == first
        for pid, before in memory.items():
            # The interpreter's own arenas move by a few MiB however little is in them.
            assert anonymous_bytes(pid) <= GROWTH * before + (4 << 20)
        assert anonymous_bytes(node) <= 90 << 20
