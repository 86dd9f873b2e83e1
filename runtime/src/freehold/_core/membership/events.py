"""What membership is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the control service hands it the node managers' `NodeJoined` and `NodeReported`
as they come, its own findings about lost nodes, what the operator asks, and `ClusterQuery` of
processes. Effects that keep something (`Keep…`, `ForgetNode`) come before those that tell of it.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import (
    DeadNode,
    DrainAnswered,
    DrainNode,
    NodeGroup,
    NodeInfo,
    NodeJoined,
    NodeReported,
    ShapeDemand,
)

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class Restored(_Own, frozen=True):
    """First of all: what an earlier control service of this cluster knew.

    Its nodes have `RETURN_S` to come back. One that was `is_head` lived in its process and is dead.
    """

    nodes: list[NodeInfo]
    groups: list[NodeGroup] = []
    incarnation: int = 0
    """The highest that a node was ever given."""


class NodeEnrolled(_Own, frozen=True):
    """A node asks for an incarnation."""

    node: str


class NodeHeard(_Own, frozen=True):
    """A node said something, whatever it was."""

    node: str
    incarnation: int


class NodeLost(_Own, frozen=True):
    """A node is gone for good: its process has ended, or it said so.

    `incarnation` −1 means whichever is alive.
    """

    node: str
    reason: str
    incarnation: int = -1


class DrainAsked(_Own, frozen=True):
    """Somebody wants a node drained; answered with `AnswerDrain`."""

    request: int
    node: str
    """Its id, the beginning of its id, or its name."""
    is_idle_only: bool
    deadline_s: float = 0.0
    reason: str = ""


class NodeAnsweredDrain(_Own, frozen=True):
    """A node's `DrainAnswered`."""

    node: str
    answer: DrainAnswered


class GroupsSet(_Own, frozen=True):
    """Which nodes could be added, all of them."""

    groups: list[NodeGroup]


class ClusterQueried(_Own, frozen=True):
    """A process's `ClusterQuery`."""

    source: Address
    request: int


class DeadlineReached(_Own, frozen=True):
    """The time that `next_deadline()` named has come."""


MembershipEvent: TypeAlias = (
    Restored
    | NodeEnrolled
    | NodeJoined
    | NodeHeard
    | NodeReported
    | NodeLost
    | DrainAsked
    | NodeAnsweredDrain
    | GroupsSet
    | ClusterQueried
    | DeadlineReached
)


# ---- effects -----------------------------------------------------------------------------------


class KeepNode(_Own, frozen=True):
    """Keep a node's record over a restart of the control service."""

    info: NodeInfo


class ForgetNode(_Own, frozen=True):
    """Keep it no longer."""

    node: str


class KeepGroups(_Own, frozen=True):
    """Keep the groups, and tell the control service's other machines."""

    groups: list[NodeGroup]


class KeepIncarnation(_Own, frozen=True):
    """Keep the highest incarnation that a node was given."""

    incarnation: int


class GrantIncarnation(_Own, frozen=True):
    """Tell the node that enrolled."""

    node: str
    incarnation: int


class PushView(_Own, frozen=True):
    """Send `ClusterView` to the manager of `target`: what changed since its last one."""

    target: str
    nodes: list[NodeInfo]
    groups: list[NodeGroup] | None = None


class TellDead(_Own, frozen=True):
    """Send `DeadNodes` to a node that may not have heard of these."""

    target: str
    nodes: list[DeadNode]


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


class AskDrain(_Own, frozen=True):
    """Send `DrainNode`."""

    node: str
    message: DrainNode


class AnswerDrain(_Own, frozen=True):
    """Whether the node will be drained; `is_unknown` if there is no such node, or several."""

    request: int
    accepted: bool
    refusal: str
    state: str
    is_unknown: bool = False


class AnswerQuery(_Own, frozen=True):
    """Send `ClusterReply`: all nodes, dead ones too, in order of joining."""

    target: Address
    request: int
    nodes: list[NodeInfo]


class NotifyChange(_Own, frozen=True):
    """Tell the control service's other machines (the actor directory's `ViewChanged`) at once."""

    nodes: list[NodeInfo]


MembershipEffect: TypeAlias = (
    KeepNode
    | ForgetNode
    | KeepGroups
    | KeepIncarnation
    | GrantIncarnation
    | PushView
    | TellDead
    | DeclareDead
    | RefuseNode
    | AskDrain
    | AnswerDrain
    | AnswerQuery
    | NotifyChange
)


# ---- snapshot ----------------------------------------------------------------------------------


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A node as the operator and `freehold status` see it."""

    info: NodeInfo
    idle_s: float
    actors: int
    drivers: int
    demand: list[ShapeDemand]
    demand_age_s: float
    """How long ago the node said what its demand is."""


class MembershipSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Membership at one moment, for metrics, dashboard and tests; `total` sums the living."""

    alive: int
    dead: int
    total: dict[str, int]
    available: dict[str, int]
    queued: dict[str, int]
    ignored_events: int
    absent: int = 0
    """Of the living, those that have not come back since the control service was started again."""
    draining: int = 0
