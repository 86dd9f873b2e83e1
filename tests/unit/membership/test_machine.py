"""Membership: joining, reporting, dying, and who is told when."""

from __future__ import annotations

from freehold._core.ids import Address
from freehold._core.limits import STORE_NEWS_SHARE
from freehold._core.membership import events as ev
from freehold._core.membership.machine import DEAD_NODES, Membership
from freehold._core.messages import NodeInfo, NodeJoined, NodeReported


class World:
    def __init__(self, *nodes: str) -> None:
        self.membership = Membership()
        self.now = 0.0
        for node in nodes:
            self.join(node)
        self.pass_time(10.0)

    def tell(self, event: ev.MembershipEvent) -> list[ev.MembershipEffect]:
        effects = self.membership.handle(event, now=self.now)
        self.membership.check_invariants()
        hidden = (ev.NotifyChange, ev.KeepNode, ev.KeepIncarnation)
        return [effect for effect in effects if not isinstance(effect, hidden)]

    def join(self, node: str, incarnation: int = 0) -> list[ev.MembershipEffect]:
        return self.tell(NodeJoined(NodeInfo(node, incarnation, {"CPU": 4}, {"CPU": 4})))

    def report(self, node: str, free: int, queued: int = 0) -> list[ev.MembershipEffect]:
        waiting = {"CPU: 1": queued} if queued else {}
        return self.tell(NodeReported(node, {"CPU": free}, waiting))

    def pass_time(self, seconds: float) -> list[ev.MembershipEffect]:
        until = self.now + seconds
        effects: list[ev.MembershipEffect] = []
        due = self.membership.next_deadline()
        while due is not None and due <= until:
            self.now = due
            effects += self.tell(ev.DeadlineReached())
            due = self.membership.next_deadline()
            assert due is None or due > self.now
        self.now = until
        return effects


def pushes(effects: list[ev.MembershipEffect]) -> list[tuple[str, list[tuple[str, int]]]]:
    return [
        (e.target, [(info.node, info.available.get("CPU", 0)) for info in e.nodes])
        for e in effects
        if isinstance(e, ev.PushView)
    ]


def test_a_node_that_joins_is_told_of_all_and_all_of_it() -> None:
    world = World("a", "b")
    assert pushes(world.join("c")) == [
        ("c", [("a", 4), ("b", 4)]),
        ("a", [("c", 4)]),
        ("b", [("c", 4)]),
    ]


def test_the_first_change_after_quiet_is_pushed_at_once_to_the_others() -> None:
    world = World("a", "b", "c")
    assert pushes(world.report("a", 3)) == [("b", [("a", 3)]), ("c", [("a", 3)])]


def test_a_node_gets_one_frame_a_second_with_what_changed_last() -> None:
    world = World("a", "b", "c")
    world.report("a", 3)
    world.now += 0.1
    # Node a was told nothing yet, so it is told at once; b and c have to wait.
    assert pushes(world.report("b", 2)) == [("a", [("b", 2)])]
    assert pushes(world.report("a", 1)) == []
    assert pushes(world.report("a", 0)) == []
    assert pushes(world.pass_time(0.85)) == []
    assert pushes(world.pass_time(0.1)) == [("b", [("a", 0)]), ("c", [("b", 2), ("a", 0)])]
    assert pushes(world.pass_time(10.0)) == []


def test_where_something_waits_room_elsewhere_is_heard_of_soon() -> None:
    world = World("a", "b", "c")
    world.report("b", 1)
    world.pass_time(0.05)
    world.report("a", 0, queued=1)
    assert pushes(world.report("b", 2)) == []
    assert pushes(world.pass_time(0.04)) == []
    assert pushes(world.pass_time(0.02)) == [("a", [("b", 2)])]


def test_a_node_with_a_queue_of_its_own_is_no_news_to_hurry_for() -> None:
    world = World("a", "b")
    world.report("a", 0, queued=1)
    world.report("b", 1)
    world.pass_time(0.5)
    assert pushes(world.report("b", 0, queued=1)) == []
    assert pushes(world.pass_time(0.45)) == []
    assert pushes(world.pass_time(0.1)) == [("a", [("b", 0)])]


def test_a_report_without_news_is_not_pushed() -> None:
    world = World("a", "b")
    assert world.report("a", 4) == []
    assert world.pass_time(10.0) == []


def test_what_a_store_holds_is_told_roughly_and_shown_exactly() -> None:
    """It changes with each object, and all nodes would be told of all stores all the time."""
    world = World("b")
    size = 320
    stored = NodeInfo("a", 0, {"CPU": 4}, {"CPU": 4}, store_total_bytes=size)
    world.tell(NodeJoined(stored))
    world.pass_time(10.0)

    def report(used: int, free: int = 4) -> list[ev.MembershipEffect]:
        world.pass_time(2.0)
        return world.tell(NodeReported("a", {"CPU": free}, {}, store_bytes=used))

    step = round(size * STORE_NEWS_SHARE)
    assert pushes(report(step)) == []
    assert {s.info.node: s.info.store_bytes for s in world.membership.nodes(world.now)}["a"] == step
    (push,) = [e for e in report(step + 1) if isinstance(e, ev.PushView)]
    assert [info.store_bytes for info in push.nodes] == [step + 1]
    assert pushes(report(1)) == []  # as far from what was told last as before
    assert pushes(report(1, free=3)) == [("b", [("a", 3)])]


def test_who_watches_hears_at_once_that_a_node_is_idle() -> None:
    world = World("a", "b")
    for is_idle, told in ((True, 1), (True, 0), (False, 1)):
        event = NodeReported("a", {"CPU": 4}, {}, is_idle=is_idle)
        effects = world.membership.handle(event, now=world.now)
        assert [type(effect) for effect in effects] == [ev.NotifyChange] * told


def test_other_machines_hear_of_a_change_at_once() -> None:
    world = World("a", "b")
    world.report("a", 3)
    (effect,) = world.membership.handle(NodeReported("a", {"CPU": 2}, {}), now=world.now)
    assert isinstance(effect, ev.NotifyChange)
    assert effect.nodes[0].available == {"CPU": 2}


def test_a_lost_node_is_declared_dead_and_the_others_told() -> None:
    world = World("a", "b")
    effects = world.tell(ev.NodeLost("b", "its process ended", 0))
    assert effects[0] == ev.DeclareDead("b", 0, "its process ended")
    assert pushes(effects) == [("a", [("b", 0)])]
    assert world.tell(ev.NodeLost("b", "again")) == []
    assert world.report("b", 3) == []


def test_the_loss_of_an_earlier_incarnation_is_old_news() -> None:
    world = World("a")
    world.join("b", 2)
    assert world.tell(ev.NodeLost("b", "late", 1)) == []
    assert world.membership.snapshot().alive == 2


def test_who_was_declared_dead_is_refused_under_that_incarnation() -> None:
    world = World("a", "b")
    world.tell(ev.NodeLost("b", "silence"))
    assert [type(e) for e in world.join("b")] == [ev.RefuseNode]
    assert world.membership.snapshot().alive == 1
    assert ("b", [("a", 4)]) in pushes(world.join("b", 1))
    assert [type(e) for e in world.join("b", 0)] == [ev.RefuseNode]
    assert world.membership.snapshot().alive == 2


def test_a_node_that_rejoins_is_first_declared_dead() -> None:
    world = World("a", "b")
    effects = world.join("b", 1)
    assert isinstance(effects[0], ev.DeclareDead)
    assert (effects[0].node, effects[0].incarnation) == ("b", 0)
    assert world.membership.snapshot().alive == 2


def test_a_node_that_reconnects_is_not_declared_dead() -> None:
    world = World("a", "b")
    assert not any(isinstance(e, ev.DeclareDead) for e in world.join("b"))


def test_a_query_is_answered_with_all_nodes_in_order_of_joining() -> None:
    world = World("b", "a")
    world.tell(ev.NodeLost("b", "gone"))
    source = Address("a", 3)
    (answer,) = world.tell(ev.ClusterQueried(source, 9))
    assert isinstance(answer, ev.AnswerQuery)
    assert (answer.target, answer.request) == (source, 9)
    assert [(i.node, i.is_alive) for i in answer.nodes] == [("b", False), ("a", True)]


def test_the_snapshot_sums_the_living() -> None:
    world = World("a", "b", "c")
    world.tell(ev.NodeLost("c", "gone"))
    world.tell(NodeReported("a", {"CPU": 1}, {"CPU: 1": 7}))
    snapshot = world.membership.snapshot()
    assert (snapshot.alive, snapshot.dead) == (2, 1)
    assert snapshot.total == {"CPU": 8}
    assert snapshot.available == {"CPU": 5}
    assert snapshot.queued == {"CPU: 1": 7}


def test_the_dead_are_remembered_up_to_a_number() -> None:
    world = World("a")
    for number in range(DEAD_NODES + 3):
        world.join(f"n{number}")
        world.tell(ev.NodeLost(f"n{number}", "gone"))
    assert world.membership.snapshot().dead == DEAD_NODES


def test_a_draining_node_is_seen_as_such_by_the_others() -> None:
    world = World("a", "b")
    report = NodeReported("a", {"CPU": 4}, {}, state="draining", reason="scale-down")
    (push,) = world.tell(report)
    assert isinstance(push, ev.PushView)
    assert [(info.state, info.reason) for info in push.nodes] == [("draining", "scale-down")]
    assert world.tell(report) == []
