"""Numbers on a stream: what is sent again after a break, what is dropped as known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold._io.rpc.numbered import Incoming, Outgoing


def sent(*messages: str) -> Outgoing[str]:
    outgoing = Outgoing[str]()
    for message in messages:
        outgoing.push(message)
    return outgoing


def test_what_was_not_confirmed_is_sent_again() -> None:
    outgoing = sent("a", "b", "c")
    assert outgoing.take(10) == (1, ["a", "b", "c"])
    assert not outgoing.has_more
    outgoing.confirm(1)
    outgoing.rewind()
    assert outgoing.take(10) == (2, ["b", "c"])


def test_frames_are_bounded_in_messages_and_bytes() -> None:
    outgoing = sent("a", "bbbb", "c", "d")
    assert outgoing.take(3, len, 4) == (1, ["a", "bbbb"])
    assert outgoing.take(1, len, 4) == (3, ["c"])
    # One that is larger than the budget goes alone, rather than never.
    assert sent("x" * 100, "y").take(3, len, 4) == (1, ["x" * 100])


def test_a_confirmation_of_the_unknown_changes_nothing() -> None:
    outgoing = sent("a")
    outgoing.confirm(0)
    outgoing.confirm(99)
    assert len(outgoing) == 0
    outgoing.push("b")
    assert outgoing.take(1) == (2, ["b"])


def test_what_was_taken_is_known_by_its_number() -> None:
    incoming = Incoming()
    assert incoming.accept(1, ["a", "b"]) == ["a", "b"]
    assert incoming.accept(1, ["a", "b", "c"]) == ["c"]
    assert incoming.accept(2, ["b"]) == []
    assert incoming.received == 3
    assert incoming.accept(0, []) == []


def test_a_gap_is_refused() -> None:
    incoming = Incoming()
    incoming.accept(1, ["a"])
    with pytest.raises(ValueError, match="message 3 came after 1"):
        incoming.accept(3, ["c"])


@given(st.lists(st.sampled_from(["push", "frame", "lost", "break", "confirm"]), max_size=60))
def test_everything_arrives_once_and_in_order(steps: list[str]) -> None:
    outgoing, incoming = Outgoing[int](), Incoming()
    said = 0
    heard: list[int] = []
    is_broken = False
    for step in [*steps, "break", "frame"]:
        if step == "push":
            said += 1
            outgoing.push(said)
        elif step == "break":
            outgoing.confirm(incoming.received)  # as a handshake says
            outgoing.rewind()
            is_broken = False
        elif step == "confirm":
            outgoing.confirm(incoming.received)
        else:
            first, messages = outgoing.take(100)
            is_broken = is_broken or step == "lost"  # a stream that lost something has ended
            if not is_broken:
                heard += incoming.accept(first, messages)
    assert heard == list(range(1, said + 1))
