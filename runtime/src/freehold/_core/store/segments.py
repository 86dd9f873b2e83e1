"""The table of segments: extents of the arena that local processes write, and the ranges in them.

Place in the flow: the store machine keeps it; it knows which segment may be freed but frees nothing
itself. What it is told comes from other processes in no particular order, so that everything that
makes no sense is ignored, not raised.

A range's release, or its new owner, may come before the range was sealed, because the two travel on
different connections. The segment then remembers it under the range's offset (`early`). What is
remembered is bounded (`EARLY_NOTES`) and forgotten with the closing of the segment, when nothing
can be late any more: a creator's own messages come in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from freehold._core.ids import Address
from freehold._core.store.events import OwnerHoldings, StoreInvariantError

EARLY_NOTES = 65_536
"""Releases and adoptions kept for ranges not sealed yet, in all; the oldest is dropped first.

A note waits for one message that is already on its way, so only repeated releases into an open slab
can pile up, and dropping one costs at most a range that stays until its owner ends.
"""


@dataclass(slots=True)
class Range:
    """A sealed value: its bytes never change again, its owner decides how long it stays."""

    size: int
    owner: Address


@dataclass(slots=True)
class Segment:
    """An extent that was granted to `process`. Free when closed, empty and not being read."""

    number: int
    process: int
    request: int
    offset: int
    size: int
    is_slab: bool
    is_closed: bool = False
    reads: int = 0
    ranges: dict[int, Range] = field(default_factory=dict)
    sealed_end: int = 0
    live_bytes: int = 0

    @property
    def is_free(self) -> bool:
        """Whether nothing and nobody needs its memory."""
        return self.is_closed and not self.ranges and not self.reads


class SegmentTable:
    """All segments that hold memory, by number, with the sums per owner."""

    def __init__(self) -> None:
        self.by_number: dict[int, Segment] = {}
        self.open_by_process: dict[int, dict[int, None]] = {}
        self.reads: dict[tuple[int, int], int] = {}
        # (segment, offset) → new owner, or None for released; only of open segments.
        self.early: dict[tuple[int, int], Address | None] = {}
        self._holdings: dict[Address, list[int]] = {}

    def add(self, segment: Segment) -> None:
        """A segment was granted."""
        self.by_number[segment.number] = segment
        self.open_by_process.setdefault(segment.process, {})[segment.number] = None

    def remove(self, segment: Segment) -> None:
        """The segment's memory was freed."""
        if not segment.is_closed:
            self.close(segment)
        del self.by_number[segment.number]

    def close(self, segment: Segment) -> None:
        """Nothing more is sealed in it: what came early and was not met concerns nothing."""
        segment.is_closed = True
        numbers = self.open_by_process[segment.process]
        del numbers[segment.number]
        if not numbers:
            del self.open_by_process[segment.process]
        if self.early:
            for key in [key for key in self.early if key[0] == segment.number]:
                del self.early[key]

    def seal(self, segment: Segment, offset: int, size: int, owner: Address) -> bool:
        """Add a range. False if it was released before; then it is gone already."""
        segment.sealed_end = max(segment.sealed_end, offset + size)
        note = self.early.pop((segment.number, offset), owner)
        if note is None:
            return False
        segment.ranges[offset] = Range(size, note)
        segment.live_bytes += size
        self._hold(note, size, 1)
        return True

    def release(self, segment: Segment, offset: int) -> bool:
        """Remove a range, or note that it was released before it came. True if it was removed."""
        found = segment.ranges.pop(offset, None)
        if found is not None:
            segment.live_bytes -= found.size
            self._hold(found.owner, -found.size, -1)
            return True
        if not segment.is_closed:
            self._note(segment, offset, None)
        return False

    def adopt(self, segment: Segment, offset: int, owner: Address) -> None:
        """Give a range another owner, now or when it comes."""
        found = segment.ranges.get(offset)
        if found is not None:
            self._hold(found.owner, -found.size, -1)
            self._hold(owner, found.size, 1)
            found.owner = owner
        elif not segment.is_closed and self.early.get((segment.number, offset), owner) is not None:
            self._note(segment, offset, owner)

    def is_readable(self, segment: Segment, offset: int) -> bool:
        """Whether the range's bytes are there: sealed, or about to be and not released."""
        if offset in segment.ranges:
            return True
        # One of many outputs that lie packed in one range.
        if any(at < offset < at + range_.size for at, range_ in segment.ranges.items()):
            return True
        # A reader may hear of a range before its seal arrives here; its writer has written it.
        inside = segment.offset <= offset < segment.offset + segment.size
        return (
            not segment.is_closed
            and inside
            and self.early.get((segment.number, offset), segment) is not None
        )

    def owned_by(self, is_owner: Callable[[Address], bool]) -> list[tuple[Segment, int]]:
        """Every range of certain owners, as segment and offset. Looks at all: for deaths only."""
        if not any(map(is_owner, self._holdings)):
            return []
        return [
            (segment, offset)
            for segment in self.by_number.values()
            for offset, range_ in segment.ranges.items()
            if is_owner(range_.owner)
        ]

    def reserved_bytes(self) -> int:
        """What open slabs hold beyond the live ranges in them."""
        segments = (self.by_number[n] for opened in self.open_by_process.values() for n in opened)
        return sum(s.size - s.live_bytes for s in segments if s.is_slab)

    def holdings(self) -> tuple[OwnerHoldings, ...]:
        """Bytes and count of every owner that has a range, the largest first."""
        found = [OwnerHoldings(o, size, count) for o, (size, count) in self._holdings.items()]
        return tuple(sorted(found, key=lambda h: (-h.size_bytes, h.owner)))

    def check_invariants(self) -> None:
        """STO-2, STO-3, STO-4, STO-7; see `StoreMachine.check_invariants`."""
        sums: dict[Address, list[int]] = {}
        opened: dict[int, dict[int, None]] = {}
        for number, segment in self.by_number.items():
            end = segment.offset
            for offset, range_ in sorted(segment.ranges.items()):
                if offset < end or offset + range_.size > segment.offset + segment.size:
                    raise StoreInvariantError(f"STO-2: range {offset} of segment {number}")
                end = offset + range_.size
                held = sums.setdefault(range_.owner, [0, 0])
                held[0] += range_.size
                held[1] += 1
            if segment.live_bytes != sum(range_.size for range_ in segment.ranges.values()):
                raise StoreInvariantError(f"STO-3: live bytes of segment {number}")
            if segment.is_free:
                raise StoreInvariantError(f"STO-4: segment {number} is free and still here")
            reads = sum(n for (s, _), n in self.reads.items() if s == number)
            if segment.reads != reads:
                raise StoreInvariantError(f"STO-4: segment {number} counts {reads} reads wrong")
            if not segment.is_closed:
                opened.setdefault(segment.process, {})[number] = None
        if sums != self._holdings:
            raise StoreInvariantError(f"STO-3: sums {self._holdings} are not {sums}")
        if opened != self.open_by_process:
            raise StoreInvariantError(f"STO-4: open {self.open_by_process} are not {opened}")
        if len(self.early) > EARLY_NOTES:
            raise StoreInvariantError(f"STO-7: {len(self.early)} notes on ranges not sealed yet")
        for number, offset in self.early:
            segment_ = self.by_number.get(number)
            if segment_ is None or segment_.is_closed or offset in segment_.ranges:
                raise StoreInvariantError(f"STO-7: a stale note on {offset} of segment {number}")

    def _note(self, segment: Segment, offset: int, owner: Address | None) -> None:
        self.early[segment.number, offset] = owner
        if len(self.early) > EARLY_NOTES:
            del self.early[next(iter(self.early))]

    def _hold(self, owner: Address, size: int, count: int) -> None:
        held = self._holdings.setdefault(owner, [0, 0])
        held[0] += size
        held[1] += count
        if not held[1]:
            del self._holdings[owner]
