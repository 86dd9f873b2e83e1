"""What a node says again to a head that may not have heard it, and what it need not."""

from __future__ import annotations

from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import UNHEARD
from freehold._core.membership.unheard import ENDS_KEPT_S, Unheard

NODE = "a" * 32
DRIVER, WORKER = Address(NODE, 1), Address(NODE, 2)
ACTOR = b"a" * 16
STARTED = m.ActorStarted(ACTOR, 0, WORKER)
GONE = m.ProcessGone(WORKER, m.ExitCause(signal=9))


def actor_state(state: str) -> m.ActorState:
    return m.ActorState(m.ActorInfo(ACTOR, m.OwnerInfo(DRIVER), m.ActorOptions(), state))


def ask(unheard: Unheard, message: Any, source: Address = DRIVER) -> m.FromProcess:
    said = unheard.say(m.FromProcess(source, message), 0.0)
    assert isinstance(said, m.FromProcess)
    unheard.check_invariants()
    return said


def test_questions_are_said_again_until_they_are_answered() -> None:
    unheard = Unheard()
    first = ask(unheard, m.FindActor(1, "x", ""))
    second = ask(unheard, m.ListActors(2))
    assert unheard.again() == [first, second]
    unheard.hear(m.ToProcess(DRIVER, m.ActorFound(1, None)))
    unheard.hear(m.ToProcess(WORKER, m.ActorList(2, [])))  # another process's
    assert unheard.again() == [second]


def test_a_watch_is_said_again_until_the_actor_is_dead() -> None:
    unheard = Unheard()
    watch = ask(unheard, m.WatchActor(ACTOR))
    unheard.hear(m.ToProcess(DRIVER, actor_state("alive")))
    assert unheard.again() == [watch]
    unheard.hear(m.ToProcess(DRIVER, actor_state("dead")))
    assert unheard.again() == []


def test_what_a_process_wanted_goes_with_it_but_not_what_it_ordered() -> None:
    unheard = Unheard()
    ask(unheard, m.WatchActor(ACTOR), WORKER)
    kill = ask(unheard, m.KillActor(ACTOR), WORKER)
    release = ask(unheard, m.ReleaseActor(ACTOR), WORKER)
    mine = ask(unheard, m.WatchActor(ACTOR))
    unheard.say(GONE, 0.0)
    assert unheard.again() == [kill, release, mine]


def test_orders_and_reports_are_kept_until_a_later_heartbeat_is_answered() -> None:
    unheard = Unheard()
    unheard.say(m.Heartbeat(1), 0.0)
    kill = ask(unheard, m.KillActor(ACTOR, no_restart=False))
    unheard.say(STARTED, 0.0)
    unheard.hear(m.HeartbeatAnswered(1, 1, 0.0))
    assert unheard.again() == [kill]
    assert unheard.reports() == [STARTED]
    unheard.say(m.Heartbeat(2), 2.0)
    unheard.hear(m.HeartbeatAnswered(2, 1, 0.0))
    assert unheard.again() == []
    assert unheard.reports() == []


def test_orders_keep_their_number_and_their_place() -> None:
    unheard = Unheard()
    said = [
        ask(unheard, m.WatchActor(ACTOR)),
        ask(unheard, m.KillActor(ACTOR, no_restart=False)),
        ask(unheard, m.FindActor(1, "x", "")),
        ask(unheard, m.ReleaseActor(ACTOR)),
    ]
    assert [one.number for one in said] == [1, 2, 3, 4]
    assert unheard.again() == said


def test_the_end_of_a_process_is_kept_until_those_who_were_away_are_back_or_dead() -> None:
    unheard = Unheard()
    unheard.say(GONE, 0.0)
    unheard.say(m.Heartbeat(1), ENDS_KEPT_S - 1.0)
    unheard.hear(m.HeartbeatAnswered(1, 1, 0.0))
    assert unheard.gone() == [GONE]
    # The head was away for hours: that time does not count.
    unheard.say(m.Heartbeat(2), ENDS_KEPT_S)
    assert unheard.gone() == [GONE]
    unheard.hear(m.HeartbeatAnswered(2, 2, 0.0))
    assert unheard.gone() == []


def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    unheard = Unheard()
    for number in range(UNHEARD + 2):
        unheard.say(m.FromProcess(DRIVER, m.FindActor(number, "x", "")), 0.0)
    unheard.check_invariants()
    first = unheard.again()[0]
    assert isinstance(first, m.FromProcess)
    assert first.number == 3
    assert unheard.forgotten == 2
