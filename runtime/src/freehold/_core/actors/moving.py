"""Actors that change their node or their owner though nothing died: part of the directory.

A live actor on a node that drains *moves* if it may be restarted. Everybody who may call it hears
that it is "moving": they send no more calls, get the answers of those they have sent, and then tell
it so (`CallsStopped`). When all have, it says `ActorLeft`, and is restarted on another node, where
the calls go on in order. So no call is lost, whatever way its answer takes; it costs none of
`max_restarts`, since nothing failed. One that may not be restarted keeps its node until the drain's
deadline.
"""

from __future__ import annotations

from freehold._core.actors import events as ev
from freehold._core.actors.events import ActorEffect
from freehold._core.actors.rows import ALIVE, MOVING, Row, unlink
from freehold._core.ids import Address
from freehold._core.messages import (
    ActorAdopted,
    ActorLeft,
    ActorState,
    ExitCause,
    NodeInfo,
    OwnerInfo,
)


class Moving:
    """The parts of the directory that have to do with drains."""

    rows: dict[bytes, Row]
    owned: dict[Address, dict[bytes, None]]
    draining: dict[str, str]
    """Nodes that drain, and why."""
    effects: list[ActorEffect]
    _ignored: int
    _changed: dict[bytes, None]

    def _note_draining(self, info: NodeInfo) -> None:
        """A node is as membership says: if it drains now, its actors move."""
        if not info.is_alive or info.state == "alive":
            self.draining.pop(info.node, None)
            return
        if info.node in self.draining:
            return
        self.draining[info.node] = info.reason
        for row in list(self.rows.values()):
            if row.placed_on == info.node and row.state == ALIVE:
                self.move(row)

    def move(self, row: Row) -> None:
        """Have a live actor finish what it was sent, if it may be restarted elsewhere."""
        if row.spec.options.max_restarts == 0 or not self._may_restart(row):
            return
        row.state = MOVING
        row.reason = f"its node drains: {self.draining[row.placed_on]}"
        self._changed[row.spec.actor] = None
        self._tell_all(row)
        self.ask_to_move(row)

    def ask_to_move(self, row: Row) -> None:
        """Tell the node of a moving actor whom it has to wait for; no harm if it knows."""
        callers = [who for who in self._listeners(row) if who != row.address]
        actor = row.spec.actor
        self.effects.append(
            ev.MoveActorFrom(row.placed_on, actor, row.restart, callers, row.reason)
        )

    def left(self, event: ActorLeft) -> None:
        """A moving actor has answered every call."""
        row = self._current(event.actor, event.restart)
        if row is None:
            return
        if row.is_ending:  # killed in the meantime, to be restarted
            self.leave_node(row)
            self.restart_row(row, row.reason, row.cause)
            return
        if row.state != MOVING:
            self._ignored += 1
            return
        self.leave_node(row)
        row.restart += 1
        row.moves += 1
        row.refused_by.clear()
        self._set_restarting(row)
        self.place(row)

    def _adopt(self, source: Address, message: ActorAdopted) -> None:
        """Its owner leaves and has given it to another process."""
        row = self.rows.get(message.actor)
        if row is None or row.is_orphan or row.spec.owner.address != source:
            self._ignored += 1
            return
        self._own(row, message.owner)

    def bequeath(self, source: Address, heir: Address) -> None:
        """Who owned actors is gone, and another answers for all that it owned.

        It is told, since it may have been given less than that: then it lets them end.
        """
        for actor in list(self.owned.get(source, ())):
            self._own(self.rows[actor], heir)
            self.tell(heir, ActorState(self.rows[actor].info()))

    def _own(self, row: Row, owner: Address) -> None:
        actor = row.spec.actor
        unlink(self.owned, row.spec.owner.address, actor)
        row.spec.owner = OwnerInfo(owner, row.spec.owner.supervisors)
        row.is_kept = False
        self._changed[actor] = None
        self.owned.setdefault(owner, {})[actor] = None

    def _may_restart(self, row: Row) -> bool:
        most = row.spec.options.max_restarts
        return most < 0 or row.restart - row.moves < most

    # ---- the directory's -----------------------------------------------------------------------

    def _current(self, actor: bytes, restart: int) -> Row | None:
        raise NotImplementedError

    def restart_row(self, row: Row, reason: str, cause: ExitCause | None = None) -> None:
        """The actor's process is gone though nobody wanted that for good."""
        raise NotImplementedError

    def tell(self, address: Address, message: ActorState) -> None:
        """Send a change of state to a process."""
        raise NotImplementedError

    def _tell_all(self, row: Row) -> None:
        raise NotImplementedError

    def _listeners(self, row: Row) -> list[Address]:
        raise NotImplementedError

    def leave_node(self, row: Row) -> None:
        """The actor has no process any more."""
        raise NotImplementedError

    def _set_restarting(self, row: Row) -> None:
        raise NotImplementedError

    def place(self, row: Row) -> None:
        """Send an actor to a node, or have it wait for one."""
        raise NotImplementedError
