"""What the actor directory is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the control service hands it, as they come, the messages that concern actors:
requests of processes (`FromProcess`, with their source), reports of node managers (`ActorStarted`,
`ActorEnded`, `ProcessGone`) and of membership (`NodeDied`). Those are past-tense facts already and
need no second name; only what no message says is declared here.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import (
    ActorEnded,
    ActorLeft,
    ActorReport,
    ActorSpec,
    ActorStarted,
    ActorState,
    ControlAnswer,
    ExitCause,
    FromProcess,
    LivingActor,
    NodeDied,
    NodeGroup,
    NodeInfo,
    ProcessGone,
)

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


class ActorLife(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What outlives the control service of an actor that is not dead, beside its spec.

    Fields are only added at the end, with a default: it lies in volumes.
    """

    state: str
    restart: int = 0
    address: Address | None = None
    placed_on: str = ""
    incarnation: int = 0
    is_ending: bool = False
    is_orphan: bool = False
    failures: int = 0
    reason: str = ""
    cause: ExitCause | None = None
    kills: dict[str, int] = {}
    moves: int = 0


# ---- events ------------------------------------------------------------------------------------


class PlacementRejected(_Own, frozen=True):
    """A node manager's `PlacementFailed`: not there, or (`is_final`) not anywhere."""

    node: str
    actor: bytes
    restart: int
    reason: str
    is_final: bool = False


class ViewChanged(_Own, frozen=True):
    """Nodes as membership knows them: changed ones, dead ones with `is_alive` false."""

    nodes: list[NodeInfo]


class Restored(_Own, frozen=True):
    """First of all: what an earlier directory of this cluster kept, and the nodes of then."""

    actors: list[tuple[ActorSpec, ActorLife]]
    dead: list[ActorState]
    nodes: list[NodeInfo]
    groups: list[NodeGroup] = []


class NodeReturned(_Own, frozen=True):
    """A node's `NodeJoined`: what lives there, and what was not heard.

    Before the `ViewChanged` that tells of its room: what is placed there from then on the node
    cannot have named.
    """

    node: str
    incarnation: int
    actors: list[LivingActor]
    processes: list[int]
    reports: list[ActorReport] = []
    gone: list[ProcessGone] = []


class NodeAway(_Own, frozen=True):
    """The connection to a node ended, or goes on; whether it is dead is not known."""

    node: str
    is_away: bool = True


class GroupsSet(_Own, frozen=True):
    """Which nodes could be added: what fits one of them waits."""

    groups: list[NodeGroup]


class DeadlineReached(_Own, frozen=True):
    """The time that `next_deadline()` named has come."""


ActorEvent: TypeAlias = (
    FromProcess
    | Restored
    | NodeReturned
    | NodeAway
    | GroupsSet
    | ActorStarted
    | ActorEnded
    | ActorLeft
    | ProcessGone
    | NodeDied
    | PlacementRejected
    | ViewChanged
    | DeadlineReached
)
"""Of `FromProcess`, a `ClusterQuery` is not the directory's: that is membership's."""


# ---- effects -----------------------------------------------------------------------------------


class KeepActor(_Own, frozen=True):
    """Keep this over a restart of the control service; the spec is given once.

    What is kept comes before what is told of it, so that nobody knows more than the volume.
    """

    actor: bytes
    spec: ActorSpec | None
    life: ActorLife


class KeepDead(_Own, frozen=True):
    """The actor is dead: keep only that, and why."""

    actor: bytes
    state: ActorState


class ForgetActor(_Own, frozen=True):
    """Keep nothing of it."""

    actor: bytes


class PlaceActorOn(_Own, frozen=True):
    """Send `PlaceActor` to the manager of `node`."""

    node: str
    spec: ActorSpec
    restart: int


class Unplace(_Own, frozen=True):
    """Send `UnplaceActor` to the manager of `node`."""

    node: str
    actor: bytes
    restart: int
    grace_s: float
    reason: str


class MoveActorFrom(_Own, frozen=True):
    """Send `MoveActor` to the manager of `node`, which drains."""

    node: str
    actor: bytes
    restart: int
    callers: list[Address]
    reason: str


class Tell(_Own, frozen=True):
    """Send an answer or a change of state to a process, through its node manager."""

    address: Address
    message: ControlAnswer


ActorEffect: TypeAlias = (
    KeepActor | KeepDead | ForgetActor | PlaceActorOn | Unplace | MoveActorFrom | Tell
)


# ---- snapshot ----------------------------------------------------------------------------------


class ActorSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The directory at one moment, for metrics, dashboard and tests."""

    pending: int
    alive: int
    restarting: int
    dead: int
    named: int
    watchers: int
    unplaced: int
    """Actors that wait for a node which fits them."""
    ignored_events: int
