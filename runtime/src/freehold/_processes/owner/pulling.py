"""Copies of other nodes' values for whoever reads several in order: those to come are on their way
while the first is read.

One pull after the other costs a round trip over three processes each, about a millisecond: 500
values of 200 KB came at 0.2 GB/s so.

A copy is pinned from when it arrives, so readers that are ahead can take each other's room. Hence
the bounds on count and bytes; what is ahead is never queued for room before others (the store
refuses it, and it is asked for again in its turn); and a reader that waits long gives back what it
has ahead. Only a pull in its turn can say that a value is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from freehold._core.ids import Location
from freehold._core.limits import AHEAD_PATIENCE_S, PULLS_AHEAD, PULLS_AHEAD_BYTES
from freehold._core.messages import Pulled
from freehold._io.reactor import Waiter

if TYPE_CHECKING:
    from freehold._processes.owner.base import CoreBase


class PullAhead:
    """The pulls of one reader of `count` values; `where(i)` is the i-th's place, if it has one."""

    def __init__(self, core: CoreBase, count: int, where: Callable[[int], Location | None]) -> None:
        self._core = core
        self._count = count
        self._where = where
        self._next = 0
        self._bytes = 0
        self._started: dict[Location, tuple[int, Waiter]] = {}

    def pull(self, at: int, location: Location, patience_s: float | None = None) -> Pulled:
        """A copy of the `at`-th value, which is stored there; without the lock.

        Those of the values behind it are started, as far as the bounds let them.

        Args:
            patience_s: until a worker gives its CPU back meanwhile.
        """
        core = self._core
        with core.reactor.lock:
            ahead = self._started.pop(location, None)
            if ahead is not None:
                self._bytes -= location.size
            pull = ahead or core.storage.start_pull(location)
            self._next = max(self._next, at + 1)
            self._start_more()
            core.carry_out()
        pulled = self._finish(pull, patience_s)
        if ahead is None or not pulled.error:
            return pulled
        with core.reactor.lock:
            pull = core.storage.start_pull(location)
            core.carry_out()
        return self._finish(pull, patience_s)

    def _start_more(self) -> None:
        core = self._core
        while self._next < self._count and len(self._started) < PULLS_AHEAD:
            ahead = self._where(self._next)
            if ahead is not None and ahead.node != core.node_id and ahead not in self._started:
                if self._bytes + ahead.size > PULLS_AHEAD_BYTES:
                    return
                self._started[ahead] = core.storage.start_pull(ahead, is_ahead=True)
                self._bytes += ahead.size
            self._next += 1

    def _finish(self, pull: tuple[int, Waiter], patience_s: float | None) -> Pulled:
        answer: Pulled = self._core.requests.finish(
            *pull, patience_s=patience_s, when_slow=(AHEAD_PATIENCE_S, self.give_back)
        )
        return answer

    def give_back(self) -> None:
        """Let go of what is ahead; without the lock."""
        if self._started:
            with self._core.reactor.lock:
                for number, _ in self._started.values():
                    self._core.requests.give_up(number)
                self._core.carry_out()
            self._started.clear()
            self._bytes = 0
