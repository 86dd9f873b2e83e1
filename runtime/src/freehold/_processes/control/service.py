"""The control service: who is in the cluster, and where its actors are.

Place in the flow: node managers send it what concerns the whole cluster (`handle`), and it answers
through the `NodeLink` each joined with; in its own process that is a direct call put off to the
next turn, else a connection. It decides nothing itself: `Membership` and `ActorDirectory` do. It
knows nodes, actors and their processes; never a task or an object.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from freehold._core import messages as m
from freehold._core.actors import events as actor_events
from freehold._core.actors.directory import ActorDirectory
from freehold._core.ids import Address
from freehold._core.limits import DEATH_SILENCE_S, HEIRS
from freehold._core.membership import events as member_events
from freehold._core.membership.machine import Membership
from freehold._io import clock
from freehold._io.reactor import Reactor

Send = Callable[[m.Message], None]


class NodeLink:
    """The way to one node manager, and the watch over its process."""

    def __init__(self, info: m.NodeInfo, send: Send) -> None:
        self.info = info
        self.send = send
        self.pidfd = -1
        self.is_connected = True
        self.draining = ""
        """Why it comes to its end in order, if it does."""


class ControlService:
    """One per cluster, in its first node process."""

    def __init__(self, reactor: Reactor, own_node: str) -> None:
        self._reactor = reactor
        self._own_node = own_node
        self._links: dict[str, NodeLink] = {}
        self._left: dict[Address, m.ProcessDied] = {}
        """Processes that had an heir, for nodes that join later."""
        self.membership = Membership()
        self.directory = ActorDirectory()
        self._member_alarm = clock.MachineAlarm(
            reactor, lambda: self._member(member_events.DeadlineReached())
        )
        self._actor_alarm = clock.MachineAlarm(
            reactor, lambda: self._actor(actor_events.DeadlineReached())
        )
        self._handlers: dict[type, Callable[[str, Any], None]] = {
            m.NodeReported: self._reported,
            m.FromProcess: self._from_process,
            m.ActorStarted: lambda node, message: self._actor(message),
            m.ActorEnded: lambda node, message: self._actor(message),
            m.ActorLeft: lambda node, message: self._actor(message),
            m.PlacementFailed: self._placement_failed,
            m.ProcessGone: self._process_gone,
        }

    # ---- nodes -----------------------------------------------------------------------------------

    def join(self, message: m.NodeJoined, send: Send) -> None:
        """A node manager reports its node; `send` is the way back to it."""
        info = message.info
        link = NodeLink(info, send)
        old = self._links.get(info.node)
        if old is not None:
            self._unwatch(old)
        self._links[info.node] = link
        if info.node != self._own_node:
            self._watch(link)
        # Membership paces its views; a new node is told at once, and before it is told that it has
        # joined: what needs it must not be called infeasible for a second.
        for node, other in self._links.items():
            if node != info.node:
                other.send(m.ClusterView([info]))
        self._member(message)
        for died in self._left.values():
            send(died)

    def handle(self, node: str, message: m.Message) -> None:
        """Take a message of a joined node manager."""
        handler = self._handlers.get(type(message))
        if handler is not None and node in self._links:
            handler(node, message)

    def drain(self, node: str, deadline_s: float, reason: str, is_idle: bool = False) -> bool:
        """Have a node come to its end in order; False if it is not there. Its state tells more."""
        link = self._links.get(node)
        if link is not None:
            link.send(m.DrainNode(deadline_s, reason, is_idle))
        return link is not None

    def disconnected(self, node: str) -> None:
        """A node manager's connection ended; it is dead when its process is, or stays silent."""
        link = self._links.get(node)
        if link is None:
            return
        link.is_connected = False
        if link.pidfd < 0:
            self._lost(link, "its connection ended and its process is gone")
            return
        self._reactor.call_later(DEATH_SILENCE_S, lambda: self._silent(link))

    def close(self) -> None:
        """Give back what it holds."""
        for link in self._links.values():
            self._unwatch(link)

    def _watch(self, link: NodeLink) -> None:
        try:
            link.pidfd = os.pidfd_open(link.info.pid)
        except OSError:
            return  # it has ended already: its connection says so
        self._reactor.register(link.pidfd, lambda _events: self._ended(link))

    def _unwatch(self, link: NodeLink) -> None:
        if link.pidfd >= 0:
            self._reactor.unregister(link.pidfd)
            os.close(link.pidfd)
            link.pidfd = -1

    def _ended(self, link: NodeLink) -> None:
        self._unwatch(link)
        # What it sent before may still be unread; the connection's end comes behind it.
        if not link.is_connected:
            self._lost(link, "its node process ended")

    def _silent(self, link: NodeLink) -> None:
        if self._links.get(link.info.node) is link and not link.is_connected:
            self._lost(link, f"it was silent for {DEATH_SILENCE_S:g} s")

    def _lost(self, link: NodeLink, reason: str) -> None:
        self._unwatch(link)
        info = link.info
        if link.draining:
            reason = f"it was drained: {link.draining}"
        if self._links.get(info.node) is link:
            del self._links[info.node]
            self._member(member_events.NodeLost(info.node, reason, info.incarnation))

    def _reported(self, node: str, message: m.NodeReported) -> None:
        self._links[node].draining = message.reason if message.state != "alive" else ""
        self._member(message)

    # ---- messages --------------------------------------------------------------------------------

    def _from_process(self, node: str, message: m.FromProcess) -> None:
        inner = message.message
        if isinstance(inner, m.ClusterQuery):
            self._member(member_events.ClusterQueried(message.source, inner.request))
        else:
            self._actor(message)

    def _placement_failed(self, node: str, message: m.PlacementFailed) -> None:
        self._actor(
            actor_events.PlacementRejected(
                node, message.actor, message.restart, message.reason, message.is_final
            )
        )

    def _process_gone(self, node: str, message: m.ProcessGone) -> None:
        died = m.ProcessDied(message.address, message.cause, message.heir)
        if message.heir is not None:
            self._left[message.address] = died
            if len(self._left) > HEIRS:
                del self._left[next(iter(self._left))]
        for other, link in self._links.items():
            if other != node:
                link.send(died)
        self._actor(message)

    # ---- machines --------------------------------------------------------------------------------

    def _member(self, event: member_events.MembershipEvent) -> None:
        for effect in self.membership.handle(event, now=clock.now()):
            if isinstance(effect, member_events.PushView):
                self._send(effect.target, m.ClusterView(effect.nodes))
            elif isinstance(effect, member_events.DeclareDead):
                self._declare_dead(effect)
            elif isinstance(effect, member_events.RefuseNode):
                self._send(effect.node, m.ShutDown(effect.reason))
            elif isinstance(effect, member_events.AnswerQuery):
                answer = m.ClusterReply(effect.request, effect.nodes)
                self._send(effect.target.node, m.ToProcess(effect.target, answer))
            else:
                self._actor(actor_events.ViewChanged(effect.nodes))
        self._member_alarm.arm(self.membership.next_deadline())

    def _declare_dead(self, effect: member_events.DeclareDead) -> None:
        died = m.NodeDied(effect.node, effect.incarnation, effect.reason)
        for node, link in self._links.items():
            if node != effect.node:
                link.send(died)
        self._actor(died)

    def _actor(self, event: actor_events.ActorEvent) -> None:
        for effect in self.directory.handle(event, now=clock.now()):
            if isinstance(effect, actor_events.PlaceActorOn):
                self._send(effect.node, m.PlaceActor(effect.spec, effect.restart))
            elif isinstance(effect, actor_events.Unplace):
                self._send(
                    effect.node,
                    m.UnplaceActor(effect.actor, effect.restart, effect.grace_s, effect.reason),
                )
            elif isinstance(effect, actor_events.MoveActorFrom):
                moved = m.MoveActor(effect.actor, effect.restart, effect.callers, effect.reason)
                self._send(effect.node, moved)
            else:
                self._tell(effect.address, effect.message)
        self._actor_alarm.arm(self.directory.next_deadline())

    def _tell(self, address: Address, message: m.ControlAnswer) -> None:
        self._send(address.node, m.ToProcess(address, message))

    def _send(self, node: str, message: m.Message) -> None:
        link = self._links.get(node)
        if link is not None:
            link.send(message)
