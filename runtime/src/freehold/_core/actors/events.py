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
    ActorSpec,
    ActorStarted,
    ControlAnswer,
    FromProcess,
    NodeDied,
    NodeInfo,
    ProcessGone,
)

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


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


class DeadlineReached(_Own, frozen=True):
    """The time that `next_deadline()` named has come."""


ActorEvent: TypeAlias = (
    FromProcess
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


ActorEffect: TypeAlias = PlaceActorOn | Unplace | MoveActorFrom | Tell


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
