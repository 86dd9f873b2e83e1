"""A driver's courtesy to its user's other threads: it measures waits, and gives way in them.

The decision is `_core.pacing`. The reactor calls `on_wait` at each wait of a user's thread. While
somebody competes for the interpreter (`is_contended`) it polls through `poll`, connections send and
receive without letting go of the interpreter (`_io.quick_socket`), and the background thread naps
longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from freehold._core.pacing import Pacer, Window
from freehold._io.signals import interruptible

WAITS = 16
"""Waits a window: looking at the clocks takes 3 µs."""

MOMENT_S = 0.0002
"""Enough for another thread to wake up and take the interpreter."""


class Pacing:
    """Measures one reactor's waits; everything but `poll` under its lock.

    Args:
        set_interval: sets the interpreter's switch interval, if that is ours to set.
    """

    def __init__(self, set_interval: Callable[[float], None]) -> None:
        self.is_contended = False
        self._pacer = Pacer()
        self._set_interval = set_interval
        self._thread = 0
        self._waits = 0
        self._began = (0.0, 0.0, 0.0)
        self._late = 0

    def on_wait(self, thread: int) -> None:
        """A user's thread begins to wait."""
        if thread != self._thread:
            # Several threads wait: none of them alone can say what it costs the others.
            self._thread = thread
            self._waits = 0
            if self.is_contended:
                self._pacer.stop()
                self._apply()
        self._waits += 1
        if self._waits == 1:
            self._begin()
        elif self._waits > WAITS:
            self._look()

    def on_idle(self) -> None:
        """No user's thread has waited for a while: what is measured now says nothing."""
        self._waits = 0

    def _begin(self) -> None:
        self._began = (time.monotonic(), time.thread_time(), time.process_time())
        self._late = 0

    def _look(self) -> None:
        before, late = self._began, self._late
        waits, self._waits = self._waits - 1, 1
        self._begin()
        wall_s, own_s, process_s = (b - a for a, b in zip(before, self._began, strict=True))
        self._pacer.observe(Window(waits, wall_s, own_s, process_s - own_s, late))
        self._apply()

    def _apply(self) -> None:
        self.is_contended = self._pacer.is_contended
        self._set_interval(self._pacer.interval_s)

    @interruptible
    def poll(self, poll: Callable[[float, int], Any], timeout: float, count: int) -> Any:
        """Poll, and if that was over at once, let others have the interpreter; without the lock."""
        late_s = self._pacer.interval_s / 2
        began = time.monotonic()
        events = poll(timeout, count)
        ended = time.monotonic()
        if ended - began < late_s:
            time.sleep(MOMENT_S)
            late_s += MOMENT_S
            began, ended = ended, time.monotonic()
        if ended - began >= late_s:
            self._late += 1
        return events
