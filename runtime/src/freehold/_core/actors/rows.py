"""What the directory knows of one actor that is not dead."""

from __future__ import annotations

from dataclasses import dataclass, field

from freehold._core.actors.events import Instant
from freehold._core.actors.placing import placing_shape
from freehold._core.ids import Address
from freehold._core.messages import ActorInfo, ActorSpec, ExitCause

PENDING = "pending"
ALIVE = "alive"
RESTARTING = "restarting"
DEAD = "dead"
MOVING = "moving"
"""Alive on a node that drains: callers call no more until it is alive elsewhere."""


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
            self.moves,
        )


def unlink(index: dict[Address, dict[bytes, None]], address: Address, actor: bytes) -> None:
    """Take an actor out of what an address is known for."""
    actors = index[address]
    del actors[actor]
    if not actors:
        del index[address]
