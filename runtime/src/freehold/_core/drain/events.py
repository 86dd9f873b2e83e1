"""What the drain machine is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the node manager's shell (`_processes.node.drain`) turns messages, timers and
what it sees of its store and its processes into these events and carries the effects out, in order.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address, Location
from freehold._core.messages import NodeInfo

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Event(msgspec.Struct, frozen=True, gc=False):
    pass


class _Effect(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class DrainRequested(_Event, frozen=True):
    """Somebody wants the node to end in order.

    Args:
        timeout_s: seconds until it ends however far it is.
        busy_with: what makes it not idle, if anything.
        must_be_idle: refuse then.
        ends: it ends by itself when it is done (else it is ended by who asked).
    """

    timeout_s: float
    reason: str
    busy_with: str = ""
    must_be_idle: bool = False
    ends: bool = False


class ViewSeen(_Event, frozen=True):
    """Nodes as the control service last knew them: changed ones only; this one's is ignored."""

    nodes: list[NodeInfo]


class NodeLost(_Event, frozen=True):
    """A node is gone."""

    node: str


class ProcessEnded(_Event, frozen=True):
    """A process of the cluster is gone."""

    address: Address


class Looked(_Event, frozen=True):
    """What there still is here: processes, and stored ranges with their owners."""

    workers: int
    drivers: int
    ranges: list[tuple[Location, Address]]


class KeeperNamed(_Event, frozen=True):
    """A node answered who is to own what the workers of this one own; None: it has nobody."""

    request: int
    keeper: Address | None


class CopyEnded(_Event, frozen=True):
    """A `CopyRange` came to its end: there is a copy, or `reason` says why there is none."""

    old: Location
    new: Location | None
    reason: str = ""


class OwnerAnswered(_Event, frozen=True):
    """An owner knows what it was told of, or does not (yet, or any more)."""

    old: Location
    is_known: bool


class DeadlineReached(_Event, frozen=True):
    """The time that `next_deadline()` named has come."""


DrainEvent: TypeAlias = (
    DrainRequested
    | ViewSeen
    | NodeLost
    | ProcessEnded
    | Looked
    | KeeperNamed
    | CopyEnded
    | OwnerAnswered
    | DeadlineReached
)


# ---- effects -----------------------------------------------------------------------------------


class RefuseDrain(_Effect, frozen=True):
    """Tell who asked: the node is not idle."""

    reason: str


class BeginDrain(_Effect, frozen=True):
    """Grant nothing more, have the workers leave, tell the cluster."""

    reason: str


class AskKeeper(_Effect, frozen=True):
    """Send `KeeperWanted` to a node's manager."""

    node: str
    request: int


class TellKeeper(_Effect, frozen=True):
    """Tell all workers here who is to own what they own."""

    keeper: Address


class Look(_Effect, frozen=True):
    """Say `Looked`."""


class CopyRange(_Effect, frozen=True):
    """Send `PullPrimary` to the manager of `target`."""

    target: str
    old: Location
    owner: Address


class TellOwner(_Effect, frozen=True):
    """Send `PrimaryMoved` on its way to an owner."""

    owner: Address
    moves: list[tuple[Location, Location]]


class DropCopy(_Effect, frozen=True):
    """Send `RangeReleased`: nobody wants a copy that was made."""

    new: Location


class ReportDrained(_Effect, frozen=True):
    """Tell the cluster: nothing of value is left here."""


class EndNode(_Effect, frozen=True):
    """End the node process; `left` names what was not moved."""

    reason: str
    left: str = ""


DrainEffect: TypeAlias = (
    RefuseDrain
    | BeginDrain
    | AskKeeper
    | TellKeeper
    | Look
    | CopyRange
    | TellOwner
    | DropCopy
    | ReportDrained
    | EndNode
)


# ---- snapshot ----------------------------------------------------------------------------------


class DrainSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How far a drain is, for metrics, dashboard and tests; `state` is "alive" without one."""

    state: str
    moving: int
    moved: int
    workers: int
    drivers: int
    keeper: Address | None
