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
NODE_COMMAND = "freehold._processes.node"
ZYGOTE_COMMAND = "zygote"


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
    """Freehold's node process of this driver: the child that runs the node module."""
    return _child_running(driver_pid, NODE_COMMAND, but_not=ZYGOTE_COMMAND)


def zygote_process(driver_pid: int) -> psutil.Process:
    """The process that workers are forked from. Workers may show its command line: it is their
    parent."""
    return _child_running(driver_pid, ZYGOTE_COMMAND, but_not="")


def workers(driver_pid: int) -> list[psutil.Process]:
    """Every process the zygote forked."""
    return list(zygote_process(driver_pid).children(recursive=True))


def _child_running(driver_pid: int, words: str, *, but_not: str) -> psutil.Process:
    seen = []
    for child in psutil.Process(driver_pid).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.Error:
            continue
        seen.append(f"{child.pid} {command}")
        if words in command and not (but_not and but_not in command):
            return child
    raise LookupError(f"driver {driver_pid} has no child running {words}; it has: {seen}")


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
