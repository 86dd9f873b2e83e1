"""Stored values whose node drains: their primary copies are on another node from now on.

The node manager has copied the bytes, under this owner's name, and tells the owner
(`PrimaryMoved`), again and again until it answers. The old copy stays where it is until its node
ends: it is not released here, since views and pulls of it may be under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.ids import Address, Location
from freehold._core.messages import PrimaryMoved, PrimaryNoted
from freehold._core.ownership.row import FOLLOWING, READY, Packed, Row, stored_ranges

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Primaries:
    """One owner's values that move."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def on_moved(self, source: Address, message: PrimaryMoved, now: float) -> None:
        """Ranges of ours have copies elsewhere; what we do not know, or give away, we say."""
        table = self._owner.table
        places = self._owner.recovery.stored_places()
        stale = {where: row for row, ranges in table.stale.items() for where in ranges}
        giving = self._owner.handoff.under_way()
        by_node: dict[str, PrimaryNoted] = {}
        for old, new in message.moves:
            answer = by_node.setdefault(old.node, PrimaryNoted([]))
            row = places.get(old)
            if row is not None and row not in giving:
                self._replace(row, old, new)
                answer.known.append(old)
            elif old in stale:
                ranges = table.stale[stale[old]]
                ranges[ranges.index(old)] = new
                answer.known.append(old)
            elif new in places or new in stale:
                answer.known.append(old)  # said before, and the answer was lost
            else:
                answer.unknown.append(old)
        for node, answer in by_node.items():
            self._owner.outbox.send(Address(node, 0), answer, True)

    def _replace(self, row: Row, old: Location, new: Location) -> None:
        value = row.value
        if type(value) is Packed:
            row.value = Packed(new, value.ends)
        elif type(value) is list:
            row.value = [new if one == old else one for one in value]
        else:
            row.value = new
        for follower, made in self._owner.table.made_here.items():
            if follower.registration != FOLLOWING or follower.state != READY:
                continue
            if made and made[0]._row is row and stored_ranges(follower.value):
                follower.value = row.output(made[0]._index)
