"""Calls by operands: right arguments in the right places, and nobody but the callee holds them."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

from freehold._processes.worker import calling as calling_module
from freehold._processes.worker.calling import ARGUMENTS, calling


class Value:
    """Something that can be seen to end."""


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    by_operands = calling(len(args), tuple(kwargs))
    assert by_operands is not None
    values = [*args, *kwargs.values()]
    values.reverse()
    return by_operands(function, values.pop)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 300])
@pytest.mark.parametrize("names", [(), ("a",), ("b", "a", "_c9")])
def test_arguments_arrive_in_their_places(count: int, names: tuple[str, ...]) -> None:
    kwargs = {name: f"value of {name}" for name in names}
    assert call(lambda *a, **k: (a, k), *range(count), **kwargs) == (tuple(range(count)), kwargs)


def taken(by_operands: Any, function: Any, count: int) -> bool:
    """Whether values end when the function lets go of them; nobody here holds one."""
    values = [Value() for _ in range(count)]
    return bool(by_operands(function, values.pop))


class Methods:
    def by_name(self, *, x: Any) -> bool:
        end = weakref.ref(x)
        del x
        return end() is None


def test_the_function_is_the_only_one_to_hold_its_arguments() -> None:
    def rebinds(x: Any, y: Any) -> bool:
        ends = [weakref.ref(x), weakref.ref(y)]
        x = y = None
        return [end() for end in ends] == [x, y]

    def many(*rest: Any) -> bool:
        ends = [weakref.ref(x) for x in rest]
        del rest
        return [end() for end in ends if end() is not None] == []

    for _ in range(50):  # the interpreter specializes a call after some rounds
        assert taken(calling(2, ()), rebinds, 2)
        assert taken(calling(0, ("x", "y")), rebinds, 2)
        assert taken(calling(0, ("x",)), Methods().by_name, 1)
        assert taken(calling(3, ()), many, 3)


@pytest.mark.parametrize("name", ["class", "not a name", "__debug__", "ﬁ", "x-y", "1", ""])
def test_names_that_are_no_words_are_not_written_down(name: str) -> None:
    assert calling(1, (name,)) is None


def test_there_is_a_limit_to_arguments_and_to_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert calling(ARGUMENTS + 1, ()) is None
    monkeypatch.setattr(calling_module, "SHAPES", 0)
    assert calling(3, ("never", "seen", "before")) is None
