"""How many workers each group should have."""

from __future__ import annotations

import msgspec
from tests.unit.operator.build import (
    DEFAULTS,
    NOW,
    autoscaled,
    cluster,
    group,
    head,
    node,
    pod,
    report,
    work,
)

from freehold_operator.facts import HeadReport, PodFacts
from freehold_operator.model import Cluster
from freehold_operator.render import worker_template
from freehold_operator.scaling import Targets, targets
from freehold_operator.supply import classify


def decide(
    of: Cluster, pods: tuple[PodFacts, ...], told: HeadReport | None, *refused: str
) -> Targets:
    """The targets for these pods and this report."""
    offers = {g.name: worker_template(of, g, DEFAULTS).offer for g in of.spec.groups}
    rules = of.spec.autoscaling
    workers = classify(pods, told, rules.pending_timeout_s if rules else 300, NOW)
    return targets(of, offers, workers, told, refused)


def test_without_autoscaling_replicas_say_it() -> None:
    of = cluster(group("a", replicas=3), group("b"), group("c", minReplicas=2))
    assert decide(of, (), None).desired == {"a": 3, "b": 1, "c": 2}


def test_the_scalar_is_the_single_groups() -> None:
    of = cluster(group("a", maxReplicas=5), replicas=4)
    assert decide(of, (), None).desired == {"a": 4}


def test_a_suspended_cluster_has_none() -> None:
    of = cluster(group("a", replicas=3), suspend=True)
    assert decide(of, (), None).desired == {"a": 0}


def test_the_queue_sets_the_target() -> None:
    of = autoscaled(group("g", maxReplicas=100))
    found = decide(of, (), report(demand=(work(queued=7, running=2),)))
    assert found.desired == found.found == {"g": 9}
    assert found.why == "7 queued and 2 running make 9 slots"


def test_several_queued_tasks_may_share_a_slot() -> None:
    of = autoscaled(group("g", maxReplicas=100), targetQueuePerSlot=10)
    assert decide(of, (), report(demand=(work(queued=41, running=2),))).desired == {"g": 7}


def test_the_target_stays_within_bounds() -> None:
    of = autoscaled(group("g", minReplicas=2, maxReplicas=5))
    assert decide(of, (), report()).desired == {"g": 2}
    found = decide(of, (), report(demand=(work(queued=50),)))
    assert found.desired == {"g": 5}
    assert found.limit is not None
    assert found.limit.reason == "MaxReplicas"


def test_a_dry_run_only_reports() -> None:
    of = cluster(group("g", replicas=1), autoscaling={"dryRun": True})
    found = decide(of, (), report(demand=(work(queued=4),)))
    assert (found.desired, found.found) == ({"g": 1}, {"g": 4})


def test_without_a_report_the_last_decision_holds() -> None:
    before = {"groups": [{"name": "g", "desired": 4}]}
    of = msgspec.structs.replace(autoscaled(group("g", minReplicas=1)), status=before)
    assert decide(of, (), None).desired == {"g": 4}
    fewer = msgspec.structs.replace(autoscaled(group("g", maxReplicas=3)), status=before)
    assert decide(fewer, (), None).desired == {"g": 3}


def test_young_work_waits_for_the_stabilization() -> None:
    of = autoscaled(group("g"), upscaling={"stabilizationSeconds": 10})
    assert decide(of, (), report(demand=(work(queued=3, oldest_s=9),))).desired == {"g": 0}
    assert decide(of, (), report(demand=(work(queued=3, oldest_s=10),))).desired == {"g": 3}


def test_busy_workers_are_never_too_many() -> None:
    of = autoscaled(group("g"))
    pods = (pod(of, 0), pod(of, 1), pod(of, 2))
    told = report(
        node(pods[0], idle_s=0), node(pods[1], idle_s=61), node(pods[2], idle_s=61, actors=1)
    )
    found = decide(of, pods, told)
    assert (found.desired, found.found) == ({"g": 2}, {"g": 0})


def test_one_that_comes_up_is_let_come_up() -> None:
    of = autoscaled(group("g"))
    assert decide(of, (pod(of, 0, state="starting"),), report()).desired == {"g": 1}
    assert decide(of, (pod(of, 0, state="pending"),), report()).desired == {"g": 0}


def test_overdue_pods_stop_counting_and_the_next_group_is_tried() -> None:
    of = autoscaled(group("a", priority=9), group("b"), pendingTimeoutSeconds=300)
    fresh = pod(of, 0, "a", state="pending", unscheduled_since=NOW - 299)
    overdue = pod(of, 0, "a", state="pending", unscheduled_since=NOW - 300)
    told = report(demand=(work(queued=1),))
    assert decide(of, (fresh,), told).desired == {"a": 1, "b": 0}
    # It stays, should a machine come after all.
    assert decide(of, (overdue,), told).desired == {"a": 1, "b": 1}


def test_a_refused_group_is_passed_over() -> None:
    of = autoscaled(group("a", priority=9), group("b", maxReplicas=1))
    told = report(demand=(work(queued=3),))
    found = decide(of, (), told, "a")
    assert found.desired == {"a": 0, "b": 1}
    assert found.limit is not None
    assert found.limit.reason == "Unavailable"


def test_what_fits_no_group_is_said() -> None:
    of = autoscaled(group("g"))
    demand = work(queued=2, resources={"CPU": 64.0}, infeasible=True, reason="closest is g with 1")
    found = decide(of, (), report(demand=(demand,)))
    assert found.desired == {"g": 0}
    assert found.limit is not None
    assert found.limit.reason == "Infeasible"
    assert "closest is g" in found.limit.message


def test_a_head_that_runs_tasks_counts() -> None:
    of = autoscaled(group("g"), minReplicas=0)
    told = report(node(head(), is_head=True, total={"CPU": 2.0}), demand=(work(queued=3),))
    assert decide(of, (), told).desired == {"g": 1}


def test_draining_workers_are_no_supply() -> None:
    of = autoscaled(group("g"))
    gone = pod(of, 0)
    told = report(node(gone, "DRAINING"), demand=(work(queued=1),))
    assert decide(of, (gone,), told).desired == {"g": 1}
