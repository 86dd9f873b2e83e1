"""How a thread that calls one by one gives way to a thread that computes in Python.

Only one thread of a process runs Python at a time. One that computes gives way when it is asked to,
a switch interval later; one that makes calls gives way by itself whenever it waits for an answer,
but often has the answer, and the interpreter, back before the other has woken up. So a caller with
fast answers takes a fifth of the other's time and more. `Pacer` decides from what a window of waits
was measured to cost: whether a wait that was over at once is to be followed by a moment in which
the other can take the interpreter, and how long the switch interval must be for the other to keep
`KEPT` of its time.

That somebody competes is not guessed from processor time alone, which a thread that computes
outside the interpreter uses, too: waits that end late by half a switch interval say it.

Pure: the shell measures, waits and sets the interval.
"""

from __future__ import annotations

from dataclasses import dataclass

KEPT = 0.93
"""Of the time of the thread that computes: a bit above what is promised, 0.9."""

BUSY = 0.3
"""Of one processor that the other threads used, at least, if one computes."""

LARGEST_TURN_S = 0.0007
"""Own processor time a wait: above it the caller computes, too, and has a right to its half."""

SHORTEST_INTERVAL_S = 0.001
LONGEST_INTERVAL_S = 0.0027

WINDOWS_OFF = 16
"""How many windows are let go by when nobody was found to compete."""


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured over `waits` waits of one thread, while no other thread waited.

    `late` of them ended half a switch interval late or more, or took as long.
    """

    waits: int
    wall_s: float
    own_s: float
    others_s: float
    late: int = 0


class Pacer:
    """Decides whether waits give way in the next window, and with which switch interval.

    Example:
        >>> pacer = Pacer()
        >>> pacer.observe(Window(waits=10, wall_s=0.01, own_s=0.001, others_s=0.008))
        >>> pacer.is_contended, pacer.interval_s
        (True, 0.001)
    """

    def __init__(self) -> None:
        self.is_contended = False
        self.interval_s = SHORTEST_INTERVAL_S
        self._off = 0

    def observe(self, window: Window) -> None:
        """Take a window into account."""
        if self._off:
            self._off -= 1
            return
        waits, wall_s = window.waits, window.wall_s
        if window.others_s < BUSY * wall_s or window.own_s > LARGEST_TURN_S * waits:
            self.stop()
        elif not self.is_contended:
            self.is_contended = True
        elif window.late < waits / 4:
            self.stop()
            self._off = WINDOWS_OFF
        else:
            # What a call takes from the other may be 1 - KEPT of the time between calls, most of
            # which is the switch interval. Halfway, because measurements vary.
            lost_s = max(0.0, wall_s - window.others_s) / waits
            wanted_s = min(max(lost_s * KEPT / (1 - KEPT), SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
            self.interval_s += (wanted_s - self.interval_s) / 2

    def stop(self) -> None:
        """Nothing of what was seen holds any more."""
        self.is_contended = False
        self.interval_s = SHORTEST_INTERVAL_S
