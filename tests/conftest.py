"""What every test gets: its own session directory, hypothesis profiles, a look for leaks.

A test must leave no process, no file descriptor, no `/dev/shm` entry and nothing in the session
directory behind. The look is after each test; a module whose tests share a cluster says `pytestmark
= pytest.mark.module_cluster` and is looked at once, when the last of its fixtures is gone. What
leaked is reported by name and then removed, so that one leak does not fail every test after it.

Processes are known by an environment variable that all descendants inherit, so an orphan is found
too, and other test runs on the same machine are not mistaken for leaks.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

# Not FREEHOLD_…: an unknown key under that prefix is an error in the settings.
RUN_VARIABLE = "PYTEST_RUN_OF_FREEHOLD"
RUN_TOKEN = secrets.token_hex(8)

# What the runtime promises after a SIGKILL of a driver or node process, plus slack for two busy
# cores.
LEAK_GRACE_S = 6.0

# Kept open by others for good reason: the standard library's random source, multiprocessing's
# tracker.
LASTING_FILES = ("/dev/urandom", "/dev/random")
LASTING_COMMANDS = (
    "multiprocessing.resource_tracker",
    "multiprocessing.forkserver",
    # tests/api's control plane is the session's, and an outage there starts one of them anew.
    "/etcd --",
    "/kube-apiserver --",
    "/kube-controller-manager --",
)
# Another program's segments, seen when the benchmark runs beside the tests.
FOREIGN_SEGMENTS = ("plasma", "ray", "freehold-bench-")

# How long an example takes says nothing on a machine whose two cores others use, too: no deadline
# and no check of how fast data is drawn, for any test. What takes too long meets pytest's timeout.
_PATIENT: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("dev", **_PATIENT)
# CI draws the same examples every time: a submission must not fail by luck. `make sim` is the place
# for luck.
hypothesis.settings.register_profile("ci", **_PATIENT, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def _session_root() -> Path:
    return Path(os.environ["FREEHOLD_DIR"])


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a short session directory: a unix socket's path has 107 bytes."""
    os.environ[RUN_VARIABLE] = RUN_TOKEN
    os.environ["FREEHOLD_DIR"] = tempfile.mkdtemp(prefix="fh-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(_session_root(), ignore_errors=True)


class ProcessWatch:
    """Finds the living processes of this run; remembers strange pids, so that a look is cheap."""

    def __init__(self) -> None:
        self._strangers: set[int] = {os.getpid()}

    def processes(self) -> list[psutil.Process]:
        """The children of this process, and every process that inherited the run's token."""
        found: dict[int, psutil.Process] = {}
        for child in psutil.Process().children(recursive=True):
            found[child.pid] = child
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._strangers &= pids
        for pid in pids - self._strangers - found.keys():
            if self._carries_token(pid):
                found[pid] = psutil.Process(pid)
            else:
                self._strangers.add(pid)
        return [process for process in found.values() if not self._is_lasting(process)]

    @staticmethod
    def _carries_token(pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{RUN_VARIABLE}={RUN_TOKEN}".encode() in environment.split(b"\0")

    @staticmethod
    def _is_lasting(process: psutil.Process) -> bool:
        try:
            command = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            return True
        return any(name in command for name in LASTING_COMMANDS)


@dataclass(frozen=True)
class Belongings:
    """What this run holds at one moment."""

    processes: dict[tuple[int, float], str]
    descriptors: Counter[str]
    segments: frozenset[str]
    session_entries: frozenset[str]

    def leaks_since(self, before: Belongings) -> list[str]:
        """One line for each thing that is here now and was not before."""
        found = [
            f"process {key[0]}: {text}"
            for key, text in self.processes.items()
            if key not in before.processes
        ]
        found += [
            f"file descriptor to {target} (×{n})"
            for target, n in (self.descriptors - before.descriptors).items()
        ]
        found += [f"/dev/shm/{name}" for name in sorted(self.segments - before.segments)]
        new = self.session_entries - before.session_entries
        return found + [f"session directory entry {name}" for name in sorted(new)]


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.status()} (parent {process.ppid()}): {' '.join(process.cmdline())[:200]}"
    except psutil.NoSuchProcess:
        return "ended meanwhile"


def _descriptors() -> Counter[str]:
    """Open descriptors by what they point to; a socket or pipe carries its number in that."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
        if target not in LASTING_FILES and not target.startswith("/proc/"):
            found[target] += 1
    return found


def _session_entries() -> frozenset[str]:
    """Everything under the session directory but the root folder of this user, which may stay."""
    root = _session_root()
    per_user = root / f"freehold-{os.getuid()}"
    # `os.walk` and not `rglob`: a folder that goes away meanwhile is no error, and not left.
    found = (Path(at) / name for at, dirs, files in os.walk(root) for name in (*dirs, *files))
    paths = {str(path.relative_to(root)) for path in found if path != per_user}
    return frozenset(paths)


def _segments() -> frozenset[str]:
    if not os.path.isdir("/dev/shm"):
        return frozenset()
    names = os.listdir("/dev/shm")
    return frozenset(name for name in names if not name.startswith(FOREIGN_SEGMENTS))


WATCH = ProcessWatch()


def _belongings() -> Belongings:
    processes: dict[tuple[int, float], str] = {}
    for process in WATCH.processes():
        try:
            processes[(process.pid, process.create_time())] = _describe(process)
        except psutil.NoSuchProcess:
            continue
    return Belongings(processes, _descriptors(), _segments(), _session_entries())


def _remove(now: Belongings, before: Belongings) -> None:
    """End and delete what leaked, so that the next test starts clean."""
    if "freehold" in sys.modules:  # or every test after this one is told that it is initialized
        sys.modules["freehold"].shutdown()
    for pid, started in now.processes.keys() - before.processes.keys():
        try:
            process = psutil.Process(pid)
            if process.create_time() == started:
                process.send_signal(signal.SIGKILL)
                process.wait(2)
        except (psutil.NoSuchProcess, psutil.TimeoutExpired):
            continue
    for name in now.session_entries - before.session_entries:
        path = _session_root() / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _fail_on_leaks(before: Belongings) -> None:
    """Wait up to the grace for everything new to go; fail with a list of what did not."""
    now = _belongings()
    if not now.leaks_since(before):
        return
    gc.collect()
    deadline = time.monotonic() + LEAK_GRACE_S
    pause_s = 0.005
    while (now := _belongings()).leaks_since(before) and time.monotonic() < deadline:
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.2)
        if pause_s == 0.2:
            gc.collect()
    leaks = now.leaks_since(before)
    if leaks:
        _remove(now, before)
        pytest.fail(
            f"left behind after {LEAK_GRACE_S:g} s:\n  " + "\n  ".join(leaks), pytrace=False
        )


@pytest.fixture(scope="module", autouse=True)
def _module_leaves_nothing() -> Iterator[None]:
    """The look at the end of a module, after its own fixtures are gone."""
    before = _belongings()
    yield
    _fail_on_leaks(before)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """The look after each test; left to the module's end where a cluster is shared."""
    if request.node.get_closest_marker("module_cluster") is not None:
        yield
        return
    before = _belongings()
    yield
    _fail_on_leaks(before)
