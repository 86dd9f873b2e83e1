"""The nearest known name to a wrong one, for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or a list of what there is when nothing is near."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else ""
