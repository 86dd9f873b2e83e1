"""Calls that keep no argument alive: the called function's frame is the only one to hold it.

While `function(*args)` runs, the caller's evaluation stack holds the tuple, so that `del x` in the
function frees nothing. The interpreter moves the operands of an ordinary call into the new frame
instead, so the values are taken from a list one by one as operands:

    function(take(), take(), key=take())

One small function like this is made for each number of arguments and names (40 µs, kept). What is
not a Python function or method (a callable object, `functools.partial`, a wrapper with `*args` of
its own) holds its arguments until it returns, and nothing can be done about that here.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from freehold._io.signals import interruptible

Take = Callable[[], Any]
Calling = Callable[[Callable[..., Any], Take], Any]

SHAPES = 256
"""Kept at the most: a program has a few dozen, but names may come from data."""

ARGUMENTS = 1024
"""Of one call at the most: 5 ms to make."""

_known: dict[tuple[int, tuple[str, ...]], Calling] = {}


def calling(count: int, names: tuple[str, ...]) -> Calling | None:
    """What calls a function with `count` positional arguments and `names`, taken in this order.

    None if that cannot be written down, or is not worth it.
    """
    known = _known.get((count, names))
    if known is not None:
        return known
    if len(_known) >= SHAPES or count + len(names) > ARGUMENTS:
        return None
    if not all(_is_plain(name) for name in names):
        return None
    operands = ["take()"] * count + [f"{name}=take()" for name in names]
    source = f"lambda function, take: function({', '.join(operands)})"
    # Frames of it are ours in a traceback, and an exception may leave them anywhere.
    made: Calling = interruptible(eval(source, {"__name__": __name__}))
    _known[count, names] = made
    return made


def _is_plain(name: str) -> bool:
    # Others than ASCII names are normalized by the compiler, and so would be another name.
    is_word = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return is_word and name != "__debug__"
