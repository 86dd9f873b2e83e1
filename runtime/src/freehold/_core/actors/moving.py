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
from freehold._core.messages import ActorAdopted, ActorLeft, NodeInfo, OwnerInfo


class Moving:
    """The parts of the directory that have to do with drains."""

    _rows: dict[bytes, Row]
    _owned: dict[Address, dict[bytes, None]]
    _draining: dict[str, str]
    """Nodes that drain, and why."""
    _effects: list[ActorEffect]
    _ignored: int

    def _note_draining(self, info: NodeInfo) -> None:
        """A node is as membership says: if it drains now, its actors move."""
        if not info.is_alive or info.state == "alive":
            self._draining.pop(info.node, None)
            return
        if info.node in self._draining:
            return
        self._draining[info.node] = info.reason
        for row in list(self._rows.values()):
            if row.placed_on == info.node and row.state == ALIVE:
                self._move(row)

    def _move(self, row: Row) -> None:
        """Have a live actor finish what it was sent, if it may be restarted elsewhere."""
        if row.spec.options.max_restarts == 0 or not self._may_restart(row):
            return
        row.state = MOVING
        row.reason = f"its node drains: {self._draining[row.placed_on]}"
        self._tell_all(row)
        callers = [who for who in self._listeners(row) if who != row.address]
        actor = row.spec.actor
        self._effects.append(
            ev.MoveActorFrom(row.placed_on, actor, row.restart, callers, row.reason)
        )

    def _left(self, event: ActorLeft) -> None:
        """A moving actor has answered every call."""
        row = self._rows.get(event.actor)
        if row is None or row.restart != event.restart or row.state != MOVING:
            self._ignored += 1
            return
        self._leave_node(row)
        row.restart += 1
        row.moves += 1
        row.refused_by.clear()
        self._set_restarting(row)
        self._place(row)

    def _adopt(self, source: Address, message: ActorAdopted) -> None:
        """Its owner leaves and has given it to another process."""
        row = self._rows.get(message.actor)
        if row is None or row.is_orphan or row.spec.owner.address != source:
            self._ignored += 1
            return
        unlink(self._owned, source, message.actor)
        row.spec.owner = OwnerInfo(message.owner, row.spec.owner.supervisors)
        self._owned.setdefault(message.owner, {})[message.actor] = None

    # ---- the directory's -----------------------------------------------------------------------

    def _may_restart(self, row: Row) -> bool:
        raise NotImplementedError

    def _tell_all(self, row: Row) -> None:
        raise NotImplementedError

    def _listeners(self, row: Row) -> list[Address]:
        raise NotImplementedError

    def _leave_node(self, row: Row) -> None:
        raise NotImplementedError

    def _set_restarting(self, row: Row) -> None:
        raise NotImplementedError

    def _place(self, row: Row) -> None:
        raise NotImplementedError
