"""The bare exchanges that rows are held against: what is sent arrives, and is counted once."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from benchmarks.ceilings import CeilingPeer, _receive_exactly, _receive_frame, _send_frame
from benchmarks.model import CALL_VARIANTS, Ceiling, Variant


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.mark.parametrize("parts", [[], [b""], [b"a"], [b"a" * 1024, b"", b"bc"]])
def test_frame_comes_apart_as_it_was_put_together(
    pair: tuple[socket.socket, socket.socket], parts: list[bytes]
) -> None:
    _send_frame(pair[0], parts)
    _send_frame(pair[0], [b"next"])
    assert _receive_frame(pair[1]) == parts
    assert _receive_frame(pair[1]) == [b"next"]


def test_receiving_goes_on_until_all_bytes_are_there(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(b"ab")
    pair[0].sendall(b"cdef")
    assert _receive_exactly(pair[1], 5) == b"abcde"
    assert _receive_exactly(pair[1], 1) == b"f"


def test_end_of_the_other_process_is_an_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(b"ab")
    pair[0].close()
    with pytest.raises(EOFError):
        _receive_exactly(pair[1], 3)


def test_one_peer_serves_every_exchange_one_after_the_other() -> None:
    peer = CeilingPeer()
    exchanges: list[tuple[Ceiling, Variant]] = [
        (ceiling, variant)
        for ceiling in ("round_trip", "frames")
        for variant in CALL_VARIANTS
    ]  # fmt: skip
    try:
        for ceiling, variant in exchanges * 2:
            assert peer.rate(ceiling, variant, seconds=0.005) > 0
    finally:
        peer.close()
