"""The shell's clock, and the one timer that a pure machine needs.

Machines own no timers: they say when they want to be called next (`next_deadline()`). A
`MachineAlarm` keeps one reactor timer armed for that moment. Wall-clock time is nowhere used to
decide anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from freehold._io.reactor import Reactor, Timer

now = time.monotonic
"""Seconds of the monotonic clock: the `Instant` of every machine on this machine."""


class MachineAlarm:
    """Calls `on_due()` when the deadline last given to `arm` has come.

    Example:
        >>> alarm = MachineAlarm(Reactor(), lambda: None)
        >>> alarm.arm(None)
    """

    def __init__(self, reactor: Reactor, on_due: Callable[[], None]) -> None:
        self._reactor = reactor
        self._on_due = on_due
        self._timer: Timer | None = None

    def arm(self, deadline: float | None) -> None:
        """Be due at `deadline` (None: never) instead of at what was armed before."""
        timer = self._timer
        if deadline is None:
            if timer is not None:
                timer.cancel()
                self._timer = None
            return
        if timer is not None:
            # An alarm that rings early only asks the machine again: cheaper than a new timer for
            # each event that moves the deadline back.
            if timer.when <= deadline:
                return
            timer.cancel()
        self._timer = self._reactor.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._on_due()
