"""A node's contact with a head on another machine: what it must know, and when to stop without it.

Place in the flow: whoever has the connection to the control service says `connect` before anything
else, sends first what `standing` gives whenever the control service knows nothing of this node, and
hands over what comes. `Fencing` decides when this node is cut off, `Unheard` keeps what has to be
said again. On one machine there is none of this: there the cluster ends with its head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.membership import fencing as fen
from freehold._core.membership.unheard import Unheard
from freehold._io import clock
from freehold._processes.node.hub import Handler, Hub


class HeadDesk:
    """The shell around `Fencing` and `Unheard`.

    Args:
        incarnation_of: the incarnation of a peer, as the last view has it.
        describe: this node as it is now, without what was not heard.
        on_stop: this node is cut off, or was declared dead: kill its workers, join anew.
    """

    def __init__(
        self,
        hub: Hub,
        incarnation_of: Callable[[str], int],
        describe: Callable[[], list[m.Message]],
        on_stop: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._incarnation_of = incarnation_of
        self._describe = describe
        self._on_stop = on_stop
        self._send: Callable[[m.Message], None] = lambda message: None
        self._is_used = False
        self.fencing = fen.Fencing()
        self.unheard = Unheard()
        self._alarm = clock.MachineAlarm(hub.reactor, lambda: self._handle(fen.DeadlineReached()))
        self._doers: dict[type, Callable[[Any], None]] = {
            fen.SendHeartbeat: lambda effect: self.send(effect.message),
            fen.AskPeer: lambda effect: self._to_peer(effect.node, effect.message),
            fen.AnswerPeer: lambda effect: self._to_peer(effect.node, effect.message),
            fen.Stop: lambda effect: self._on_stop(effect.reason),
        }

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this desk's."""
        return {
            m.AskHead: lambda source, x: self._handle(fen.PeerAsked(source.node, x)),
            m.HeadHeard: lambda source, x: self._handle(fen.PeerAnswered(source.node, x)),
            m.HeartbeatAnswered: lambda source, x: self._handle(fen.AnswerCame(x)),
            m.Fenced: self._on_fenced,
        }

    def connect(self, send: Callable[[m.Message], None]) -> None:
        """What is said goes to `send` from now on. What it loses while there is no connection is
        made good by `standing`; what is said after that must come behind it."""
        self._send = send
        self._is_used = True

    def joined(self) -> None:
        """The control service has let this node in."""
        if self._is_used:
            self._handle(fen.Joined())

    def send(self, message: m.Message) -> None:
        """Say something to the control service, and again if need be."""
        self._send(self.unheard.say(message, clock.now()))

    def standing(self) -> list[m.Message]:
        """All that a control service must be told that knows nothing of this node."""
        joined, *rest = self._describe()
        assert isinstance(joined, m.NodeJoined)
        joined.reports = self.unheard.reports()
        joined.gone = self.unheard.gone()
        return [joined, *rest, *self.unheard.again()]

    def on_control(self, message: m.Message) -> None:
        """The control service said something; whose it is gets it besides."""
        self.unheard.hear(message)

    def peers_changed(self, nodes: list[str]) -> None:
        """Other nodes joined or died."""
        self._handle(fen.PeersKnown(nodes))

    def _on_fenced(self, source: Address, message: m.Fenced) -> None:
        if message.incarnation == self._hub.incarnation:
            self._handle(fen.DeclaredDead(message.reason))

    def _to_peer(self, node: str, message: m.Message) -> None:
        self._hub.send(Address(node, 0, self._incarnation_of(node)), message)

    def _handle(self, event: fen.FencingEvent) -> None:
        for effect in self.fencing.handle(event, now=clock.now()):
            self._doers[type(effect)](effect)
        self._alarm.arm(self.fencing.next_deadline())
