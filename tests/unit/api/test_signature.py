"""The check of arguments agrees with Python's own, on every kind of parameter."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold._api.signature import ANYTHING, call_shape


def nothing() -> None: ...
def positional(a: Any, b: Any, c: Any = 0) -> None: ...
def only(a: Any, b: Any = 0, /, c: Any = 0) -> None: ...
def stars(a: Any, *rest: Any, **others: Any) -> None: ...
def keywords(a: Any = 0, *, b: Any, c: Any = 0) -> None: ...
def only_and_others(a: Any, /, **others: Any) -> None: ...


FUNCTIONS = [nothing, positional, only, stars, keywords, only_and_others]


@given(
    function=st.sampled_from(FUNCTIONS),
    count=st.integers(0, 4),
    names=st.sets(st.sampled_from(["a", "b", "c", "d"])),
)
def test_refuses_what_a_call_would_refuse(function: Any, count: int, names: set[str]) -> None:
    args = (0,) * count
    kwargs = dict.fromkeys(sorted(names), 0)
    shape = call_shape(function)
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        if not kwargs:  # the callers' own quick look must not let it pass
            assert not shape.low <= count <= shape.high
        with pytest.raises(TypeError, match=r"^f\(\) "):
            shape.check("f", args, kwargs)
    else:
        shape.check("f", args, kwargs)


def test_methods_leave_self_out() -> None:
    class Example:
        def plain(self, a: Any) -> None: ...
        @staticmethod
        def static(a: Any) -> None: ...
        @classmethod
        def of_class(cls, a: Any) -> None: ...

    for name in ("plain", "static", "of_class"):
        assert call_shape(vars(Example)[name], 1).names == ("a",)


def test_what_does_not_tell_takes_anything() -> None:
    assert call_shape(len) is ANYTHING
    ANYTHING.check("len", (1, 2), {"x": 3})
