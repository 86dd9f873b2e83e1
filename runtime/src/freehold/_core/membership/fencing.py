"""Decides when a node that hears nothing of the head must stop, and when the head is merely down.

Place in the flow: one in each node manager of a cluster of several machines. It sends heartbeats to
the control service, which answers them; when no answer comes it asks peers whether they hear the
head. If one has heard from it later than this node by `FENCE_S`, this node is cut off and will be
declared dead: it must have stopped by then, since what it runs is about to be run elsewhere. If
none has, the head is down and everybody goes on.

What counts as this node's last contact is the moment at which the last *answered* heartbeat was
*sent*: whatever the head knows of this node, it heard it no earlier than that. Death comes
`DEATH_SILENCE_S` after it; this node stops at the latest `FENCE_S` + `HEARTBEAT_S` (the age of what
the peer knows) + `ASK_PEERS_S` after it, so some seconds are left for clocks and slow networks.

A head that was started again gives its nodes `RETURN_S` before it declares any of them dead. So it
counts as a contact that its newest incarnation, of which peers tell with how long it has been up,
has not been up for so long. Else the first node to come back would have all the others stop.

It deliberately does not reconnect, kill or rejoin: that is the shell's, on `Stop`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from freehold._core.invariants import check
from freehold._core.limits import (
    ASK_PEERS_S,
    ASKED_PEERS,
    DEATH_SILENCE_S,
    FENCE_S,
    HEARTBEAT_S,
    RETURN_S,
)
from freehold._core.messages import AskHead, HeadHeard, Heartbeat, HeartbeatAnswered

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""

BEATS = 16
"""Heartbeats under way that an answer may come for; older ones are too late to count."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class Joined(_Own, frozen=True):
    """The control service let this node in; heartbeats begin."""


class AnswerCame(_Own, frozen=True):
    """The control service's `HeartbeatAnswered`."""

    message: HeartbeatAnswered


class PeersKnown(_Own, frozen=True):
    """The other nodes that are believed to be alive."""

    nodes: list[str]


class PeerAsked(_Own, frozen=True):
    """A peer's `AskHead`."""

    node: str
    message: AskHead


class PeerAnswered(_Own, frozen=True):
    """A peer's `HeadHeard`."""

    node: str
    message: HeadHeard


class DeclaredDead(_Own, frozen=True):
    """The control service, or anybody, says that this node was declared dead."""

    reason: str


class DeadlineReached(_Own, frozen=True):
    """The time that `next_deadline()` named has come."""


FencingEvent: TypeAlias = (
    Joined | AnswerCame | PeersKnown | PeerAsked | PeerAnswered | DeclaredDead | DeadlineReached
)


# ---- effects -----------------------------------------------------------------------------------


class SendHeartbeat(_Own, frozen=True):
    """Send `Heartbeat` to the control service."""

    message: Heartbeat


class AskPeer(_Own, frozen=True):
    """Send `AskHead` to a peer's node manager."""

    node: str
    message: AskHead


class AnswerPeer(_Own, frozen=True):
    """Send `HeadHeard` to a peer's node manager."""

    node: str
    message: HeadHeard


class Stop(_Own, frozen=True):
    """Kill this node's workers now, and join again under a new incarnation."""

    reason: str


FencingEffect: TypeAlias = SendHeartbeat | AskPeer | AnswerPeer | Stop


class FencingSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """For metrics, dashboard and tests."""

    is_stopped: bool
    is_asking: bool
    contact_at: Instant | None
    head: int


class Fencing:
    """One node's contact with the head.

    Example:
        >>> fencing = Fencing()
        >>> fencing.handle(Joined(), now=0.0)
        [SendHeartbeat(message=Heartbeat(number=1))]
    """

    def __init__(self) -> None:
        self._beats: dict[int, Instant] = {}
        """Heartbeats that were not answered, by number: when they were sent."""
        self._number = 0
        self._beat_at: Instant | None = None
        self._contact_at: Instant | None = None
        self._heard_at: Instant | None = None
        self._head = 0
        self._head_started: Instant = 0.0
        self._peers: list[str] = []
        self._next_peer = 0
        self._ask_at: Instant | None = None
        self._request = 0
        self._asked_at: Instant = 0.0
        self._is_stopped = False
        # Both are only meaningful during `handle`.
        self._effects: list[FencingEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            Joined: self._joined,
            AnswerCame: self._answer_came,
            PeersKnown: self._peers_known,
            PeerAsked: self._peer_asked,
            PeerAnswered: self._peer_answered,
            DeclaredDead: lambda event: self._stop(f"it was declared dead: {event.reason}"),
            DeadlineReached: self._deadline_reached,
        }

    def handle(self, event: FencingEvent, *, now: Instant) -> list[FencingEffect]:
        """Take one event; what has to be done about it, in order."""
        self._now = now
        effects: list[FencingEffect] = []
        self._effects = effects
        if not self._is_stopped:
            self._handlers[type(event)](event)
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        if self._is_stopped:
            return None
        return min((at for at in (self._beat_at, self._ask_at) if at is not None), default=None)

    def snapshot(self) -> FencingSnapshot:
        """How things stand."""
        return FencingSnapshot(
            is_stopped=self._is_stopped,
            is_asking=self._ask_at is not None and self._is_lost(),
            contact_at=self._contact_at,
            head=self._head,
        )

    def check_invariants(self) -> None:
        """Compare what is kept.

        FEN-1: a node that has joined and not stopped has a heartbeat and a look at the head due.
        FEN-2: heartbeats under way are bounded in number and younger than the last contact.

        Raises:
            InvariantError: one of them does not hold.
        """
        if self._contact_at is not None and not self._is_stopped:
            check(self._beat_at is not None, "FEN-1", "no heartbeat is due")
            check(self._ask_at is not None, "FEN-1", "nobody looks whether the head is lost")
        check(len(self._beats) <= BEATS, "FEN-2", f"{len(self._beats)} heartbeats are under way")
        oldest = min(self._beats.values(), default=None)
        if oldest is not None and self._contact_at is not None:
            check(oldest >= self._contact_at, "FEN-2", "a heartbeat is older than the contact")

    # ---- the head ----------------------------------------------------------------------------

    def _joined(self, event: Joined) -> None:
        if self._contact_at is None:
            self._contact_at = self._now
            self._look()
            self._beat()

    def _beat(self) -> None:
        self._number += 1
        self._beats[self._number] = self._now
        if len(self._beats) > BEATS:
            del self._beats[next(iter(self._beats))]
        self._beat_at = self._now + HEARTBEAT_S
        self._effects.append(SendHeartbeat(Heartbeat(self._number)))

    def _answer_came(self, event: AnswerCame) -> None:
        message = event.message
        self._heard_at = self._now
        self._note_head(message.head, message.uptime_s)
        sent_at = self._beats.get(message.number)
        if sent_at is None:
            return  # too late to count
        for number in [number for number in self._beats if number <= message.number]:
            del self._beats[number]
        self._contact_at = sent_at
        self._look()

    def _note_head(self, head: int, uptime_s: float) -> None:
        if head > self._head:
            self._head = head
            self._head_started = self._now - uptime_s

    def _contact(self) -> Instant:
        """The head declares this node dead no earlier than `DEATH_SILENCE_S` after this."""
        assert self._contact_at is not None
        if not self._head:
            return self._contact_at
        return max(self._contact_at, self._head_started + RETURN_S - DEATH_SILENCE_S)

    def _is_lost(self) -> bool:
        """Whether the silence is longer than between two heartbeats."""
        if self._contact_at is None:
            return False
        return self._now - self._contact_at >= 2 * HEARTBEAT_S + ASK_PEERS_S

    def _look(self) -> None:
        """Look again when the head may be lost."""
        assert self._contact_at is not None
        at = self._contact_at + 2 * HEARTBEAT_S + ASK_PEERS_S
        self._ask_at = max(at, self._now + ASK_PEERS_S)

    # ---- peers -------------------------------------------------------------------------------

    def _peers_known(self, event: PeersKnown) -> None:
        self._peers = sorted(event.nodes)

    def _deadline_reached(self, event: DeadlineReached) -> None:
        if self._beat_at is not None and self._now >= self._beat_at:
            self._beat()
        if self._ask_at is not None and self._now >= self._ask_at:
            if self._is_lost():
                self._ask()
            self._look()

    def _ask(self) -> None:
        """Ask some peers, others each time: a few may be cut off as this node is."""
        self._request += 1
        self._asked_at = self._now
        count = min(ASKED_PEERS, len(self._peers))
        for _ in range(count):
            self._next_peer = (self._next_peer + 1) % len(self._peers)
            node = self._peers[self._next_peer]
            self._effects.append(AskPeer(node, AskHead(self._request)))

    def _peer_asked(self, event: PeerAsked) -> None:
        ago_s = -1.0 if self._heard_at is None else self._now - self._heard_at
        uptime_s = self._now - self._head_started if self._head else 0.0
        told = HeadHeard(event.message.request, ago_s, self._head, uptime_s)
        self._effects.append(AnswerPeer(event.node, told))

    def _peer_answered(self, event: PeerAnswered) -> None:
        answer = event.message
        if answer.request != self._request or answer.ago_s < 0 or not self._is_lost():
            return
        self._note_head(answer.head, answer.uptime_s)
        if answer.head < self._head:
            return  # that one is gone: nothing it said later counts
        # Of the moments at which the peer may have heard it, the earliest: never stop for nothing.
        heard_at = self._asked_at - answer.ago_s
        late_s = heard_at - self._contact()
        if late_s >= FENCE_S:
            self._stop(
                f"node {event.node[:12]} has heard from the head {late_s:.1f} s later than this "
                "node: it is cut off"
            )

    def _stop(self, reason: str) -> None:
        self._is_stopped = True
        self._effects.append(Stop(reason))
