"""Brings stored values of other nodes to this one for `wait(fetch_local=True)`.

`get` pulls what it reads and pins the copy while it is read. `wait` only wants it near: the copy is
not pinned, so it stays as long as the store keeps copies that nobody reads (`replica_keep_s`, or
until room is needed), and a `get` that comes too late pulls again. What was brought is remembered,
or each of a thousand waits would ask the node manager once more.

It deliberately has no thread and waits for nothing: a `Fetch` is told of the answer under the lock.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from freehold._core.ids import Location
from freehold._core.limits import FETCHED_VALUES, LEASE_S
from freehold._core.messages import Pull, Pulled
from freehold._core.ownership.row import READY, Row, unresolve
from freehold._io.reactor import Waiter

if TYPE_CHECKING:
    from freehold._core.messages import Message
    from freehold._processes.owner.base import CoreBase
    from freehold.errors import FreeholdError


class Fetch:
    """One pull under way; stands where a waiter of a request does."""

    __slots__ = ("answers", "fetches", "index", "location", "number", "row", "waiters")

    def __init__(self, fetches: Fetches, row: Row, index: int, location: Location) -> None:
        self.fetches = fetches
        self.row = row
        self.index = index
        self.location = location
        self.waiters: list[Waiter] = []
        self.answers: list[Message | FreeholdError] = []
        self.number = 0

    def count_down(self) -> None:
        """The node manager answered; under the lock."""
        self.fetches.ended(self)

    finish = count_down
    """The cluster is gone: there is no answer, and nobody is to wait for one."""


class Fetches:
    """What one process has had brought to its node, and what is on its way."""

    def __init__(self, core: CoreBase) -> None:
        self._core = core
        self.under_way: dict[Location, Fetch] = {}
        self._here: dict[Location, None] = {}

    def is_here(self, row: Row, index: int) -> bool:
        """Whether a ready output can be read without another node; if not, it is sent for.

        Without the lock.
        """
        core = self._core
        with core.reactor.lock:
            if row.state != READY:
                return False  # lost since it was looked at
            where = row.output(index)
            if type(where) is not Location or where.node == core.node_id or where in self._here:
                return True
            if where not in self.under_way and core.is_dead is None:
                fetch = self.under_way[where] = Fetch(self, row, index, where)
                fetch.number = core.requests.start_for(fetch, fetch.answers)
                row.table.retain(row, index)  # a caller that times out may let go of it
                core.owner.outbox.ask_node(Pull(fetch.number, where))
                core.carry_out()
            return False

    def whereabouts(self, row: Row, index: int, old: Location) -> Location | None:
        """Where a value is now that is not (any more) where its owner had said; None if the owner
        knows no better. Without the lock."""
        core = self._core
        with core.reactor.lock:
            if row.info is not None and row.state == READY and row.value == old:
                unresolve(row)
        core._await_rows([(row, index)], time.monotonic() + LEASE_S)
        with core.reactor.lock:
            where = row.output(index) if row.state == READY else None
        return where if type(where) is Location and where != old else None

    def of(self, row: Row, index: int) -> Fetch | None:
        """The pull under way of a ready output; under the lock."""
        if row.state != READY:
            return None
        return self.under_way.get(row.output(index))

    def ended(self, fetch: Fetch) -> None:
        """A pull came to its end; under the lock."""
        self.under_way.pop(fetch.location, None)
        self._core.requests.forget(fetch.number)
        for answer in fetch.answers:
            if not isinstance(answer, Pulled):
                continue  # the question could not be said
            if answer.error:
                # As `get` does: whoever can make it again is asked to, and its row is pending.
                self._core.owner.recovery.unreadable(fetch.row, fetch.index, fetch.location)
                continue
            self._core.storage.unpin(answer.location)
            self._here[fetch.location] = None
            if len(self._here) > FETCHED_VALUES:
                del self._here[next(iter(self._here))]
        fetch.row.table.release(fetch.row, fetch.index)
        self._core.owner.outbox.woken += fetch.waiters
