"""Connections: what becomes of messages that cannot be sent, and of a peer that went away."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from freehold._core import messages as m
from freehold._core.limits import FRAME_BYTES
from freehold._io import frames
from freehold._io.connection import RECEIVE_BYTES, Connection
from freehold._io.reactor import Reactor
from freehold.testing import eventually

TOO_LARGE = m.Done(7, 0, 0, bytes(FRAME_BYTES + 1))
NOT_TO_ENCODE = m.LogLines(m.Hello, 0, "", [object()])  # type: ignore[arg-type,list-item]


class Ends:
    """A connection, the bare socket at its other end, and what the connection reported."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        mine, self.peer = socket.socketpair()
        self.heard: list[Any] = []
        self.closed: list[str] = []
        self.dropped: list[tuple[Any, Exception]] = []
        with self.reactor.lock:
            self.connection = Connection(
                mine,
                self.reactor,
                lambda _connection, messages: self.heard.extend(messages),
                lambda _connection, reason: self.closed.append(reason),
                on_dropped=lambda _c, message, error: self.dropped.append((message, error)),
            )

    def arrived(self) -> list[Any]:
        """What the other end can read now."""
        data = bytearray()
        self.peer.setblocking(False)
        while True:
            try:
                data += self.peer.recv(1 << 20)
            except BlockingIOError:
                break
        found: list[Any] = []
        while data:
            end = frames.HEADER_BYTES + frames.body_length(data)
            found += frames.decode(data[frames.HEADER_BYTES : end])
            del data[:end]
        return found

    def close(self) -> None:
        with self.reactor.lock:
            self.connection.close()
        self.peer.close()
        self.reactor.stop()
        self.reactor.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    both.close()


@pytest.mark.parametrize("bad", [TOO_LARGE, NOT_TO_ENCODE], ids=["too large", "wrong type"])
def test_a_message_that_cannot_be_encoded_is_dropped_alone(ends: Ends, bad: Any) -> None:
    with ends.reactor.lock:
        ends.connection.send(m.Done(1, 0, 0))
        ends.connection.send(bad)
        ends.connection.send_now(m.Done(2, 0, 0))
        ends.connection.send_now(m.Done(3, 0, 0))
    assert [message.key for message in ends.arrived()] == [1, 2, 3]
    assert [message for message, _ in ends.dropped] == [bad]
    assert not ends.connection.is_closed


def test_a_bad_message_alone_sends_nothing(ends: Ends) -> None:
    with ends.reactor.lock:
        ends.connection.send_now(NOT_TO_ENCODE)
        ends.connection.send_now(m.Done(1, 0, 0))
    assert [message.key for message in ends.arrived()] == [1]
    assert len(ends.dropped) == 1


def test_without_a_listener_a_dropped_message_is_named_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine, peer = socket.socketpair()
    reactor = Reactor()
    with reactor.lock:
        connection = Connection(mine, reactor, lambda *_: None, lambda *_: None)
        connection.send_now(NOT_TO_ENCODE)
        connection.close()
    peer.close()
    reactor.stop()
    reactor.close()
    assert "a LogLines to None cannot be sent" in capsys.readouterr().err


def test_what_a_peer_said_before_it_went_is_heard_though_nothing_can_be_sent(ends: Ends) -> None:
    """A worker that ends: its last words lie in our socket while we write to it."""
    ends.peer.sendall(frames.encode([m.TasksReturned([5], True)]))
    ends.peer.close()
    with ends.reactor.lock:
        ends.connection.send_now(m.Recall([1]))
        ends.connection.send_now(m.Recall([2]))
        assert not ends.connection.is_closed
    _read_to_the_end(ends)
    assert ends.heard == [m.TasksReturned([5], True)]


def test_a_peer_that_goes_with_a_backlog_unread_is_heard_as_well(ends: Ends) -> None:
    big = m.Done(1, 0, 0, bytes(1 << 20))
    with ends.reactor.lock:
        while not ends.connection.unsent_bytes:
            ends.connection.send_now(big)
    ends.peer.sendall(frames.encode([m.TasksReturned([6])]))
    ends.peer.close()
    _read_to_the_end(ends)
    assert ends.heard == [m.TasksReturned([6])]
    assert ends.connection.unsent_bytes == 0


@pytest.mark.parametrize("size", [10, 3_000, 50_000, 700_000])
def test_a_peer_that_says_much_is_given_more_room(ends: Ends, size: int) -> None:
    """A connection begins with a small buffer; one that it always fills is read in fewer steps."""
    small = len(ends.connection._buffer)
    said = [m.Done(key, 0, 0, bytes([key % 256]) * size) for key in range(2_000_000 // size)]
    data = b"".join(frames.encode([message]) for message in said)
    ends.peer.setblocking(False)
    most = 0
    while data or len(ends.heard) < len(said):
        try:
            data = data[ends.peer.send(data[: 4 * small]) :]
        except BlockingIOError:
            pass
        ends.reactor.lead_once()
        most = max(most, ends.connection._buffer_bytes)
    assert ends.heard == said
    assert most >= 4 * small
    ends.peer.sendall(frames.encode([m.Recall([1])]))
    ends.reactor.lead_once()
    assert len(ends.connection._buffer) <= 4 * RECEIVE_BYTES


def test_a_peer_that_says_little_keeps_a_small_buffer(ends: Ends) -> None:
    for key in range(1_000):
        ends.peer.sendall(frames.encode([m.Recall([key])]))
        ends.reactor.lead_once()
    assert ends.heard == [m.Recall([key]) for key in range(1_000)]
    assert len(ends.connection._buffer) < RECEIVE_BYTES


def _read_to_the_end(ends: Ends) -> None:
    def is_closed() -> bool:
        ends.reactor.lead_once()
        return bool(ends.closed)

    eventually(is_closed, timeout_s=5)
    assert len(ends.closed) == 1
