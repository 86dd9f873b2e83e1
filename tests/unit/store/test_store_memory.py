"""The store machine on the machine's memory: headroom, touching ahead, and owners on dead nodes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.store.test_store_machine import ANN, BOB, PAGE, Store

from freehold._core.ids import Address
from freehold._core.store import memory as memory_module
from freehold._core.store.events import (
    AskViews,
    BudgetRead,
    CommitPages,
    CreateRequested,
    DeadlineReached,
    DecommitPages,
    OwnerNodeDied,
    PagesTouched,
    ProcessExited,
    ProcessJoined,
    PullFinished,
    RangeAdopted,
    RangeReleased,
    RangeSealed,
    ReadBudget,
    ReplicaRequested,
    ReplicaUnpinned,
    SegmentAborted,
    SegmentGranted,
    SegmentRefused,
    TouchPages,
    ViewsReported,
)

KEY = ("c" * 32, 5, 640)


# ---- headroom --------------------------------------------------------------------------------


def test_memory_is_handed_out_only_within_the_budget() -> None:
    store = Store()
    store(BudgetRead(3 * PAGE))
    assert isinstance(store(CreateRequested(1, 1, 2 * PAGE))[-1], SegmentGranted)
    assert store(CreateRequested(1, 2, 2 * PAGE)) == [ReadBudget()], "one page is left"
    assert store.machine.snapshot().is_short
    assert store(BudgetRead(PAGE)) == [ReadBudget()], "still: look again"
    assert store(BudgetRead(2 * PAGE)) == [
        CommitPages(2 * PAGE, 2 * PAGE, 2 * PAGE),
        SegmentGranted(1, 2, 2, 2 * PAGE, 2 * PAGE, False),
    ]
    assert not store.machine.snapshot().is_short


def test_warm_memory_needs_no_budget() -> None:
    store = Store()
    granted = store.store(4 * PAGE)
    store(RangeReleased(granted.segment, granted.offset, 0))
    store(BudgetRead(0))
    assert store(CreateRequested(1, 1, 4 * PAGE)) == [SegmentGranted(1, 1, 2, 0, 4 * PAGE, True)]


def test_an_infringed_headroom_is_not_made_worse_by_what_is_given_back() -> None:
    store = Store(touched_free_limit_bytes=PAGE)
    store(BudgetRead(4 * PAGE))
    granted = store.store(4 * PAGE)
    store(BudgetRead(-2 * PAGE))
    assert store(RangeReleased(granted.segment, granted.offset, 0)) == [
        DecommitPages(PAGE, 3 * PAGE)
    ]
    assert store.machine.snapshot().budget_bytes == PAGE


def test_touched_memory_elsewhere_is_given_back_for_what_must_be_committed() -> None:
    store = Store(pages=8)
    hole = store.store(2 * PAGE)
    store.store(PAGE)
    store(RangeReleased(hole.segment, hole.offset, 0))  # two warm pages that three do not fit into
    store(BudgetRead(PAGE))
    assert store(CreateRequested(1, 9, 3 * PAGE)) == [
        DecommitPages(0, 2 * PAGE),
        CommitPages(3 * PAGE, 3 * PAGE, 3 * PAGE),
        SegmentGranted(1, 9, 3, 3 * PAGE, 3 * PAGE, False),
    ]
    assert store.machine.snapshot().budget_bytes == 0


def test_unpinned_replicas_are_evicted_before_anybody_waits_for_memory() -> None:
    store = Store(pages=8)
    store(ReplicaRequested(1, 1, KEY, 2 * PAGE))
    store(PullFinished(KEY))
    store(BudgetRead(0))
    assert store(CreateRequested(1, 2, 2 * PAGE)) == [ReadBudget()]
    assert store(ReplicaUnpinned(1, KEY)) == [SegmentGranted(1, 2, 1, 0, 2 * PAGE, True)]


def test_a_pull_waits_for_memory_too() -> None:
    store = Store()
    store(BudgetRead(0))
    assert store(ReplicaRequested(1, 1, KEY, PAGE)) == [ReadBudget()]
    assert [type(effect).__name__ for effect in store(BudgetRead(PAGE))] == [
        "CommitPages",
        "StartPull",
    ]


def test_the_refusal_says_which_memory_is_short() -> None:
    store = Store(full_timeout_s=30.0)
    store(BudgetRead(PAGE, "the limit is 5 bytes, 4 are used"))
    store(CreateRequested(1, 3, 2 * PAGE))
    assert store.machine.next_deadline() == 30.0
    (refused,) = store(DeadlineReached(), now=30.0)
    assert isinstance(refused, SegmentRefused)
    first, *_, last = refused.report.splitlines()
    assert first.startswith(f"no memory for {2 * PAGE} bytes within 30 s: the limit is 5 bytes, 4")
    assert f"leaves {PAGE} bytes" in first
    assert last.startswith("free memory on this machine")
    assert not store.machine.snapshot().is_short


def test_nobody_is_short_when_the_waiter_is_gone() -> None:
    store = Store()
    store(BudgetRead(0))
    store(CreateRequested(1, 3, PAGE))
    store(ProcessExited(1))
    assert not store.machine.snapshot().is_short


# ---- what is told all the time ---------------------------------------------------------------


def test_use_counts_live_ranges_and_not_what_a_slab_has_in_reserve() -> None:
    store = Store()
    slab = store.create(8 * PAGE, is_slab=True)
    assert (store.machine.use().in_use_bytes, store.in_use) == (0, 8 * PAGE)
    store(RangeSealed(1, slab.segment, slab.offset, 100, ANN))
    assert store.machine.use().in_use_bytes == 100
    store(RangeReleased(slab.segment, slab.offset, 100))
    assert store.machine.use().in_use_bytes == 0
    store.create(PAGE)
    assert store.machine.use().in_use_bytes == PAGE, "being written"


def test_use_tells_pinned_replicas() -> None:
    store = Store()
    store(ReplicaRequested(1, 1, KEY, 5000))
    assert store.machine.use().pinned_replica_bytes == 2 * PAGE
    store(PullFinished(KEY))
    store(ReplicaUnpinned(1, KEY))
    assert store.machine.use().pinned_replica_bytes == 0


# ---- touching ahead --------------------------------------------------------------------------


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(memory_module, "TOUCH_STEP_BYTES", 2 * PAGE)
    return 2 * PAGE


def touching(pages: int = 16, limit: int = 5, **settings: Any) -> Store:
    return Store(pages, touch_ahead=True, touched_free_limit_bytes=limit * PAGE, **settings)


def test_nothing_is_touched_before_memory_was_asked_for() -> None:
    store = touching()
    assert store(ProcessJoined(1)) == []


def test_memory_is_touched_ahead_step_by_step_up_to_the_limit(step: int) -> None:
    store = touching()
    assert store(CreateRequested(1, 1, PAGE))[-1] == TouchPages(PAGE, step)
    assert store.machine.snapshot().touched_free_bytes == 0, "not before it is told"
    assert store(PagesTouched(PAGE, step)) == [TouchPages(3 * PAGE, step)]
    assert store.machine.snapshot().touched_free_bytes == step
    assert store(PagesTouched(3 * PAGE, step)) == [TouchPages(5 * PAGE, PAGE)]
    assert store(PagesTouched(5 * PAGE, PAGE)) == []
    assert store.machine.snapshot().touched_free_bytes == 5 * PAGE
    effects = store(CreateRequested(1, 2, 4 * PAGE))
    assert effects[0] == SegmentGranted(1, 2, 2, PAGE, 4 * PAGE, True), "warm"


def test_touching_ends_a_second_after_the_last_request(step: int) -> None:
    store = touching()
    store(CreateRequested(1, 1, PAGE), now=0.0)
    assert store(PagesTouched(PAGE, step), now=1.0) == []
    assert store.machine.snapshot().touched_free_bytes == step, "what was done counts"


def test_pages_handed_out_while_they_are_touched_stay_right(step: int) -> None:
    store = touching()
    store(CreateRequested(1, 1, PAGE))
    assert store(CreateRequested(1, 2, 2 * PAGE)) == [
        CommitPages(PAGE, step, PAGE),
        SegmentGranted(1, 2, 2, PAGE, 2 * PAGE, False),
    ]
    store(PagesTouched(PAGE, step))
    assert store.machine.snapshot().touched_free_bytes == 0


def test_pages_given_back_while_they_are_touched_are_given_back_again(step: int) -> None:
    store = touching(limit=2)
    first = store.create(PAGE)  # pages 1 and 2 are being touched from here on
    used = store.store(4 * PAGE)
    assert store(RangeReleased(used.segment, used.offset, 0)) == [DecommitPages(3 * PAGE, 2 * PAGE)]
    assert store(SegmentAborted(1, first.segment)) == [DecommitPages(2 * PAGE, PAGE)]
    store.create(PAGE)
    # The thread may have come to page 2 after it was given back, or before.
    assert store(PagesTouched(PAGE, step)) == [
        DecommitPages(2 * PAGE, PAGE),
        TouchPages(2 * PAGE, PAGE),
    ]
    assert store.machine.snapshot().touched_free_bytes == PAGE


def test_a_step_that_failed_stops_touching_until_somebody_asks(step: int) -> None:
    store = touching()
    store.create(PAGE)
    assert store(PagesTouched(PAGE, step, is_done=False)) == [DecommitPages(PAGE, step)]
    assert store(ProcessJoined(1)) == []
    assert store(CreateRequested(1, 2, PAGE))[-1] == TouchPages(2 * PAGE, step)


def test_touching_keeps_to_the_budget(step: int) -> None:
    store = touching()
    store(BudgetRead(2 * PAGE))
    assert isinstance(store(CreateRequested(1, 1, PAGE))[-1], SegmentGranted)
    assert store(BudgetRead(step)) == [TouchPages(PAGE, step)]
    assert store.machine.snapshot().budget_bytes == 0


def test_a_step_that_was_never_asked_for_is_ignored() -> None:
    store = touching()
    assert store(PagesTouched(0, PAGE)) == []
    assert store.machine.snapshot().ignored_events == 1


# ---- owners on dead nodes --------------------------------------------------------------------


def far(process: int, incarnation: int = 0) -> Address:
    return Address("f" * 32, process, incarnation)


def test_a_nodes_death_frees_what_its_owners_had_here() -> None:
    store = Store()
    store.store(PAGE, owner=far(1))
    store.store(PAGE, owner=far(2))
    store.store(PAGE, owner=ANN)
    store(OwnerNodeDied("f" * 32, 0))
    assert store.in_use == PAGE


def test_views_are_asked_about_when_a_node_dies() -> None:
    store = Store()
    store(ProcessJoined(1))
    kept = store.store(PAGE, owner=far(1))
    ranges = [(kept.segment, kept.offset, PAGE)]
    assert store(OwnerNodeDied("f" * 32, 0)) == [AskViews(1, 1, ranges)]
    assert store.in_use == PAGE
    store(ViewsReported(1, 1, []))
    assert store.in_use == 0


def test_a_seal_that_comes_after_its_owners_node_died_does_not_leak() -> None:
    store = Store()
    early = store.create(PAGE)
    handed = store.create(PAGE)
    store(OwnerNodeDied("f" * 32, 3))
    store(RangeSealed(1, early.segment, early.offset, PAGE, far(9, 3)))
    assert store.in_use == PAGE, "only what is still being written"
    store(RangeSealed(1, handed.segment, handed.offset, PAGE, ANN))
    store(RangeAdopted(handed.segment, handed.offset, far(1, 2)))
    assert store.in_use == 0


def test_owners_of_the_next_incarnation_live() -> None:
    store = Store()
    store(OwnerNodeDied("f" * 32, 3))
    store.store(PAGE, owner=far(1, 4))
    store.store(PAGE, owner=BOB)
    assert store.in_use == 2 * PAGE
