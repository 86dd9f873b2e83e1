"""What membership is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the control service hands it the node managers' `NodeJoined` and `NodeReported`
as they come, its own findings about lost nodes, and `ClusterQuery` of processes.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import NodeInfo, NodeJoined, NodeReported

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class NodeLost(_Own, frozen=True):
    """A node is gone for good: its process has ended, or it was silent for `DEATH_SILENCE_S`.

    `incarnation` −1 means whichever is alive.
    """

    node: str
    reason: str
    incarnation: int = -1


class ClusterQueried(_Own, frozen=True):
    """A process's `ClusterQuery`."""

    source: Address
    request: int


class DeadlineReached(_Own, frozen=True):
    """The time that `next_deadline()` named has come."""


MembershipEvent: TypeAlias = NodeJoined | NodeReported | NodeLost | ClusterQueried | DeadlineReached


# ---- effects -----------------------------------------------------------------------------------


class PushView(_Own, frozen=True):
    """Send `ClusterView` to the manager of `target`: what changed since its last one."""

    target: str
    nodes: list[NodeInfo]


class DeclareDead(_Own, frozen=True):
    """Send `NodeDied` to every node manager, and tell the control service's other machines."""

    node: str
    incarnation: int
    reason: str


class RefuseNode(_Own, frozen=True):
    """Tell a node that it was declared dead under this incarnation and must rejoin under a new."""

    node: str
    incarnation: int
    reason: str


class AnswerQuery(_Own, frozen=True):
    """Send `ClusterReply`: all nodes, dead ones too, in order of joining."""

    target: Address
    request: int
    nodes: list[NodeInfo]


class NotifyChange(_Own, frozen=True):
    """Tell the control service's other machines (the actor directory's `ViewChanged`) at once."""

    nodes: list[NodeInfo]


MembershipEffect: TypeAlias = PushView | DeclareDead | RefuseNode | AnswerQuery | NotifyChange


# ---- snapshot ----------------------------------------------------------------------------------


class MembershipSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Membership at one moment, for metrics, dashboard and tests; `total` sums the living."""

    alive: int
    dead: int
    total: dict[str, int]
    available: dict[str, int]
    queued: dict[str, int]
    ignored_events: int
