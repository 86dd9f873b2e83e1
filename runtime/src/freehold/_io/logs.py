"""Shows the driver's user what workers wrote: with a prefix, and repetitions once.

Place in the flow: the driver's reactor hands over `LogLines` and must not wait for a slow terminal,
so that `handle` only queues; a thread of its own writes. What outruns the terminal is cut at
`QUEUED_LINES`, and the cut is said.

A line that several workers write within `REPEAT_S` is shown once, then as `[repeated 12x across
cluster]`: one process's repetitions are its own business and are all shown.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from freehold._core.ids import Address
from freehold._core.messages import LogLines

REPEAT_S = 5.0
"""A line seen from another worker within this time is a repetition."""

QUEUED_LINES = 50_000
"""Lines that may wait for a slow terminal."""

QUEUED_BYTES = 16 << 20
"""Characters of them: a line may have 16 KiB."""

_KNOWN_LINES = 1000
_CLOSE_S = 1.0
_CYAN, _YELLOW, _PLAIN = "\033[36m", "\033[33m", "\033[0m"


class _Seen:
    __slots__ = ("count", "first", "prefix", "process", "target")

    def __init__(self, process: Address, prefix: str, target: TextIO, first: float) -> None:
        self.process = process
        self.prefix = prefix
        self.target = target
        self.first = first
        self.count = 0


class Repetitions:
    """Which lines are repetitions of another process's; times are given, never read."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def is_new(self, line: str, process: Address, prefix: str, target: TextIO, now: float) -> bool:
        """Whether to show a line; else it is counted."""
        seen = self._seen.get(line)
        if seen is None or (seen.process == process and not seen.count):
            if len(self._seen) < _KNOWN_LINES:
                self._seen[line] = _Seen(process, prefix, target, now)
            return True
        seen.count += 1
        seen.prefix = prefix
        return False

    def due(self, now: float) -> list[tuple[TextIO, str, str]]:
        """What to say of repetitions by now, as (stream, prefix, text); each is said once."""
        said = []
        for line, seen in list(self._seen.items()):
            if seen.first + REPEAT_S > now:
                break  # in order of their first time
            del self._seen[line]
            if seen.count:
                text = f"{line} [repeated {seen.count}x across cluster]"
                said.append((seen.target, seen.prefix, text))
        return said

    def next_due(self) -> float | None:
        """When `due` should be asked again."""
        for seen in self._seen.values():
            return seen.first + REPEAT_S
        return None


class LogPrinter:
    """Writes workers' lines to the driver's standard output and error.

    Args:
        out, err: the streams; by default what `sys.stdout` and `sys.stderr` are at each line, so
            that a test's capture works.
        clock: seconds of a monotonic clock.

    Example:
        >>> printer = LogPrinter()
        >>> printer.handle(LogLines(Address("a" * 32, 3), 4711, "train", ["epoch 1"]))
        >>> printer.close()
        (train pid=4711) epoch 1
    """

    def __init__(
        self,
        out: TextIO | None = None,
        err: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = out
        self._err = err
        self._clock = clock
        self._queue: deque[LogLines] = deque()
        self._queued = 0
        self._queued_bytes = 0
        self._cut = 0
        self._repetitions = Repetitions()
        self._wake = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def handle(self, lines: LogLines) -> None:
        """Queue lines; returns at once. From one thread at a time (under the reactor's lock)."""
        size = sum(map(len, lines.lines))
        is_full = self._queued + len(lines.lines) > QUEUED_LINES
        if is_full or self._queued_bytes + size > QUEUED_BYTES:
            self._cut += len(lines.lines)
            return
        self._queued += len(lines.lines)
        self._queued_bytes += size
        self._queue.append(lines)
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="freehold-logs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is queued, for a moment at the most."""
        self._is_closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            due = self._repetitions.next_due()
            self._wake.wait(None if due is None else max(0.0, due - self._clock()))
            self._wake.clear()
            is_last = self._is_closing
            self._write_queued()
            now = float("inf") if is_last else self._clock()
            for target, prefix, text in self._repetitions.due(now):
                _write(target, [(prefix, text)])
            if is_last:
                return

    def _write_queued(self) -> None:
        while self._queue:
            lines = self._queue.popleft()
            target = (self._err or sys.stderr) if lines.is_error else (self._out or sys.stdout)
            prefix = f"({lines.name or 'worker'} pid={lines.pid})"
            now = self._clock()
            _write(
                target,
                [
                    (prefix, line)
                    for line in lines.lines
                    if self._repetitions.is_new(line, lines.process, prefix, target, now)
                ],
            )
            self._queued -= len(lines.lines)
            self._queued_bytes -= sum(map(len, lines.lines))
        if self._cut:
            cut, self._cut = self._cut, 0
            text = f"({cut} lines left out: this terminal is slower than the workers)"
            _write(self._err or sys.stderr, [("(freehold)", text)])


def _write(target: TextIO, lines: list[tuple[str, str]]) -> None:
    """Write prefixed lines at once; colour only where a person looks."""
    if not lines:
        return
    try:
        if target.isatty():
            colour = _YELLOW if target is sys.stderr else _CYAN
            text = "".join(f"{colour}{prefix}{_PLAIN} {line}\n" for prefix, line in lines)
        else:
            text = "".join(f"{prefix} {line}\n" for prefix, line in lines)
        target.write(text)
        target.flush()
    except (OSError, ValueError):
        pass  # closed: nobody reads it any more
