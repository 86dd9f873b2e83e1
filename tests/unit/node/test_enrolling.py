"""Of two places where a node looks for its head, which one's failure is told."""

from __future__ import annotations

from typing import Any

import pytest

from freehold._io import join_string
from freehold._io.rpc import calls
from freehold._processes.node import control_plane
from freehold._processes.node.control_plane import MemberPlane
from freehold.errors import AuthenticationError, ClusterUnreachableError


class Calls:
    """A head that was found, and refuses."""

    def __init__(self, _loop: object, place: Any, *_: object) -> None:
        self._place = place

    def enroll(self, *_: object) -> None:
        raise AuthenticationError(peer=self._place.target, reason="the token is wrong")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("away", "away", "first"),
        ("stranger", "away", "first"),
        ("away", "stranger", "first"),
        ("away", "refuses", "second"),
        ("stranger", "refuses", "second"),
    ],
)
def test_a_refusal_of_the_head_counts_more_than_a_stranger(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str, told: str
) -> None:
    answers = {"first:7400": first, "second:7400": second}

    def probe(place: Any, *_: object) -> object:
        answer = answers[place.target]
        if answer == "away":
            raise ClusterUnreachableError(address=place.target, reason="refused")
        if answer == "stranger":
            raise AuthenticationError(peer=place.target, reason="another CA")
        return object()

    monkeypatch.setattr(calls, "probe", probe)
    monkeypatch.setattr(control_plane, "ControlCalls", Calls)
    plane: Any = object.__new__(MemberPlane)
    plane._ways = join_string.places(join_string.parse("first"), "second:7400")
    plane._known_ca, plane._loop, plane._token, plane._version = b"", None, lambda: "t", "0"
    with pytest.raises((AuthenticationError, ClusterUnreachableError), match=f"{told}:7400"):
        plane._try_to_enroll("node")
