"""How an actor leaves a node that drains: when every caller has all its answers.

The control service has told the callers that the actor moves; each says `CallsStopped` when it has
got the answers to all it had sent. What came before that was executed, so nothing is left when all
have said so. Then the actor is restarted elsewhere, and this process ends as a worker that leaves
does: what it owns is handed over first (`leaving`).

Place in the flow: the worker's service hands over the two messages; `Leaving` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.ids import Address

if TYPE_CHECKING:
    from freehold._processes.owner.cluster import ClusterCore
    from freehold._processes.worker.leaving import Leaving

_LOOK_AGAIN_S = 0.05
"""How often an actor that moves looks whether callers have ended that it waits for."""


class Moving:
    """Whether this worker's actor moves, and who may still call it."""

    def __init__(self, core: ClusterCore, leaving: Leaving) -> None:
        self._core = core
        self._leaving = leaving
        self._stopped: dict[Address, None] = {}
        self._callers: list[Address] | None = None
        self._reason = ""
        self.place: Callable[[], tuple[bytes, int] | None] = lambda: None
        """The actor and which restart of it this process is."""

    def handlers(self) -> dict[type, Callable[[Address, Any, float], None]]:
        """The messages that are this part's."""
        return {m.CallsStopped: self._on_stopped, m.LeaveActor: self._on_leave}

    def _on_stopped(self, source: Address, message: m.CallsStopped, now: float) -> None:
        self._stopped[source] = None  # maybe before we hear that we move: it comes another way

    def _on_leave(self, source: Address, message: m.LeaveActor, now: float) -> None:
        if self._callers is None:
            self._callers, self._reason = message.callers, message.reason
            self._look()

    def _look(self) -> None:
        is_dead = self._core.owner.borrowing.is_dead
        callers = self._callers or ()
        place = self.place()
        if place is None or any(c not in self._stopped and not is_dead(c) for c in callers):
            self._core.reactor.call_later(_LOOK_AGAIN_S, self._look)
            return
        self._core.owner.outbox.ask_node(m.ActorLeft(*place))
        self._leaving.leave(self._reason)
        self._leaving.has_announced = True
        self._leaving.end_when_not_needed()
        self._core.carry_out()
