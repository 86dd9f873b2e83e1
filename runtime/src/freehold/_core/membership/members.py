"""What membership keeps of each node, and how a node is found by what a person calls it.

`machine` decides; the records and the look-up are plain.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold._core.limits import DEATH_SILENCE_S
from freehold._core.membership.events import Instant
from freehold._core.messages import NodeInfo, ShapeDemand

ALIVE = "alive"
DRAINING = "draining"
DRAINED = "drained"
DEAD = "dead"


class Member:
    """A node that joined, or that an earlier control service knew."""

    __slots__ = (
        "actors",
        "demand",
        "demand_at",
        "died_at",
        "drain",
        "drivers",
        "heard_at",
        "idle_since",
        "info",
        "is_absent",
        "told",
    )

    def __init__(self, info: NodeInfo, now: Instant, *, is_absent: bool = False) -> None:
        self.info = info
        self.told = info
        """What the other nodes were told last, or will be next."""
        self.is_absent = is_absent
        """Known from before the control service was started, and not back yet."""
        self.heard_at = now
        self.idle_since: Instant | None = None
        """None while it is in use, or nothing was heard of that."""
        self.actors = 0
        self.drivers = 0
        self.demand: list[ShapeDemand] = []
        self.demand_at = now
        self.died_at: Instant | None = None
        self.drain: float | None = None
        """The deadline of a drain that cannot be refused and that was asked for, in seconds."""

    @property
    def is_silence_death(self) -> bool:
        """Whether silence is a sign of its end: not of a node that shares the control service's
        folder, whose process is watched, nor of the one that the control service lives in."""
        info = self.info
        return bool(info.host) and not info.socket_dir and not info.is_head

    def dies_at(self, grace_until: Instant) -> Instant:
        """When silence has lasted too long."""
        if self.is_absent:
            return grace_until
        return max(self.heard_at + DEATH_SILENCE_S, grace_until)


def find(nodes: Iterable[NodeInfo], text: str) -> NodeInfo | str:
    """The node of that id, name, or beginning of its id; or why there is not one.

    The living come first: on Kubernetes a pod's name may be used again.
    """
    known = list(nodes)
    for info in known:
        if info.node == text:
            return info
    for wants_living in (True, False):
        found = [
            info
            for info in known
            if info.is_alive == wants_living
            and (info.name == text or (text and info.node.startswith(text)))
        ]
        if len(found) > 1:
            names = ", ".join(f"{info.node[:12]} ({info.name or info.hostname})" for info in found)
            return f"{text!r} could be any of {len(found)} nodes: {names}; give more of the id"
        if found:
            return found[0]
    return f"no node has the id or name {text!r}; `freehold status` lists them"
