"""Decides what a node's object store holds: grants, waits, evicts, refuses and frees.

Place in the flow: the node manager turns messages of local processes and of other nodes into the
events of `events.py`, calls `handle` and carries out the effects in order. The machine never sees a
byte of an object, never waits and owns no timer: the shell asks `next_deadline`.

The life of a stored value: `CreateRequested` → `SegmentGranted` (or a place in the queue) → the
creator writes → `RangeSealed` → the owner's `RangeReleased` → the segment is free once it is
closed, has no range left and is not being read. A segment that was not sealed is freed only when
its creator aborted it or has exited: a stopped writer must never corrupt a later object.

It deliberately does not spill, and counts no local readers of living owners' ranges: an owner
releases a range when no borrower holds it. Only after an owner's death it asks (`views.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core.dead_owners import DeadOwners
from freehold._core.ids import Address
from freehold._core.store import events as ev
from freehold._core.store.allocator import Allocator, Extent, Place
from freehold._core.store.events import (
    Instant,
    RangeName,
    StoreEffect,
    StoreEvent,
    StoreInvariantError,
)
from freehold._core.store.memory import Budget, TouchAhead
from freehold._core.store.replicas import Replica, ReplicaTable
from freehold._core.store.report import take_snapshot, too_large, what_holds
from freehold._core.store.segments import Segment, SegmentTable
from freehold._core.store.views import ASK_VIEWS_RANGES, DyingRanges
from freehold._core.store.waiters import Waiter, WaitQueue

_OTHERS_WAIT = "others wait for room, and nobody waits for this copy yet"


class StoreMachine:
    """The object store of one node.

    Example:
        >>> store = StoreMachine(ev.StoreSettings(capacity_bytes=1 << 20))
        >>> for effect in store.handle(ev.CreateRequested(1, 7, 5000), now=0.0):
        ...     print(effect)
        CommitPages(offset=0, length=8192, extent=0)
        SegmentGranted(process=1, request=7, segment=1, offset=0, size=8192, is_warm=False)
    """

    def __init__(self, settings: ev.StoreSettings) -> None:
        self._settings = settings
        self._allocator = Allocator(settings.capacity_bytes)
        self._segments = SegmentTable()
        self._replicas = ReplicaTable()
        self._dying = DyingRanges()
        self._queue = WaitQueue()
        self._processes: dict[int, None] = {}
        self._dead = DeadOwners()
        self._budget = Budget()
        self._ahead = TouchAhead(settings)
        self._last_segment = 0
        self._ignored = 0
        # Both are only meaningful during `handle`.
        self._effects: list[StoreEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.ProcessJoined: self._process_joined,
            ev.ProcessExited: self._process_exited,
            ev.CreateRequested: self._create_requested,
            ev.RangeSealed: self._range_sealed,
            ev.RangeReleased: self._range_released,
            ev.RangeAdopted: self._range_adopted,
            ev.SlabClosed: self._slab_closed,
            ev.SegmentAborted: self._segment_aborted,
            ev.CommitFailed: self._commit_failed,
            ev.BudgetRead: self._budget_read,
            ev.PagesTouched: self._pages_touched,
            ev.ReplicaRequested: self._replica_requested,
            ev.PullFinished: self._pull_finished,
            ev.PullFailed: self._pull_failed,
            ev.ReplicaUnpinned: self._replica_unpinned,
            ev.ReadStarted: self._read_started,
            ev.ReadFinished: self._read_finished,
            ev.OwnerDied: self._owner_died,
            ev.OwnerNodeDied: self._owner_node_died,
            ev.ViewsReported: self._views_reported,
            ev.ViewReleased: self._view_released,
            ev.DeadlineReached: self._deadline_reached,
        }

    def handle(self, event: StoreEvent, *, now: Instant) -> list[StoreEffect]:
        """Take an event in; returns what to do, in this order.

        Arguments:
            event: what happened. An event that names nothing known is counted and ignored.
            now: seconds on the shell's monotonic clock, never less than before.
        """
        self._now = now
        effects: list[StoreEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        self._serve()
        if self._allocator.touched_free_bytes > self._settings.touched_free_limit_bytes:
            self._decommit(self._allocator.trim(self._settings.touched_free_limit_bytes))
        if (step := self._ahead.next_step(self._allocator, self._budget, now)) is not None:
            effects.append(step)
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due if nothing else happens before."""
        refusal = self._queue.deadline(self._settings.full_timeout_s)
        oldest = self._replicas.oldest_idle()
        if oldest is None:
            return refusal
        eviction = oldest.idle_since + self._settings.replica_keep_s
        return eviction if refusal is None else min(refusal, eviction)

    def snapshot(self) -> ev.StoreSnapshot:
        """The store's figures at this moment."""
        return take_snapshot(
            self._allocator,
            self._segments,
            self._replicas,
            self._budget,
            self._queue.snapshot(),
            (len(self._dying.waiting), self._ignored),
        )

    def use(self) -> ev.StoreUse:
        """What is asked for all the time; looks at open segments and replicas only."""
        stats = self._allocator.stats()
        pinned = sum(
            self._allocator.rounded(replica.size)
            for replica in self._replicas.by_key.values()
            if replica.key not in self._replicas.idle
        )
        copied = sum(self._allocator.rounded(x.size) for x in self._replicas.by_key.values())
        in_use = stats.in_use_bytes - self._segments.reserved_bytes()
        return ev.StoreUse(in_use, stats.touched_free_bytes, pinned, in_use - copied)

    def owned_ranges(self) -> list[tuple[int, int, int, Address]]:
        """Every stored range of a living owner: segment, offset, size, owner."""
        return [
            (segment.number, offset, range_.size, range_.owner)
            for segment in self._segments.by_number.values()
            for offset, range_ in segment.ranges.items()
            if range_.owner not in self._dead
        ]

    def check_invariants(self) -> None:
        """Raise StoreInvariantError unless all of these hold (and the allocator's ALC-1 to 5).

        - STO-1 the extents in use are those of segments and replicas, one each.
        - STO-2 live ranges lie in their segment and do not overlap.
        - STO-3 the sums per owner are those of its ranges.
        - STO-4 what is free has been freed; reads and open segments are counted right.
        - STO-5 a replica is evictable if and only if it is complete and unpinned.
        - STO-6 nobody waits while the first in the queue fits, in the arena and in what may be
          committed, or a replica could be evicted.
        - STO-7 notes on ranges not sealed yet are bounded and name open segments.
        - STO-8 a dying range lives and waits for connected processes only.
        """
        self._allocator.check_invariants()
        self._segments.check_invariants()
        self._replicas.check_invariants()
        extents = {s.offset: s.size for s in self._segments.by_number.values()}
        for replica in self._replicas.by_key.values():
            extents[replica.offset] = self._allocator.rounded(replica.size)
        count = len(self._segments.by_number) + len(self._replicas.by_key)
        sizes = {offset: self._allocator.extent_size(offset) for offset in extents}
        if len(extents) != count or sizes != extents:
            raise StoreInvariantError(f"STO-1: extents {sizes} are not {extents}")
        if sum(extents.values()) != self._allocator.in_use_bytes:
            raise StoreInvariantError("STO-1: an extent belongs to nobody")
        first = self._queue.first()
        if first is not None:
            if self._replicas.idle:
                raise StoreInvariantError("STO-6: a request waits beside evictable replicas")
            place = self._allocator.find(first.size)
            if place is not None and not self._lacks(place):
                raise StoreInvariantError(f"STO-6: {first} waits and would fit")
        for (number, offset), processes in self._dying.waiting.items():
            segment = self._segments.by_number.get(number)
            if segment is None or offset not in segment.ranges:
                raise StoreInvariantError(f"STO-8: range {offset} of segment {number} is gone")
            if not processes or not processes.keys() <= self._processes.keys():
                raise StoreInvariantError(f"STO-8: range {offset} waits for {list(processes)}")

    # ---- room --------------------------------------------------------------------------------

    def _create_requested(self, event: ev.CreateRequested) -> None:
        self._ahead.asked(self._now)
        self._drop_ahead()
        if self._allocator.rounded(event.size) > self._allocator.capacity_bytes:
            report = too_large(event.size, self._settings)
            self._effects.append(ev.SegmentRefused(event.process, event.request, report))
            return
        who = (event.process, event.request)
        self._queue.add(who, Waiter(event.size, [who], event.is_slab), now=self._now)

    def _drop_ahead(self) -> None:
        """Somebody asks for room: a copy that nobody waits for yet does not stand before him."""
        first = self._queue.first()
        if first is not None and first.is_ahead:
            self._effects += self._queue.pop_first(now=self._now).refused(_OTHERS_WAIT)

    def _serve(self) -> None:
        """Grant from the front of the queue as long as there is room, evicting for it."""
        budget = self._budget
        while (waiter := self._queue.first()) is not None:
            place = self._allocator.find(waiter.size)
            while (place is None or self._lacks(place)) and self._evict():
                place = self._allocator.find(waiter.size)
            if place is None:
                break
            budget.is_short = self._lacks(place) > 0
            if budget.is_short:
                self._effects.append(ev.ReadBudget())
                return
            extent = self._allocator.take(place)
            if missing := budget.lacks(place.cold_bytes):
                spare = self._allocator.touched_free_bytes
                self._decommit(self._allocator.trim(max(0, spare - missing)))
            budget.spend(place.cold_bytes)
            self._queue.pop_first(now=self._now)
            self._grant(waiter, extent)
        budget.is_short = False

    def _lacks(self, place: Place) -> int:
        """What may not be committed of it, even if touched memory elsewhere is given back."""
        missing = self._budget.lacks(place.cold_bytes)
        return max(0, missing - self._allocator.spare_bytes(place)) if missing else 0

    def _decommit(self, runs: list[tuple[int, int]]) -> None:
        for offset, length in runs:
            if length:
                self._effects.append(ev.DecommitPages(offset, length))
                self._budget.gain(length)
                self._ahead.decommitted(offset, length)

    def _budget_read(self, event: ev.BudgetRead) -> None:
        self._budget.left = event.budget_bytes
        self._budget.told = event.told

    def _pages_touched(self, event: ev.PagesTouched) -> None:
        runs = self._ahead.finished(self._allocator, event.offset, event.length, event.is_done)
        if runs is None:
            self._ignored += 1
        else:  # whether they were touched is not known: nothing is gained before the next look
            self._effects += [ev.DecommitPages(*run) for run in runs]

    def _evict(self) -> bool:
        replica = self._replicas.oldest_idle()
        if replica is None:
            return False
        self._free_replica(replica)
        return True

    def _grant(self, waiter: Waiter, extent: Extent) -> None:
        offset, size, cold_offset, cold_length = extent
        if cold_length:
            self._effects.append(ev.CommitPages(cold_offset, cold_length, offset))
        if waiter.key is not None:
            replica = Replica(waiter.key, waiter.size, offset, waiter.requesters)
            self._replicas.by_key[waiter.key] = replica
            pull = ev.StartPull(waiter.key, waiter.size, offset, extent.is_warm)
            self._effects.append(pull)
            return
        (process, request) = waiter.requesters[0]
        self._last_segment += 1
        number = self._last_segment
        self._segments.add(Segment(number, process, request, offset, size, waiter.is_slab))
        granted = ev.SegmentGranted(process, request, number, offset, size, extent.is_warm)
        self._effects.append(granted)

    def _deadline_reached(self, event: ev.DeadlineReached) -> None:
        oldest = self._replicas.oldest_idle()
        while oldest and oldest.idle_since + self._settings.replica_keep_s <= self._now:
            self._free_replica(oldest)
            oldest = self._replicas.oldest_idle()
        waiter = self._queue.first()
        due = self._queue.deadline(self._settings.full_timeout_s)
        if waiter is not None and due is not None and due <= self._now:
            report = what_holds(
                waiter.size, self.snapshot(), self._segments, self._settings, self._budget.told
            )
            self._effects += self._queue.pop_first(now=self._now).refused(report)

    def _commit_failed(self, event: ev.CommitFailed) -> None:
        reason = f"the machine has no memory left for the object store: {event.reason}"
        for segment in self._segments.by_number.values():
            if segment.offset == event.extent and not segment.is_closed:
                self._segments.remove(segment)
                refused = ev.SegmentRefused(segment.process, segment.request, reason)
                self._effects.append(refused)
                self._discard(event.extent)
                return
        for replica in self._replicas.by_key.values():
            if replica.offset == event.extent and not replica.is_ready:
                self._replicas.remove(replica)
                self._effects += replica.failed(reason)
                self._discard(event.extent)
                return
        self._ignored += 1

    def _discard(self, extent: int) -> None:
        self._decommit([self._allocator.discard(extent)])

    # ---- segments ----------------------------------------------------------------------------

    def _range_sealed(self, event: ev.RangeSealed) -> None:
        segment = self._segments.by_number.get(event.segment)
        if (
            segment is None
            or segment.is_closed
            or segment.process != event.process
            or event.size <= 0
            or event.offset in segment.ranges
            or event.offset < segment.offset
            or event.offset + event.size > segment.offset + segment.size
        ):
            self._ignored += 1
            return
        is_live = self._segments.seal(segment, event.offset, event.size, event.owner)
        if not segment.is_slab:
            self._close(segment, segment.sealed_end - segment.offset)
        if is_live and segment.ranges[event.offset].owner in self._dead:
            self._ask_views([(segment, event.offset)])

    def _range_released(self, event: ev.RangeReleased) -> None:
        segment = self._segments.by_number.get(event.segment)
        if segment is None:
            self._ignored += 1
        elif self._segments.release(segment, event.offset):
            self._dying.forget(event.segment, event.offset)
            self._free_if_possible(segment)

    def _range_adopted(self, event: ev.RangeAdopted) -> None:
        segment = self._segments.by_number.get(event.segment)
        if segment is None:
            self._ignored += 1
            return
        self._segments.adopt(segment, event.offset, event.owner)
        if event.offset not in segment.ranges:
            return
        if event.owner not in self._dead:
            self._dying.forget(event.segment, event.offset)
        elif (event.segment, event.offset) not in self._dying.waiting:
            self._ask_views([(segment, event.offset)])

    def _slab_closed(self, event: ev.SlabClosed) -> None:
        segment = self._segments.by_number.get(event.segment)
        if segment is None or segment.is_closed or not segment.is_slab:
            self._ignored += 1
        else:
            self._close(segment, event.used)

    def _segment_aborted(self, event: ev.SegmentAborted) -> None:
        segment = self._segments.by_number.get(event.segment)
        if segment is None or segment.is_closed or segment.process != event.process:
            self._ignored += 1
        else:
            self._close(segment, 0)

    def _close(self, segment: Segment, used: int) -> None:
        """Nothing more comes into the segment; what lies behind its last range is free."""
        self._segments.close(segment)
        if segment.is_free:
            self._free_if_possible(segment)
            return
        used = max(used, segment.sealed_end - segment.offset)
        size = segment.size if segment.reads else self._allocator.shrink(segment.offset, used)
        if size < segment.size:
            segment.size = size
            self._queue.note_progress(now=self._now)

    def _free_if_possible(self, segment: Segment) -> None:
        if segment.is_free:
            self._segments.remove(segment)
            self._free(segment.offset)

    def _free(self, offset: int) -> None:
        self._allocator.free(offset)
        self._queue.note_progress(now=self._now)

    # ---- replicas and reads ------------------------------------------------------------------

    def _replica_requested(self, event: ev.ReplicaRequested) -> None:
        self._ahead.asked(self._now)
        if not event.is_ahead:
            self._drop_ahead()
        who = (event.process, event.request)
        replica = self._replicas.by_key.get(event.key)
        waiter = self._queue.get(event.key)
        if replica is not None and replica.is_ready:
            self._effects += self._replicas.pin(replica, [who])
        elif replica is not None:
            replica.requesters.append(who)
        elif waiter is not None and not event.is_ahead:
            waiter.requesters.append(who)
        else:
            waiter = Waiter(event.size, [who], key=event.key, is_ahead=event.is_ahead)
            if event.is_ahead and self._queue:
                self._effects += waiter.refused(_OTHERS_WAIT)
            elif self._allocator.rounded(event.size) > self._allocator.capacity_bytes:
                self._effects += waiter.refused(too_large(event.size, self._settings))
            else:
                self._queue.add(event.key, waiter, now=self._now)

    def _pull_finished(self, event: ev.PullFinished) -> None:
        replica = self._replicas.by_key.get(event.key)
        if replica is None or replica.is_ready:
            self._ignored += 1
            return
        replica.is_ready = True
        requesters, replica.requesters = replica.requesters, []
        self._effects += self._replicas.pin(replica, requesters)
        self._replicas.settle(replica, now=self._now)

    def _pull_failed(self, event: ev.PullFailed) -> None:
        replica = self._replicas.by_key.get(event.key)
        if replica is None or replica.is_ready:
            self._ignored += 1
            return
        self._effects += replica.failed(event.reason)
        self._free_replica(replica)

    def _replica_unpinned(self, event: ev.ReplicaUnpinned) -> None:
        replica = self._replicas.by_key.get(event.key)
        if replica is None or event.process not in replica.pins:
            self._ignored += 1
        else:
            self._replicas.unpin(replica, event.process, event.count, now=self._now)

    def _free_replica(self, replica: Replica) -> None:
        self._replicas.remove(replica)
        self._free(replica.offset)

    def _read_started(self, event: ev.ReadStarted) -> None:
        segment = self._segments.by_number.get(event.segment)
        end = event.offset + event.size
        if (
            segment is None
            or not self._segments.is_readable(segment, event.offset)
            or end > segment.offset + segment.size
        ):
            self._effects.append(ev.RefuseRead(event.segment, event.offset))
            return
        segment.reads += 1
        reads = self._segments.reads
        name = (event.segment, event.offset)
        reads[name] = reads.get(name, 0) + 1

    def _read_finished(self, event: ev.ReadFinished) -> None:
        name = (event.segment, event.offset)
        reads = self._segments.reads
        if name not in reads:
            self._ignored += 1
            return
        reads[name] -= 1
        if not reads[name]:
            del reads[name]
        segment = self._segments.by_number[event.segment]
        segment.reads -= 1
        self._free_if_possible(segment)

    # ---- deaths ------------------------------------------------------------------------------

    def _process_joined(self, event: ev.ProcessJoined) -> None:
        self._processes[event.process] = None

    def _process_exited(self, event: ev.ProcessExited) -> None:
        process = event.process
        self._processes.pop(process, None)
        self._queue.leave(process)
        for number in list(self._segments.open_by_process.get(process, ())):
            self._close(self._segments.by_number[number], 0)
        self._replicas.leave(process, now=self._now)
        self._drop_ranges(self._dying.leave(process))

    def _owner_died(self, event: ev.OwnerDied) -> None:
        self._dead.add(event.owner)
        self._bury(lambda owner: owner == event.owner)

    def _owner_node_died(self, event: ev.OwnerNodeDied) -> None:
        self._dead.add_node(event.node, event.incarnation)
        self._bury(lambda owner: owner.node == event.node and owner in self._dead)

    def _bury(self, is_dead: Callable[[Address], bool]) -> None:
        names = self._segments.owned_by(is_dead)
        self._ask_views([(s, o) for s, o in names if (s.number, o) not in self._dying.waiting])

    def _ask_views(self, names: list[tuple[Segment, int]]) -> None:
        """Free these ranges as soon as no local process reads them."""
        if not self._processes:
            self._drop_ranges([(segment.number, offset) for segment, offset in names])
            return
        for start in range(0, len(names), ASK_VIEWS_RANGES):
            chunk = names[start : start + ASK_VIEWS_RANGES]
            ranges: list[RangeName] = [(s.number, o, s.ranges[o].size) for s, o in chunk]
            query = self._dying.ask(ranges, self._processes)
            for process in self._processes:
                self._effects.append(ev.AskViews(process, query, ranges))

    def _drop_ranges(self, names: list[tuple[int, int]]) -> None:
        for number, offset in names:
            segment = self._segments.by_number[number]
            self._segments.release(segment, offset)
            self._dying.forget(number, offset)
            self._free_if_possible(segment)

    def _views_reported(self, event: ev.ViewsReported) -> None:
        names = self._dying.report(event.process, event.query, event.still_viewed)
        self._drop_ranges(names)

    def _view_released(self, event: ev.ViewReleased) -> None:
        if self._dying.let_go(event.process, event.segment, event.offset):
            self._drop_ranges([(event.segment, event.offset)])
