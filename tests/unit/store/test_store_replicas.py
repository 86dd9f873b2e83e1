"""The store machine on replicas, and on the views of ranges whose owner died."""

from __future__ import annotations

import pytest
from tests.unit.store.test_store_machine import ANN, BOB, PAGE, Store

from freehold._core.dead_owners import DeadOwners
from freehold._core.ids import Address
from freehold._core.store import machine as machine_module
from freehold._core.store.events import (
    AskViews,
    CommitFailed,
    CommitPages,
    CreateRequested,
    DeadlineReached,
    DecommitPages,
    OwnerDied,
    ProcessExited,
    ProcessJoined,
    PullFailed,
    PullFinished,
    RangeAdopted,
    RangeReleased,
    RangeSealed,
    ReplicaFailed,
    ReplicaReady,
    ReplicaRequested,
    ReplicaUnpinned,
    SegmentGranted,
    StartPull,
    ViewReleased,
    ViewsReported,
)

KEY = ("c" * 32, 5, 640)
OTHER = ("d" * 32, 6, 0)
THIRD = ("e" * 32, 7, 0)


def pull(store: Store, key: tuple[str, int, int], pages: int, process: int = 1) -> None:
    store(ReplicaRequested(process, 0, key, pages * PAGE))
    store(PullFinished(key))


def test_a_replica_is_pulled_once_for_all_who_want_it() -> None:
    store = Store()
    assert store(ReplicaRequested(1, 10, KEY, 5000)) == [
        CommitPages(0, 2 * PAGE, 0),
        StartPull(KEY, 5000, 0, False),
    ]
    assert store(ReplicaRequested(2, 20, KEY, 5000)) == []
    assert store(PullFinished(KEY)) == [
        ReplicaReady(1, 10, KEY, 0, 5000),
        ReplicaReady(2, 20, KEY, 0, 5000),
    ]
    assert store(ReplicaRequested(3, 30, KEY, 5000)) == [ReplicaReady(3, 30, KEY, 0, 5000)]
    assert store.machine.snapshot().pinned_replica_bytes == 2 * PAGE


def test_a_failed_pull_fails_all_who_want_it_and_can_be_tried_again() -> None:
    store = Store()
    store(ReplicaRequested(1, 10, KEY, PAGE))
    store(ReplicaRequested(2, 20, KEY, PAGE))
    assert store(PullFailed(KEY, "gone")) == [
        ReplicaFailed(1, 10, KEY, "gone"),
        ReplicaFailed(2, 20, KEY, "gone"),
    ]
    assert store.in_use == 0
    assert isinstance(store(ReplicaRequested(1, 11, KEY, PAGE))[-1], StartPull)


def test_unpinned_replicas_are_evicted_least_recently_used_first() -> None:
    store = Store(pages=4)
    keys = [(KEY[0], number, 0) for number in range(4)]
    for key in keys:
        pull(store, key, 1)
    for index in (2, 0, 1):
        store(ReplicaUnpinned(1, keys[index]))
    assert isinstance(store(ReplicaRequested(1, 1, keys[2], PAGE))[-1], ReplicaReady)
    store(ReplicaUnpinned(1, keys[2]))  # now the order is 0, 1, 2
    store(CreateRequested(1, 2, PAGE))
    assert isinstance(store(ReplicaRequested(1, 3, keys[1], PAGE))[-1], ReplicaReady)
    assert store.machine.snapshot().cached_bytes == PAGE
    store(ReplicaRequested(1, 4, keys[0], PAGE))
    assert store.machine.snapshot().cached_bytes == 0, "2 made room for 0"
    assert store(CreateRequested(1, 5, PAGE)) == [], "pinned ones stay"


def test_a_request_waits_for_a_replica_to_be_unpinned_by_all_readers() -> None:
    store = Store(pages=2)
    pull(store, KEY, 2)
    store(ReplicaRequested(2, 1, KEY, 2 * PAGE))
    store(ReplicaRequested(2, 2, KEY, 2 * PAGE))
    assert store(CreateRequested(3, 3, PAGE)) == []
    assert store(ReplicaUnpinned(1, KEY)) == []
    assert store(ReplicaUnpinned(2, KEY)) == [], "it was told twice"
    assert store(ReplicaUnpinned(2, KEY)) == [SegmentGranted(3, 3, 1, 0, PAGE, True)]
    store(ReplicaUnpinned(2, KEY))
    assert store.machine.snapshot().ignored_events == 1


def test_several_pins_can_be_given_back_at_once() -> None:
    store = Store()
    pull(store, KEY, 1)
    store(ReplicaRequested(1, 1, KEY, PAGE))
    store(ReplicaUnpinned(1, KEY, count=2))
    assert store.machine.snapshot().cached_bytes == PAGE


def test_the_exit_of_readers_unpins_and_drops_their_requests() -> None:
    store = Store()
    pull(store, KEY, 1, process=1)
    store(ReplicaRequested(1, 1, OTHER, PAGE))
    store(ReplicaRequested(2, 2, OTHER, PAGE))
    store(ProcessExited(1))
    assert store.machine.snapshot().cached_bytes == PAGE
    assert store(PullFinished(OTHER)) == [ReplicaReady(2, 2, OTHER, PAGE, PAGE)]


def test_a_replica_nobody_waits_for_any_more_becomes_cache() -> None:
    store = Store()
    store(ReplicaRequested(1, 1, KEY, PAGE))
    store(ProcessExited(1))
    assert store.in_use == PAGE, "its bytes are still arriving"
    assert store(PullFinished(KEY)) == []
    assert store.machine.snapshot().cached_bytes == PAGE


def test_requesters_of_a_replica_without_room_share_one_place_in_the_queue() -> None:
    store = Store(pages=2)
    held = store.store(2 * PAGE)
    for process in (1, 2, 3):
        assert store(ReplicaRequested(process, 9, KEY, PAGE)) == []
    store(ProcessExited(1))
    assert len(store.machine.snapshot().waiters) == 1
    assert store(RangeReleased(held.segment, 0, 0)) == [StartPull(KEY, PAGE, 0, True)]
    assert [e.process for e in store(PullFinished(KEY)) if isinstance(e, ReplicaReady)] == [2, 3]


def test_a_replica_that_waited_too_long_or_is_too_large_fails() -> None:
    store = Store(pages=2)
    store.store(2 * PAGE)
    store(ReplicaRequested(1, 1, KEY, PAGE))
    (effect,) = store(DeadlineReached(), now=30.0)
    assert isinstance(effect, ReplicaFailed)
    assert "no room for 4096 bytes within 30 s" in effect.reason
    (effect,) = store(ReplicaRequested(1, 2, KEY, 3 * PAGE))
    assert isinstance(effect, ReplicaFailed)
    assert "do not fit" in effect.reason


def test_a_cached_replica_goes_after_a_while_so_that_a_node_at_rest_is_empty() -> None:
    store = Store(replica_keep_s=10.0)
    pull(store, KEY, 1)
    store(ReplicaUnpinned(1, KEY), now=5.0)
    assert store.machine.next_deadline() == 15.0
    assert store(DeadlineReached(), now=14.0) == []
    assert store.in_use == PAGE
    store(DeadlineReached(), now=15.0)
    assert store.in_use == 0
    assert store.machine.next_deadline() is None


def test_a_replica_without_memory_from_the_kernel_fails() -> None:
    store = Store()
    store(ReplicaRequested(1, 1, KEY, PAGE))
    effects = store(CommitFailed(0, "enospc"))
    assert isinstance(effects[0], ReplicaFailed)
    assert effects[1:] == [DecommitPages(0, PAGE)]
    assert store.in_use == 0


def test_without_local_processes_a_dead_owners_ranges_are_freed_at_once() -> None:
    store = Store()
    store.store(PAGE, owner=ANN)
    kept = store.store(PAGE, owner=BOB)
    assert store(OwnerDied(ANN)) == []
    assert store.in_use == PAGE
    assert store.machine.snapshot().owners[0].owner == BOB
    store(RangeReleased(kept.segment, kept.offset, PAGE))
    assert store.in_use == 0


def test_a_dead_owners_range_stays_until_every_process_has_let_go_of_it() -> None:
    store = Store()
    for process in (1, 2, 3):
        store(ProcessJoined(process))
    first, second = store.store(PAGE), store.store(PAGE)
    names = [(first.segment, first.offset, PAGE), (second.segment, second.offset, PAGE)]
    assert store(OwnerDied(ANN)) == [AskViews(process, 1, names) for process in (1, 2, 3)]
    assert store(OwnerDied(ANN)) == [], "asked already"
    store(ViewsReported(1, 1, names[:1]))
    store(ViewsReported(2, 1, []))
    assert store.in_use == 2 * PAGE
    store(ViewsReported(3, 1, names[:1]))
    assert store.in_use == PAGE, "nobody reads the second"
    store(ViewsReported(3, 1, []))
    assert store.in_use == PAGE, "an answer counts once"
    store(ViewReleased(1, *names[0][:2]))
    assert store.in_use == PAGE
    store(ProcessExited(3))
    assert store.in_use == 0


def test_an_exit_answers_for_the_process() -> None:
    store = Store()
    store(ProcessJoined(1))
    store.store(PAGE)
    store(OwnerDied(ANN))
    assert store.machine.snapshot().dying_ranges == 1
    store(ProcessExited(1))
    assert (store.in_use, store.machine.snapshot().dying_ranges) == (0, 0)


def test_a_seal_or_an_adoption_after_the_owners_death_is_asked_about_too() -> None:
    store = Store()
    store(ProcessJoined(1))
    late = store.create(PAGE)
    adopted = store.store(PAGE, owner=BOB)
    store(OwnerDied(ANN))
    assert [type(e) for e in store(RangeSealed(1, late.segment, late.offset, PAGE, ANN))] == [
        AskViews
    ]
    assert [type(e) for e in store(RangeAdopted(adopted.segment, adopted.offset, ANN))] == [
        AskViews
    ]
    store(ViewsReported(1, 1, []))
    store(ViewsReported(1, 2, []))
    assert store.in_use == 0


def test_a_dying_range_that_a_living_owner_adopts_stays() -> None:
    store = Store()
    store(ProcessJoined(1))
    granted = store.store(PAGE, owner=ANN)
    store(OwnerDied(ANN))
    store(RangeAdopted(granted.segment, granted.offset, BOB))
    store(ViewsReported(1, 1, []))
    assert store.in_use == PAGE
    store(OwnerDied(BOB))
    store(ViewsReported(1, 1, []))
    assert store.in_use == PAGE, "the answer to an older question"
    store(ViewsReported(1, 2, []))
    assert store.in_use == 0


def test_a_release_on_its_way_when_the_owner_died_frees_at_once() -> None:
    store = Store()
    store(ProcessJoined(1))
    granted = store.store(PAGE, owner=ANN)
    store(OwnerDied(ANN))
    store(RangeReleased(granted.segment, granted.offset, PAGE))
    assert store.in_use == 0
    assert store(ViewsReported(1, 1, [])) == []


def test_many_ranges_are_asked_about_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "ASK_VIEWS_RANGES", 2)
    store = Store()
    store(ProcessJoined(1))
    for _ in range(5):
        store.store(64)
    asked = store(OwnerDied(ANN))
    assert [len(e.ranges) for e in asked if isinstance(e, AskViews)] == [2, 2, 1]


def test_dead_owners_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "DeadOwners", lambda: DeadOwners(limit=1))
    store = Store()
    late = store.create(PAGE)
    store(OwnerDied(Address("e" * 32, 1)))
    store(OwnerDied(ANN))
    store(RangeSealed(1, late.segment, late.offset, PAGE, ANN))
    assert store.in_use == 0
    late = store.create(PAGE)
    store(RangeSealed(1, late.segment, late.offset, PAGE, Address("e" * 32, 1)))
    assert store.in_use == PAGE


def test_what_nobody_waits_for_yet_takes_free_room() -> None:
    store = Store()
    assert isinstance(store(ReplicaRequested(1, 1, KEY, PAGE, is_ahead=True))[-1], StartPull)


def test_what_nobody_waits_for_yet_stands_before_nobody() -> None:
    """A reader that waits would else be behind what it, or another, does not wait for."""
    store = Store(pages=4)
    pull(store, KEY, 3)
    assert store(ReplicaRequested(1, 1, OTHER, 2 * PAGE, is_ahead=True)) == []
    refused, *granted = store(ReplicaRequested(2, 2, THIRD, PAGE))
    assert isinstance(refused, ReplicaFailed)
    assert (refused.process, refused.request) == (1, 1)
    assert isinstance(granted[-1], StartPull)
    assert store(ReplicaRequested(2, 3, OTHER, 2 * PAGE)) == []  # it waits, in its turn
    effects = store(ReplicaRequested(1, 4, OTHER, 2 * PAGE, is_ahead=True))
    assert [type(effect) for effect in effects] == [ReplicaFailed]


def test_who_waits_for_it_after_all_is_not_refused() -> None:
    store = Store(pages=4)
    pull(store, KEY, 3)
    store(ReplicaRequested(1, 1, OTHER, 2 * PAGE, is_ahead=True))
    effects = store(ReplicaRequested(1, 2, OTHER, 2 * PAGE))
    assert [type(effect) for effect in effects] == [ReplicaFailed]  # of the first request alone
    effects = store(ReplicaUnpinned(1, KEY))
    assert effects[-1] == StartPull(OTHER, 2 * PAGE, 0, True)
