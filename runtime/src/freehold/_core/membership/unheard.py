"""What a node said to the head and must say again to one that may not have heard or answered it.

Place in the flow: in each node manager of a cluster of several machines, between its processes and
the link to the control service. Everything that matters for longer than a moment passes `say`; when
the control service was started again, the node's `NodeJoined` has the reports that are here, and
`again` what its processes still want.

Until when something is kept:

- a question, until it is answered or its asker is gone; a watch, until the actor is dead;
- an order (`KillActor`, `ReleaseActor`, `ActorAdopted`) and a report of a placement, until a
  heartbeat that was sent after it is answered: then it was kept on the head's disk;
- the end of a process for half a minute longer than that, since other nodes that were away at the
  time hear of it only through here, if the head that knew it is gone.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.invariants import check
from freehold._core.limits import DEATH_SILENCE_S, UNHEARD

ENDS_KEPT_S = 2 * DEATH_SILENCE_S
"""A node that was away when an end was told is back or dead by then."""


class _Said(msgspec.Struct):
    message: m.Message
    beat: int
    """The last heartbeat that was sent before it."""
    at: float


class Unheard:
    """One node's.

    Example:
        >>> unheard = Unheard()
        >>> watch = m.FromProcess(Address("a", 1), m.WatchActor(b"x"))
        >>> unheard.say(watch, 0.0).number
        1
        >>> len(unheard.again())
        1
    """

    def __init__(self) -> None:
        self._wanted: dict[Hashable, _Said] = {}
        """Requests of processes by what recognises them, in the order in which they were made."""
        self._reports: dict[Hashable, _Said] = {}
        self._gone: dict[Address, _Said] = {}
        self._number = 0
        self._beat = 0
        self._beats: dict[int, float] = {}
        self.forgotten = 0
        """What gave way to newer things."""

    def say(self, message: m.Message, now: float) -> m.Message:
        """Something is about to be sent; send what this gives."""
        if isinstance(message, m.FromProcess):
            self._number += 1
            message = m.FromProcess(message.source, message.message, self._number)
            self._note(self._wanted, _name(message), message, now)
        elif isinstance(message, m.ActorReport):
            name = (type(message).__name__, message.actor, message.restart)
            self._note(self._reports, name, message, now)
        elif isinstance(message, m.ProcessGone):
            self._note(self._gone, message.address, message, now)
            self.process_gone(message.address)
        elif isinstance(message, m.Heartbeat):
            self._beat = message.number
            self._beats[message.number] = now
        return message

    def hear(self, message: m.Message) -> None:
        """The control service said something."""
        if isinstance(message, m.ToProcess):
            self._answered(message.target, message.message)
        elif isinstance(message, m.HeartbeatAnswered):
            self._kept_until(message.number)

    def process_gone(self, address: Address) -> None:
        """Nobody waits there any more; what it ordered still counts."""
        for name, said in list(self._wanted.items()):
            request = said.message
            assert isinstance(request, m.FromProcess)
            is_order = isinstance(request.message, m.KillActor | m.ReleaseActor | m.ActorAdopted)
            if request.source == address and not is_order:
                del self._wanted[name]

    def reports(self) -> list[m.ActorReport]:
        """What was said of placements and may not have been heard, in that order."""
        return [said.message for said in self._reports.values()]  # type: ignore[misc]

    def gone(self) -> list[m.ProcessGone]:
        """The ends of processes of which others may not have heard."""
        return [said.message for said in self._gone.values()]  # type: ignore[misc]

    def again(self) -> list[m.Message]:
        """What is to be said behind `NodeJoined`, in the order in which it was said first."""
        return [said.message for said in self._wanted.values()]

    def check_invariants(self) -> None:
        """FEN-3: what is kept to be said again is bounded in number."""
        for kept in (self._wanted, self._reports, self._gone):
            check(len(kept) <= UNHEARD, "FEN-3", f"{len(kept)} messages are kept")

    def _note(
        self, kept: dict[Hashable, _Said] | dict[Address, _Said], name: Hashable,
        message: m.Message, now: float,
    ) -> None:  # fmt: skip
        table: dict[Hashable, _Said] = kept  # type: ignore[assignment]
        table.pop(name, None)
        table[name] = _Said(message, self._beat, now)
        if len(table) > UNHEARD:
            del table[next(iter(table))]
            self.forgotten += 1

    def _answered(self, target: Address, answer: m.ControlAnswer) -> None:
        if isinstance(answer, m.ActorState):
            if answer.info.state == "dead":
                self._wanted.pop((target, "watch", answer.info.actor), None)
        else:
            self._wanted.pop((target, "request", answer.request), None)

    def _kept_until(self, number: int) -> None:
        sent_at = self._beats.get(number)
        if sent_at is None:
            return
        for beat in [beat for beat in self._beats if beat <= number]:
            del self._beats[beat]
        for name, said in list(self._reports.items()):
            if said.beat < number:
                del self._reports[name]
        for name, said in list(self._wanted.items()):
            if said.beat < number and isinstance(name, tuple) and name[1] == "order":
                del self._wanted[name]
        for address, said in list(self._gone.items()):
            if said.at + ENDS_KEPT_S <= sent_at:
                del self._gone[address]


def _name(message: m.FromProcess) -> Hashable:
    """What a request is recognised by when it is said again, or answered."""
    inner = message.message
    if isinstance(inner, m.WatchActor):
        return (message.source, "watch", inner.actor)
    if isinstance(inner, m.KillActor | m.ReleaseActor | m.ActorAdopted):
        return (message.source, "order", message.number)
    return (message.source, "request", inner.request)
