"""Stored bytes on a connection of their own: both halves over a socket pair, liars at either."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from freehold._core import messages as m
from freehold._core.ids import Location
from freehold._core.limits import BULK_CHUNK_BYTES, BULK_RANGES, HELLO_BYTES
from freehold._io import frames
from freehold._io.bulk import BulkHolder, BulkPuller
from freehold._io.reactor import Reactor

MB = 1 << 20
HEAD_BYTES = 24


def where(offset: int, size: int) -> Location:
    return Location("b" * 32, 1, offset, size)


class Stored:
    """Who has bytes, and notes who reads which."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reading: list[Location] = []
        self.ended: list[Location] = []
        self.closed: list[str] = []

    def begin_read(self, where: Location) -> memoryview | str:
        if where.offset + where.size > len(self.data):
            return f"nothing at {where.offset}"
        self.reading.append(where)
        return memoryview(self.data)[where.offset : where.offset + where.size]

    def end_read(self, where: Location) -> None:
        self.reading.remove(where)
        self.ended.append(where)

    def holder_closed(self, half: BulkHolder, reason: str) -> None:
        self.closed.append(reason)


class Room:
    """Who has room for bytes: each request's in a place of its own, with a moat around it."""

    def __init__(self) -> None:
        self.places: dict[int, bytearray] = {}
        self.done: list[int] = []
        self.refusals: dict[int, str] = {}
        self.closed: list[str] = []

    def target(self, request: int, offset: int, size: int) -> memoryview:
        return memoryview(self.places[request])[offset : offset + size]

    def pulled(self, request: int, received: int) -> None:
        if received == len(self.places[request]):
            self.done.append(request)

    def refused(self, request: int, reason: str) -> None:
        self.refusals[request] = reason

    def puller_closed(self, half: BulkPuller, reason: str) -> None:
        self.closed.append(reason)


class Ends:
    """A reactor, and the two ends of a socket pair, of which tests take one or both."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.left, self.right = socket.socketpair()
        self.room = Room()
        self.stored = Stored(os.urandom(5 * MB + 123))

    def puller(self) -> BulkPuller:
        with self.reactor.lock:
            return BulkPuller(self.left, self.reactor, self.room)

    def holder(self) -> BulkHolder:
        with self.reactor.lock:
            return BulkHolder(self.right, b"", self.reactor, self.stored)

    def ask(self, puller: BulkPuller, request: int, offset: int, size: int) -> None:
        self.room.places[request] = bytearray(size)
        with self.reactor.lock:
            puller.ask(request, where(offset, size))

    def until(self, predicate: Callable[[], Any]) -> None:
        for _ in range(10_000):
            if predicate():
                return
            self.reactor.lead_once()
        raise AssertionError("it did not come true in 10,000 turns")

    def close(self) -> None:
        for sock in (self.left, self.right):
            if sock.fileno() >= 0:
                with self.reactor.lock:
                    self.reactor.unregister(sock.fileno())
                sock.close()
        self.reactor.stop()
        self.reactor.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.close()


@pytest.mark.parametrize("size", [1, 1000, MB, MB + 1, 5 * MB + 123])
def test_a_range_comes_whole(ends: Ends, size: int) -> None:
    puller, _ = ends.puller(), ends.holder()
    ends.ask(puller, 7, len(ends.stored.data) - size, size)
    ends.until(lambda: ends.room.done == [7])
    assert bytes(ends.room.places[7]) == ends.stored.data[len(ends.stored.data) - size :]
    assert ends.stored.reading == []
    assert len(ends.stored.ended) == 1


def test_several_take_turns_and_the_small_one_is_not_last(ends: Ends) -> None:
    puller, _ = ends.puller(), ends.holder()
    ends.ask(puller, 1, 0, 5 * MB)
    ends.ask(puller, 2, 123, 5 * MB)
    ends.ask(puller, 3, 5, 100)
    ends.until(lambda: len(ends.room.done) == 3)
    assert ends.room.done[0] == 3
    assert bytes(ends.room.places[2]) == ends.stored.data[123 : 123 + 5 * MB]
    assert bytes(ends.room.places[3]) == ends.stored.data[5:105]


def test_what_is_not_there_is_refused_and_the_rest_comes(ends: Ends) -> None:
    puller, _ = ends.puller(), ends.holder()
    ends.ask(puller, 1, 0, 3 * MB)
    ends.ask(puller, 2, 100 * MB, 10)
    ends.ask(puller, 3, 0, 10)
    ends.until(lambda: len(ends.room.done) == 2)
    assert ends.room.refusals == {2: f"nothing at {100 * MB}"}


def test_a_cancelled_range_stops_and_its_place_is_left_alone(ends: Ends) -> None:
    puller, holder = ends.puller(), ends.holder()
    ends.ask(puller, 1, 0, 5 * MB)
    ends.until(lambda: any(ends.room.places[1]))
    with ends.reactor.lock:
        puller.cancel(1)
    left = bytes(ends.room.places[1])
    ends.until(lambda: not ends.stored.reading)
    ends.ask(puller, 2, 0, 1000)
    ends.until(lambda: ends.room.done == [2])
    assert bytes(ends.room.places[1]) == left
    assert not puller.is_closed
    assert holder._turns == type(holder._turns)()


def test_a_cancel_among_refusals_breaks_nothing(ends: Ends) -> None:
    puller, _ = ends.puller(), ends.holder()
    for request in range(0, 40, 4):
        ends.ask(puller, request, 0, 2 * MB)
        ends.ask(puller, request + 1, 100 * MB, 10)
        ends.ask(puller, request + 2, 0, 10)
        with ends.reactor.lock:
            puller.cancel(request)
    ends.until(lambda: len(ends.room.done) == 10)
    assert sorted(ends.room.refusals) == list(range(1, 40, 4))
    assert not puller.is_closed


def test_an_end_lets_go_of_what_was_read(ends: Ends) -> None:
    puller, _ = ends.puller(), ends.holder()
    ends.ask(puller, 1, 0, 5 * MB)
    ends.until(lambda: ends.stored.reading)
    with ends.reactor.lock:
        puller.close("enough")
    ends.until(lambda: ends.stored.closed)
    assert ends.stored.reading == []
    assert ends.room.closed == ["enough"]


def test_a_holder_that_goes_fails_what_was_under_way(ends: Ends) -> None:
    puller = ends.puller()
    ends.ask(puller, 1, 0, 5 * MB)
    ends.right.close()
    ends.until(lambda: ends.room.closed)
    assert ends.room.done == []


# ---- a holder that lies --------------------------------------------------------------------------


def head(kind: int, length: int, request: int, offset: int, magic: int = 0xB01C) -> bytes:
    return struct.pack("<HHIQQ", magic, kind, length, request, offset)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(head(1, 100, 1, 50), id="begins in the middle"),
        pytest.param(head(1, 101, 1, 0), id="is longer than the range"),
        pytest.param(head(1, BULK_CHUNK_BYTES + 1, 1, 0), id="is longer than a chunk"),
        pytest.param(head(1, 60, 1, 0) + bytes(60) + head(1, 41, 1, 60), id="ends outside"),
        pytest.param(head(1, 60, 1, 0) + bytes(60) + head(1, 60, 1, 0), id="comes twice"),
        pytest.param(head(1, 10, 1, (1 << 64) - 10), id="has an offset that wraps"),
        pytest.param(head(1, 0, 1, 0), id="is empty"),
        pytest.param(head(3, 10, 1, 0), id="is of no kind"),
        pytest.param(head(1, 10, 1, 0, 0xF1E1), id="has a wrong magic"),
        pytest.param(head(2, 5000, 1, 0), id="is a very long error"),
    ],
)
def test_a_chunk_that(ends: Ends, lie: bytes) -> None:
    puller = ends.puller()
    ends.room.places[1] = bytearray(200)  # more than was asked for: what lies behind must stay
    with ends.reactor.lock:
        puller.ask(1, where(0, 100))
    ends.right.sendall(lie + b"\xff" * 200)
    ends.until(lambda: ends.room.closed)
    assert ends.room.done == []
    assert b"\xff" not in ends.room.places[1]
    assert not puller.ranges or puller.is_closed


def test_a_chunk_of_what_nobody_asked_for_is_thrown_away(ends: Ends) -> None:
    puller = ends.puller()
    ends.right.sendall(head(1, 200_000, 99, 12345) + bytes(200_000))
    ends.ask(puller, 1, 0, 100)
    ends.right.sendall(head(1, 100, 1, 0) + b"y" * 100)
    ends.until(lambda: ends.room.done == [1])
    assert bytes(ends.room.places[1]) == b"y" * 100


# ---- a puller that lies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(frames.encode([m.Done(1, 0, 0)]), id="another message"),
        pytest.param(struct.pack("<IHH", HELLO_BYTES + 1, frames.MAGIC, 0), id="too large"),
        pytest.param(struct.pack("<IHH", 8, 0x1234, 0) + bytes(8), id="wrong magic"),
        pytest.param(struct.pack("<IHH", 4, frames.MAGIC, 0) + b"\x91\x92\x01\xc3", id="malformed"),
        pytest.param(
            b"".join(
                frames.encode([m.ReadRange(number, where(0, 5 * MB), MB)])
                for number in range(BULK_RANGES + 1)
            ),
            id="too many ranges",
        ),
    ],
)
def test_a_request_that_is(ends: Ends, lie: bytes) -> None:
    ends.holder()
    ends.left.sendall(lie)
    ends.until(lambda: ends.stored.closed)
    assert ends.stored.reading == []


def test_requests_that_come_in_pieces(ends: Ends) -> None:
    ends.holder()
    for byte in frames.encode([m.ReadRange(4, where(10, 20), MB)]):
        ends.left.sendall(bytes([byte]))
        ends.reactor.lead_once()
    ends.until(lambda: ends.stored.ended)
    assert ends.left.recv(1000) == head(1, 20, 4, 0) + ends.stored.data[10:30]
