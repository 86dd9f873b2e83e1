"""A process's use of its node's arena: writing values, reading them without a copy, and views.

Writing: a value of up to a quarter of a slab goes into this process's slab, without a round trip;
larger ones get a segment of their own. Reading: a value's buffers are views on the node's one
read-only mapping, and each view counts for its row until the last array made of it is gone. A value
of another node is pulled into this node's arena first and the copy pinned as long.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from freehold._core.ids import Address, Location
from freehold._core.messages import (
    AskViews,
    CreateSegment,
    Pull,
    Pulled,
    RangeReleased,
    RangeSealed,
    ReplicaUnpinned,
    SegmentAborted,
    SegmentGranted,
    SegmentRefused,
    SlabClosed,
    ViewReleased,
    ViewsReported,
)
from freehold._core.ownership.row import Row
from freehold._io.reactor import Waiter
from freehold._io.serialization import Parts
from freehold._io.shm import Arena
from freehold.errors import ObjectStoreFullError

if TYPE_CHECKING:
    from freehold._processes.owner.base import CoreBase

SLAB_BYTES = 8 << 20
SLAB_VALUE_BYTES = SLAB_BYTES // 4
SLAB_IDLE_S = 1.0
"""A slab not written to for this long is given back, so that a process at rest holds nothing."""

_ALIGNMENT = 64


class _Slab:
    """A segment that takes many values, of which threads may be writing several at once.

    It is closed after the last of them: what is not sealed then counts as free to the store.
    """

    __slots__ = ("granted", "is_retired", "used", "writing")

    def __init__(self, granted: SegmentGranted) -> None:
        self.granted = granted
        self.used = 0
        self.writing = 0
        self.is_retired = False


class Storage:
    """The arena as one process sees it."""

    def __init__(self, core: CoreBase, arena: Arena) -> None:
        self.core = core
        self.arena = arena
        self._slab: _Slab | None = None
        self._slab_uses = 0
        self._ended_views: deque[tuple[Row, int, Location, bool]] = deque()
        self._views: dict[tuple[int, int], int] = {}
        self._asked: dict[tuple[int, int], int] = {}

    # ---- writing -----------------------------------------------------------------------------

    def write(self, blob: bytes | Parts, owner: Address) -> Location:
        """Store a value for `owner`; blocks while the store has no room. Without the lock.

        Raises:
            ObjectStoreFullError: there is and will be no room.
        """
        pieces: list[bytes | memoryview] = [blob] if isinstance(blob, bytes) else blob.pieces()
        return self.write_pieces(pieces, len(blob), owner)

    def write_pieces(self, pieces: list[bytes | memoryview], size: int, owner: Address) -> Location:
        """The same for `size` bytes in pieces."""
        granted, offset, slab = self._reserve(size)
        core = self.core
        is_written = False
        try:
            self.arena.write(offset, pieces, warm=granted.is_warm)
            is_written = True
        finally:
            with core.reactor.lock:
                if is_written:
                    sealed = RangeSealed(granted.segment, offset, size, owner)
                    # Said at once: whoever hears of the value may need it after this process was
                    # killed.
                    core.owner.outbox.ask_node(sealed, is_urgent=True)
                self._written(granted, slab, is_written)
                core.carry_out()
        return Location(core.node_id, granted.segment, offset, size)

    def _reserve(self, size: int) -> tuple[SegmentGranted, int, _Slab | None]:
        """Room for a value: the segment, the offset, and the slab if it is one."""
        lock = self.core.reactor.lock
        if size <= SLAB_VALUE_BYTES:
            with lock:
                place = self._from_slab(size)
            if place is not None:
                return place
            granted = self._create(SLAB_BYTES, is_slab=True)
            with lock:
                self._close_slab()
                self._slab = _Slab(granted)
                self._arm_idle_close()
                place = self._from_slab(size)
                assert place is not None
                return place
        granted = self._create(size, is_slab=False)
        return granted, granted.offset, None

    def _from_slab(self, size: int) -> tuple[SegmentGranted, int, _Slab] | None:
        slab = self._slab
        if slab is None or slab.used + size > slab.granted.size:
            return None
        offset = slab.granted.offset + slab.used
        slab.used += -(-size // _ALIGNMENT) * _ALIGNMENT
        slab.writing += 1
        self._slab_uses += 1
        return slab.granted, offset, slab

    def _written(self, granted: SegmentGranted, slab: _Slab | None, is_written: bool) -> None:
        """A value was written and sealed, or could not be; under the lock."""
        if slab is not None:
            slab.writing -= 1
            if slab.is_retired:
                self._retire(slab)
        elif not is_written:
            self.core.owner.outbox.ask_node(SegmentAborted(granted.segment), is_urgent=False)

    def _close_slab(self) -> None:
        slab, self._slab = self._slab, None
        if slab is not None:
            slab.is_retired = True
            self._retire(slab)

    def _retire(self, slab: _Slab) -> None:
        if not slab.writing:
            closed = SlabClosed(slab.granted.segment, min(slab.used, slab.granted.size))
            self.core.owner.outbox.ask_node(closed, is_urgent=False)

    def _arm_idle_close(self) -> None:
        uses = self._slab_uses

        def close_if_idle() -> None:
            if self._slab is None:
                return
            if self._slab_uses == uses:
                self._close_slab()
                self.core.carry_out()
            else:
                self._arm_idle_close()

        self.core.reactor.call_later(SLAB_IDLE_S, close_if_idle)

    def _create(self, size: int, is_slab: bool) -> SegmentGranted:
        started = time.monotonic()
        answer = self.core.requests.ask(lambda number: CreateSegment(number, size, is_slab))
        if isinstance(answer, SegmentRefused):
            raise ObjectStoreFullError(
                node=self.core.node_id,
                needed_bytes=size,
                capacity_bytes=self.arena.size_bytes,
                waited_s=round(time.monotonic() - started, 1),
                holders=tuple(answer.report.splitlines()),
            )
        assert isinstance(answer, SegmentGranted)
        self.arena.allow_writing()
        return answer

    # ---- reading -----------------------------------------------------------------------------

    def view(self, row: Row, index: int, location: Location, offset: int = -1) -> memoryview:
        """The bytes of a value in this node's arena, counted for `row` while they are in use.

        `offset` is set for a pulled copy. Under the lock.
        """
        is_copy = offset >= 0
        row.table.retain(row, index)
        key = (location.segment, location.offset)
        if not is_copy:
            self._views[key] = self._views.get(key, 0) + 1
        ended, entry = self._ended_views, (row, index, location, is_copy)
        kick = self.core.reactor.kick

        def on_release() -> None:
            ended.append(entry)
            kick()

        return self.arena.view(offset if is_copy else location.offset, location.size, on_release)

    def drain(self) -> None:
        """Let go of what ended views held; under the lock."""
        ended = self._ended_views
        outbox = self.core.owner.outbox
        while ended:
            row, index, location, is_copy = ended.popleft()
            row.table.release(row, index)
            if is_copy:
                outbox.ask_node(ReplicaUnpinned(location), is_urgent=False)
                continue
            key = (location.segment, location.offset)
            left = self._views[key] = self._views[key] - 1
            if left == 0:
                del self._views[key]
                size = self._asked.pop(key, None)
                if size is not None:
                    outbox.ask_node(ViewReleased(key[0], key[1], size))

    def start_pull(self, location: Location, *, is_ahead: bool = False) -> tuple[int, Waiter]:
        """Ask for a copy of another node's value; under the lock."""
        number, waiter = self.core.requests.start()
        self.core.owner.outbox.ask_node(Pull(number, location, is_ahead))
        return number, waiter

    def unpin(self, location: Location) -> None:
        """Let go of a pulled copy that was never viewed; under the lock."""
        self.core.owner.outbox.ask_node(ReplicaUnpinned(location), is_urgent=False)

    def on_ask_views(self, message: AskViews) -> None:
        """An owner died: say which of its ranges are still read here, and tell when no more."""
        held = [r for r in message.ranges if (r[0], r[1]) in self._views]
        for segment, offset, size in held:
            self._asked[segment, offset] = size
        self.core.owner.outbox.ask_node(ViewsReported(message.query, held))

    def give_back(self, message: object) -> None:
        """Room or a copy came for somebody whom an exception made stop waiting; under the lock."""
        if isinstance(message, SegmentGranted):
            self.core.owner.outbox.ask_node(SegmentAborted(message.segment), is_urgent=False)
        elif isinstance(message, Pulled) and not message.error:
            self.unpin(message.location)

    def abandon(self, location: Location) -> None:
        """Give back what was written but will not be owned by anybody; under the lock."""
        released = RangeReleased(location.segment, location.offset, location.size)
        self.core.owner.outbox.ask_node(released, is_urgent=False)

    def close(self) -> None:
        """Give back the slab; under the lock."""
        self._close_slab()
