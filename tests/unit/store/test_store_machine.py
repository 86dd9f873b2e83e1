"""The store machine on creators and owners: grant, wait, refuse, seal, release, abort, exit."""

from __future__ import annotations

from typing import Any

import pytest

from freehold._core.ids import Address
from freehold._core.store import segments as segments_module
from freehold._core.store.events import (
    CommitFailed,
    CommitPages,
    CreateRequested,
    DeadlineReached,
    DecommitPages,
    ProcessExited,
    RangeAdopted,
    RangeReleased,
    RangeSealed,
    ReadFinished,
    ReadStarted,
    RefuseRead,
    SegmentAborted,
    SegmentGranted,
    SegmentRefused,
    SlabClosed,
    StoreEffect,
    StoreEvent,
    StoreSettings,
)
from freehold._core.store.machine import StoreMachine

PAGE = 4096
ANN = Address("a" * 32, 1)
BOB = Address("b" * 32, 2)


class Store:
    """A machine of some pages that checks its invariants after every event."""

    def __init__(self, pages: int = 16, **settings: Any) -> None:
        settings = {"touched_free_limit_bytes": pages * PAGE} | settings
        self.machine = StoreMachine(StoreSettings(capacity_bytes=pages * PAGE, **settings))

    def __call__(self, event: StoreEvent, now: float = 0.0) -> list[StoreEffect]:
        effects = self.machine.handle(event, now=now)
        self.machine.check_invariants()
        return effects

    def create(self, size: int, process: int = 1, is_slab: bool = False) -> SegmentGranted:
        effects = self(CreateRequested(process, 0, size, is_slab))
        (granted,) = (effect for effect in effects if isinstance(effect, SegmentGranted))
        return granted

    def store(self, size: int, process: int = 1, owner: Address = ANN) -> SegmentGranted:
        granted = self.create(size, process)
        self(RangeSealed(process, granted.segment, granted.offset, size, owner))
        return granted

    @property
    def in_use(self) -> int:
        return self.machine.snapshot().in_use_bytes


def test_a_grant_of_untouched_memory_commits_it_first() -> None:
    store = Store()
    assert store(CreateRequested(1, 7, 5000)) == [
        CommitPages(0, 2 * PAGE, 0),
        SegmentGranted(1, 7, 1, 0, 2 * PAGE, False),
    ]


def test_a_value_holds_its_memory_from_grant_to_release_and_leaves_it_warm() -> None:
    store = Store()
    granted = store.create(5000)
    assert store(RangeSealed(1, granted.segment, 0, 5000, ANN)) == []
    held = store.machine.snapshot()
    assert (held.in_use_bytes, held.unsealed_bytes, held.ranges) == (2 * PAGE, 0, 1)
    assert [(o.owner, o.size_bytes, o.count) for o in held.owners] == [(ANN, 5000, 1)]
    assert store(RangeReleased(granted.segment, 0, 5000)) == []
    rest = store.machine.snapshot()
    assert (rest.in_use_bytes, rest.touched_free_bytes, rest.owners) == (0, 2 * PAGE, ())
    assert store(CreateRequested(1, 8, 5000)) == [SegmentGranted(1, 8, 2, 0, 2 * PAGE, True)]


def test_touched_free_memory_beyond_the_setting_is_given_back() -> None:
    store = Store(touched_free_limit_bytes=PAGE)
    granted = store.store(4 * PAGE)
    assert store(RangeReleased(granted.segment, 0, 4 * PAGE)) == [DecommitPages(PAGE, 3 * PAGE)]
    assert store.machine.snapshot().touched_free_bytes == PAGE


def test_releasing_twice_or_something_unknown_does_no_harm() -> None:
    store = Store()
    first = store.store(PAGE)
    for _ in range(2):
        assert store(RangeReleased(first.segment, first.offset, PAGE)) == []
    second = store.store(PAGE)
    store(RangeReleased(first.segment, first.offset, PAGE))
    store(RangeReleased(999, 0, PAGE))
    assert second.offset == first.offset
    assert store.in_use == PAGE


def test_a_release_that_overtakes_the_seal_frees_when_the_seal_comes() -> None:
    store = Store()
    granted = store.create(PAGE)
    store(RangeReleased(granted.segment, granted.offset, PAGE))
    assert store.in_use == PAGE, "its creator may still be writing"
    store(RangeSealed(1, granted.segment, granted.offset, PAGE, ANN))
    assert store.in_use == 0


def test_seals_that_make_no_sense_are_ignored_and_counted() -> None:
    store = Store()
    granted = store.create(2 * PAGE, is_slab=True)
    for event in (
        RangeSealed(2, granted.segment, 0, 64, ANN),  # not the creator
        RangeSealed(1, granted.segment, PAGE, PAGE + 1, ANN),  # behind the end
        RangeSealed(1, granted.segment, 0, 0, ANN),
        RangeSealed(1, 99, 0, 64, ANN),
    ):
        assert store(event) == []
    snapshot = store.machine.snapshot()
    assert (snapshot.ranges, snapshot.ignored_events) == (0, 4)


def test_a_slab_is_free_when_it_is_closed_and_its_last_range_is_released() -> None:
    store = Store()
    slab = store.create(4 * PAGE, is_slab=True)
    store(RangeSealed(1, slab.segment, 0, 100, ANN))
    store(RangeSealed(1, slab.segment, 128, 100, BOB))
    store(RangeReleased(slab.segment, 0, 100))
    store(RangeReleased(slab.segment, 128, 100))
    assert store.in_use == 4 * PAGE, "open: more may come"
    store(RangeSealed(1, slab.segment, 256, 100, ANN))
    store(SlabClosed(slab.segment, 356))
    assert store.in_use == PAGE, "the tail came back"
    store(RangeReleased(slab.segment, 256, 100))
    assert store.in_use == 0


def test_a_slab_never_shrinks_below_what_was_sealed_in_it() -> None:
    store = Store()
    slab = store.create(4 * PAGE, is_slab=True)
    store(RangeSealed(1, slab.segment, 2 * PAGE, 100, ANN))
    store(SlabClosed(slab.segment, 0))
    assert store.in_use == 3 * PAGE


def test_an_aborted_segment_is_free_at_once() -> None:
    store = Store()
    granted = store.create(PAGE)
    store(SegmentAborted(2, granted.segment))
    assert store.in_use == PAGE, "only its creator can abort it"
    store(SegmentAborted(1, granted.segment))
    assert store.in_use == 0


def test_an_exit_frees_what_the_process_had_not_sealed_and_keeps_the_rest() -> None:
    store = Store(pages=8)
    kept = store.store(PAGE, process=1)
    slab = store.create(4 * PAGE, process=1, is_slab=True)
    store.create(PAGE, process=1)
    store(RangeSealed(1, slab.segment, slab.offset, 100, ANN))
    assert store(CreateRequested(1, 5, 4 * PAGE)) == []
    assert store(CreateRequested(2, 6, 4 * PAGE)) == []
    effects = store(ProcessExited(1))
    assert effects == [SegmentGranted(2, 6, 4, 2 * PAGE, 4 * PAGE, True)]
    assert kept.offset == 0
    assert store.in_use == (1 + 1 + 4) * PAGE


def test_requests_wait_in_order_and_are_served_as_room_is_made() -> None:
    store = Store(pages=4)
    first, second = store.store(2 * PAGE), store.store(2 * PAGE)
    assert store(CreateRequested(1, 10, 3 * PAGE)) == []
    assert store(CreateRequested(2, 11, PAGE)) == []
    assert store(RangeReleased(second.segment, second.offset, 0)) == [], "no overtaking"
    assert [(w.process, w.request) for w in store.machine.snapshot().waiters] == [(1, 10), (2, 11)]
    effects = store(RangeReleased(first.segment, first.offset, 0))
    assert [effect.request for effect in effects if isinstance(effect, SegmentGranted)] == [10, 11]


def test_a_result_larger_than_the_store_is_refused_at_once() -> None:
    store = Store(pages=4)
    assert store.create(4 * PAGE).size == 4 * PAGE
    (effect,) = store(CreateRequested(1, 3, 4 * PAGE + 1))
    assert isinstance(effect, SegmentRefused)
    assert effect.report.startswith(f"{4 * PAGE + 1} bytes do not fit into an object store of")
    assert store.machine.next_deadline() is None


def test_without_progress_the_oldest_waiter_is_refused_with_what_holds_the_store() -> None:
    store = Store(pages=4)
    store.store(2 * PAGE, owner=ANN)
    store.store(100, owner=BOB)
    store.create(PAGE, is_slab=True)
    store(CreateRequested(1, 10, 2 * PAGE), now=100.0)
    store(CreateRequested(2, 11, 2 * PAGE), now=110.0)
    assert store.machine.next_deadline() == 130.0
    assert store(DeadlineReached(), now=129.9) == []
    (effect,) = store(DeadlineReached(), now=130.0)
    assert isinstance(effect, SegmentRefused)
    assert (effect.process, effect.request) == (1, 10)
    assert f"owner aaaaaaaa:1: {2 * PAGE} bytes in 1 objects" in effect.report
    assert "owner bbbbbbbb:2: 100 bytes in 1 objects" in effect.report
    assert f"largest objects: {2 * PAGE} bytes of aaaaaaaa:1 (segment 1)" in effect.report
    assert f"being written: {PAGE} bytes (1 slabs open)" in effect.report
    assert store.machine.next_deadline() == 160.0


def test_progress_gives_the_waiters_their_patience_back() -> None:
    store = Store(pages=4)
    first, second = store.store(PAGE), store.store(3 * PAGE)
    store(CreateRequested(1, 10, 4 * PAGE), now=0.0)
    store(RangeReleased(first.segment, first.offset, PAGE), now=20.0)
    assert store.machine.next_deadline() == 50.0
    assert store(DeadlineReached(), now=30.0) == []
    effects = store(RangeReleased(second.segment, second.offset, 0), now=49.0)
    assert isinstance(effects[-1], SegmentGranted)
    assert store.machine.next_deadline() is None


def test_a_refusal_serves_the_smaller_request_behind_it() -> None:
    store = Store(pages=4)
    store.store(2 * PAGE)
    store(CreateRequested(1, 10, 3 * PAGE))
    store(CreateRequested(1, 11, 2 * PAGE))
    effects = store(DeadlineReached(), now=30.0)
    assert [type(e) for e in effects] == [SegmentRefused, CommitPages, SegmentGranted]


def test_a_range_being_read_keeps_its_memory_until_the_last_read_ends() -> None:
    store = Store()
    granted = store.store(PAGE)
    name = (granted.segment, granted.offset)
    assert store(ReadStarted(*name)) == store(ReadStarted(*name)) == []
    store(RangeReleased(*name, PAGE))
    assert store(ReadStarted(*name)) == [RefuseRead(*name)]
    store(ReadFinished(*name))
    assert store.in_use == PAGE
    store(ReadFinished(*name))
    assert store.in_use == 0
    store(ReadFinished(*name))
    assert store.machine.snapshot().ignored_events == 1


def test_a_part_of_a_range_can_be_read_while_the_range_is_there() -> None:
    store = Store()
    granted = store.store(PAGE)
    name = (granted.segment, granted.offset + 64)
    assert store(ReadStarted(*name)) == []
    store(RangeReleased(granted.segment, granted.offset, PAGE))
    assert store.in_use == PAGE
    assert store(ReadStarted(*name)) == [RefuseRead(*name)]
    store(ReadFinished(*name))
    assert store.in_use == 0


def test_more_than_a_segment_has_cannot_be_read() -> None:
    store = Store()
    granted = store.store(PAGE)
    name = (granted.segment, granted.offset)
    assert store(ReadStarted(*name, granted.size)) == []
    assert store(ReadStarted(*name, granted.size + 1)) == [RefuseRead(*name)]
    assert store(ReadStarted(granted.segment, granted.offset + 64, granted.size)) != []


def test_no_part_of_a_range_ends_behind_it() -> None:
    store = Store()
    granted = store.store(PAGE)
    behind = (granted.segment, granted.offset + PAGE)
    assert store(ReadStarted(*behind)) == [RefuseRead(*behind)]


def test_a_read_may_come_before_the_seal_but_not_after_an_early_release() -> None:
    store = Store()
    granted = store.create(PAGE)
    name = (granted.segment, granted.offset)
    assert store(ReadStarted(*name)) == []
    store(RangeReleased(*name, PAGE))
    assert store(ReadStarted(*name)) == [RefuseRead(*name)]
    store(RangeSealed(1, *name, PAGE, ANN))
    assert store.in_use == PAGE
    store(ReadFinished(*name))
    assert store.in_use == 0
    assert store(ReadStarted(99, 0)) == [RefuseRead(99, 0)]


def test_a_creator_that_exits_during_a_read_does_not_pull_the_memory_away() -> None:
    store = Store()
    granted = store.create(PAGE)
    store(ReadStarted(granted.segment, granted.offset))
    store(ProcessExited(1))
    assert store.in_use == PAGE
    store(ReadFinished(granted.segment, granted.offset))
    assert store.in_use == 0


def test_a_slab_is_not_cut_while_it_is_read() -> None:
    """A read may have begun behind the last range that is sealed: that seal was on its way."""
    store = Store()
    slab = store.create(4 * PAGE, is_slab=True)
    store(RangeSealed(1, slab.segment, slab.offset, 100, ANN))
    name = (slab.segment, slab.offset + 2 * PAGE)
    assert store(ReadStarted(*name)) == []
    store(ProcessExited(1))
    assert store.in_use == 4 * PAGE
    store(ReadFinished(*name))
    store(RangeReleased(slab.segment, slab.offset, 100))
    assert store.in_use == 0


@pytest.mark.parametrize("is_early", [False, True])
def test_an_adopted_range_counts_for_its_new_owner(is_early: bool) -> None:
    store = Store()
    granted = store.create(PAGE)
    events: list[StoreEvent] = [
        RangeSealed(1, granted.segment, granted.offset, PAGE, ANN),
        RangeAdopted(granted.segment, granted.offset, BOB),
    ]
    for event in reversed(events) if is_early else events:
        store(event)
    assert [held.owner for held in store.machine.snapshot().owners] == [BOB]


def test_notes_on_ranges_not_sealed_yet_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "EARLY_NOTES", 3)
    store = Store()
    slab = store.create(PAGE, is_slab=True)
    for index in range(5):
        store(RangeReleased(slab.segment, 64 * index, 64))
    for index in range(5):
        store(RangeSealed(1, slab.segment, 64 * index, 64, ANN))
    assert store.machine.snapshot().ranges == 2, "the two oldest notes were dropped"
    store(SlabClosed(slab.segment, 320))
    assert store.in_use == 320 // PAGE * PAGE + PAGE


def test_a_grant_whose_memory_the_kernel_refused_is_taken_back() -> None:
    store = Store()
    granted = store.create(2 * PAGE)
    effects = store(CommitFailed(granted.offset, "enospc"))
    assert isinstance(effects[0], SegmentRefused)
    assert "no memory left for the object store: enospc" in effects[0].report
    assert effects[1:] == [DecommitPages(0, 2 * PAGE)]
    assert store.in_use == 0
    assert not store.create(PAGE).is_warm
    store(CommitFailed(12345, "enospc"))
    assert store.machine.snapshot().ignored_events == 1
