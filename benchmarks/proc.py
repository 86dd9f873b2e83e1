"""What /proc and psutil say of the processes of a run: memory, descriptors, and who belongs to
whom.

Place in the flow: memory rows read their own driver and its node process; robustness rows find
every process of a program by the mark in its environment, which survives reparenting. Nothing here
speaks to either side.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

MARK = "BENCH_RUN_OF_FREEHOLD"
NODE_NAME, ZYGOTE_NAME, WORKER_NAME = "freehold-node", "freehold-zygote", "freehold-worker"
ARENA = "/memfd:freehold-arena"


def anonymous_bytes(pid: int) -> int:
    """RssAnon: the anonymous memory of a process, without mapped files and shared memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no RssAnon line")


def unique_bytes(pid: int) -> int:
    """USS: the sum of the Private_* lines of smaps_rollup, what would be freed if the process
    ended."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def descriptors(pid: int) -> list[str]:
    """What each descriptor of the process points to, sorted (`socket:[1]`, `/memfd:arena`, a path,
    …)."""
    targets = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            targets.append(os.readlink(entry.path))
        except FileNotFoundError:
            continue  # the descriptor of this very scan
    return sorted(targets)


def node_process(driver_pid: int) -> psutil.Process:
    """Freehold's node process of this driver: its child of that name."""
    return _child_named(psutil.Process(driver_pid), NODE_NAME)


def zygote_process(driver_pid: int) -> psutil.Process:
    """The process that workers are forked from: the node process's child of that name."""
    return _child_named(node_process(driver_pid), ZYGOTE_NAME)


def workers(driver_pid: int) -> list[psutil.Process]:
    """The workers the zygote forked (not what user code in them started)."""
    children = zygote_process(driver_pid).children()
    return [child for child in children if process_name(child.pid) == WORKER_NAME]


def process_name(pid: int) -> str:
    """What the process calls itself (`ps -o comm`); "" if it is gone.

    Command lines do not tell a worker from its zygote: a fork shows its parent's.
    """
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def arena_bytes(pid: int) -> int:
    """Bytes of memory which the store's pages take, in use or free, as the memfd of `pid` has it.

    Raises:
        LookupError: the process has no arena open.
    """
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(entry.path).startswith(ARENA):
                return os.stat(entry.path).st_blocks * 512
        except FileNotFoundError:
            continue  # the descriptor of this very scan
    raise LookupError(f"process {pid} has no {ARENA} open")


def _child_named(parent: psutil.Process, name: str) -> psutil.Process:
    seen = []
    for child in parent.children():
        found = process_name(child.pid)
        if found == name:
            return child
        seen.append(f"{child.pid} {found}")
    raise LookupError(f"process {parent.pid} has no child named {name}; it has: {seen}")


def marked(mark: str) -> list[int]:
    """The pids whose environment carries `mark`, whoever is their parent now. Zombies are not
    counted."""
    wanted = f"{MARK}={mark}".encode()
    pids = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                pids.append(int(entry))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return sorted(pids)


def cpu_seconds(pids: list[int]) -> dict[int, float]:
    """The CPU time that each of the processes has taken so far; those that are gone are left
    out."""
    taken = {}
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        taken[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return taken


def busy_share(mark: str, over_s: float) -> float:
    """CPUs that the processes with the mark took in the next `over_s` seconds (1.0 is one whole
    CPU)."""
    before, started = cpu_seconds(marked(mark)), time.perf_counter()
    time.sleep(over_s)
    after = cpu_seconds(marked(mark))
    taken = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
    return taken / (time.perf_counter() - started)


def alive(pids: list[int]) -> list[int]:
    """Those of `pids` that still run: neither gone nor a zombie that waits for its parent."""
    running = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
        except psutil.Error:
            continue
    return running


def unix_sockets(under: str) -> list[str]:
    """The bound unix sockets whose path is in the folder `under`."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    paths = [line.split()[7] for line in lines if len(line.split()) > 7]
    return sorted(path for path in paths if path.startswith(under))


def seconds_until(done: Callable[[], bool], timeout_s: float) -> float | None:
    """How long until `done()` held, asked every 20 ms; None when it did not within `timeout_s`."""
    started = time.perf_counter()
    while True:
        if done():
            return time.perf_counter() - started
        if time.perf_counter() - started > timeout_s:
            return None
        time.sleep(0.02)
