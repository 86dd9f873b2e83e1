"""Copies of other nodes' values for whoever reads several in order: those to come are on their way
while the first is read.

One pull after the other costs a round trip over three processes each, about a millisecond: 500
values of 200 KB came at 0.2 GB/s so. It deliberately asks for a bounded number ahead, by count and
by bytes: a copy is pinned from when it arrives, and what one reader has ahead another may need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Location
from freehold._core.limits import PULLS_AHEAD, PULLS_AHEAD_BYTES

if TYPE_CHECKING:
    from freehold._processes.owner.base import CoreBase

Pull = tuple[int, Any]
"""Its number, and what to wait on."""


class PullAhead:
    """The pulls of one reader of `count` values; `where(i)` is the i-th's place, if it has one."""

    def __init__(self, core: CoreBase, count: int, where: Callable[[int], Location | None]) -> None:
        self._core = core
        self._count = count
        self._where = where
        self._next = 0
        self._bytes = 0
        self._started: dict[Location, Pull] = {}

    def take(self, at: int, location: Location) -> Pull:
        """The pull of the `at`-th value, which is there, for `Storage.finish_pull`; under the lock.

        Those of the values behind it are started, as far as the limits let them.
        """
        storage = self._core.storage
        pull = self._started.pop(location, None)
        if pull is None:
            pull = storage.start_pull(location)
        else:
            self._bytes -= location.size
        self._next = max(self._next, at + 1)
        while (
            self._next < self._count
            and len(self._started) < PULLS_AHEAD
            and self._bytes < PULLS_AHEAD_BYTES
        ):
            ahead = self._where(self._next)
            self._next += 1
            if ahead is None or ahead.node == self._core.node_id or ahead in self._started:
                continue
            self._started[ahead] = storage.start_pull(ahead)
            self._bytes += ahead.size
        return pull

    def close(self) -> None:
        """Give back what was not taken. Without the lock."""
        if self._started:
            with self._core.reactor.lock:
                for number, _ in self._started.values():
                    self._core.requests.give_up(number)
                self._core.carry_out()
