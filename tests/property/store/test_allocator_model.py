"""The allocator against a naive model: one flag a byte unit, one a page."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from freehold._core.store.allocator import PAGE_BYTES, Allocator

UNIT = 64
PAGES = 24
CAPACITY = PAGES * PAGE_BYTES
SIZES = st.one_of(
    st.sampled_from([64, 1024, 2048, PAGE_BYTES - 64, PAGE_BYTES]),  # makes holes askew
    st.integers(1, 3 * PAGE_BYTES),
    st.integers(1, 6).map(lambda pages: pages * PAGE_BYTES),
    st.just(CAPACITY),
)


class AllocatorModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.allocator = Allocator(CAPACITY)
        self.used = [False] * (CAPACITY // UNIT)
        self.committed = [False] * PAGES
        self.extents: dict[int, int] = {}

    def fits(self, size: int) -> bool:
        unit = PAGE_BYTES if size >= PAGE_BYTES else UNIT
        size = -(-size // unit) * unit
        return any(
            not any(self.used[start // UNIT : (start + size) // UNIT])
            for start in range(0, CAPACITY - size + 1, unit)
        )

    def pages_of(self, offset: int, size: int) -> range:
        return range(offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES))

    @rule(size=SIZES)
    def allocate(self, size: int) -> None:
        extent = self.allocator.allocate(size)
        assert (extent is not None) == self.fits(size)
        if extent is None:
            return
        assert extent.size >= size
        assert extent.offset % (PAGE_BYTES if size >= PAGE_BYTES else UNIT) == 0
        units = range(extent.offset // UNIT, (extent.offset + extent.size) // UNIT)
        assert not any(self.used[unit] for unit in units)
        for unit in units:
            self.used[unit] = True
        cold = self.pages_of(extent.cold_offset, extent.cold_length) if extent.cold_length else ()
        for page in self.pages_of(extent.offset, extent.size):
            assert self.committed[page] or page in cold
        for page in cold:
            assert page in self.pages_of(extent.offset, extent.size)
            self.committed[page] = True
        self.extents[extent.offset] = extent.size

    def forget(self, start: int, end: int) -> None:
        for unit in range(start // UNIT, end // UNIT):
            self.used[unit] = False

    def decommit(self, offset: int, length: int) -> None:
        assert not any(self.used[offset // UNIT : (offset + length) // UNIT])
        for page in self.pages_of(offset, length):
            self.committed[page] = False

    @precondition(lambda self: self.extents)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.extents)))
        size = self.extents.pop(offset)
        assert self.allocator.free(offset) == size
        self.forget(offset, offset + size)

    @precondition(lambda self: self.extents)
    @rule(data=st.data())
    def shrink(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.extents)))
        size = data.draw(st.integers(1, self.extents[offset]))
        new = self.allocator.shrink(offset, size)
        assert size <= new <= self.extents[offset]
        self.forget(offset + new, offset + self.extents[offset])
        self.extents[offset] = new

    @precondition(lambda self: self.extents)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.extents)))
        self.forget(offset, offset + self.extents.pop(offset))
        run = self.allocator.discard(offset)
        if run[1]:
            self.decommit(*run)

    @rule(limit=st.integers(0, CAPACITY))
    def trim(self, limit: int) -> None:
        before = self.allocator.touched_free_bytes
        runs = self.allocator.trim(limit)
        for run in runs:
            self.decommit(*run)
        given = sum(length for _, length in runs)
        assert given < max(before - limit, 0) + PAGE_BYTES
        if self.allocator.touched_free_bytes > limit:  # what is left shares its page
            for page, committed in enumerate(self.committed):
                units = self.used[page * PAGE_BYTES // UNIT : (page + 1) * PAGE_BYTES // UNIT]
                assert not committed or any(units)

    @invariant()
    def figures_agree(self) -> None:
        self.allocator.check_invariants()
        stats = self.allocator.stats()
        assert stats.in_use_bytes == sum(self.used) * UNIT == sum(self.extents.values())
        assert stats.touched_free_bytes == sum(self.committed) * PAGE_BYTES - stats.in_use_bytes

    def teardown(self) -> None:
        for offset in self.extents:
            self.allocator.free(offset)
        self.allocator.check_invariants()
        assert self.allocator.stats().in_use_bytes == 0
        assert self.allocator.allocate(CAPACITY) is not None


AllocatorModel.TestCase.settings = settings(
    max_examples=250, stateful_step_count=50, derandomize=True
)
TestAllocatorModel = AllocatorModel.TestCase
