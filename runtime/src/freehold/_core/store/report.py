"""Says what holds the store: the text of `ObjectStoreFullError`, and the snapshot.

Place in the flow: read-only over the store machine's tables; called when a waiter is refused and
when somebody looks. It decides nothing.
"""

from __future__ import annotations

from heapq import nlargest

from freehold._core.store.allocator import Allocator
from freehold._core.store.events import StoreSettings, StoreSnapshot, WaiterSnapshot
from freehold._core.store.memory import Budget
from freehold._core.store.replicas import ReplicaTable
from freehold._core.store.segments import SegmentTable

REPORT_LINES = 5
"""Owners and objects named in a report."""


def take_snapshot(
    allocator: Allocator,
    segments: SegmentTable,
    replicas: ReplicaTable,
    budget: Budget,
    waiters: tuple[WaiterSnapshot, ...],
    counts: tuple[int, int],
) -> StoreSnapshot:
    """The store's figures at this moment; `counts` are those of dying ranges, ignored events."""
    stats = allocator.stats()
    opened = [segment for segment in segments.by_number.values() if not segment.is_closed]
    cached = sum(allocator.rounded(replica.size) for replica in replicas.idle.values())
    copied = sum(allocator.rounded(replica.size) for replica in replicas.by_key.values())
    return StoreSnapshot(
        capacity_bytes=allocator.capacity_bytes,
        in_use_bytes=stats.in_use_bytes,
        touched_free_bytes=stats.touched_free_bytes,
        largest_free_bytes=stats.largest_free_bytes,
        unsealed_bytes=sum(segment.size for segment in opened),
        cached_bytes=cached,
        pinned_replica_bytes=copied - cached,
        reserved_bytes=segments.reserved_bytes(),
        budget_bytes=budget.left,
        is_short=budget.is_short,
        segments=len(segments.by_number),
        open_slabs=sum(segment.is_slab for segment in opened),
        ranges=sum(len(segment.ranges) for segment in segments.by_number.values()),
        reads=sum(segments.reads.values()),
        dying_ranges=counts[0],
        ignored_events=counts[1],
        owners=segments.holdings(),
        waiters=waiters,
    )


def too_large(size: int, settings: StoreSettings) -> str:
    """Why a request can never be granted."""
    return (
        f"{size} bytes do not fit into an object store of {settings.capacity_bytes} bytes: "
        "split the value or start the node with a larger object store"
    )


def what_holds(
    size: int,
    snapshot: StoreSnapshot,
    segments: SegmentTable,
    settings: StoreSettings,
    memory: str,
) -> str:
    """Why a request was not granted in time, and what to do; `memory` tells of the machine's."""
    head = (
        f"no room for {size} bytes within {settings.full_timeout_s:g} s: of "
        f"{snapshot.capacity_bytes} bytes {snapshot.in_use_bytes} are in use, the largest free "
        f"block has {snapshot.largest_free_bytes}; {len(snapshot.waiters)} requests wait"
    )
    lines = [head]
    if snapshot.is_short:
        lines[0] = (
            f"no memory for {size} bytes within {settings.full_timeout_s:g} s: {memory}, which "
            f"leaves {max(0, snapshot.budget_bytes or 0)} bytes for the object store; there is "
            f"room in the store itself ({snapshot.in_use_bytes} of {snapshot.capacity_bytes} bytes "
            f"are in use); {len(snapshot.waiters)} requests wait"
        )
    lines += [
        f"- owner {held.owner}: {held.size_bytes} bytes in {held.count} objects"
        for held in snapshot.owners[:REPORT_LINES]
    ]
    if len(snapshot.owners) > REPORT_LINES:
        lines.append(f"- and {len(snapshot.owners) - REPORT_LINES} owners more")
    ranges = (
        (range_.size, -segment.number, -offset, range_.owner)
        for segment in segments.by_number.values()
        for offset, range_ in segment.ranges.items()
    )
    largest = [
        f"{range_size} bytes of {owner} (segment {-number})"
        for range_size, number, _, owner in nlargest(REPORT_LINES, ranges)
    ]
    if largest:
        lines.append("- largest objects: " + ", ".join(largest))
    lines.append(
        f"- being written: {snapshot.unsealed_bytes} bytes ({snapshot.open_slabs} slabs open); "
        f"replicas pinned: {snapshot.pinned_replica_bytes} bytes"
    )
    if snapshot.dying_ranges:
        lines.append(f"- of dead owners, still viewed: {snapshot.dying_ranges} objects")
    if snapshot.is_short:
        lines.append("free memory on this machine, raise its limit, or drop references")
    else:
        lines.append("drop references that are not needed, or start the node with a larger store")
    return "\n".join(lines)
