"""Conditions as Kubernetes has them: an unchanged status keeps the time of its last change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from freehold_operator.quantity import format_time


class Condition(msgspec.Struct, frozen=True):
    """What holds, why in one word, and why for people with what to do next."""

    type: str
    holds: bool | None
    reason: str
    message: str = ""


def written(
    conditions: Sequence[Condition],
    before: Sequence[Mapping[str, Any]],
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """Conditions as they go into a status.

    Args:
        before: those of the status that is there.
        generation: that they were found for.
    """
    known = {c.get("type"): c for c in before}
    found = []
    for one in conditions:
        status = "Unknown" if one.holds is None else str(one.holds)
        old = known.get(one.type, {})
        changed = old.get("status") != status
        found.append(
            {
                "type": one.type,
                "status": status,
                "reason": one.reason,
                "message": one.message,
                "observedGeneration": generation,
                "lastTransitionTime": format_time(now) if changed else old["lastTransitionTime"],
            }
        )
    return found


def holds(status: Mapping[str, Any], type_: str) -> bool:
    """Whether a status says that a condition is true."""
    return any(
        c.get("type") == type_ and c.get("status") == "True" for c in status.get("conditions") or ()
    )


def reason_of(status: Mapping[str, Any], type_: str) -> str:
    """A condition's reason; empty if it is not there."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == type_:
            return str(condition.get("reason", ""))
    return ""
