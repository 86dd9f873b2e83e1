"""The one place where a benchmark program meets its side: Freehold or Ray, loaded under one
interface.

Place in the flow: `side.py` makes a `Bench` in the side's own process and hands it to a row's
program. The programs use `bench.api` alone, which is the module `freehold` or `ray`; what differs
between the two (how a benchmark starts them fairly, how the node's process is found) is in here and
nowhere else. It deliberately wraps no call that is measured: `bench.api.get` is the side's own
function.
"""

from __future__ import annotations

import importlib
import os
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from benchmarks.model import PAYLOAD_BYTES, BenchError, SideName

_HEAD = struct.Struct("<QI")
_PAD = bytes(range(256)) * 4
# A pid is below 2**22 on Linux, so a call's number and the pid that ran it share one small int.
PID_BITS = 22


@dataclass(slots=True)
class Bench:
    """What a program gets: the side's module, the length of a round, and a place for what rounds
    share."""

    side: SideName
    api: Any = None
    seconds: float = 1.0
    scratch: str = ""
    cache: dict[str, Any] = field(default_factory=dict)
    cluster: Any = None
    """What `init_two_nodes` started."""

    def init(self, num_cpus: int) -> None:
        """Start the side under its default settings, with nothing that serves a human (Ray's
        dashboard)."""
        if self.api is None:
            self.api = load(self.side)
        if self.side == "ray":
            self.api.init(num_cpus=num_cpus, include_dashboard=False)
        else:
            self.api.init(num_cpus=num_cpus)

    def init_two_nodes(self, store_bytes: int, *, tls: bool) -> None:
        """Two nodes on this machine that speak TCP; the second has the resource "far".

        Freehold's stores keep what was touched, so that rounds behind the first write to warm
        memory, as Ray's do in any case.
        """
        if self.api is None:
            self.api = load(self.side)
        if self.side == "ray":
            from ray.cluster_utils import Cluster

            sizes = {"num_cpus": 2, "object_store_memory": store_bytes}
            self.cluster = Cluster(initialize_head=True, head_node_args=sizes)
            self.cluster.add_node(resources={"far": 100}, **sizes)
            self.api.init(address=self.cluster.address)
        else:
            from freehold.testing import LocalCluster

            self.cluster = LocalCluster(
                nodes=2,
                num_cpus=2,
                resources=[{}, {"far": 100}],
                network="tcp",
                tls=tls,
                object_store_memory=store_bytes,
                touched_free_bytes=store_bytes,
                replica_keep_s=0.1,
            )

    def shutdown(self) -> None:
        if self.cluster is None or self.side == "ray":
            self.api.shutdown()
        if self.cluster is not None:
            self.cluster.shutdown()

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """What `make` returns, made in the first round that asks and kept for the later ones."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def remote(self, function: Callable[..., Any] | type, **options: Any) -> Any:
        """`api.remote(function)`, declared once a process as a user's module does."""
        name = f"remote:{function.__module__}.{function.__qualname__}:{sorted(options.items())}"
        if options:
            return self.once(name, lambda: self.api.remote(**options)(function))
        return self.once(name, lambda: self.api.remote(function))


def load(side: SideName) -> ModuleType:
    """The side's module, imported now (import time is part of a row)."""
    return importlib.import_module(side)


def repeat(seconds: float, chunk: Callable[[], int]) -> tuple[int, float]:
    """Run `chunk` (which says how many calls it made) until `seconds` have passed; calls and
    seconds taken."""
    calls = 0
    started = time.perf_counter()
    while True:
        calls += chunk()
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return calls, elapsed


def payload(number: int) -> bytes:
    """An argument of exactly 1 KiB that carries `number`, so that no two calls have the same."""
    return _HEAD.pack(number, 0) + _PAD[_HEAD.size :]


def payload_number(value: bytes) -> int:
    if len(value) != PAYLOAD_BYTES or value[_HEAD.size :] != _PAD[_HEAD.size :]:
        raise BenchError(f"a 1 KiB value arrived damaged: {len(value)} bytes")
    return int(_HEAD.unpack_from(value)[0])


def result_payload() -> bytes:
    """A result of exactly 1 KiB that carries the pid of the process that made it."""
    return _HEAD.pack(0, os.getpid()) + _PAD[_HEAD.size :]


def result_pid(value: bytes) -> int:
    payload_number(value)
    return int(_HEAD.unpack_from(value)[1])


def foreign_pids(pids: Sequence[int]) -> list[int]:
    """The distinct pids that tasks ran in, none of them this process's own."""
    seen = sorted(set(pids))
    if not seen:
        raise BenchError("no task reported the process it ran in")
    if os.getpid() in seen:
        raise BenchError(f"a task ran in the driver's own process {os.getpid()}")
    if seen[0] <= 1:
        raise BenchError(f"a task reported {seen[0]} as its process id")
    return seen
