"""Settings of the interpreter that the owner core changes while it is in use, and puts back.

- The garbage collector's thresholds: a million rows alive make every collection of the youngest
  generation's survivors cost; measured 109 → 148 k submits/s with a million references held.
- The switch interval: a busy thread keeps the interpreter for 5 ms a turn, so that each reply waits
  that long; at 1 ms calls one by one beside it are five times as many and it keeps 0.92 of its rate
  (at 0.2 ms 0.85). `pacing` makes it longer while that keeps less.
"""

from __future__ import annotations

import gc
import sys

GC_THRESHOLDS = (50_000, 50, 100)
SWITCH_INTERVAL_S = 0.001


class Tuning:
    """The interpreter's settings as we found them."""

    def __init__(self) -> None:
        self._thresholds: tuple[int, int, int] | None = None
        self._interval = 0.0
        self._set = 0.0

    def apply(self) -> None:
        """Change what the user has not changed from the interpreter's defaults."""
        self._thresholds = gc.get_threshold()
        self._interval = sys.getswitchinterval()
        if gc.isenabled() and 0 < self._thresholds[0] < GC_THRESHOLDS[0]:  # 0: collection is off
            gc.set_threshold(*GC_THRESHOLDS)
        self.set_interval(SWITCH_INTERVAL_S)

    def set_interval(self, interval_s: float) -> None:
        """Set the switch interval, unless the user had a shorter one or has set it since."""
        if self._interval > interval_s and sys.getswitchinterval() == (self._set or self._interval):
            sys.setswitchinterval(interval_s)
            self._set = sys.getswitchinterval()  # rounded to microseconds

    def restore(self) -> None:
        """Put back what is still as we set it."""
        if self._thresholds is None:
            return
        if gc.get_threshold() == GC_THRESHOLDS:
            gc.set_threshold(*self._thresholds)
        if sys.getswitchinterval() == self._set:
            sys.setswitchinterval(self._interval)
        self._thresholds = None
