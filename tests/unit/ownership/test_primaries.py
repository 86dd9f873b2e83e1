"""Stored values that move to another node: the owner's rows follow, whatever form they have."""

from __future__ import annotations

from array import array

from tests.unit.ownership.owners import (
    DRIVER,
    NODE_MANAGER,
    OTHER,
    WORKER,
    deliver,
    exchange,
    grant,
    location,
    make_owner,
    put,
    row_of,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ids import Location
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.row import LOST, Packed

FAR = "b" * 32


def move(owner: Owner, *moves: tuple[Location, Location]) -> m.PrimaryNoted:
    """The node manager tells the owner; its answer."""
    owner.primaries.on_moved(NODE_MANAGER, m.PrimaryMoved(owner.address, list(moves)), 0.0)
    (noted,) = said(owner, m.PrimaryNoted, NODE_MANAGER)
    assert isinstance(noted, m.PrimaryNoted)
    return noted


def test_a_value_is_released_where_it_is_now() -> None:
    owner = make_owner()
    row = owner.put(b"p" * 16, 0, location(1), [])
    assert move(owner, (location(1), location(8, FAR))) == m.PrimaryNoted([location(1)])
    assert row.value == location(8, FAR)
    assert said(owner, m.RangeReleased) == []  # the old copy may be read
    owner.table.release(row, 0)
    assert said(owner, m.RangeReleased) == [m.RangeReleased(8, 0, 64)]


def test_said_again_it_is_answered_again() -> None:
    owner = make_owner()
    owner.put(b"p" * 16, 0, location(1), [])
    move(owner, (location(1), location(8, FAR)))
    assert move(owner, (location(1), location(8, FAR))).known == [location(1)]


def test_what_is_not_known_is_said_to_be_so() -> None:
    owner = make_owner()
    noted = move(owner, (location(1), location(8, FAR)))
    assert (noted.known, noted.unknown) == ([], [location(1)])


def test_packed_and_single_outputs_follow() -> None:
    owner = make_owner()
    refs = submit(owner, num_returns=2, max_retries=0)
    more = submit(owner, num_returns=2, max_retries=0)
    grant(owner, WORKER)
    ends = array("Q", [64, 128]).tobytes()
    owner.on_done_with(WORKER, m.DoneWith(0, 0, 5, packed=location(1), ends=ends), 0.0)
    outputs = [m.Output(None, location(2)), m.Output(None, location(3))]
    owner.on_done_with(WORKER, m.DoneWith(1, 0, 5, outputs), 0.0)
    move(owner, (location(1), location(8, FAR)), (location(3), location(9, FAR)))
    packed = row_of(refs[0]).value
    assert isinstance(packed, Packed)
    assert packed.location == location(8, FAR)
    assert row_of(more[0]).value == [location(2), location(9, FAR)]


def test_what_follows_a_group_that_was_taken_over_moves_with_it() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    refs = submit(old, num_returns=2, max_retries=0)
    grant(old, OTHER)
    outputs = [m.Output(None, location(2)), m.Output(None, location(3))]
    old.on_done_with(OTHER, m.DoneWith(0, 0, 5, outputs), 0.0)
    described = old.borrowing.describe([refs[1]], DRIVER)
    (mine,) = new.borrowing.meet(described, WORKER, is_covered=False)
    refs.clear()
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    assert row_of(mine).value == location(3)
    move(new, (location(3), location(9, FAR)))
    assert row_of(mine).value == location(9, FAR)


def test_while_a_row_is_given_away_its_place_does_not_change() -> None:
    """The target was told the old one; the next owner is told again."""
    old, other = make_owner(WORKER), make_owner(OTHER)
    ref = put(old, location(1))
    old.recovery.note_stored(row_of(ref))
    described = old.borrowing.describe([ref], OTHER)
    held = other.borrowing.meet(described, WORKER, is_covered=False)
    old.handoff.hand_over(DRIVER)
    assert move(old, (location(1), location(8, FAR))).unknown == [location(1)]
    assert row_of(ref).value == location(1)
    del held


def test_a_copy_given_up_as_lost_moves_too() -> None:
    owner = make_owner()
    row = owner.put(b"p" * 16, 0, location(1), [])
    owner.table.lose(row)
    assert row.state == LOST
    assert move(owner, (location(1), location(8, FAR))).known == [location(1)]
    owner.table.release(row, 0)
    assert said(owner, m.RangeReleased) == [m.RangeReleased(8, 0, 64)]


def test_a_borrower_that_asks_hears_the_new_place() -> None:
    owner, other = make_owner(DRIVER), make_owner(OTHER)
    row = owner.put(b"p" * 16, 0, location(1), [])
    ref = owner.table.reference(row, 0)
    (held,) = other.borrowing.meet(owner.borrowing.describe([ref], OTHER), DRIVER, False)
    move(owner, (location(1), location(8, FAR)))
    deliver(OTHER, owner, m.Resolve(held.binary(), location(1)))
    (answer,) = said(owner, m.Resolved, OTHER)
    assert answer.location == location(8, FAR)
