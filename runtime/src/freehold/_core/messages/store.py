"""The object store: segments, ranges, copies, and chunks between nodes."""

from __future__ import annotations

from freehold._core.ids import Address, Location
from freehold._core.messages.parts import Message

# ---- process ↔ node manager: the store -------------------------------------------------------


class CreateSegment(Message, tag=70):
    """Room for `size` bytes in this node's arena, please; a slab holds many values."""

    request: int
    size: int
    is_slab: bool = False


class SegmentGranted(Message, tag=71):
    """Room was made: write there, then say `RangeSealed`."""

    request: int
    segment: int
    offset: int
    size: int
    is_warm: bool = False


class SegmentRefused(Message, tag=72):
    """There is and will be no room; `report` lists what holds the store."""

    request: int
    report: str


class RangeSealed(Message, tag=73):
    """Written, and never written again; `owner` decides how long it stays."""

    segment: int
    offset: int
    size: int
    owner: Address


class RangeAdopted(Message, tag=92):
    """A range has another owner from now on, who was told of it with a task's result."""

    segment: int
    offset: int
    owner: Address


class RangeReleased(Message, tag=74):
    """The owner (or the slab's writer, for what it abandoned) lets go of a range."""

    segment: int
    offset: int
    size: int


class SlabClosed(Message, tag=75):
    """Nothing more will be written to the slab past `used` bytes from its start."""

    segment: int
    used: int


class SegmentAborted(Message, tag=76):
    """The writer gave up before sealing."""

    segment: int


class Pull(Message, tag=77):
    """Bring a copy of a range of another node into this node's arena, pinned for the sender.

    If it `is_ahead`, the sender does not wait for it yet: it is refused rather than queued for room
    before others.
    """

    request: int
    location: Location
    is_ahead: bool = False


class Pulled(Message, tag=78):
    """The copy is at `offset`; or `error` says why there is none."""

    request: int
    location: Location
    offset: int = 0
    error: str = ""


class ReplicaUnpinned(Message, tag=79):
    """The sender's last view on a pulled copy is gone."""

    location: Location


class AskViews(Message, tag=80):
    """An owner died: which of these ranges do you still have views on?"""

    query: int
    ranges: list[tuple[int, int, int]]


class ViewsReported(Message, tag=81):
    """The ranges of `AskViews` that the sender still reads."""

    query: int
    ranges: list[tuple[int, int, int]]


class ViewReleased(Message, tag=82):
    """The sender's last view on a reported range is gone."""

    segment: int
    offset: int
    size: int


# ---- node manager ↔ node manager -------------------------------------------------------------


class ReadRange(Message, tag=90):
    """Send me these bytes of your arena in chunks; on a connection for stored bytes alone.

    The answer is no message: chunks are raw bytes behind a head of their own (`_io.bulk`).
    """

    request: int
    location: Location
    chunk_bytes: int


class ReadCancelled(Message, tag=93):
    """Send no more of what `ReadRange` with that number asked for; tag 91 was used up before."""

    request: int
