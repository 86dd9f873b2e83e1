"""Divides the arena into extents: best fit, coalescing, warm memory first.

Place in the flow: the store machine asks it for an extent and frees it; the cold page runs it names
become `CommitPages`, what `trim` names becomes `DecommitPages`. It knows nothing of owners, slabs
or waiting, and never touches memory.

Rejected: size-class free lists (rounding up hides a block that would fit exactly, and a waiter is
to be granted whenever something fits); a buddy allocator (wastes up to half of a 100 MB array);
keeping warm and cold blocks apart (an extent across the seam could not be served). A sorted list
with `bisect` is O(n) on paper, but the O(n) is a memmove of pointers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from freehold._core.store.events import StoreInvariantError

PAGE_BYTES = 4096
_WARM_CANDIDATES = 8
"""Blocks looked at, smallest first, for one that is warm before a cold one is taken."""


class Extent(NamedTuple):
    """Memory that was handed out. `cold` is the page run to commit before use, length 0 if none."""

    offset: int
    size: int
    cold_offset: int
    cold_length: int

    @property
    def is_warm(self) -> bool:
        return not self.cold_length


class Place(NamedTuple):
    """Where an extent would come from, until the next change: in which free block, at what cost."""

    start: int
    offset: int
    size: int
    cold_bytes: int


class AllocatorStats(NamedTuple):
    """Figures of an allocator, in bytes but for the two counts."""

    in_use_bytes: int
    free_bytes: int
    touched_free_bytes: int
    largest_free_bytes: int
    extents: int
    free_blocks: int


class Allocator:
    """Hands out extents of `capacity_bytes` (rounded down to pages).

    Extents below a page are rounded up to `alignment`; larger ones start on a page and have whole
    pages, so that no two large extents share one and each can be decommitted whole.

    Example:
        >>> allocator = Allocator(1 << 20)
        >>> allocator.allocate(5000)
        Extent(offset=0, size=8192, cold_offset=0, cold_length=8192)
        >>> allocator.free(0)
        8192
        >>> allocator.allocate(5000).is_warm
        True
    """

    def __init__(self, capacity_bytes: int, alignment: int = 64) -> None:
        if alignment <= 0 or PAGE_BYTES % alignment:
            raise ValueError(f"alignment must divide {PAGE_BYTES}, got {alignment}")
        self.capacity_bytes = capacity_bytes // PAGE_BYTES * PAGE_BYTES
        if self.capacity_bytes <= 0:
            raise ValueError(f"a store needs at least a page, got {capacity_bytes} bytes")
        self._alignment = alignment
        self._extents: dict[int, int] = {}
        # Free blocks three ways: (size, -freed_at, start) sorted, by start, and start by end.
        self._sorted: list[tuple[int, int, int]] = []
        self._by_start: dict[int, tuple[int, int, int]] = {}
        self._by_end: dict[int, int] = {}
        # Blocks that may have touched whole pages, the longest untouched by `free` first.
        self._trimmable: dict[int, None] = {}
        self._freed_at = 0
        self.in_use_bytes = 0
        self._touched = bytearray(self.capacity_bytes // PAGE_BYTES)
        self._touched_pages = 0
        self._touched_end = 0  # no page from here on was ever touched: bounds every scan
        self._insert(0, self.capacity_bytes)

    @property
    def touched_free_bytes(self) -> int:
        """Committed memory that no extent holds."""
        return self._touched_pages * PAGE_BYTES - self.in_use_bytes

    def rounded(self, size: int) -> int:
        """The size of the extent that `allocate(size)` hands out."""
        unit = PAGE_BYTES if size >= PAGE_BYTES else self._alignment
        return max(-(-size // unit), 1) * unit

    def allocate(self, size: int) -> Extent | None:
        """An extent of at least `size` bytes, or None if no free block can hold it."""
        place = self.find(size)
        return None if place is None else self.take(place)

    def find(self, size: int) -> Place | None:
        """Where `size` bytes would come from, or None if no free block can hold them."""
        size = self.rounded(size)
        unit = PAGE_BYTES if size >= PAGE_BYTES else self._alignment
        best: tuple[int, int] | None = None
        index = bisect_left(self._sorted, (size,))
        seen = 0
        while index < len(self._sorted) and seen < _WARM_CANDIDATES:
            block = self._sorted[index]
            index += 1
            start = block[2]
            low = -(-start // unit) * unit
            high = (start + block[0] - size) // unit * unit
            if low > high:
                continue  # too small once it is aligned
            seen += 1
            if not self._cold_run(low, size)[1]:
                return Place(start, low, size, 0)
            if not self._cold_run(high, size)[1]:
                return Place(start, high, size, 0)
            best = best or (start, low)
        if best is None:
            return None
        start, offset = best
        pages = self._touched.count(0, offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES))
        return Place(start, offset, size, pages * PAGE_BYTES)

    def take(self, place: Place) -> Extent:
        """Hand out what `find` has just found."""
        start, offset, size, _ = place
        end = start + self._remove(start)
        if offset > start:
            self._insert(start, offset - start)
        if offset + size < end:
            self._insert(offset + size, end - offset - size)
        self._extents[offset] = size
        self.in_use_bytes += size
        return Extent(offset, size, *self._touch(offset, size))

    def spare_bytes(self, place: Place) -> int:
        """Touched free memory that `place` would not use: could be given back in its stead."""
        return max(0, self.touched_free_bytes - (place.size - place.cold_bytes))

    def free(self, offset: int) -> int:
        """Take an extent back; returns its size. It is merged with its free neighbours.

        Raises:
            StoreInvariantError: no extent starts at `offset`.
        """
        size = self._extents.pop(offset, None)
        if size is None:
            raise StoreInvariantError(f"ALC-1: no extent starts at offset {offset}")
        self.in_use_bytes -= size
        self._release(offset, size)
        return size

    def shrink(self, offset: int, size: int) -> int:
        """Take back what of an extent lies behind its first `size` bytes; returns the new size."""
        old = self._extents[offset]
        unit = PAGE_BYTES if old >= PAGE_BYTES else self._alignment
        new = max(-(-size // unit), 1) * unit
        if new >= old:
            return old
        self._extents[offset] = new
        self.in_use_bytes -= old - new
        self._release(offset + new, old - new)
        return new

    def trim(self, limit_bytes: int) -> list[tuple[int, int]]:
        """Page runs to decommit so that at most `limit_bytes` of free memory stay touched.

        The longest free go first and from their high end, since allocation starts at the low one.
        Pages shared with an extent cannot go: the bound holds but for those.
        """
        runs: list[tuple[int, int]] = []
        while self.touched_free_bytes > limit_bytes and self._trimmable:
            start = next(iter(self._trimmable))
            first, end = self._whole_pages(start, self._by_start[start][0])
            last = self._touched.rfind(1, first, end)
            if last < 0:
                del self._trimmable[start]
                continue
            excess = -(-(self.touched_free_bytes - limit_bytes) // PAGE_BYTES)
            low = max(self._touched.rfind(0, first, last) + 1, first, last + 1 - excess)
            self._touched[low : last + 1] = bytes(last + 1 - low)
            self._touched_pages -= last + 1 - low
            runs.append((low * PAGE_BYTES, (last + 1 - low) * PAGE_BYTES))
        return runs

    def discard(self, offset: int) -> tuple[int, int]:
        """Free an extent whose pages could not be committed; returns the page run to decommit."""
        size = self.free(offset)
        start = offset
        if start not in self._by_start:  # merged with the block before it
            start = max(s for s in self._by_start if s < offset)
        first, end = self._whole_pages(start, self._by_start[start][0])
        first = max(first, offset // PAGE_BYTES)
        end = min(end, -(-(offset + size) // PAGE_BYTES))
        if first >= end:
            return 0, 0
        self._touched_pages -= self._touched.count(1, first, end)
        self._touched[first:end] = bytes(end - first)
        return first * PAGE_BYTES, (end - first) * PAGE_BYTES

    def next_cold(self, limit_bytes: int) -> tuple[int, int]:
        """A run of untouched pages, at the low end of the largest free block, where a large extent
        comes from next; up to `limit_bytes` long, length 0 if there is none.
        """
        if not self._sorted:
            return 0, 0
        size, _, start = self._sorted[-1]
        end = (start + size) // PAGE_BYTES
        first = self._touched.find(0, -(-start // PAGE_BYTES), end)
        if first < 0:
            return 0, 0
        end = min(end, first + limit_bytes // PAGE_BYTES)
        last = self._touched.find(1, first, end)
        return first * PAGE_BYTES, ((end if last < 0 else last) - first) * PAGE_BYTES

    def note_touched(self, offset: int, length: int) -> None:
        """These pages were touched ahead; those that an extent has by now are so anyway."""
        self._touch(offset, length)
        for start, key in self._by_start.items():
            if start < offset + length and offset < start + key[0]:
                self._trimmable[start] = None

    def untouched(self, offset: int, length: int) -> list[tuple[int, int]]:
        """The runs of pages in there that are not touched, and so not in use."""
        runs = []
        first, end = offset // PAGE_BYTES, (offset + length) // PAGE_BYTES
        while (first := self._touched.find(0, first, end)) >= 0:
            stop = self._touched.find(1, first, end)
            stop = end if stop < 0 else stop
            runs.append((first * PAGE_BYTES, (stop - first) * PAGE_BYTES))
            first = stop
        return runs

    def extent_size(self, offset: int) -> int | None:
        """The size of the extent that starts at `offset`, if one does."""
        return self._extents.get(offset)

    def stats(self) -> AllocatorStats:
        """Figures for metrics and reports."""
        return AllocatorStats(
            in_use_bytes=self.in_use_bytes,
            free_bytes=self.capacity_bytes - self.in_use_bytes,
            touched_free_bytes=self.touched_free_bytes,
            largest_free_bytes=self._sorted[-1][0] if self._sorted else 0,
            extents=len(self._extents),
            free_blocks=len(self._sorted),
        )

    def check_invariants(self) -> None:
        """Raise StoreInvariantError unless all of these hold.

        - ALC-1 extents and free blocks tile the arena: no gap, no overlap.
        - ALC-2 no two free blocks touch.
        - ALC-3 the indices of free blocks agree.
        - ALC-4 every page of an extent is touched; the count of touched pages is right.
        - ALC-5 every free block with a touched whole page can be found by `trim`.
        """
        pieces = [(o, s, False) for o, s in self._extents.items()]
        pieces += [(start, key[0], True) for start, key in self._by_start.items()]
        position, was_free = 0, False
        for start, size, is_free in sorted(pieces):
            _require(start == position and size > 0, f"ALC-1: gap or overlap at offset {position}")
            _require(not (is_free and was_free), f"ALC-2: free blocks touch at offset {start}")
            position, was_free = start + size, is_free
        _require(position == self.capacity_bytes, f"ALC-1: the arena ends at {position}")
        _require(self.in_use_bytes == sum(self._extents.values()), "ALC-1: wrong sum in use")
        _require(self._sorted == sorted(self._by_start.values()), "ALC-3: sorted list differs")
        ends = {start + key[0]: start for start, key in self._by_start.items()}
        _require(self._by_end == ends, "ALC-3: index by end differs")
        _require(self._touched_pages == self._touched.count(1), "ALC-4: wrong count of pages")
        _require(self._touched.find(1, self._touched_end) < 0, "ALC-4: touched behind the end")
        for offset, size in self._extents.items():
            _require(not self._cold_run(offset, size)[1], f"ALC-4: extent {offset} is cold")
        for start, key in self._by_start.items():
            is_touched = self._touched.find(1, *self._whole_pages(start, key[0])) >= 0
            _require(not is_touched or start in self._trimmable, f"ALC-5: {start} is not found")
        _require(self._trimmable.keys() <= self._by_start.keys(), "ALC-5: a block that is not free")

    def _insert(self, start: int, size: int) -> None:
        key = (size, -self._freed_at, start)
        self._by_start[start] = key
        self._by_end[start + size] = start
        self._trimmable[start] = None
        insort(self._sorted, key)

    def _remove(self, start: int) -> int:
        key = self._by_start.pop(start)
        del self._by_end[start + key[0]]
        self._trimmable.pop(start, None)
        del self._sorted[bisect_left(self._sorted, key)]
        return key[0]

    def _release(self, offset: int, size: int) -> None:
        self._freed_at += 1
        end = offset + size
        if end in self._by_start:
            size += self._remove(end)
        before = self._by_end.get(offset)
        if before is not None:
            size += self._remove(before)
            offset = before
        self._insert(offset, size)

    def _cold_run(self, offset: int, size: int) -> tuple[int, int]:
        """The pages from the first to the last one that are not touched, as offset and length."""
        first, end = offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
        cold = self._touched.find(0, first, end)
        if cold < 0:
            return offset, 0
        last = self._touched.rfind(0, cold, end)
        return cold * PAGE_BYTES, (last + 1 - cold) * PAGE_BYTES

    def _touch(self, offset: int, size: int) -> tuple[int, int]:
        start, length = self._cold_run(offset, size)
        if length:
            first, end = start // PAGE_BYTES, (start + length) // PAGE_BYTES
            self._touched_pages += self._touched.count(0, first, end)
            self._touched[first:end] = b"\1" * (end - first)
            self._touched_end = max(self._touched_end, end)
        return start, length

    def _whole_pages(self, start: int, size: int) -> tuple[int, int]:
        """First and end page that lie whole in a block, up to the last page ever touched."""
        end = min((start + size) // PAGE_BYTES, self._touched_end)
        return min(-(-start // PAGE_BYTES), end), end


def _require(is_so: bool, message: str) -> None:
    if not is_so:
        raise StoreInvariantError(message)
