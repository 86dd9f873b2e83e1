"""What the control service decided is done in order, and nothing before what it keeps is safe.

Place in the flow: the control service hands over the records of what a machine wants kept, and then
what tells of it. Without a database, as on one machine, nothing is kept and everything is done at
once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from freehold._io.reactor import Reactor

if TYPE_CHECKING:
    from freehold._io.state_db import Record, StateDb


class Outgoing:
    """Does what it is told in order, and what comes after records when they are on the disk.

    Args:
        db: None keeps nothing.
    """

    def __init__(self, reactor: Reactor, db: StateDb | None) -> None:
        self._reactor = reactor
        self._db = db
        self._records: list[Record] = []
        self._waiting: list[Callable[[], None]] = []
        """For the records of this turn, or for those under way."""
        self._under_way = 0
        self.is_dirty = False

    def keep(self, records: list[Record]) -> None:
        """Have these on the disk before what is done next."""
        if self._db is not None and records:
            self._records += records
            self._make_dirty()

    def do(self, what: Callable[[], None]) -> None:
        """Call `what()`: now, or when all that was kept before is on the disk."""
        if not self._records and not self._under_way and not self._waiting:
            what()
        else:
            self._waiting.append(what)
            self._make_dirty()

    def flush(self) -> None:
        """The turn is over; see `Flushable`."""
        self.is_dirty = False
        if self._db is None or not (self._records or self._waiting):
            return
        records, self._records = self._records, []
        waiting, self._waiting = self._waiting, []
        self._under_way += 1
        self._db.submit(records, lambda: self._kept(waiting))

    def _kept(self, waiting: list[Callable[[], None]]) -> None:
        for what in waiting:
            try:
                what()
            except Exception:  # what one breaks must not take those behind it along  # noqa: BLE001
                traceback.print_exc()
        # Only now: what one of them did goes behind the others.
        self._under_way -= 1

    def _make_dirty(self) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            self._reactor.dirty.append(self)
