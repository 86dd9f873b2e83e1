"""SIGKILL of every part, and a storm of signals: what is left, and whether the cluster goes on.

Freehold only. The `prepare_…` programs run in a side process; the `host_program`s kill from outside
and look at /proc and at the session directory, which each round has to itself (FREEHOLD_DIR).
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import proc
from benchmarks.adapter import Bench
from benchmarks.host import Host, SideProcess
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

GONE_S = 5.0
NEVER_S = 1_000.0  # shown when what should have ended did not
LOOK_S = 15.0


class Counter:
    """An actor with a state that shows whether it is still the same one."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def pid(self) -> int:
        return os.getpid()


def spin_in_c(sign: str) -> None:
    """Runs in a worker: says that it runs, then stays in one call of C code for ever."""
    Path(sign).write_text(str(os.getpid()))
    collections.deque(itertools.repeat(None), maxlen=0)


def prepare_cluster(bench: Bench, variant: Variant) -> Sample:
    """A cluster with an actor, objects, and a worker that is in a C loop and hears no signal."""
    del variant
    before = proc.descriptors(os.getpid())
    bench.init(num_cpus=2)
    sign = Path(bench.scratch) / f"spin-{os.getpid()}"
    bench.cache["counter"] = bench.remote(Counter).remote()
    bench.cache["ref"] = bench.api.put(bytes(10_000_000))
    if bench.api.get(bench.cache["counter"].add.remote()) != 1:
        raise BenchError("the actor counts wrongly")
    if bench.api.get(bench.cache["ref"]) != bytes(10_000_000):
        raise BenchError("get returned another value")
    bench.cache["spinner"] = bench.remote(spin_in_c).remote(str(sign))
    if proc.seconds_until(sign.exists, LOOK_S) is None:
        raise BenchError("the task that spins did not start")
    pids = {
        "node": proc.node_process(os.getpid()).pid,
        "zygote": proc.zygote_process(os.getpid()).pid,
        "spinner": int(sign.read_text()),
    }
    return Sample(0.0, {name: float(pid) for name, pid in pids.items()}, notes=json.dumps(before))


def use_after_zygote(bench: Bench, variant: Variant) -> Sample:
    """After the zygote's death: the old actor goes on, and a new worker serves a new one; seconds
    to it."""
    del variant
    started = time.perf_counter()
    fresh = bench.remote(Counter).remote()
    if bench.api.get(fresh.add.remote(), timeout=60) != 1:
        raise BenchError("the new actor counts wrongly")
    elapsed = time.perf_counter() - started
    if bench.api.get(bench.cache["counter"].add.remote(), timeout=60) != 2:
        raise BenchError("the actor lost its state with the zygote")
    if len(bench.api.get(bench.cache["ref"])) != 10_000_000:
        raise BenchError("an object was lost with the zygote")
    return Sample(elapsed, {}, [bench.api.get(fresh.pid.remote(), timeout=60)])


@dataclass(slots=True)
class Victim:
    """A driver with its cluster in a session directory of its own."""

    process: SideProcess
    folder: Path
    node: int
    zygote: int
    descriptors_before: list[str]
    children: list[psutil.Process]

    def others(self) -> list[int]:
        """Every living process of it but the driver: by mark, and those that were its children."""
        marked = proc.alive(proc.marked(self.process.mark))
        known = proc.alive([child.pid for child in self.children if child.is_running()])
        return sorted({*marked, *known} - {self.process.pid})

    def files(self) -> list[str]:
        """Sockets and files of it: what is bound, and what lies in its session directory."""
        found = [str(path) for path in self.folder.rglob("*") if not path.is_dir()]
        clusters = [str(path) for path in self.folder.rglob("*") if _is_cluster(path)]
        return sorted({*found, *clusters, *proc.unix_sockets(str(self.folder))})

    def new_descriptors(self) -> list[str]:
        """Sockets and memory files which the driver holds beyond those it had before `init`."""
        now = collections.Counter(proc.descriptors(self.process.pid))
        more = now - collections.Counter(self.descriptors_before)
        return [target for target in more if target.startswith(("socket:", "/memfd:"))]


@contextlib.contextmanager
def victim(host: Host) -> Iterator[Victim]:
    """A prepared cluster; whatever is left of it is killed at the end."""
    folder = host.scratch / f"session-{time.monotonic_ns()}"
    folder.mkdir(mode=0o700)
    process = host.start("freehold", {"FREEHOLD_DIR": str(folder)})
    try:
        sample = process.round(PREPARE, "plain", host.seconds)
        yield Victim(
            process,
            folder,
            int(sample.metrics["node"]),
            int(sample.metrics["zygote"]),
            json.loads(sample.notes),
            psutil.Process(process.pid).children(recursive=True),
        )
    finally:
        process.kill()


def kill_driver(host: Host) -> Sample:
    """SIGKILL of the driver: seconds until no process, socket or file of it is left."""
    with victim(host) as it:
        it.process.kill_only()
        return _until_gone(lambda: it.others() + it.files())


def kill_node(host: Host) -> Sample:
    """SIGKILL of the node process: the same, and no descriptor of it in the driver, which lives
    on."""
    with victim(host) as it:
        os.kill(it.node, signal.SIGKILL)
        return _until_gone(lambda: it.others() + it.files() + it.new_descriptors())


def kill_zygote(host: Host) -> Sample:
    """SIGKILL of the zygote: seconds until a new worker has served; the living go on."""
    with victim(host) as it:
        os.kill(it.zygote, signal.SIGKILL)
        return it.process.round(USE_AFTER_ZYGOTE, "plain", host.seconds)


def kill_all(host: Host) -> Sample:
    """SIGKILL of all at once: no process is left, and the next `init` sweeps the session
    directory."""
    with victim(host) as it:
        for pid in [*it.others(), it.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        it.process.kill_only()
        sample = _until_gone(it.others)
        old = [path for path in it.folder.rglob("*") if _is_cluster(path)]
        if not old:
            raise BenchError(f"no cluster folder was found in {it.folder}: nothing to sweep")
        again = host.start("freehold", {"FREEHOLD_DIR": str(it.folder)})
        try:
            again.ask(60, do="init", num_cpus=2)
            # A node process sweeps when it has begun, not while its driver waits for it.
            proc.seconds_until(lambda: not any(path.exists() for path in old), GONE_S)
            left = [str(path) for path in old if path.exists()]
            sample.metrics["not_swept"] = float(len(left))
            sample.notes += " ".join(left)
        finally:
            again.end()
        return sample


def _is_cluster(path: Path) -> bool:
    """Whether a path is the folder of a cluster: 12 hex digits."""
    return path.is_dir() and len(path.name) == 12 and not set(path.name) - set("0123456789abcdef")


def _until_gone(left: Any) -> Sample:
    seconds = proc.seconds_until(lambda: not left(), LOOK_S)
    if seconds is None:
        return Sample(NEVER_S, notes=f"left: {left()}")
    return Sample(seconds)


def _kill_row(key: str, title: str, host_program: Any, *more: Bar) -> Row:
    return Row(
        key=key,
        title=title,
        unit="s",
        host_program=host_program,
        where="host",
        sides=("freehold",),
        bars=(Bar("at_most", GONE_S), *more),
        higher_is_better=False,
    )


# Rows that only lend their program to the kills above: run.py does not show them.
PREPARE = Row("prepare_cluster", "", "", program=prepare_cluster, timeout_s=60)
USE_AFTER_ZYGOTE = Row("use_after_zygote", "", "", program=use_after_zygote, timeout_s=120)
LENT = [PREPARE, USE_AFTER_ZYGOTE]

ROWS = [
    _kill_row("kill_driver", "SIGKILL of the driver: nothing left after", kill_driver),
    _kill_row("kill_node", "SIGKILL of the node process: nothing left after", kill_node),
    _kill_row("kill_zygote", "SIGKILL of the zygote: a new worker after", kill_zygote),
    _kill_row(
        "kill_all",
        "SIGKILL of all at once: no process after",
        kill_all,
        Bar("at_most", 0, metric="not_swept", label="folders the next init leaves"),
    ),
]
