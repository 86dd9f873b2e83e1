"""Which way leads to an address, and which connections go."""

from __future__ import annotations

import pytest

from freehold._core.ids import Address
from freehold._core.limits import DEAD_NODES
from freehold._core.messages import NodePlace
from freehold._core.peering import AddressBook, Nearby, Use, pick_idle

HERE, THERE = "a" * 32, "b" * 32
AT_B = NodePlace(THERE, 0, "10.0.0.2", 7401)


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(HERE)


def test_the_own_node_is_reached_over_unix_sockets(book: AddressBook) -> None:
    book.learn([NodePlace(HERE, 0, "10.0.0.1", 7401)])
    assert book.way_to(Address(HERE, 5)) is Nearby.UNIX


def test_another_node_is_unknown_until_its_place_is_told(book: AddressBook) -> None:
    assert book.way_to(Address(THERE, 5)) is Nearby.UNKNOWN
    assert book.learn([AT_B]) == [AT_B]
    assert book.way_to(Address(THERE, 5)) == AT_B


def test_a_node_without_a_host_is_on_this_machine(book: AddressBook) -> None:
    book.learn([NodePlace(THERE, 0, "", 0)])
    assert book.way_to(Address(THERE, 5)) is Nearby.UNIX


def test_what_is_known_is_no_news(book: AddressBook) -> None:
    book.learn([AT_B])
    assert book.learn([AT_B]) == []
    moved = NodePlace(THERE, 0, "10.0.0.3", 7401)
    assert book.learn([moved, moved]) == [moved]
    assert book.places() == [moved]


def test_an_older_incarnation_does_not_displace_a_newer(book: AddressBook) -> None:
    newer = NodePlace(THERE, 2, "10.0.0.3", 7401)
    book.learn([newer])
    assert book.learn([AT_B]) == []
    assert book.way_to(Address(THERE, 5, 2)) == newer


def test_a_dead_node_is_reached_no_more_and_not_learnt_again(book: AddressBook) -> None:
    book.learn([AT_B])
    book.died(THERE, 0)
    assert book.way_to(Address(THERE, 5)) is Nearby.DEAD
    assert book.learn([AT_B]) == []
    assert book.is_dead(THERE, 0)
    assert not book.is_dead(THERE, 1)


def test_its_next_incarnation_is(book: AddressBook) -> None:
    book.died(THERE, 0)
    again = NodePlace(THERE, 1, "10.0.0.2", 7401)
    assert book.learn([again]) == [again]
    assert book.way_to(Address(THERE, 5, 1)) == again
    assert book.way_to(Address(THERE, 5, 0)) is Nearby.DEAD
    book.died(THERE, 0)  # said again: that one lives
    assert book.way_to(Address(THERE, 5, 1)) == again


def test_only_so_many_deaths_are_remembered(book: AddressBook) -> None:
    for number in range(DEAD_NODES + 1):
        book.died(f"{number:032x}", 0)
    assert not book.is_dead(f"{0:032x}", 0)
    assert book.is_dead(f"{DEAD_NODES:032x}", 0)


USES = {"old": Use(1.0), "older": Use(0.5), "needed": Use(0.0, True), "new": Use(99.0)}


def test_within_the_limit_none_goes() -> None:
    assert pick_idle(USES, 4, 10.0, 100.0) == []


def test_the_longest_unused_go_first_and_no_more_than_must() -> None:
    assert pick_idle(USES, 3, 10.0, 100.0) == ["older"]
    assert pick_idle(USES, 2, 10.0, 100.0) == ["older", "old"]


def test_what_is_needed_or_was_just_used_stays_beyond_the_limit() -> None:
    assert pick_idle(USES, 0, 10.0, 100.0) == ["older", "old"]


def test_of_equals_the_first_goes() -> None:
    assert pick_idle({"b": Use(1.0), "a": Use(1.0)}, 1, 0.0, 5.0) == ["b"]
