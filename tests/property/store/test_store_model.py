"""The store machine against a naive model of who needs which bytes.

The model plays creators, owners, readers and other nodes, with messages that overtake each other,
and the machine's memory.
Safety: memory in need is never handed out again, what is in use is exactly what is in need, nobody
overtakes in the queue, no more is committed than there is, what counts as touched is. Liveness:
once everybody has let go and there is memory, every request was granted and the store is empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from freehold._core.ids import Address
from freehold._core.store import events as ev
from freehold._core.store import memory
from freehold._core.store.machine import StoreMachine

PAGE = 4096
PAGES = 16
LIMIT = 4 * PAGE
SIZES = st.one_of(st.integers(1, 6).map(lambda n: n * PAGE), st.integers(64, 3 * PAGE))
STEP = 2 * PAGE
TIMEOUT_S = 30.0
KEEP_S = 5.0


def rounded(size: int, unit_of: int) -> int:
    unit = PAGE if unit_of >= PAGE else 64
    return max(-(-size // unit), 1) * unit


@dataclass
class Value:
    offset: int
    size: int
    owner: Address
    is_sealed: bool = False
    is_released: bool = False
    viewers: set[int] | None = None  # who must let go, once the owner is dead
    reads: int = 0


@dataclass
class Extent:
    process: int
    offset: int
    size: int
    is_slab: bool
    is_open: bool = True
    written: int = 0
    values: list[Value] = field(default_factory=list)

    def is_needed(self) -> bool:
        live = any(v.is_sealed and not v.is_released for v in self.values)
        return self.is_open or live or any(v.reads for v in self.values)


@dataclass
class Copy:
    offset: int
    size: int
    is_ready: bool = False
    pins: list[int] = field(default_factory=list)


class StoreModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.step_bytes, memory.TOUCH_STEP_BYTES = memory.TOUCH_STEP_BYTES, STEP
        self.machine = StoreMachine(
            ev.StoreSettings(
                capacity_bytes=PAGES * PAGE,
                full_timeout_s=TIMEOUT_S,
                touched_free_limit_bytes=LIMIT,
                replica_keep_s=KEEP_S,
                touch_ahead=True,
            )
        )
        self.now = 0.0
        self.requests = 0
        self.processes: list[int] = []
        self.last_process = 0
        self.owners = [Address("a", 1), Address("b", 2)]
        self.last_owner = 2
        self.dead: list[Address] = []
        self.wanted: dict[int, int] = {}  # request for a copy → process
        self.waiting: list[tuple[int, int, int, bool]] = []  # creators only, in order
        self.extents: dict[int, Extent] = {}
        self.copies: dict[tuple[str, int, int], Copy] = {}
        self.queries: list[tuple[int, int, list[ev.RangeName]]] = []
        self.committed = [False] * PAGES
        self.budget = PAGES * PAGE  # what the machine has left, as far as it was told
        self.step: ev.TouchPages | None = None
        self.is_touched = False
        for _ in range(3):
            self.join()

    # ---- the shell -----------------------------------------------------------------------------

    def send(self, event: ev.StoreEvent) -> None:
        self.forget_unneeded()
        effects = self.machine.handle(event, now=self.now)
        self.forget_unneeded()
        for effect in effects:
            self.carry_out(effect)
        self.machine.check_invariants()

    def forget_unneeded(self) -> None:
        for number in [n for n, extent in self.extents.items() if not extent.is_needed()]:
            del self.extents[number]

    def needed(self) -> list[tuple[int, int]]:
        """Offset and end of all memory that must not be handed out; idle copies may be evicted."""
        found = [(e.offset, e.offset + e.size) for e in self.extents.values()]
        pinned = [c for c in self.copies.values() if c.pins or not c.is_ready]
        return found + [(c.offset, c.offset + rounded(c.size, c.size)) for c in pinned]

    def must_be_unused(self, offset: int, end: int) -> None:
        assert 0 <= offset < end <= PAGES * PAGE
        for start, stop in self.needed():
            assert end <= start or stop <= offset, f"{offset}:{end} overlaps {start}:{stop}"
        for key, copy in list(self.copies.items()):
            if copy.offset < end and offset < copy.offset + rounded(copy.size, copy.size):
                del self.copies[key]  # it was evicted

    def must_be_committed(self, offset: int, size: int) -> None:
        assert all(self.committed[offset // PAGE : -(-(offset + size) // PAGE)])

    def carry_out(self, effect: ev.StoreEffect) -> None:
        if isinstance(effect, ev.CommitPages):
            self.commit(effect.offset, effect.length)
        elif isinstance(effect, ev.DecommitPages):
            self.must_be_unused(effect.offset, effect.offset + effect.length)
            for page in range(effect.offset // PAGE, (effect.offset + effect.length) // PAGE):
                self.budget += PAGE * self.committed[page]
                self.committed[page] = False
        elif isinstance(effect, ev.TouchPages):
            assert self.step is None, "one step at a time"
            assert 0 < effect.length <= STEP
            self.must_be_unused(effect.offset, effect.offset + effect.length)
            self.step = effect
        elif isinstance(effect, ev.SegmentGranted):
            process, request, size, is_slab = self.waiting.pop(0)
            assert (effect.process, effect.request) == (process, request), "overtaken"
            assert effect.size >= size
            self.must_be_unused(effect.offset, effect.offset + effect.size)
            self.must_be_committed(effect.offset, effect.size)
            extent = Extent(process, effect.offset, effect.size, is_slab)
            self.extents[effect.segment] = extent
        elif isinstance(effect, ev.SegmentRefused):
            process, request, *_ = self.waiting.pop(0)
            assert (effect.process, effect.request) == (process, request)
        elif isinstance(effect, ev.StartPull):
            self.must_be_unused(effect.offset, effect.offset + rounded(effect.size, effect.size))
            self.must_be_committed(effect.offset, effect.size)
            self.copies[effect.key] = Copy(effect.offset, effect.size)
        elif isinstance(effect, ev.ReplicaReady):
            copy = self.copies[effect.key]
            assert (copy.offset, copy.size, copy.is_ready) == (effect.offset, effect.size, True)
            assert effect.process in self.processes
            copy.pins.append(effect.process)
            assert self.wanted.pop(effect.request) == effect.process
        elif isinstance(effect, ev.ReplicaFailed):
            assert self.wanted.pop(effect.request) == effect.process
        elif isinstance(effect, ev.AskViews):
            assert effect.process in self.processes
            self.queries.append((effect.process, effect.query, effect.ranges))
            for number, offset, _ in effect.ranges:
                value = self.find(number, offset)
                value.viewers = set(self.processes)

    def commit(self, offset: int, length: int) -> None:
        for page in range(offset // PAGE, (offset + length) // PAGE):
            self.budget -= PAGE * (not self.committed[page])
            self.committed[page] = True
        # An extent below a page shares it with free memory that cannot be given back alone.
        held = [e.size for e in self.extents.values()] + [c.size for c in self.copies.values()]
        shared = PAGE * sum(size < PAGE for size in held)
        assert self.budget + shared >= 0, "more was committed than there is"

    def find(self, number: int, offset: int) -> Value:
        return next(v for v in self.extents[number].values if v.offset == offset)

    def unreleased(self) -> list[tuple[int, Value]]:
        pairs = [(n, v) for n, extent in self.extents.items() for v in extent.values]
        return [(n, v) for n, v in pairs if not v.is_released]

    def viewed(self) -> list[tuple[int, Value, int]]:
        """Views that their process has reported and still holds."""
        asked = {(p, n, o) for p, _, ranges in self.queries for n, o, _ in ranges}
        return [
            (number, value, process)
            for number, value in self.unreleased()
            for process in sorted(value.viewers or ())
            if (process, number, value.offset) not in asked
        ]

    # ---- rules ---------------------------------------------------------------------------------

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def join(self) -> None:
        self.last_process += 1
        self.processes.append(self.last_process)
        self.send(ev.ProcessJoined(self.last_process))

    @rule(data=st.data(), size=SIZES, is_slab=st.booleans())
    def create(self, data: st.DataObject, size: int, is_slab: bool) -> None:
        process = data.draw(st.sampled_from(self.processes))
        self.requests += 1
        self.waiting.append((process, self.requests, size, is_slab))
        self.send(ev.CreateRequested(process, self.requests, size, is_slab))

    @precondition(lambda self: any(e.is_open for e in self.extents.values()))
    @rule(data=st.data(), size=st.integers(1, 6000), is_announced=st.booleans())
    def write(self, data: st.DataObject, size: int, is_announced: bool) -> None:
        number = data.draw(st.sampled_from([n for n, e in self.extents.items() if e.is_open]))
        extent = self.extents[number]
        size = min(size, extent.size - extent.written)
        if size <= 0 or (extent.written and not extent.is_slab):
            return
        owner = data.draw(st.sampled_from(self.owners))
        extent.values.append(Value(extent.offset + extent.written, size, owner))
        extent.written = min(extent.written + -(-size // 64) * 64, extent.size)
        if is_announced:
            self.deliver_seals(number)

    def deliver_seals(self, number: int) -> None:
        extent = self.extents[number]
        for value in extent.values:
            if not value.is_sealed:
                value.is_sealed = True
                self.close_model(extent, 0, is_closing=not extent.is_slab)
                event = ev.RangeSealed(
                    extent.process, number, value.offset, value.size, value.owner
                )
                self.send(event)

    def close_model(self, extent: Extent, used: int, *, is_closing: bool = True) -> None:
        if is_closing:
            extent.is_open = False
            ends = [v.offset + v.size - extent.offset for v in extent.values if v.is_sealed]
            if not any(v.reads for v in extent.values):
                extent.size = rounded(max([used, *ends]), extent.size)

    @precondition(lambda self: any(e.is_open for e in self.extents.values()))
    @rule(data=st.data(), is_aborted=st.booleans())
    def finish(self, data: st.DataObject, is_aborted: bool) -> None:
        number = data.draw(st.sampled_from([n for n, e in self.extents.items() if e.is_open]))
        extent = self.extents[number]
        if is_aborted or not (extent.values or extent.is_slab):
            extent.values = [v for v in extent.values if v.is_sealed or v.reads]
            self.close_model(extent, 0)
            self.send(ev.SegmentAborted(extent.process, number))
        elif extent.is_slab:
            self.deliver_seals(number)
            self.close_model(extent, extent.written)
            self.send(ev.SlabClosed(number, extent.written))
        else:
            self.deliver_seals(number)

    @precondition(lambda self: self.unreleased())
    @rule(data=st.data(), times=st.integers(1, 2))
    def release(self, data: st.DataObject, times: int) -> None:
        number, value = data.draw(st.sampled_from(self.unreleased()))
        value.is_released = True
        for _ in range(times):
            self.send(ev.RangeReleased(number, value.offset, value.size))

    @precondition(lambda self: self.unreleased())
    @rule(data=st.data())
    def start_read(self, data: st.DataObject) -> None:
        number, value = data.draw(st.sampled_from(self.unreleased()))
        # What its writer had not announced when it ended is not there for another reader.
        value.reads += value.is_sealed or self.extents[number].is_open
        self.send(ev.ReadStarted(number, value.offset))

    def being_read(self) -> list[tuple[int, Value]]:
        return [(n, v) for n, e in self.extents.items() for v in e.values if v.reads]

    @precondition(lambda self: self.being_read())
    @rule(data=st.data())
    def finish_read(self, data: st.DataObject) -> None:
        number, value = data.draw(st.sampled_from(self.being_read()))
        value.reads -= 1
        self.send(ev.ReadFinished(number, value.offset))

    @rule(data=st.data(), number=st.integers(0, 4))
    def want_copy(self, data: st.DataObject, number: int) -> None:
        process = data.draw(st.sampled_from(self.processes))
        self.requests += 1
        size = (number + 1) * 3000
        self.wanted[self.requests] = process
        self.send(ev.ReplicaRequested(process, self.requests, ("x", number, 0), size))

    @precondition(lambda self: any(not c.is_ready for c in self.copies.values()))
    @rule(data=st.data(), is_good=st.booleans())
    def end_pull(self, data: st.DataObject, is_good: bool) -> None:
        keys = [key for key, copy in self.copies.items() if not copy.is_ready]
        key = data.draw(st.sampled_from(keys))
        if is_good:
            self.copies[key].is_ready = True
            self.send(ev.PullFinished(key))
        else:
            del self.copies[key]
            self.send(ev.PullFailed(key, "lost"))

    @precondition(lambda self: any(c.pins for c in self.copies.values()))
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from([k for k, c in self.copies.items() if c.pins]))
        process = data.draw(st.sampled_from(self.copies[key].pins))
        self.copies[key].pins.remove(process)
        self.send(ev.ReplicaUnpinned(process, key))

    @precondition(lambda self: len(self.processes) > 1)
    @rule(data=st.data())
    def process_exits(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.processes))
        self.processes.remove(process)
        self.waiting = [w for w in self.waiting if w[0] != process]
        self.queries = [q for q in self.queries if q[0] != process]
        self.wanted = {r: p for r, p in self.wanted.items() if p != process}
        for copy in self.copies.values():
            copy.pins = [p for p in copy.pins if p != process]
        for extent in self.extents.values():
            for value in extent.values:
                self.let_go(value, process)
            if extent.is_open and extent.process == process:
                extent.values = [v for v in extent.values if v.is_sealed or v.reads]
                self.close_model(extent, 0)
        self.send(ev.ProcessExited(process))

    def let_go(self, value: Value, process: int) -> None:
        if value.viewers is not None:
            value.viewers.discard(process)
            if not value.viewers:
                value.is_released = True

    @rule(data=st.data(), is_node=st.booleans())
    def owner_dies(self, data: st.DataObject, is_node: bool) -> None:
        owner = data.draw(st.sampled_from(self.owners))
        node = [o for o in self.owners if o.node == owner.node]
        dying = [o for o in node if is_node and o.incarnation <= owner.incarnation] or [owner]
        self.dead += dying
        self.owners = [o for o in self.owners if o not in dying]
        while len(self.owners) < 2:
            self.last_owner += 1
            incarnation = 1 + max([o.incarnation for o in self.dead if o.node == "c"], default=0)
            self.owners.append(Address("c", self.last_owner, incarnation))
        died = ev.OwnerNodeDied(owner.node, owner.incarnation) if is_node else ev.OwnerDied(owner)
        self.send(died)

    @rule(pages=st.integers(0, PAGES))
    def look_at_memory(self, pages: int) -> None:
        self.budget = pages * PAGE
        self.send(ev.BudgetRead(self.budget))

    @precondition(lambda self: self.step is not None and not self.is_touched)
    @rule()
    def touch(self) -> None:
        """The thread is through with its step, but the machine has not been told yet."""
        assert self.step is not None
        self.is_touched = True
        first, end = self.step.offset // PAGE, (self.step.offset + self.step.length) // PAGE
        self.committed[first:end] = [True] * (end - first)

    @precondition(lambda self: self.step is not None)
    @rule(is_done=st.booleans())
    def end_step(self, is_done: bool) -> None:
        if is_done and not self.is_touched:
            self.touch()
        step, self.step, self.is_touched = self.step, None, False
        assert step is not None
        self.send(ev.PagesTouched(step.offset, step.length, is_done))

    @precondition(lambda self: self.queries)
    @rule(data=st.data(), is_viewing=st.booleans())
    def answer(self, data: st.DataObject, is_viewing: bool) -> None:
        query = data.draw(st.sampled_from(self.queries))
        self.queries.remove(query)
        process, number, ranges = query
        for segment, offset, _ in ranges:
            if not is_viewing and segment in self.extents:
                self.let_go(self.find(segment, offset), process)
        self.send(ev.ViewsReported(process, number, ranges if is_viewing else []))

    @precondition(lambda self: self.viewed())
    @rule(data=st.data())
    def release_view(self, data: st.DataObject) -> None:
        number, value, process = data.draw(st.sampled_from(self.viewed()))
        self.let_go(value, process)
        self.send(ev.ViewReleased(process, number, value.offset))

    @rule(seconds=st.integers(0, 20))
    def time_passes(self, seconds: int) -> None:
        """Short of the deadline for refusing: it is covered by the unit tests."""
        self.now += seconds
        deadline = self.machine.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.send(ev.DeadlineReached())

    # ---- what must hold ------------------------------------------------------------------------

    @invariant()
    def in_use_is_what_is_needed(self) -> None:
        self.forget_unneeded()
        snapshot = self.machine.snapshot()
        needed = sum(end - start for start, end in self.needed())
        assert snapshot.in_use_bytes - snapshot.cached_bytes == needed
        assert snapshot.capacity_bytes >= snapshot.in_use_bytes
        creators = [w for w in snapshot.waiters if any(w.request == r for _, r, *_ in self.waiting)]
        assert [(w.process, w.request) for w in creators] == [w[:2] for w in self.waiting]
        known = snapshot.in_use_bytes + snapshot.touched_free_bytes
        slack = 0 if self.step is None else self.step.length
        assert known <= sum(self.committed) * PAGE <= known + slack

    def teardown(self) -> None:
        try:
            self.everybody_lets_go()
        finally:
            memory.TOUCH_STEP_BYTES = self.step_bytes

    def everybody_lets_go(self) -> None:
        """Liveness: everybody lets go of everything until nobody waits; then the store is empty."""
        for _ in range(1000):
            self.look_at_memory(PAGES)
            if self.step is not None:
                self.end_step(is_done=True)
            for query in list(self.queries):
                self.queries.remove(query)
                for segment, offset, _ in query[2]:
                    if segment in self.extents:
                        self.let_go(self.find(segment, offset), query[0])
                self.send(ev.ViewsReported(query[0], query[1], []))
            for number, value in self.being_read():
                for _ in range(value.reads):
                    value.reads -= 1
                    self.send(ev.ReadFinished(number, value.offset))
            for number in [n for n, e in self.extents.items() if e.is_open]:
                self.extents[number].values = [
                    v for v in self.extents[number].values if v.is_sealed
                ]
                self.close_model(self.extents[number], 0)
                self.send(ev.SegmentAborted(self.extents[number].process, number))
            for number, value, process in self.viewed():
                self.let_go(value, process)
                self.send(ev.ViewReleased(process, number, value.offset))
            for number, value in self.unreleased():
                if value.owner in self.dead:
                    continue  # the store finds out by itself
                value.is_released = True
                self.send(ev.RangeReleased(number, value.offset, value.size))
            for key in [k for k, c in self.copies.items() if not c.is_ready]:
                self.copies[key].is_ready = True
                self.send(ev.PullFinished(key))
            for key, copy in list(self.copies.items()):
                while copy.pins:
                    self.send(ev.ReplicaUnpinned(copy.pins.pop(), key))
            self.forget_unneeded()
            if not (self.waiting or self.needed() or self.machine.snapshot().waiters):
                break
        snapshot = self.machine.snapshot()
        assert snapshot.waiters == ()
        assert self.waiting == []
        assert self.wanted == {}, "everybody who wanted a copy was answered"
        assert snapshot.in_use_bytes == snapshot.cached_bytes
        self.now += KEEP_S
        self.send(ev.DeadlineReached())
        rest = self.machine.snapshot()
        assert (rest.in_use_bytes, rest.ranges, rest.segments, rest.owners) == (0, 0, 0, ())
        assert rest.touched_free_bytes <= LIMIT
        assert self.machine.next_deadline() is None


StoreModel.TestCase.settings = settings(max_examples=250, stateful_step_count=50, derandomize=True)
TestStoreModel = StoreModel.TestCase
