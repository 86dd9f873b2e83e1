"""Whatever happens, the promises hold and the cluster comes to rest as its spec says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.operator.world import Broken, Planner, World
from tests.unit.operator.build import NOW, autoscaled, cluster, group, work

from freehold_operator.actions import Create, Delete, Drain, Plan
from freehold_operator.model import parse_cluster
from freehold_operator.plan import plan_cluster
from freehold_operator.view import ClusterView

EVENTS = st.sampled_from(
    [
        *("pass", "pass", "pass", "tick", "tick", "stale", "fresh", "fail", "heal", "pod fails"),
        *("node lost", "head away", "head back", "more", "less", "none", "resize"),
    ]
)


def play(world: World, events: list[str], sizes: list[int]) -> None:
    """Let events happen."""
    for index, event in enumerate(events):
        size = sizes[index % len(sizes)]
        if event == "pass":
            world.reconcile()
        elif event == "tick":
            world.tick()
        elif event == "stale":
            world.stale = [b.pod for b in world.bodies.values()]
        elif event == "fresh":
            world.stale = None
        elif event in ("fail", "heal"):
            world.is_failing = event == "fail"
        elif event == "pod fails":
            world.fail_pod()
        elif event == "node lost":
            world.lose_node()
        elif event in ("head away", "head back"):
            world.has_head = event == "head back"
        elif event in ("more", "less"):
            world.demand = (work(queued=size, running=min(size, 2)),)
        elif event == "none":
            world.demand = ()
        elif event == "resize":
            resize(world, size)


def resize(world: World, size: int) -> None:
    """A user changes a fixed cluster's size."""
    if world.cluster.spec.autoscaling is None:
        groups = tuple(
            msgspec.structs.replace(g, replicas=min(size, g.max_replicas))
            for g in world.cluster.spec.groups
        )
        spec = msgspec.structs.replace(world.cluster.spec, groups=groups)
        world.cluster = msgspec.structs.replace(world.cluster, spec=spec)


scenes = {
    "seed": st.integers(0, 2**32),
    "events": st.lists(EVENTS, min_size=5, max_size=60),
    "sizes": st.lists(st.integers(0, 8), min_size=1, max_size=8),
}


@settings(max_examples=40)
@given(**scenes)
def test_a_fixed_cluster_comes_to_its_size(seed: int, events: list[str], sizes: list[int]) -> None:
    world = World(cluster(group("a", replicas=3, maxReplicas=6), group("b", replicas=1)), seed)
    play(world, events, sizes)
    world.settle()
    for one in world.cluster.spec.groups:
        assert world.ready(one.name) == one.replicas


@settings(max_examples=40)
@given(**scenes)
def test_an_autoscaled_cluster_follows_its_queue(
    seed: int, events: list[str], sizes: list[int]
) -> None:
    of = autoscaled(
        group("a", minReplicas=1, maxReplicas=4, priority=1),
        group("b", maxReplicas=6),
        downscaling={"idleTimeoutSeconds": 5},
    )
    world = World(of, seed)
    play(world, events, sizes)
    world.demand = ()
    world.settle()
    assert (world.ready("a"), world.ready("b")) == (1, 0)
    world.demand = (work(queued=6),)
    for body in world.bodies.values():
        body.busy_until = world.now + 10_000
    for _ in range(15):
        world.tick()
        world.reconcile()
    assert world.ready("a") + world.ready("b") == 6
    assert world.ready("a") == 4


def test_a_node_that_got_work_before_its_drain_goes_when_it_is_idle_again() -> None:
    of = autoscaled(group("a", maxReplicas=2), downscaling={"idleTimeoutSeconds": 5})
    refused = 0
    for seed in range(20):
        world = World(of, seed)
        world.demand = (work(queued=2),)
        for _ in range(8):
            world.tick()
            world.reconcile()
        world.demand = ()
        world.settle()
        refused += world.refused
        assert world.ready("a") == 0, f"seed {seed}"
    assert refused, "no seed had a drain that was refused"


@settings(max_examples=20)
@given(**scenes)
def test_a_suspended_cluster_ends_and_comes_back(
    seed: int, events: list[str], sizes: list[int]
) -> None:
    of = cluster(group("a", replicas=2))
    world = World(of, seed)
    play(world, events, sizes)
    spec = msgspec.structs.replace(world.cluster.spec, suspend=True)
    world.cluster = msgspec.structs.replace(world.cluster, spec=spec)
    for _ in range(15):
        world.tick()
        world.reconcile()
    assert world.ready("a") == 0
    spec = msgspec.structs.replace(spec, suspend=False)
    world.cluster = msgspec.structs.replace(world.cluster, spec=spec)
    world.settle()
    assert world.ready("a") == spec.groups[0].replicas or spec.groups[0].replicas is None


def test_a_group_without_machines_is_passed_over_for_the_next() -> None:
    of = autoscaled(
        group("a", maxReplicas=4, priority=9), group("b", maxReplicas=4), pendingTimeoutSeconds=5
    )
    world = World(of, 1)
    world.never_schedules = {"a"}
    world.demand = (work(queued=3),)
    for _ in range(12):
        world.tick()
        world.reconcile()
    assert (world.ready("a"), world.ready("b")) == (0, 3)


def test_workers_that_crash_are_made_again_ever_more_seldom() -> None:
    world = World(cluster(group("a", replicas=2, maxReplicas=2), group("b", replicas=1)), 5)
    world.crashes = {"a"}
    made = []
    for _ in range(1200):
        world.tick()
        actions = world.reconcile()
        made += [world.now - NOW for a in actions if isinstance(a, Create) and a.kind == "Pod"]
    # After 0, 10, 30, 70, 150, 310, 610 and 910 s, and up to four seconds of starting each.
    assert len(made) == 2 * 8 + 1
    assert world.ready("b") == 1
    world.crashes = set()
    world.settle()
    assert world.ready("a") == 2
    for _ in range(700):
        world.tick()
        world.reconcile()
    world.fail_pod()
    world.settle(10)
    assert world.ready("a") + world.ready("b") == 3


def test_nothing_is_written_at_rest() -> None:
    world = World(cluster(group("a", replicas=3)), 7)
    world.settle()
    world.writes = 0
    for _ in range(60):
        world.tick()
        assert world.reconcile() == ()
    assert world.writes == 0


# Each check is shown to fire: a plan that breaks a promise must be caught.


def too_many(view: ClusterView, now: float) -> Plan:
    """Creates one pod more than it should, again and again."""
    plan = plan_cluster(view, now)
    created = [a for a in plan.actions if isinstance(a, Create)]
    more: list[Any] = []
    for action in created:
        manifest = msgspec.json.decode(msgspec.json.encode(action.manifest))
        manifest["metadata"]["name"] += "x"
        more.append(msgspec.structs.replace(action, manifest=manifest))
    return msgspec.structs.replace(plan, actions=(*plan.actions, *more))


def deletes_ready(view: ClusterView, now: float) -> Plan:
    """Deletes ready workers instead of draining them."""
    plan = plan_cluster(view, now)
    actions = [
        Delete(kind="Pod", name=a.pod, uid=a.uid, why="drained") if isinstance(a, Drain) else a
        for a in plan.actions
    ]
    return msgspec.structs.replace(plan, actions=tuple(actions))


def drains_all(view: ClusterView, now: float) -> Plan:
    """Drains whatever is idle, however many are wanted."""
    plan = plan_cluster(view, now)
    nodes = view.report.nodes if view.report else ()
    by_name = {p.meta.name: p.meta.uid for p in view.pods}
    more = [
        Drain(pod=n.name, uid=by_name[n.name], node=n.id, is_idle=True, deadline_s=60, why="idle")
        for n in nodes
        if n.state == "ALIVE" and n.idle_s > 3 and n.name in by_name
    ]
    return msgspec.structs.replace(plan, actions=(*plan.actions, *more))


def hurries(view: ClusterView, now: float) -> Plan:
    """Forgets how often a place has failed."""
    pods = tuple(msgspec.structs.replace(p, failures=0) for p in view.pods)
    return plan_cluster(msgspec.structs.replace(view, pods=pods), now)


def does_not_wait(view: ClusterView, now: float) -> Plan:
    """Takes every failed pod for one that had run for long."""
    pods = tuple(
        msgspec.structs.replace(p, started=p.finished - 1000) if p.finished else p
        for p in view.pods
    )
    return plan_cluster(msgspec.structs.replace(view, pods=pods), now)


@pytest.mark.parametrize("mutant", [hurries, does_not_wait])
def test_a_plan_that_hurries_is_caught(mutant: Planner) -> None:
    world = World(cluster(group("a", replicas=1)), 3, mutant)
    world.crashes = {"a"}

    def run() -> None:
        for _ in range(60):
            world.tick()
            world.reconcile()

    with pytest.raises(Broken, match="in a row"):
        run()


def unknown_reason(view: ClusterView, now: float) -> Plan:
    """Deletes for a reason of its own."""
    plan = plan_cluster(view, now)
    actions = [
        msgspec.structs.replace(a, why="tidying up") if isinstance(a, Delete) else a
        for a in plan.actions
    ]
    return msgspec.structs.replace(plan, actions=tuple(actions))


@pytest.mark.parametrize("mutant", [too_many, deletes_ready, drains_all, unknown_reason])
def test_a_plan_that_breaks_a_promise_is_caught(mutant: Planner) -> None:
    of = cluster(group("a", replicas=5, maxReplicas=5))
    world = World(of, 3, mutant)

    def run() -> None:
        for _ in range(8):
            world.tick()
            world.reconcile()
        resize(world, 2)
        for _ in range(20):
            world.tick()
            world.reconcile()

    with pytest.raises(Broken):
        run()


def test_the_world_takes_real_specs() -> None:
    assert parse_cluster({"metadata": {"name": "c"}, "spec": {}}).spec.groups == ()
