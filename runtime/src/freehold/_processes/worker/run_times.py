"""How long each function and method has taken in this worker: which of them are surely short.

The loops ask before they begin something while finished replies wait to be sent together. It counts
instead of averaging: a mean of microseconds is spoilt by a single time that the process was not on
a core, and says nothing about how often a call was looked at.
"""

from __future__ import annotations

from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address

SHORT_NS = 100_000
"""Several times what a call that does next to nothing takes."""
LONG_CPU_NS = 5_000_000
"""Time on the core after which results must not have waited; not being on it is no fault."""
KNOWN_AFTER = 32
KNOWN_AT_MOST = 512
LONG_COSTS = 1_000
"""Short calls in a row until one that was long is forgotten."""
CALLERS = 256
"""Whose calls are remembered; what is forgotten is measured anew."""


class Past:
    """What is known of one function: `is_short` after enough calls that all were."""

    __slots__ = ("is_short", "score")

    def __init__(self) -> None:
        self.score = 0
        self.is_short = False

    def note(self, run_ns: int, cpu_ns: int) -> None:
        """It took this long, and so much of it on the core."""
        score = self.score
        if run_ns <= SHORT_NS:
            if score >= KNOWN_AT_MOST:
                return
            score += 1
        elif cpu_ns < LONG_CPU_NS:
            score = min(score, score // 2)
        else:
            score = -LONG_COSTS
        self.score = score
        self.is_short = score >= KNOWN_AFTER


class RunTimes:
    """The pasts of what this worker has run, of a bounded number of callers."""

    def __init__(self) -> None:
        self._tables: dict[Address, dict[int | str, Past]] = {}
        self._source: Address | None = None
        self._table: dict[int | str, Past] = {}

    def of(self, source: Address, message: Any) -> Past:
        """The past of what a `Run` or `Call` asks for; of anything else a new one."""
        kind = type(message)
        if kind is m.Call:
            name = message.method
        elif kind is m.Run:
            name = message.function
        else:
            return Past()
        if source is not self._source:
            if len(self._tables) >= CALLERS:
                self._tables.clear()
            self._source = source
            self._table = self._tables.setdefault(source, {})
        past = self._table.get(name)
        if past is None:
            past = self._table[name] = Past()
        return past
