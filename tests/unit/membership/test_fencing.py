"""Fencing: a node that is cut off stops in time; when the head is down nobody does."""

from __future__ import annotations

from freehold._core.limits import DEATH_SILENCE_S, FENCE_S, RETURN_S
from freehold._core.membership import fencing as fen
from freehold._core.messages import AskHead, HeadHeard, Heartbeat, HeartbeatAnswered

A, B = "a" * 32, "b" * 32


class World:
    """One node, with a head and peers that the test plays."""

    def __init__(self, *peers: str) -> None:
        self.fencing = fen.Fencing()
        self.now = 100.0
        self.head_answers = True
        self.head = 1
        self.head_started = 0.0
        self.peer_ago_s: float | None = None
        self.peer_head = 1
        self.stopped_at: float | None = None
        self.reason = ""
        self.asked: list[float] = []
        self.beats: list[float] = []
        self.tell(fen.PeersKnown(list(peers)))
        self.tell(fen.Joined())

    def tell(self, event: fen.FencingEvent) -> None:
        effects = self.fencing.handle(event, now=self.now)
        self.fencing.check_invariants()
        for effect in effects:
            if isinstance(effect, fen.SendHeartbeat):
                self.beats.append(self.now)
                if self.head_answers:
                    self.answer(effect.message.number)
            elif isinstance(effect, fen.AskPeer):
                self.asked.append(self.now)
                if self.peer_ago_s is not None:
                    heard = HeadHeard(
                        effect.message.request,
                        self.peer_ago_s,
                        self.peer_head,
                        self.now - self.head_started,
                    )
                    self.tell(fen.PeerAnswered(effect.node, heard))
            elif isinstance(effect, fen.Stop):
                self.stopped_at, self.reason = self.now, effect.reason

    def answer(self, number: int) -> None:
        uptime_s = self.now - self.head_started
        self.tell(fen.AnswerCame(HeartbeatAnswered(number, self.head, uptime_s)))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.fencing.next_deadline()) is not None and due <= until:
            assert due > self.now or not self.beats
            self.now = due
            self.tell(fen.DeadlineReached())
        self.now = until


def test_heartbeats_are_sent_and_nobody_is_asked_while_they_are_answered() -> None:
    world = World(A)
    world.pass_time(60.0)
    assert 28 <= len(world.beats) <= 32
    assert world.asked == []
    assert world.stopped_at is None


def test_a_node_that_alone_lost_the_head_stops_before_it_is_declared_dead() -> None:
    world = World(A)
    world.pass_time(20.0)
    lost_at = world.fencing.snapshot().contact_at
    assert lost_at is not None
    world.head_answers = False
    world.peer_ago_s = 2.0  # as old as what a peer knows can be
    world.pass_time(60.0)
    assert world.stopped_at is not None
    assert lost_at + FENCE_S <= world.stopped_at < lost_at + DEATH_SILENCE_S - 1.0
    assert "it is cut off" in world.reason
    assert world.fencing.next_deadline() is None


def test_when_the_head_is_down_for_all_everybody_goes_on() -> None:
    world = World(A, B)
    world.pass_time(20.0)
    world.head_answers = False
    for _ in range(300):
        world.peer_ago_s = 0.0 if world.peer_ago_s is None else world.peer_ago_s + 1.0
        world.pass_time(1.0)
    assert len(world.asked) > 100
    assert world.stopped_at is None


def test_without_answers_of_peers_a_node_goes_on() -> None:
    world = World(A, B)
    world.pass_time(20.0)
    world.head_answers = False
    world.pass_time(300.0)
    assert world.stopped_at is None


def test_a_peer_that_heard_little_later_is_no_sign() -> None:
    world = World(A)
    world.pass_time(20.0)
    contact = world.fencing.snapshot().contact_at
    assert contact is not None
    world.head_answers = False
    for _ in range(60):
        # The head went down FENCE_S less a moment after it last answered this node.
        world.peer_ago_s = world.now + 1.0 - (contact + FENCE_S - 0.1)
        world.pass_time(1.0)
        world.peer_ago_s = max(world.peer_ago_s, 0.0)
    assert world.stopped_at is None


def test_the_first_to_come_back_to_a_restarted_head_does_not_stop_the_others() -> None:
    world = World(A)
    world.pass_time(20.0)
    world.head_answers = False
    world.pass_time(120.0)
    # The head is up again; the peer has found it, this node has not yet.
    world.head_started = world.now
    world.peer_head, world.peer_ago_s = 2, 0.5
    world.pass_time(RETURN_S - 10.0)
    assert world.stopped_at is None
    # It never finds it: it must have stopped when the head gives it up.
    world.pass_time(60.0)
    assert world.stopped_at is not None
    assert world.stopped_at < world.head_started + RETURN_S - 0.5


def test_a_peer_that_only_knows_an_earlier_head_says_nothing_of_this_one() -> None:
    world = World(A)
    world.head = 2
    world.pass_time(20.0)
    world.head_answers = False
    world.peer_head, world.peer_ago_s = 1, 0.0
    world.pass_time(60.0)
    assert world.stopped_at is None


def test_an_answer_that_was_long_under_way_is_a_contact_of_when_it_was_asked_for() -> None:
    world = World(A)
    world.head_answers = False
    world.pass_time(9.0)
    first = world.beats[1]
    world.answer(2)
    assert world.fencing.snapshot().contact_at == first
    world.peer_ago_s = 0.0
    world.pass_time(60.0)
    assert world.stopped_at is not None
    assert first + FENCE_S <= world.stopped_at < first + DEATH_SILENCE_S


def test_a_peer_is_told_how_long_ago_the_head_was_heard_and_how_long_it_is_up() -> None:
    world = World(A)
    world.pass_time(3.0)
    (answer,) = world.fencing.handle(fen.PeerAsked(B, AskHead(7)), now=world.now)
    assert answer == fen.AnswerPeer(B, HeadHeard(7, 1.0, 1, 103.0))
    fresh = fen.Fencing()
    (answer,) = fresh.handle(fen.PeerAsked(B, AskHead(8)), now=5.0)
    assert answer == fen.AnswerPeer(B, HeadHeard(8, -1.0, 0, 0.0))


def test_who_is_declared_dead_stops_at_once_and_once() -> None:
    world = World(A)
    world.tell(fen.DeclaredDead("it was silent for 15 s"))
    assert world.reason == "it was declared dead: it was silent for 15 s"
    assert world.fencing.handle(fen.DeclaredDead("again"), now=world.now) == []
    assert world.fencing.handle(fen.Joined(), now=world.now) == []


def test_a_node_that_never_joined_asks_nobody() -> None:
    fencing = fen.Fencing()
    fencing.handle(fen.PeersKnown([A]), now=0.0)
    assert fencing.next_deadline() is None


def test_heartbeats_begin_when_it_joined_and_not_again_when_it_comes_back() -> None:
    fencing = fen.Fencing()
    assert fencing.handle(fen.Joined(), now=0.0) == [fen.SendHeartbeat(Heartbeat(1))]
    assert fencing.handle(fen.Joined(), now=1.0) == []
