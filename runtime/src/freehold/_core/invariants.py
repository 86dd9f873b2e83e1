"""Checks of rules that only a defect of Freehold itself can break."""

from __future__ import annotations

from collections.abc import Iterable

from freehold.errors import InvariantError


def check(holds: bool, rule: str, what: str, story: Iterable[str] = ()) -> None:
    """Raise unless `holds`.

    Args:
        rule: the invariant's id, as docs/invariants.md lists it (`OWN-1`).
        what: what was found, with ids.
        story: the last events of the object, oldest first.

    Raises:
        InvariantError: the rule is broken.
    """
    if not holds:
        raise InvariantError(
            invariant=rule, subject="this process", reason=what, story=tuple(story)
        )
