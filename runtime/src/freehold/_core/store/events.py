"""What the store machine is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the node manager turns peer messages (`_core.messages`, tags 70 to 91), process
exits and timers into these events and carries the effects out, in order. A `process` is the number
of a local process (0 is the node manager itself); an owner may live anywhere and is an `Address`.

Offsets are absolute in the node's arena; sizes are bytes; times are seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""

ReplicaKey: TypeAlias = tuple[str, int, int]
"""Source node, segment and offset of the copied range; never used twice for other bytes."""

RangeName: TypeAlias = tuple[int, int, int]
"""Segment, offset, size: a stored range as the views messages name it."""


class StoreInvariantError(Exception):
    """The store machine's own tables disagree: a bug of Freehold, never of its user.

    The message starts with the invariant's id (`STO-3: …`), see `docs/invariants.md` and the
    docstring of `StoreMachine.check_invariants`.
    """


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one node's store; the node manager's settings fill them in."""

    capacity_bytes: int
    """Size of the arena."""

    full_timeout_s: float = 30.0
    """Without a grant or a freed byte for this long the oldest waiter is refused."""

    touched_free_limit_bytes: int = 256 << 20
    """Free memory that stays committed because writing it again is twice as fast; 0 keeps none."""

    replica_keep_s: float = 30.0
    """How long an unpinned replica stays as a cache, so that a node at rest holds 0 bytes."""

    touch_ahead: bool = False
    """Whether free memory is touched in the background while memory is being asked for."""


class _Event(msgspec.Struct, frozen=True, gc=False):
    pass


class _Effect(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class ProcessJoined(_Event, frozen=True):
    """A local process is connected: it may hold views and will be asked about them."""

    process: int


class ProcessExited(_Event, frozen=True):
    """A local process *ended* (pidfd readable) and everything it had sent was handled."""

    process: int


class CreateRequested(_Event, frozen=True):
    """A process needs room to write. A slab takes several ranges until `SlabClosed`."""

    process: int
    request: int
    size: int
    is_slab: bool = False


class RangeSealed(_Event, frozen=True):
    """A creator finished a range; may come after the owner's `RangeReleased` for it."""

    process: int
    segment: int
    offset: int
    size: int
    owner: Address


class RangeReleased(_Event, frozen=True):
    """The owner let go; saying it twice does no harm."""

    segment: int
    offset: int
    size: int


class RangeAdopted(_Event, frozen=True):
    """A range has another owner from now on (hand-off); may come before `RangeSealed`."""

    segment: int
    offset: int
    owner: Address


class SlabClosed(_Event, frozen=True):
    """All ranges of the slab were announced; past `used` bytes from its start nothing is."""

    segment: int
    used: int


class SegmentAborted(_Event, frozen=True):
    """The creator gave up; what it sealed before stays."""

    process: int
    segment: int


class CommitFailed(_Event, frozen=True):
    """The kernel had no memory for the `CommitPages` of this extent.

    The shell leaves out the `SegmentGranted` or `StartPull` with this offset in the same list.
    """

    extent: int
    reason: str


class BudgetRead(_Event, frozen=True):
    """The machine's memory was looked at: so much may be committed until it is looked at again.

    `told` says where the figure comes from, for whoever is refused for want of it.
    """

    budget_bytes: int
    told: str = ""


class PagesTouched(_Event, frozen=True):
    """What `TouchPages` asked for was done, or could not be."""

    offset: int
    length: int
    is_done: bool = True


class ReplicaRequested(_Event, frozen=True):
    """A process wants a range of another node, pinned here until it unpins it.

    If it `is_ahead`, the process does not wait for it yet: where it would itself have to wait for
    room, it gives way to whoever asks for something else.
    """

    process: int
    request: int
    key: ReplicaKey
    size: int
    is_ahead: bool = False


class PullFinished(_Event, frozen=True):
    """All bytes of a replica arrived."""

    key: ReplicaKey


class PullFailed(_Event, frozen=True):
    """A replica cannot be had from there."""

    key: ReplicaKey
    reason: str


class ReplicaUnpinned(_Event, frozen=True):
    """A process gives back `count` of the `ReplicaReady` it got for the key."""

    process: int
    key: ReplicaKey
    count: int = 1


class ReadStarted(_Event, frozen=True):
    """A range is about to be sent to another node: its bytes must stay."""

    segment: int
    offset: int
    size: int = 0


class ReadFinished(_Event, frozen=True):
    """That sending ended, well or not; one for each `ReadStarted` that was not refused."""

    segment: int
    offset: int


class OwnerDied(_Event, frozen=True):
    """The owner of ranges is dead for good (its process exited or its node was declared dead)."""

    owner: Address


class OwnerNodeDied(_Event, frozen=True):
    """A node was declared dead in this incarnation, and every owner there with it."""

    node: str
    incarnation: int


class ViewsReported(_Event, frozen=True):
    """A process's answer to `AskViews`: the ranges it still reads."""

    process: int
    query: int
    still_viewed: list[RangeName]


class ViewReleased(_Event, frozen=True):
    """A process's last view on a range it had reported is gone."""

    process: int
    segment: int
    offset: int


class DeadlineReached(_Event, frozen=True):
    """The time that `next_deadline()` named has come."""


StoreEvent: TypeAlias = (
    ProcessJoined
    | ProcessExited
    | CreateRequested
    | RangeSealed
    | RangeReleased
    | RangeAdopted
    | SlabClosed
    | SegmentAborted
    | CommitFailed
    | BudgetRead
    | PagesTouched
    | ReplicaRequested
    | PullFinished
    | PullFailed
    | ReplicaUnpinned
    | ReadStarted
    | ReadFinished
    | OwnerDied
    | OwnerNodeDied
    | ViewsReported
    | ViewReleased
    | DeadlineReached
)


# ---- effects -----------------------------------------------------------------------------------


class CommitPages(_Effect, frozen=True):
    """Have the kernel allocate these pages before carrying on; on failure say `CommitFailed`."""

    offset: int
    length: int
    extent: int


class DecommitPages(_Effect, frozen=True):
    """Give these free pages back to the kernel."""

    offset: int
    length: int


class TouchPages(_Effect, frozen=True):
    """Touch these free pages in the background, then say `PagesTouched`.

    They may be handed out, written and freed meanwhile: touching must not change what they hold.
    """

    offset: int
    length: int


class ReadBudget(_Effect, frozen=True):
    """The first in the queue waits for the machine's memory: look at it again soon."""


class SegmentGranted(_Effect, frozen=True):
    """Tell the process where to write; `is_warm` if all its pages hold data already."""

    process: int
    request: int
    segment: int
    offset: int
    size: int
    is_warm: bool


class SegmentRefused(_Effect, frozen=True):
    """Tell the process that there is and will be no room."""

    process: int
    request: int
    report: str


class StartPull(_Effect, frozen=True):
    """Bring the bytes of a replica to `offset`, then say `PullFinished` or `PullFailed`."""

    key: ReplicaKey
    size: int
    offset: int
    is_warm: bool


class ReplicaReady(_Effect, frozen=True):
    """Tell the process where its replica is; it is pinned once more for it."""

    process: int
    request: int
    key: ReplicaKey
    offset: int
    size: int


class ReplicaFailed(_Effect, frozen=True):
    """Tell the process that it gets no replica."""

    process: int
    request: int
    key: ReplicaKey
    reason: str


class RefuseRead(_Effect, frozen=True):
    """The range to be read is not here (any more): send its reader an error instead."""

    segment: int
    offset: int


class AskViews(_Effect, frozen=True):
    """Ask a process which of these ranges, whose owner died, it still reads."""

    process: int
    query: int
    ranges: list[RangeName]


StoreEffect: TypeAlias = (
    CommitPages
    | DecommitPages
    | TouchPages
    | ReadBudget
    | SegmentGranted
    | SegmentRefused
    | StartPull
    | ReplicaReady
    | ReplicaFailed
    | RefuseRead
    | AskViews
)


# ---- snapshot ----------------------------------------------------------------------------------


class OwnerHoldings(_Effect, frozen=True):
    """What one owner has in the store."""

    owner: Address
    size_bytes: int
    count: int


class WaiterSnapshot(_Effect, frozen=True):
    """One request that waits for room; `request` is the first requester's."""

    process: int
    request: int
    size: int


class StoreUse(_Effect, frozen=True):
    """The figures of `StoreSnapshot` that are told all the time: `in_use_bytes` without what is
    merely reserved."""

    in_use_bytes: int
    touched_free_bytes: int
    pinned_replica_bytes: int
    primary_bytes: int
    """Of primary copies alone: what would be lost with the node."""


class StoreSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The store at one moment, for metrics, dashboard and tests. Bytes include rounding.

    `in_use_bytes` = segments + replicas; `touched_free_bytes` is committed but free memory;
    `cached_bytes` are the replicas that could be evicted at once, `reserved_bytes` what open slabs
    have without a live range in it, both parts of `in_use_bytes`. `budget_bytes` is what may still
    be committed, None if nobody looked; `is_short` says that the first waiter waits for that.
    """

    capacity_bytes: int
    in_use_bytes: int
    touched_free_bytes: int
    largest_free_bytes: int
    unsealed_bytes: int
    cached_bytes: int
    pinned_replica_bytes: int
    reserved_bytes: int
    budget_bytes: int | None
    is_short: bool
    segments: int
    open_slabs: int
    ranges: int
    reads: int
    dying_ranges: int
    ignored_events: int
    owners: tuple[OwnerHoldings, ...]
    waiters: tuple[WaiterSnapshot, ...]
