"""Drivers of their own to be killed, and what may be left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil

from freehold.testing import eventually

WITHIN_S = 5.0
"""What the runtime promises after any SIGKILL."""


class Script:
    """A Python program in a process group of its own, spoken to line by line.

    The program has `freehold`, `os`, `sys`, `time` and `say(*words)` at hand.
    """

    def __init__(self, source: str, tmp_path: Path) -> None:
        head = (
            "import os, signal, sys, time, threading\n"
            "import freehold\n"
            "def say(*words):\n"
            "    print(*words, flush=True)\n"
        )
        path = tmp_path / "program.py"
        path.write_text(head + textwrap.dedent(source), encoding="utf-8")
        self._errors = (tmp_path / "stderr").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """Its next line; the end of its output is a failure."""
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            raise AssertionError(f"the program ended: {self.errors()}")
        return text.strip()

    def numbers(self) -> list[int]:
        return [int(word) for word in self.line().split()]

    def tell(self, text: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 20.0) -> int:
        return self.process.wait(timeout_s)

    def rest(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def errors(self) -> str:
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def __enter__(self) -> Script:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            assert stream is not None
            stream.close()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """All living descendants of a process."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def node_of(driver: int) -> int:
    """The node process that a driver started."""
    for child in psutil.Process(driver).children():
        if is_alive(child.pid) and any("freehold node process" in word for word in child.cmdline()):
            return child.pid
    raise AssertionError(f"driver {driver} has no node process")


def zygotes_of(node: int) -> list[int]:
    """A node's zygotes; taken-over workers lead a group each, zygotes do not."""
    children = psutil.Process(node).children()
    return [c.pid for c in children if is_alive(c.pid) and os.getpgid(c.pid) == os.getpgid(node)]


def sessions() -> list[str]:
    """The folders of clusters that are there."""
    root = Path(os.environ["FREEHOLD_DIR"]) / f"freehold-{os.getuid()}"
    return sorted(path.name for path in root.iterdir()) if root.is_dir() else []


def gone(pids: Iterable[int]) -> None:
    """Wait until none of them is alive, for as long as the runtime promises."""
    wanted = list(pids)
    eventually(lambda: not any(map(is_alive, wanted)), timeout_s=WITHIN_S)


def nothing_left(pids: Iterable[int]) -> None:
    """Wait until no process and no folder is left."""
    gone(pids)
    eventually(lambda: sessions() == [], timeout_s=WITHIN_S)
