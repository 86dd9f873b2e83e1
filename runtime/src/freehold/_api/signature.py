"""What arguments a function takes, checked where it is called and not first where it runs.

Made from the code object, because `inspect` costs milliseconds at import and a `bind` 5 µs a call.
The callers compare the number of positional arguments with `low` and `high` themselves and come
here only for keywords and for what is wrong. It travels inside actor handles as a plain tuple.

A wrapped function is checked as what is really called, the wrapper, not as what it wraps.
"""

from __future__ import annotations

import types
from typing import Any, NamedTuple

VARARGS = 0x04
VARKEYWORDS = 0x08
GENERATOR = 0x20
COROUTINE = 0x80
ASYNC_GENERATOR = 0x200
UNBOUNDED = 1 << 62


class CallShape(NamedTuple):
    """The parameters of a function, without its `self`."""

    names: tuple[str, ...] = ()
    positional_only: int = 0
    required: int = 0
    has_varargs: bool = False
    keyword_only: tuple[str, ...] = ()
    required_keywords: tuple[str, ...] = ()
    has_varkeywords: bool = False

    @property
    def low(self) -> int:
        """Fewest positional arguments that need no further look if there are no keywords."""
        return UNBOUNDED if self.required_keywords else self.required

    @property
    def high(self) -> int:
        """Most positional arguments."""
        return UNBOUNDED if self.has_varargs else len(self.names)

    def check(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check a call.

        Raises:
            TypeError: the function cannot be called with these arguments; Python's own words.
        """
        problem = self._problem(args, kwargs)
        if problem:
            raise TypeError(f"{name}() {problem}")

    def _problem(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        given = len(args)
        if given > self.high:
            most = len(self.names)
            plural = "" if most == self.required == 1 else "s"
            takes = str(most) if self.required == most else f"from {self.required} to {most}"
            were = "was" if given == 1 else "were"
            return f"takes {takes} positional argument{plural} but {given} {were} given"
        by_keyword = self.names[self.positional_only :]
        taken = self.names[:given]
        for keyword in kwargs:
            if keyword in by_keyword:
                if keyword in taken:
                    return f"got multiple values for argument {keyword!r}"
            elif keyword not in self.keyword_only and not self.has_varkeywords:
                return f"got an unexpected keyword argument {keyword!r}"
        missing = [
            name
            for position, name in enumerate(self.names[: self.required])
            if position >= given and (name not in kwargs or position < self.positional_only)
        ]
        missing += [name for name in self.required_keywords if name not in kwargs]
        if missing:
            listed = ", ".join(repr(name) for name in missing)
            return (
                f"is missing {len(missing)} required argument{'s'[len(missing) == 1 :]}: {listed}"
            )
        return ""


ANYTHING = CallShape(has_varargs=True, has_varkeywords=True)
"""For callables that do not tell: builtins, partials, classes with a `__new__` of their own."""


def call_shape(function: Any, skip: int = 0) -> CallShape:
    """The shape of `function`; `skip` 1 leaves out `self`."""
    if isinstance(function, (staticmethod, classmethod)):
        skip = int(isinstance(function, classmethod))
        function = function.__func__
    if not isinstance(function, types.FunctionType):
        return ANYTHING
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    defaults = function.__kwdefaults__ or {}
    required = code.co_argcount - len(function.__defaults__ or ())
    return CallShape(
        names=positional[skip:],
        positional_only=max(0, code.co_posonlyargcount - skip),
        required=max(0, required - skip),
        has_varargs=bool(code.co_flags & VARARGS),
        keyword_only=keyword_only,
        required_keywords=tuple(name for name in keyword_only if name not in defaults),
        has_varkeywords=bool(code.co_flags & VARKEYWORDS),
    )


def code_flags(function: Any) -> int:
    """The flags of a function's code, 0 where there is none."""
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    return int(getattr(code, "co_flags", 0))
