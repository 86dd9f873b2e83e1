"""What the directory keeps of an actor: its row while it is not dead, and what outlives a restart.

`directory` decides; a row is plain data. What is written down of it when it changes is its
`ActorLife`, some hundred bytes; the spec, which may be large, is written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from freehold._core.actors.events import ActorLife, Instant
from freehold._core.actors.placing import placing_shape
from freehold._core.ids import Address
from freehold._core.messages import ActorInfo, ActorSpec, ExitCause

PENDING = "pending"
ALIVE = "alive"
RESTARTING = "restarting"
DEAD = "dead"
MOVING = "moving"
"""Alive on a node that drains: callers call no more until it is alive elsewhere."""

LIVING = (ALIVE, MOVING)
"""With a process that has an address."""


@dataclass(slots=True)
class Row:
    """An actor that is not dead."""

    spec: ActorSpec
    state: str = PENDING
    restart: int = 0
    moves: int = 0
    """Restarts that a drain was the reason of: they are not counted against `max_restarts`."""
    address: Address | None = None
    placed_on: str = ""
    """The node that was told to place it and has not reported an end; "" while unplaced."""
    incarnation: int = 0
    is_ending: bool = False
    """Killed, to be restarted once its process has ended."""
    is_orphan: bool = False
    """Its owner is gone; it was detached."""
    watchers: dict[Address, None] = field(default_factory=dict)
    refused_by: dict[str, None] = field(default_factory=dict)
    failures: int = 0
    not_before: Instant = 0.0
    reason: str = ""
    """Why it is not alive, once it has been."""
    cause: ExitCause | None = None
    kills: dict[str, int] = field(default_factory=dict)
    """By node: the number of its last request that had this actor restarted."""
    is_kept: bool = False
    """Its spec was written down."""

    @property
    def name(self) -> tuple[str, str] | None:
        options = self.spec.options
        return (options.namespace, options.name) if options.name else None

    def info(self) -> ActorInfo:
        return ActorInfo(
            self.spec.actor,
            self.spec.owner,
            self.spec.options,
            self.state,
            self.address,
            self.restart,
            self.reason,
            b"",
            self.cause,
            placing_shape(self.spec) if self.state in (PENDING, RESTARTING) else (),
            self.spec.where,
            self.moves,
        )

    def life(self) -> ActorLife:
        """What is to be known of it after a restart of the control service."""
        return ActorLife(
            state=self.state,
            restart=self.restart,
            address=self.address,
            placed_on=self.placed_on,
            incarnation=self.incarnation,
            is_ending=self.is_ending,
            is_orphan=self.is_orphan,
            failures=self.failures,
            reason=self.reason,
            cause=self.cause,
            kills=dict(self.kills),
            moves=self.moves,
        )


def row_of(spec: ActorSpec, life: ActorLife) -> Row:
    """The row as it was kept."""
    return Row(spec, is_kept=True, **msgspec.structs.asdict(life))


def unlink(index: dict[Address, dict[bytes, None]], address: Address, actor: bytes) -> None:
    """Take an actor out of what an address is known for."""
    actors = index[address]
    del actors[actor]
    if not actors:
        del index[address]
