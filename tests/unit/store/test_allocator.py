"""The allocator: what it hands out, what it prefers, what it gives back."""

from __future__ import annotations

import pytest

from freehold._core.store.allocator import PAGE_BYTES, Allocator, Extent
from freehold._core.store.events import StoreInvariantError

PAGE = PAGE_BYTES


def take(allocator: Allocator, size: int) -> Extent:
    extent = allocator.allocate(size)
    assert extent is not None
    allocator.check_invariants()
    return extent


def test_large_extents_start_on_a_page_and_small_ones_on_the_alignment() -> None:
    allocator = Allocator(16 * PAGE)
    assert take(allocator, 1)[:2] == (0, 64)
    assert take(allocator, 65)[:2] == (64, 128)
    assert take(allocator, PAGE + 1)[:2] == (PAGE, 2 * PAGE)
    assert take(allocator, 100)[:2] == (192, 128)


def test_a_hole_that_is_large_enough_but_askew_holds_no_page() -> None:
    allocator = Allocator(2 * PAGE)
    extents = [take(allocator, 2048) for _ in range(4)]
    for index in (1, 2):
        allocator.free(extents[index].offset)
    assert allocator.stats().largest_free_bytes == PAGE
    assert allocator.allocate(PAGE) is None
    allocator.free(extents[0].offset)
    assert take(allocator, PAGE).offset == 0


def test_the_whole_capacity_can_be_allocated_at_once() -> None:
    allocator = Allocator(16 * PAGE + 5)
    assert take(allocator, 16 * PAGE).size == 16 * PAGE
    assert allocator.allocate(1) is None
    assert allocator.stats().largest_free_bytes == 0


def test_neighbours_are_merged_whatever_the_order_of_freeing() -> None:
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        allocator = Allocator(3 * PAGE)
        extents = [take(allocator, PAGE) for _ in range(3)]
        for index in order:
            allocator.free(extents[index].offset)
            allocator.check_invariants()
        assert allocator.stats().free_blocks == 1
        assert take(allocator, 3 * PAGE).offset == 0


def test_freed_memory_is_handed_out_again_before_memory_never_touched() -> None:
    allocator = Allocator(64 * PAGE)
    first, second = take(allocator, 4 * PAGE), take(allocator, PAGE)
    assert (first.cold_offset, first.cold_length) == (0, 4 * PAGE)
    assert not first.is_warm
    assert not second.is_warm
    allocator.free(first.offset)
    assert take(allocator, 3 * PAGE) == Extent(0, 3 * PAGE, 0, 0)


def test_a_warm_block_is_preferred_to_a_smaller_cold_one() -> None:
    allocator = Allocator(64 * PAGE)
    small, _, large, _ = (take(allocator, n * PAGE) for n in (2, 1, 4, 1))
    allocator.free(small.offset)
    assert allocator.trim(0) == [(small.offset, 2 * PAGE)]
    allocator.free(large.offset)
    again = take(allocator, 2 * PAGE)
    assert again.is_warm
    assert again.offset == large.offset


def test_the_warm_end_of_a_block_is_used() -> None:
    allocator = Allocator(8 * PAGE)
    extents = [take(allocator, 4 * PAGE) for _ in range(2)]
    allocator.free(extents[0].offset)
    allocator.trim(0)
    allocator.free(extents[1].offset)
    assert take(allocator, 2 * PAGE) == Extent(6 * PAGE, 2 * PAGE, 6 * PAGE, 0)


def test_among_blocks_of_one_size_the_last_freed_is_taken() -> None:
    allocator = Allocator(64 * PAGE)
    extents = [take(allocator, PAGE) for _ in range(6)]
    for index in (2, 0, 4):
        allocator.free(extents[index].offset)
    taken = [take(allocator, PAGE).offset for _ in range(3)]
    assert taken == [extents[index].offset for index in (4, 0, 2)]


def test_only_the_cold_part_of_an_extent_is_committed() -> None:
    allocator = Allocator(8 * PAGE)
    allocator.free(take(allocator, 2 * PAGE).offset)
    extent = take(allocator, 5 * PAGE)
    assert extent == Extent(0, 5 * PAGE, 2 * PAGE, 3 * PAGE)
    assert not extent.is_warm


def test_trim_takes_the_longest_free_first_and_from_the_high_end() -> None:
    allocator = Allocator(64 * PAGE)
    old, _, new, _ = (take(allocator, n * PAGE) for n in (4, 1, 4, 1))
    allocator.free(old.offset)
    allocator.free(new.offset)
    assert allocator.touched_free_bytes == 8 * PAGE
    assert allocator.trim(8 * PAGE) == []
    assert allocator.trim(5 * PAGE) == [(old.offset + PAGE, 3 * PAGE)]
    allocator.check_invariants()
    assert allocator.trim(0) == [(old.offset, PAGE), (new.offset, 4 * PAGE)]
    allocator.check_invariants()
    assert allocator.touched_free_bytes == 0
    assert not take(allocator, 4 * PAGE).is_warm


def test_trim_leaves_pages_shared_with_an_extent() -> None:
    allocator = Allocator(8 * PAGE)
    keep, drop = take(allocator, 64), take(allocator, 2048)
    allocator.free(drop.offset)
    assert allocator.trim(0) == []
    assert allocator.touched_free_bytes == PAGE - keep.size
    allocator.check_invariants()


def test_shrink_gives_the_tail_back() -> None:
    allocator = Allocator(8 * PAGE)
    extent = take(allocator, 8 * PAGE)
    assert allocator.shrink(extent.offset, PAGE + 1) == 2 * PAGE
    allocator.check_invariants()
    assert allocator.in_use_bytes == 2 * PAGE
    assert allocator.shrink(extent.offset, 2 * PAGE) == 2 * PAGE
    assert take(allocator, 6 * PAGE).offset == 2 * PAGE


def test_discarded_memory_is_cold_again() -> None:
    allocator = Allocator(8 * PAGE)
    before, extent = take(allocator, PAGE), take(allocator, 3 * PAGE)
    allocator.free(before.offset)
    assert allocator.discard(extent.offset) == (PAGE, 3 * PAGE)
    allocator.check_invariants()
    assert allocator.touched_free_bytes == PAGE
    assert take(allocator, 2 * PAGE).cold_offset == PAGE


def test_freeing_what_was_not_allocated_is_a_bug_of_the_caller() -> None:
    allocator = Allocator(8 * PAGE)
    allocator.free(take(allocator, PAGE).offset)
    with pytest.raises(StoreInvariantError, match="ALC-1"):
        allocator.free(0)


@pytest.mark.parametrize(("capacity", "alignment"), [(100, 64), (1 << 20, 0), (1 << 20, 48)])
def test_impossible_sizes_are_refused(capacity: int, alignment: int) -> None:
    with pytest.raises(ValueError, match=r"page|alignment"):
        Allocator(capacity, alignment)
