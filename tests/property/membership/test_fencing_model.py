"""Membership and fencing together, over links that come and go to a head that restarts.

Safety: whoever is declared dead has stopped before that. Nobody stops for nothing: only who could
not reach a head that was up, for nearly as long as `FENCE_S`. Peers can always reach each other.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from freehold._core.limits import FENCE_S
from freehold._core.membership import events as ev
from freehold._core.membership import fencing as fen
from freehold._core.membership.machine import Membership
from freehold._core.messages import HeartbeatAnswered, NodeInfo, NodeJoined

NODES = [letter * 32 for letter in "abc"]
END_S = 150.0
RETRY_S = 5.0
"""A node tries to reach the head again this often at the least."""


class Cluster:
    def __init__(self, cuts: list[tuple[str, float, float]], downs: list[tuple[float, float]]):
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.cuts, self.downs = cuts, downs
        self.delays = itertools.cycle([0.0, 0.3, 0.05, 0.2, 0.1])
        self.head: Membership | None = None
        self.head_incarnation = 0
        self.head_started = 0.0
        self.kept: dict[str, NodeInfo] = {}
        self.fencing = {node: fen.Fencing() for node in NODES}
        self.joined_at: dict[str, int] = {}
        """Node → incarnation of the head that it has joined."""
        self.stopped: dict[str, float] = {}
        self.dead: dict[str, float] = {}

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._planned, (when, next(self._numbers), what))

    def is_cut(self, node: str, now: float) -> bool:
        return any(n == node and begin <= now < end for n, begin, end in self.cuts)

    def run(self) -> None:
        self.head_starts()
        for begin, end in self.downs:
            self.at(begin, self.head_dies)
            self.at(end, self.head_starts)
        for number, node in enumerate(NODES):
            self.tell(node, fen.PeersKnown([n for n in NODES if n != node]))
            self.at(0.1 * number, lambda node=node: self.seek(node))  # type: ignore[misc]
        while self._planned and self._planned[0][0] <= END_S:
            self.now, _, what = heapq.heappop(self._planned)
            what()

    # ---- the head --------------------

    def head_dies(self) -> None:
        self.head = None

    def head_starts(self) -> None:
        self.head = Membership()
        self.head_incarnation += 1
        self.head_started = self.now
        self.tell_head(ev.Restored(list(self.kept.values()), incarnation=1))

    def tell_head(self, event: ev.MembershipEvent) -> None:
        head = self.head
        if head is None:
            return
        for effect in head.handle(event, now=self.now):
            if isinstance(effect, ev.KeepNode):
                self.kept[effect.info.node] = effect.info
            elif isinstance(effect, ev.DeclareDead):
                self.dead[effect.node] = self.now
                assert effect.node in self.stopped, f"{effect.node[0]} runs on though it is dead"
        head.check_invariants()
        due = head.next_deadline()
        if due is not None:
            self.at(due, lambda: self.head_due(head))

    def head_due(self, head: Membership) -> None:
        due = head.next_deadline()
        if self.head is head and due is not None and due <= self.now:
            self.tell_head(ev.DeadlineReached())

    # ---- nodes --------------------

    def seek(self, node: str) -> None:
        """Join the head, if this one was not joined yet and can be reached."""
        if node in self.stopped:
            return
        self.at(self.now + RETRY_S, lambda: self.seek(node))
        is_new = self.joined_at.get(node) != self.head_incarnation
        if is_new and self.head is not None and not self.is_cut(node, self.now):
            self.joined_at[node] = self.head_incarnation
            self.tell_head(NodeJoined(NodeInfo(node, 1, {}, {}, host="here")))
            self.tell(node, fen.Joined())

    def tell(self, node: str, event: fen.FencingEvent) -> None:
        fencing = self.fencing[node]
        for effect in fencing.handle(event, now=self.now):
            self.carry_out(node, effect)
        fencing.check_invariants()
        due = fencing.next_deadline()
        if due is not None:
            self.at(due, lambda: self.node_due(node))

    def node_due(self, node: str) -> None:
        due = self.fencing[node].next_deadline()
        if due is not None and due <= self.now:
            self.tell(node, fen.DeadlineReached())

    def carry_out(self, node: str, effect: fen.FencingEffect) -> None:
        arrives = self.now + next(self.delays)
        if isinstance(effect, fen.SendHeartbeat):
            number = effect.message.number
            self.at(arrives, lambda: self.head_hears(node, number))
        elif isinstance(effect, fen.AskPeer):
            asked = fen.PeerAsked(node, effect.message)
            self.at(arrives, lambda: self.tell(effect.node, asked))
        elif isinstance(effect, fen.AnswerPeer):
            answered = fen.PeerAnswered(node, effect.message)
            self.at(arrives, lambda: self.tell(effect.node, answered))
        else:
            self.stopped[node] = self.now

    def head_hears(self, node: str, number: int) -> None:
        is_known = self.joined_at.get(node) == self.head_incarnation
        if self.head is None or not is_known or self.is_cut(node, self.now):
            return
        self.tell_head(ev.NodeHeard(node, 1))
        uptime_s = self.now - self.head_started
        answer = HeartbeatAnswered(number, self.head_incarnation, uptime_s)
        arrives = self.now + next(self.delays)
        if not self.is_cut(node, arrives):
            self.at(arrives, lambda: self.tell(node, fen.AnswerCame(answer)))

    def longest_loss_s(self, node: str) -> float:
        """How long at a stretch the node cannot have reached a head that was up."""
        longest = lost = 0.0
        step = 0.05
        now = 0.0
        while now < self.stopped[node]:
            is_up = not any(begin <= now < end for begin, end in self.downs)
            if self.is_cut(node, now):
                lost += step if is_up else 0.0
            elif is_up:
                lost = 0.0
            longest = max(longest, lost)
            now += step
        return longest


times = st.floats(5.0, 100.0).map(lambda x: round(x, 2))
lengths = st.sampled_from([1.0, 5.0, 9.0, 12.0, 14.0, 16.0, 20.0, 40.0, 90.0])


@st.composite
def downs(draw: Any) -> list[tuple[float, float]]:
    found, at = [], 0.0
    for _ in range(draw(st.integers(0, 2))):
        at += draw(times)
        length = draw(lengths)
        found.append((at, at + length))
        at += length
    return found


@settings(max_examples=100)
@given(
    cuts=st.lists(st.tuples(st.sampled_from(NODES[:2]), times, lengths), max_size=3),
    downs=downs(),
)
def test_who_is_declared_dead_has_stopped_and_nobody_stops_for_nothing(
    cuts: list[tuple[str, float, float]], downs: list[tuple[float, float]]
) -> None:
    cluster = Cluster([(node, at, at + length) for node, at, length in cuts], downs)
    cluster.run()
    assert NODES[2] not in cluster.stopped, "who is never cut off never stops"
    for node in cluster.stopped:
        # What delays a join after a cut or a restart counts as a cut, too.
        assert cluster.longest_loss_s(node) >= FENCE_S - RETRY_S - 3.0
