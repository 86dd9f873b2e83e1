"""Membership over many machines: silence, the control service's own restart, drains, groups."""

from __future__ import annotations

from typing import Any

from freehold._core.limits import DEATH_SILENCE_S, DRAIN_ANSWER_S, RETURN_S
from freehold._core.membership import events as ev
from freehold._core.membership.machine import Membership
from freehold._core.messages import (
    DeadNode,
    DrainAnswered,
    DrainNode,
    NodeGroup,
    NodeInfo,
    NodeJoined,
    NodeReported,
)

A, B, C = "a" * 32, "b" * 32, "c" * 32
HEAD = "f" * 32
CPU = {"CPU": 4}


def info(node: str, incarnation: int = 1, **fields: Any) -> NodeInfo:
    return NodeInfo(node, incarnation, CPU, CPU, host=f"10.0.0.{ord(node[0])}", port=7401, **fields)


class World:
    def __init__(self, *nodes: str, now: float = 0.0) -> None:
        self.membership = Membership()
        self.now = now
        for node in nodes:
            self.join(node)

    def tell(self, event: ev.MembershipEvent) -> list[ev.MembershipEffect]:
        effects = self.membership.handle(event, now=self.now)
        self.membership.check_invariants()
        hidden = (ev.NotifyChange, ev.PushView)
        return [effect for effect in effects if not isinstance(effect, hidden)]

    def join(self, node: str, incarnation: int = 1, **fields: Any) -> list[ev.MembershipEffect]:
        return self.tell(NodeJoined(info(node, incarnation, **fields)))

    def restored(self, *nodes: NodeInfo, **fields: Any) -> list[ev.MembershipEffect]:
        return self.tell(ev.Restored(list(nodes), **fields))

    def hear(self, node: str, incarnation: int = 1) -> list[ev.MembershipEffect]:
        return self.tell(ev.NodeHeard(node, incarnation))

    def pass_time(self, seconds: float, *heard: str) -> list[ev.MembershipEffect]:
        """Let time pass; those named are heard each second."""
        until = self.now + seconds
        effects: list[ev.MembershipEffect] = []
        beat = self.now
        while self.now < until:
            due = self.membership.next_deadline()
            beat = max(beat, self.now) if beat > self.now else self.now + 1.0
            self.now = min(until, beat, until if due is None else due)
            if due is not None and self.now >= due:
                effects += self.tell(ev.DeadlineReached())
                after = self.membership.next_deadline()
                assert after is None or after > self.now
            if self.now == beat:
                for node in heard:
                    effects += self.hear(node)
        return effects


def deaths(effects: list[ev.MembershipEffect]) -> list[tuple[str, int, str]]:
    return [(e.node, e.incarnation, e.reason) for e in effects if isinstance(e, ev.DeclareDead)]


# ---- silence -------------------------------------------------------------------------------------


def test_a_silent_node_is_declared_dead_after_the_limit_and_not_before() -> None:
    world = World(A, B)
    assert deaths(world.pass_time(DEATH_SILENCE_S - 0.01, A)) == []
    reason = f"it was silent for {DEATH_SILENCE_S:g} s"
    assert deaths(world.pass_time(0.02, A)) == [(B, 1, reason)]
    assert deaths(world.pass_time(60.0, A)) == []


def test_whatever_a_node_says_counts_as_heard() -> None:
    world = World(A)
    world.pass_time(DEATH_SILENCE_S - 1.0)
    world.tell(NodeReported(A, {"CPU": 3}, {}))
    assert deaths(world.pass_time(DEATH_SILENCE_S - 0.01)) == []
    assert len(deaths(world.pass_time(0.02))) == 1


def test_silence_of_this_machines_nodes_and_of_the_head_itself_means_nothing() -> None:
    world = World()
    world.tell(NodeJoined(NodeInfo(A, 0, CPU, CPU)))
    world.join(HEAD, is_head=True)
    assert deaths(world.pass_time(100.0)) == []


def test_a_death_is_kept_before_it_is_told() -> None:
    world = World(A)
    effects = world.tell(ev.NodeLost(A, "it said so", 1))
    dead = NodeInfo(
        A, 1, CPU, {}, False, host="10.0.0.97", port=7401, state="dead", reason="it said so"
    )
    assert effects == [ev.KeepNode(dead), ev.DeclareDead(A, 1, "it said so")]


def test_the_dead_are_refused_when_they_speak_again() -> None:
    world = World(A, B)
    world.tell(ev.NodeLost(B, "gone", 1))
    assert [type(e) for e in world.hear(B)] == [ev.RefuseNode]
    assert world.hear(B, 2) == []


# ---- the control service's own restart -----------------------------------------------------------


def test_nobody_is_declared_dead_until_the_nodes_had_time_to_come_back() -> None:
    world = World(now=100.0)
    assert world.restored(info(A), info(B), incarnation=7) == []
    assert deaths(world.pass_time(RETURN_S - 0.1)) == []
    world.join(A)
    reason = f"it did not come back within {RETURN_S:g} s of the head's start"
    assert deaths(world.pass_time(0.2)) == [(B, 1, reason)]


def test_who_came_back_and_went_silent_is_not_declared_dead_within_the_grace() -> None:
    world = World()
    world.restored(info(A), incarnation=1)
    world.join(A)
    assert deaths(world.pass_time(RETURN_S - 0.1)) == []
    assert len(deaths(world.pass_time(0.2))) == 1


def test_who_comes_back_under_its_incarnation_is_not_declared_dead() -> None:
    world = World()
    world.restored(info(A), incarnation=1)
    effects = world.join(A)
    assert deaths(effects) == []
    assert world.membership.snapshot().absent == 0
    assert deaths(world.pass_time(RETURN_S + 1.0, A)) == []


def test_the_heads_own_node_died_with_it_and_others_hear_of_it_when_they_join() -> None:
    world = World()
    effects = world.restored(info(HEAD, is_head=True), info(A), incarnation=2)
    assert deaths(effects) == [(HEAD, 1, "the head was started again")]
    assert ev.TellDead(A, [DeadNode(HEAD, 1, "the head was started again")]) in world.join(A)


def test_who_was_declared_dead_before_the_restart_is_refused_after_it() -> None:
    world = World()
    dead = info(A, is_alive=False, state="dead", reason="silence")
    world.restored(dead, incarnation=1)
    assert [type(e) for e in world.join(A)] == [ev.RefuseNode]
    assert [type(e) for e in world.hear(A)] == [ev.RefuseNode]


def test_new_nodes_are_told_of_those_that_have_not_come_back_but_not_sent_work_there() -> None:
    world = World()
    world.restored(info(A), incarnation=1)
    effects = world.membership.handle(NodeJoined(info(B, 2)), now=world.now)
    views = [e for e in effects if isinstance(e, ev.PushView)]
    assert [(i.node, i.is_alive, i.available) for i in views[0].nodes] == [(A, True, {})]


def test_incarnations_only_grow_whatever_is_forgotten() -> None:
    world = World()
    world.restored(incarnation=7)
    assert world.tell(ev.NodeEnrolled(A)) == [
        ev.KeepIncarnation(8),
        ev.GrantIncarnation(A, 8),
    ]
    world.join(A, 8)
    world.join(B, 20)  # of a control service whose volume is lost
    assert world.tell(ev.NodeEnrolled(A))[1] == ev.GrantIncarnation(A, 21)


# ---- drains --------------------------------------------------------------------------------------


def drain(world: World, node: str, is_idle_only: bool = False, request: int = 1) -> Any:
    return world.tell(ev.DrainAsked(request, node, is_idle_only, 30.0, "scale-down"))


def state(world: World, node: str) -> tuple[str, str]:
    found = [x.info for x in world.membership.nodes(world.now) if x.info.node == node]
    return found[0].state, found[0].reason


def test_a_requested_drain_is_accepted_at_once_and_the_node_told() -> None:
    world = World(A, B)
    effects = drain(world, A)
    assert effects[:2] == [
        ev.AskDrain(A, DrainNode(1, False, 30.0, "scale-down")),
        ev.AnswerDrain(1, True, "", "draining"),
    ]
    assert state(world, A) == ("draining", "scale-down")
    assert drain(world, A, request=2) == [ev.AnswerDrain(2, True, "", "draining")]
    # What it reported before it heard changes nothing.
    world.tell(NodeReported(A, {"CPU": 3}, {}))
    assert state(world, A) == ("draining", "scale-down")
    world.tell(NodeReported(A, {"CPU": 3}, {}, state="drained", reason="nothing is left"))
    assert state(world, A) == ("drained", "nothing is left")


def test_an_idle_drain_is_the_nodes_to_grant() -> None:
    world = World(A)
    assert drain(world, A, True) == [ev.AskDrain(A, DrainNode(1, True, 30.0, "scale-down"))]
    assert state(world, A)[0] == "alive"
    refused = world.tell(ev.NodeAnsweredDrain(A, DrainAnswered(1, False, "a task came")))
    assert refused == [ev.AnswerDrain(1, False, "a task came", "alive")]
    drain(world, A, True, 2)
    accepted = world.tell(ev.NodeAnsweredDrain(A, DrainAnswered(2, True)))
    assert ev.AnswerDrain(2, True, "", "draining") in accepted
    assert state(world, A) == ("draining", "scale-down")


def test_an_idle_drain_without_an_answer_is_refused() -> None:
    world = World(A)
    drain(world, A, True)
    effects = world.pass_time(DRAIN_ANSWER_S + 0.1, A)
    refusal = f"node {A[:12]} did not answer within {DRAIN_ANSWER_S:g} s; ask again"
    assert effects == [ev.AnswerDrain(1, False, refusal, "alive")]
    assert world.tell(ev.NodeAnsweredDrain(A, DrainAnswered(1, True))) == []


def test_an_idle_drain_of_a_node_that_dies_needs_no_answer() -> None:
    world = World(A)
    drain(world, A, True)
    effects = world.tell(ev.NodeLost(A, "gone"))
    assert effects[0] == ev.AnswerDrain(1, True, "", "dead")


def test_a_node_that_joins_without_knowing_of_its_drain_is_told_again() -> None:
    world = World()
    world.restored(info(A, state="draining", reason="scale-down"), incarnation=1)
    effects = world.join(A)
    assert effects[-1] == ev.AskDrain(A, DrainNode(0, False, 0.0, "scale-down"))
    assert state(world, A) == ("draining", "scale-down")


def test_a_node_is_found_by_name_or_by_the_beginning_of_its_id() -> None:
    world = World()
    world.join("ab" + "0" * 30, name="w-0")
    world.join("ac" + "0" * 30, name="w-1")
    (unknown,) = drain(world, "w-7")
    assert unknown.is_unknown
    assert "no node has the id or name 'w-7'" in unknown.refusal
    (several,) = drain(world, "a")
    assert several.is_unknown
    assert "could be any of 2 nodes: ab0000000000 (w-0), ac0000000000 (w-1)" in several.refusal
    assert drain(world, "w-1")[1] == ev.AnswerDrain(1, True, "", "draining")
    world.tell(ev.NodeLost("ac" + "0" * 30, "gone"))
    world.join("ad" + "0" * 30, name="w-1")
    assert drain(world, "w-1")[0].node == "ad" + "0" * 30


# ---- groups, idleness ----------------------------------------------------------------------------


def groups_told(effects: list[ev.MembershipEffect]) -> list[tuple[str, list[str] | None]]:
    return [
        (e.target, None if e.groups is None else [g.name for g in e.groups])
        for e in effects
        if isinstance(e, ev.PushView)
    ]


def test_groups_are_kept_and_given_to_all_nodes_with_the_view() -> None:
    world = World(A, B)
    world.pass_time(5.0, A, B)
    groups = [NodeGroup("small", {"CPU": 1}, {}, 3)]
    effects = world.membership.handle(ev.GroupsSet(groups), now=world.now)
    assert effects[0] == ev.KeepGroups(groups)
    assert groups_told(effects) == [(A, ["small"]), (B, ["small"])]
    assert world.membership.handle(ev.GroupsSet(groups), now=world.now) == []
    effects = world.membership.handle(NodeJoined(info(C)), now=world.now + 2.0)
    assert groups_told(effects)[0] == (C, ["small"])
    assert groups_told(effects)[1:] == [(A, None), (B, None)]


def test_restored_groups_are_told_to_who_joins() -> None:
    world = World()
    world.restored(groups=[NodeGroup("big", {"CPU": 64})])
    effects = world.membership.handle(NodeJoined(info(A)), now=world.now)
    assert groups_told(effects) == [(A, ["big"])]


def test_idle_time_counts_from_the_first_idle_report() -> None:
    world = World(A)
    world.tell(NodeReported(A, CPU, {}, is_idle=True))
    world.pass_time(3.0, A)
    world.tell(NodeReported(A, CPU, {}, is_idle=True, actors=0))
    (status,) = world.membership.nodes(world.now)
    assert 2.9 < status.idle_s < 3.1
    world.tell(NodeReported(A, CPU, {}, is_idle=False, actors=1, drivers=2))
    (status,) = world.membership.nodes(world.now)
    assert (status.idle_s, status.actors, status.drivers) == (0.0, 1, 2)


def test_no_node_gets_more_than_two_frames_in_any_second() -> None:
    world = World(A, B)
    world.tell(NodeReported(B, {"CPU": 0}, {"CPU: 1": 5}))
    world.pass_time(5.0, A, B)
    times = []
    for number in range(400):
        world.now += 0.01
        for effect in world.membership.handle(
            NodeReported(A, {"CPU": number % 4}, {}), now=world.now
        ):
            if isinstance(effect, ev.PushView) and effect.target == B:
                times.append(world.now)
    assert len(times) >= 6
    assert all(later - earlier > 0.99 for earlier, later in zip(times, times[2:], strict=False))


def test_the_dead_are_listed_for_an_hour() -> None:
    world = World(A, B)
    world.tell(ev.NodeLost(A, "gone"))
    assert [x.info.state for x in world.membership.nodes(world.now)] == ["dead", "alive"]
    assert [x.info.node for x in world.membership.nodes(world.now + 3601.0)] == [B]
