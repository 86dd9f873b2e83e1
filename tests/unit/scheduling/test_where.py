"""Where tasks may run: conditions on labels, affinity to a node, spreading, groups to come."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.scheduling.world import DRIVER, NODE, OTHER, THIRD, World, node_info, of

from freehold._core.actors import placing
from freehold._core.messages import NodeGroup
from freehold._core.resources import UNIT, make_shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.policy import NodeRoom, pick_node
from freehold._core.where import Where, allows, holds, make_selector

CPU1 = make_shape({"CPU": 1})
ZONE_A = Where(labels=make_selector({"zone": "a"}))


@pytest.mark.parametrize(
    ("condition", "labels", "is_met"),
    [
        ("a", {"zone": "a"}, True),
        ("a", {"zone": "b"}, False),
        ("a", {}, False),
        ("!a", {"zone": "b"}, True),
        ("!a", {"zone": "a"}, False),
        ("!a", {}, True),
        ("in(a, b)", {"zone": "b"}, True),
        ("in(a,b)", {"zone": "c"}, False),
        ("in(a)", {}, False),
        ("!in(a, b)", {"zone": "c"}, True),
        ("!in(a, b)", {"zone": "a"}, False),
        ("!in(a, b)", {}, True),
        ("exists()", {"zone": ""}, True),
        ("exists()", {}, False),
        ("!exists()", {}, True),
        ("!exists()", {"zone": "a"}, False),
    ],
)
def test_a_condition_on_a_label(condition: str, labels: dict[str, str], is_met: bool) -> None:
    assert holds(make_selector({"zone": condition}), labels) is is_met


@pytest.mark.parametrize(
    "text", ["", "!", "in()", "in(a", "a b", "not(a)", "in(a,,b)", "exists(a)"]
)
def test_a_condition_that_is_none_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        make_selector({"zone": text})


def test_every_condition_must_hold() -> None:
    where = Where(labels=make_selector({"zone": "a", "disk": "ssd"}))
    assert allows(where, NODE, {"zone": "a", "disk": "ssd"})
    assert not allows(where, NODE, {"zone": "a"})


def room(node: str, free: float = 4, total: float = 4, **labels: str) -> NodeRoom:
    return NodeRoom(node, {"CPU": round(total * UNIT)}, {"CPU": round(free * UNIT)}, labels)


def test_labels_choose_among_nodes_and_a_full_one_is_waited_for() -> None:
    here = room(NODE)
    others = [room(OTHER, zone="a"), room(THIRD, zone="b")]
    assert pick_node(CPU1, here, others, where=ZONE_A).node == OTHER
    others[0].available["CPU"] = 0
    choice = pick_node(CPU1, here, others, where=ZONE_A)
    assert (choice.kind, choice.node) == ("wait there", OTHER)
    assert pick_node(CPU1, here, others[1:], where=ZONE_A).kind == "nowhere"


def test_affinity_holds_while_the_node_is_there_and_gives_way_only_if_soft() -> None:
    here, there = room(NODE), room(OTHER, free=0)
    hard = Where(node=OTHER)
    assert pick_node(CPU1, here, [there], where=hard).kind == "wait there"
    assert pick_node(CPU1, here, [], where=hard).kind == "nowhere"
    assert pick_node(CPU1, here, [there], where=Where(node=NODE)).kind == "here"
    soft = Where(node=OTHER, is_soft=True)
    assert pick_node(CPU1, here, [there], where=soft).node == OTHER
    assert pick_node(CPU1, here, [], where=soft).kind == "here"


def test_preferred_labels_are_taken_if_there_are_any() -> None:
    where = Where(preferred=make_selector({"zone": "a"}))
    assert pick_node(CPU1, room(NODE), [room(OTHER, zone="a")], where=where).node == OTHER
    assert pick_node(CPU1, room(NODE), [room(OTHER, zone="b")], where=where).kind == "here"


def test_what_is_spread_goes_to_each_node_in_turn_even_without_resources() -> None:
    world = World(CPU=4)
    world.tell(ev.ViewChanged([node_info(CPU=4), node_info(THIRD, CPU=4)]))
    spread = Where(is_spread=True)
    for key, shape in enumerate(((), CPU1)):
        sent: Counter[str] = Counter()
        for effect in world.tell(
            ev.DemandChanged(DRIVER, key, shape, "", wanted=6, backlog=6, where=spread)
        ):
            if isinstance(effect, ev.SpillBack):
                sent[effect.node] += effect.count
        assert sent == {OTHER: 2, THIRD: 2}


def test_a_line_that_may_not_run_here_waits_for_its_node_and_holds_up_nobody() -> None:
    world = World(CPU=1)
    world.tell(ev.GroupsChanged([NodeGroup("gpu", {"CPU": UNIT}, {"zone": "a"})]))
    assert not world.tell(ev.DemandChanged(DRIVER, 0, CPU1, "", 1, 1, where=ZONE_A))[:-1]
    world.idle(1)
    assert of(world.want(1, key=1), ev.GrantLease)
    world.pass_time(0.2)
    (demand, other) = sorted(world.reports[-1].demand, key=lambda d: d.where is None)
    assert (demand.where, demand.queued, demand.running) == (ZONE_A, 1, 0)
    assert (other.queued, other.running) == (0, 1)
    effects = world.tell(ev.ViewChanged([node_info(CPU=1, labels={"zone": "a"})]))
    assert of(effects, ev.SpillBack)[0].node == OTHER


def test_what_fits_a_group_waits_and_is_refused_when_the_group_goes() -> None:
    world = World(CPU=1)
    big = make_shape({"CPU": 8})
    world.tell(ev.GroupsChanged([NodeGroup("big", {"CPU": 8 * UNIT})]))
    assert not of(world.want(1, big), ev.ReportInfeasible)
    assert not of(world.want(1, make_shape({"CPU": 9}), key=1), ev.GrantLease)
    refused = world.tell(ev.GroupsChanged([]))
    assert "CPU: 8 needed, 1 there" in of(refused, ev.ReportInfeasible)[0].reason


def test_the_refusal_names_the_group_that_comes_closest_or_the_labels_there_are() -> None:
    world = World(CPU=1)
    world.tell(ev.GroupsChanged([NodeGroup("big", {"CPU": 8 * UNIT})]))
    (refused,) = of(world.want(1, make_shape({"CPU": 9})), ev.ReportInfeasible)
    assert "group big comes closest (CPU: 9 needed, 8 there)" in refused.reason
    (refused,) = of(
        world.tell(ev.DemandChanged(DRIVER, 1, CPU1, "", 1, 1, where=ZONE_A)), ev.ReportInfeasible
    )
    assert "zone=a" in refused.reason
    assert "labels: node aaaaaaaa has none" in refused.reason


def test_an_actor_is_placed_by_labels_affinity_and_in_turn() -> None:
    def rooms() -> list[placing.NodeRoom]:
        total = {"CPU": 4 * UNIT}
        return [
            placing.NodeRoom(NODE, 0, total, dict(total)),
            placing.NodeRoom(OTHER, 0, total, dict(total), {"zone": "a"}),
            placing.NodeRoom(THIRD, 0, total, dict(total), {"zone": "b"}),
        ]

    def place(where: Where | None, count: int = 1) -> list[str]:
        found, known = [], rooms()
        for _ in range(count):
            chosen = placing.pick_room(CPU1, NODE, known, (), where)
            assert chosen is not None
            chosen.charge(CPU1)
            found.append(chosen.node)
        return found

    assert place(None) == [NODE]
    assert place(ZONE_A) == [OTHER]
    assert place(Where(node=THIRD)) == [THIRD]
    assert sorted(place(Where(is_spread=True), 6)) == sorted([NODE, OTHER, THIRD] * 2)
    assert placing.pick_room(CPU1, NODE, rooms(), (), Where(node="f" * 32)) is None
    assert "zone=c" in placing.why_infeasible(
        CPU1, rooms(), Where(labels=make_selector({"zone": "c"}))
    )
