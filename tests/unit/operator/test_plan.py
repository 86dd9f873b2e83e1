"""A FuturesCluster's plan, scene by scene: what is there, and what must be done."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from tests.unit.operator.build import (
    DEFAULTS,
    NOW,
    Trouble,
    autoscaled,
    cluster,
    group,
    head,
    node,
    pod,
    report,
    settled,
    told_groups,
    work,
)

from freehold_operator import names
from freehold_operator.actions import (
    Action,
    Apply,
    CheckPod,
    Create,
    Delete,
    Drain,
    EnsureSecrets,
    SetGroups,
    Tell,
    TellEnded,
    WriteStatus,
)
from freehold_operator.facts import NodeFacts, PodFacts
from freehold_operator.plan import plan_cluster
from freehold_operator.view import ClusterView, Refusal

IDLE = {"idle_s": 100.0}


def plan(view: ClusterView, now: float = NOW) -> tuple[Action, ...]:
    """The actions."""
    return plan_cluster(view, now).actions


def on_pods(actions: Sequence[Action]) -> list[str]:
    """What happens to pods, in short."""
    found = []
    for action in actions:
        if isinstance(action, Create) and action.kind == "Pod":
            found.append("create")
        elif isinstance(action, Delete) and action.kind == "Pod":
            found.append(f"delete {action.uid}: {action.why.split(':')[0]}")
        elif isinstance(action, Drain):
            found.append(f"drain {action.uid}{' if idle' if action.is_idle else ''}")
    return found


def conditions(actions: Sequence[Action]) -> dict[str, tuple[str, str]]:
    """Status and reason of each condition written."""
    written = next(a for a in actions if isinstance(a, WriteStatus))
    return {c["type"]: (c["status"], c["reason"]) for c in written.status["conditions"]}


def message(actions: Sequence[Action], type_: str) -> str:
    """A condition's message."""
    written = next(a for a in actions if isinstance(a, WriteStatus))
    return next(c["message"] for c in written.status["conditions"] if c["type"] == type_)


def test_a_new_cluster_gets_its_base_and_a_head_first() -> None:
    of = cluster(group(replicas=2))
    actions = plan(ClusterView(cluster=of, defaults=DEFAULTS))
    kinds = [a.kind if isinstance(a, Apply) else type(a).__name__ for a in actions]
    assert kinds == [
        "WriteStatus", "EnsureSecrets", "ServiceAccount", "Service", "StatefulSet", "Tell"
    ]  # fmt: skip
    assert isinstance(actions[1], EnsureSecrets)


def test_workers_follow_once_the_heads_pod_is_there() -> None:
    of = cluster(group(replicas=2))
    starting = head(is_ready=False, phase="Pending")
    assert on_pods(plan(settled(of, pods=(starting,)))) == ["create", "create"]
    assert on_pods(plan(settled(of, pods=()))) == []


def test_a_settled_cluster_is_left_alone() -> None:
    of = cluster(group(replicas=1))
    view = settled(of, pod(of), report=report(node(pod(of))))
    view = told_groups(view)
    written = next(a for a in plan(view) if isinstance(a, WriteStatus))
    after = msgspec.structs.replace(of, status=written.status)
    assert plan(msgspec.structs.replace(view, cluster=after), NOW + 1000) == ()


def test_workers_are_named_by_ordinal_and_attempt() -> None:
    of = cluster(group(replicas=3))
    kept = pod(of, 1)
    created = [a for a in plan(settled(of, kept)) if isinstance(a, Create)]
    assert [a.name for a in created] == [pod(of, 0).meta.name, pod(of, 2).meta.name]
    again = plan(settled(of, pod(of, 0, state="terminating"), kept, pod(of, 2)))
    assert [a.name for a in again if isinstance(a, Create)] == [pod(of, 0, attempt=1).meta.name]


def test_a_name_the_head_knows_is_not_used_again() -> None:
    of = cluster(group(replicas=1))
    gone = pod(of, 0)
    actions = plan(settled(of, report=report(node(gone, "DEAD"))))
    assert [a.name for a in actions if isinstance(a, Create)] == [pod(of, 0, attempt=1).meta.name]


def test_fewer_replicas_drain_the_idlest_without_actors() -> None:
    of = cluster(group(replicas=1))
    pods = [pod(of, n) for n in range(4)]
    told = report(
        node(pods[0], idle_s=3),
        node(pods[1], idle_s=9),
        node(pods[2], idle_s=99, actors=1),
        node(pods[3], idle_s=0),
    )
    actions = plan(settled(of, *pods, report=told))
    assert on_pods(actions) == ["drain uid-g-1-0", "drain uid-g-0-0", "drain uid-g-3-0"]
    assert [a.deadline_s for a in actions if isinstance(a, Drain)] == [60, 60, 60]


def test_workers_with_actors_are_waited_for() -> None:
    of = cluster(group(replicas=0))
    busy = pod(of)
    actions = plan(settled(of, busy, report=report(node(busy, actors=2))))
    assert on_pods(actions) == []
    assert conditions(actions)["ScalingLimited"] == ("True", "WorkersInUse")


def test_pending_pods_are_cancelled_first() -> None:
    of = cluster(group(replicas=1))
    ready = [pod(of, 0), pod(of, 1)]
    pending = pod(of, 2, state="pending")
    told = report(*(node(p, **IDLE) for p in ready))
    assert on_pods(plan(settled(of, *ready, pending, report=told))) == [
        "drain uid-g-1-0",
        "delete uid-g-2-0: cancelled",
    ]


def test_no_drain_takes_what_is_ready_below_what_is_wanted() -> None:
    of = autoscaled(group(minReplicas=2))
    ready = [pod(of, 0), pod(of, 1)]
    coming = pod(of, 2, state="starting")
    told = report(*(node(p, **IDLE) for p in ready))
    assert on_pods(plan(settled(of, *ready, coming, report=told))) == []


def test_idle_workers_of_an_autoscaled_cluster_may_refuse() -> None:
    of = autoscaled(group(minReplicas=1))
    pods = [pod(of, n) for n in range(3)]
    told = report(*(node(p, **IDLE) for p in pods))
    drained = on_pods(plan(settled(of, *pods, report=told)))
    assert len(drained) == 2
    assert all(one.startswith("drain") and one.endswith("if idle") for one in drained)


def test_the_plan_looks_again_when_a_worker_will_have_idled_long_enough() -> None:
    of = autoscaled(group(), downscaling={"idleTimeoutSeconds": 60})
    one = pod(of)
    found = plan_cluster(settled(of, one, report=report(node(one, idle_s=45))), NOW)
    assert on_pods(found.actions) == []
    assert found.look_again == NOW + 15


def test_drains_at_a_time_are_limited() -> None:
    of = autoscaled(group(), downscaling={"maxDraining": 2})
    pods = [pod(of, n) for n in range(5)]
    told = report(node(pods[0], "DRAINING"), *(node(p, **IDLE) for p in pods[1:]))
    assert len([a for a in plan(settled(of, *pods, report=told)) if isinstance(a, Drain)]) == 1


def test_creations_at_a_time_are_limited() -> None:
    of = autoscaled(group(maxReplicas=50), upscaling={"maxPending": 4})
    told = report(demand=(work(queued=20),))
    pods = [pod(of, 0, state="pending"), pod(of, 1, state="starting"), pod(of, 2)]
    assert on_pods(plan(settled(of, *pods, report=told))).count("create") == 2


def test_without_the_head_nothing_is_taken_away() -> None:
    of = cluster(group(replicas=0))
    pods = (pod(of, 0), pod(of, 1, state="starting"))
    actions = plan(settled(of, *pods))
    assert on_pods(actions) == []
    assert conditions(actions)["ScalingLimited"] == ("True", "HeadUnreachable")


def test_drained_workers_are_deleted_and_draining_ones_waited_for() -> None:
    of = autoscaled(group())
    done, going = pod(of, 0), pod(of, 1)
    told = report(node(done, "DRAINED"), node(going, "DRAINING"))
    view = settled(of, done, going, report=told, drains={going.meta.uid: NOW - 5})
    found = plan_cluster(view, NOW)
    assert on_pods(found.actions) == ["delete uid-g-0-0: drained"]
    assert found.look_again == NOW - 5 + 60 + 10


def test_a_drain_past_its_deadline_ends() -> None:
    of = autoscaled(group())
    stuck = pod(of)
    view = settled(of, stuck, report=report(node(stuck, "DRAINING")))
    late = msgspec.structs.replace(view, drains={stuck.meta.uid: NOW - 70})
    assert on_pods(plan(view)) == []
    assert on_pods(plan(late)) == ["delete uid-g-0-0: overdue"]


def test_a_drain_just_accepted_is_not_asked_for_again() -> None:
    of = autoscaled(group())
    one = pod(of)
    view = settled(of, one, report=report(node(one, **IDLE)), asked=frozenset({one.meta.uid}))
    assert on_pods(plan(view)) == []


def test_a_lost_worker_is_replaced() -> None:
    of = cluster(group(replicas=1, maxReplicas=2))
    lost = pod(of, 0, is_ready=False)
    actions = plan(settled(of, lost, report=report(node(lost, "DEAD"))))
    assert on_pods(actions) == ["create", "delete uid-g-0-0: lost"]


def test_at_the_maximum_a_lost_worker_goes_first() -> None:
    of = cluster(group(replicas=1, maxReplicas=1))
    lost = pod(of, 0, is_ready=False)
    actions = plan(settled(of, lost, report=report(node(lost, "DEAD"))))
    assert on_pods(actions) == ["delete uid-g-0-0: lost"]


def test_a_node_that_came_back_under_its_name_lives() -> None:
    of = cluster(group(replicas=1))
    one = pod(of)
    told = report(node(one, "DEAD"), node(one, "ALIVE"))
    assert on_pods(plan(settled(of, one, report=told))) == []


def ended(of: object, attempt: int, at: float, ran_s: float = 1.0, **fields: object) -> PodFacts:
    """A worker that failed."""
    given = {"state": "failed", "finished": at, "started": at - ran_s} | fields
    return pod(of, 0, attempt=attempt, **given)  # type: ignore[arg-type]


def failures_of_new(actions: Sequence[Action]) -> list[str | None]:
    """What the pods that are created know of their predecessors."""
    created = [a for a in actions if isinstance(a, Create)]
    return [a.manifest["metadata"]["annotations"].get(names.ANNOTATION_FAILURES) for a in created]


@pytest.mark.parametrize(
    ("failures", "delay_s"), [(0, 10), (1, 20), (2, 40), (4, 160), (5, 300), (500, 300)]
)
def test_a_failed_worker_is_replaced_after_a_growing_pause(failures: int, delay_s: int) -> None:
    of = cluster(group(replicas=1))
    view = settled(of, ended(of, 7, NOW, failures=failures))
    early = plan_cluster(view, NOW + delay_s - 0.1)
    assert on_pods(early.actions) == []
    assert early.look_again == NOW + delay_s
    late = plan(view, NOW + delay_s)
    assert on_pods(late) == ["create"]
    assert failures_of_new(late) == [str(failures + 1)]


def test_a_worker_that_ran_for_long_is_replaced_at_once_and_forgotten() -> None:
    of = cluster(group(replicas=1))
    actions = plan(settled(of, ended(of, 9, NOW - 1, ran_s=601, failures=5)))
    assert on_pods(actions) == ["create"]
    assert failures_of_new(actions) == [None]


def test_a_changed_template_is_tried_at_once() -> None:
    of = cluster(group(replicas=1))
    actions = plan(settled(of, ended(of, 9, NOW - 1, failures=5, template_hash="old")))
    assert on_pods(actions) == ["create"]
    assert failures_of_new(actions) == [None]


def test_what_was_deleted_meanwhile_waits_for_nothing_and_is_not_forgotten() -> None:
    of = cluster(group(replicas=1, maxReplicas=2))
    actions = plan(settled(of, pod(of, 0, attempt=3, state="terminating", failures=4)))
    assert on_pods(actions) == ["create"]
    assert failures_of_new(actions) == ["4"]


def test_the_last_attempt_counts() -> None:
    of = cluster(group(replicas=1))
    old, last = ended(of, 3, NOW - 700, failures=8), ended(of, 4, NOW - 1, ran_s=650)
    assert failures_of_new(plan(settled(of, old, last))) == [None]


def test_one_that_its_machine_refused_waits_from_its_creation_on() -> None:
    of = cluster(group(replicas=1))
    refused = ended(of, 0, NOW, started=None, finished=None, created=NOW - 4)
    assert plan_cluster(settled(of, refused), NOW).look_again == NOW - 4 + 10


def test_other_places_do_not_wait_for_one_that_fails() -> None:
    of = cluster(group(replicas=3))
    assert on_pods(plan(settled(of, ended(of, 2, NOW, failures=3)))) == ["create", "create"]


def test_a_loop_of_failures_is_told_with_the_next_try() -> None:
    of = cluster(group(replicas=1))
    why = Trouble("Error", "container freehold: exit code 3")
    first = plan(settled(of, ended(of, 0, NOW, trouble=why)))
    assert conditions(first)["WorkersReady"] == ("False", "Error")
    assert message(first, "WorkersReady").endswith(
        "exit code 3; it is made again at 1970-01-12T13:46:50Z"
    )
    again = plan(settled(of, ended(of, 1, NOW, trouble=why, failures=1)))
    assert conditions(again)["WorkersReady"] == ("False", "CrashLoopBackOff")
    words = "exit code 3; it failed 2 times in a row, the next try is at 1970-01-12T13:47:00Z"
    assert message(again, "WorkersReady").endswith(words)
    events = [a for a in again if isinstance(a, Tell) and a.is_warning]
    assert [e.reason for e in events] == ["CrashLoopBackOff"]
    assert events[0].message.endswith(words)


def test_a_worker_that_ends_well_at_once_is_told_too() -> None:
    of = cluster(group(replicas=1))
    found = plan(settled(of, ended(of, 0, NOW, phase="Succeeded", exit_code=0)))
    assert conditions(found)["WorkersReady"] == ("False", "Completed")
    assert on_pods(found) == []


def test_a_failed_worker_stays_until_it_is_replaced() -> None:
    of = cluster(group(replicas=1))
    both = settled(of, ended(of, 0, NOW - 9), pod(of, 0, attempt=1))
    assert on_pods(plan(both)) == ["delete uid-g-0-0: ended"]
    none = cluster(group(replicas=0))
    assert on_pods(plan(settled(none, ended(none, 5, NOW)))) == ["delete uid-g-0-5: ended"]


def test_a_group_that_is_removed_drains() -> None:
    of = cluster(group("kept", replicas=0))
    old = pod(of, 0, "old")
    assert on_pods(plan(settled(of, old, report=report(node(old))))) == ["drain uid-old-0-0"]


def test_pods_that_never_came_up_follow_a_changed_template() -> None:
    of = cluster(group(replicas=2))
    bad = pod(
        of, 0, state="starting", template_hash="old", trouble=Trouble("ImagePullBackOff", "x")
    )
    old = pod(of, 1, template_hash="old")
    assert on_pods(plan(settled(of, bad, old, report=report(node(old))))) == [
        "delete uid-g-0-0: cancelled"
    ]


def test_suspending_kills_within_seconds_and_keeps_the_rest() -> None:
    of = cluster(group(replicas=1), suspend=True)
    ending = pod(of, 1, state="terminating")
    view = settled(of, pod(of, 0), ending)
    running = cluster(group(replicas=1))
    view = msgspec.structs.replace(view, stateful_set=settled(running).stateful_set)
    actions = plan(view)
    assert [type(a).__name__ for a in actions if not isinstance(a, Tell)] == [
        "WriteStatus", "Apply", "Delete", "Delete", "Delete"
    ]  # fmt: skip
    assert {a.grace_s for a in actions if isinstance(a, Delete)} == {5}
    assert conditions(actions)["Suspended"] == ("False", "Suspending")
    done = plan(settled(of, pods=()))
    assert conditions(done)["Suspended"] == ("True", "Suspended")
    assert on_pods(done) == []


def test_a_cluster_being_deleted_is_killed() -> None:
    of = cluster(group(replicas=1))
    of = msgspec.structs.replace(of, meta=msgspec.structs.replace(of.meta, deleting=True))
    assert on_pods(plan(settled(of, pod(of)))) == [
        "delete uid-g-0-0: suspended",
        "delete uid-head: suspended",
    ]


def test_pods_of_an_earlier_cluster_of_the_name_are_killed() -> None:
    of = cluster(group(replicas=0))
    old = pod(of)
    old = msgspec.structs.replace(old, meta=msgspec.structs.replace(old.meta, owner_uid="old"))
    assert on_pods(plan(settled(of, old))) == ["delete uid-g-0-0: suspended"]


def test_a_job_that_ended_takes_the_workers_only() -> None:
    of = msgspec.structs.replace(cluster(group(replicas=1)), deletes_workers=True)
    assert on_pods(plan(settled(of, pod(of)))) == ["delete uid-g-0-0: ended-job"]


def test_the_head_is_told_of_groups_once() -> None:
    of = autoscaled(group("a", resources={"limits": {"cpu": "2", "memory": "1Gi"}}, maxReplicas=7))
    view = settled(of, report=report())
    told = next(a for a in plan(view) if isinstance(a, SetGroups))
    assert told.groups == (
        {
            "name": "a",
            "resources": {"CPU": 2, "memory": 2**30 - 322122547},
            "labels": {"freehold.dev/group": "a"},
            "max": 7,
        },
    )
    assert not [a for a in plan(told_groups(view)) if isinstance(a, SetGroups)]


def test_fixed_groups_can_give_no_more_than_they_have() -> None:
    of = cluster(group("a", replicas=2), group("b", replicas=0))
    told = next(a for a in plan(settled(of, report=report())) if isinstance(a, SetGroups))
    assert [(g["name"], g["max"]) for g in told.groups] == [("a", 2)]


def test_refused_creations_wait_and_say_why() -> None:
    of = cluster(group(replicas=2))
    refusal = Refusal(trouble=Trouble("QuotaExceeded", "exceeded quota: q"), until=NOW + 8)
    found = plan_cluster(settled(of, refusals={"Pod/g": refusal}), NOW)
    assert on_pods(found.actions) == []
    assert found.look_again == NOW + 8
    assert conditions(found.actions)["WorkersReady"] == ("False", "QuotaExceeded")
    assert "exceeded quota: q" in message(found.actions, "Ready")
    assert conditions(found.actions)["Degraded"] == ("True", "QuotaExceeded")
    assert on_pods(plan(settled(of, refusals={"Pod/g": refusal}), NOW + 8)) == ["create", "create"]


def test_a_pods_own_reason_is_the_conditions() -> None:
    of = cluster(group(replicas=1))
    bad = pod(of, state="starting", trouble=Trouble("ImagePullBackOff", "pull of x failed"))
    actions = plan(settled(of, bad))
    assert conditions(actions)["WorkersReady"] == ("False", "ImagePullBackOff")
    assert "pull of x failed" in message(actions, "WorkersReady")


def test_a_heads_own_reason_is_the_conditions() -> None:
    of = cluster(group(replicas=0))
    bad = head(is_ready=False, phase="Pending", trouble=Trouble("Unschedulable", "0/3 nodes"))
    actions = plan(settled(of, pods=(bad,)))
    assert conditions(actions)["HeadReady"] == ("False", "Unschedulable")
    assert conditions(actions)["Ready"] == ("False", "Unschedulable")


def test_what_the_head_says_counts_before_the_probes_have_looked() -> None:
    """A probe looks once a second: a head that reports serves, a node it lists takes tasks."""
    of = cluster(group(replicas=1))
    unseen = head(is_ready=False, is_running=True)
    worker = pod(of, is_ready=False)
    actions = plan(settled(of, pods=(unseen, worker)))
    assert conditions(actions)["HeadReady"] == ("False", "Starting")
    actions = plan(settled(of, pods=(unseen, worker), report=report()))
    assert conditions(actions)["HeadReady"] == ("True", "Serving")
    assert conditions(actions)["Ready"] == ("False", "Starting")
    actions = plan(settled(of, pods=(unseen, worker), report=report(node(worker))))
    assert conditions(actions)["Ready"] == ("True", "Ready")
    anew = head(is_ready=False, phase="Pending")
    actions = plan(settled(of, pods=(anew, worker), report=report(node(worker))))
    assert conditions(actions)["HeadReady"] == ("False", "Starting")  # it cannot have said that
    ending = head(deleting=True)
    actions = plan(settled(of, pods=(ending, worker), report=report(node(worker))))
    assert conditions(actions)["HeadReady"] == ("False", "Restarting")


@pytest.mark.parametrize("state", ["failed", "terminating"])
def test_the_head_is_told_of_a_container_that_has_ended(state: str) -> None:
    of = cluster(group(replicas=1))
    trouble = Trouble("OOMKilled", "container freehold: exit code 137")
    gone = pod(of, state=state, is_ready=False, exit_code=137, trouble=trouble)

    def told(*nodes: NodeFacts, of_pod: PodFacts = gone) -> list[tuple[str, str]]:
        actions = plan(settled(of, of_pod, report=report(*nodes)))
        return [(a.node, a.why) for a in actions if isinstance(a, TellEnded)]

    why = "its container ended with exit code 137 (OOMKilled)"
    assert told(node(gone)) == [(node(gone).id, why)]
    assert told(node(gone, "DRAINING")) == [(node(gone).id, why)]
    # It knows already, it never knew, or nobody has seen an end: a machine that is gone is no word.
    assert told(node(gone, "DEAD")) == []
    assert told() == []
    assert told(node(gone), of_pod=msgspec.structs.replace(gone, exit_code=None)) == []
    assert told(node(gone), of_pod=msgspec.structs.replace(gone, is_lost=True)) == []
    # A driver is a node, too: what it left must not stand in its next attempt's way.
    driver = msgspec.structs.replace(gone, role=names.ROLE_DRIVER)
    view = settled(of, drivers=(driver,), report=report(node(driver)))
    assert [a.node for a in plan(view) if isinstance(a, TellEnded)] == [node(driver).id]


def test_a_head_that_cannot_be_made_is_tried_out() -> None:
    of = cluster(group(replicas=0))
    actions = plan(settled(of, pods=()))
    assert [type(a).__name__ for a in actions if isinstance(a, CheckPod)] == ["CheckPod"]
    refusal = Refusal(trouble=Trouble("QuotaExceeded", "no room"), until=NOW + 8)
    actions = plan(settled(of, pods=(), refusals={"CheckPod": refusal}))
    assert conditions(actions)["HeadReady"] == ("False", "QuotaExceeded")
    assert not [a for a in actions if isinstance(a, CheckPod)]


def test_a_head_that_never_came_up_follows_a_changed_template() -> None:
    of = cluster(group(replicas=0))
    bad = head(is_ready=False, revision="r0", trouble=Trouble("ErrImagePull", "x"))
    assert on_pods(plan(settled(of, pods=(bad,)))) == ["delete uid-head: cancelled"]
    runs = head(revision="r0")
    assert on_pods(plan(settled(of, pods=(runs,)))) == []


def test_a_head_on_a_lost_machine_is_not_forced() -> None:
    of = cluster(group(replicas=0))
    stuck = head(deleting=True, gone_by=NOW - 31)
    actions = plan(settled(of, pods=(stuck,)))
    assert on_pods(actions) == []
    assert conditions(actions)["HeadReady"] == ("False", "NodeLost")
    assert "kubectl taint node k" in message(actions, "HeadReady")


def test_refused_fields_are_named() -> None:
    of = cluster(group(replicas=0, template={"spec": {"hostNetwork": True}}))
    actions = plan(settled(of))
    assert conditions(actions)["Degraded"] == ("True", "TemplateFieldsRefused")
    assert "workerGroups[g].template.spec.hostNetwork" in message(actions, "Degraded")


def test_a_template_change_of_the_head_is_applied_and_restarts_nothing() -> None:
    of = cluster(group(replicas=0))
    changed = cluster(group(replicas=0), image="other:1")
    view = msgspec.structs.replace(settled(of), cluster=changed)
    kinds = [a.kind for a in plan(view) if isinstance(a, Apply | Delete)]
    assert kinds == ["StatefulSet"]


def test_a_service_that_was_changed_is_put_right() -> None:
    of = cluster(group(replicas=0))
    view = settled(of)
    assert view.service is not None
    body = {**view.service.body, "spec": {**view.service.body["spec"], "type": "NodePort"}}
    changed = msgspec.structs.replace(view.service, body=body)
    actions = plan(msgspec.structs.replace(view, service=changed))
    assert [a.kind for a in actions if isinstance(a, Apply)] == ["Service"]


def test_a_silent_head_is_told_of_once_it_is_missed() -> None:
    of = autoscaled(group(minReplicas=1))
    new = settled(of, pods=(head(ready_since=NOW - 5), pod(of)))
    found = plan_cluster(new, NOW)
    assert conditions(found.actions)["ScalingLimited"] == ("False", "NotLimited")
    assert found.look_again == NOW + 10
    later = plan(new, NOW + 10)
    assert conditions(later)["ScalingLimited"] == ("True", "HeadUnreachable")
    alone = settled(of, pods=(head(ready_since=NOW - 50),))
    assert conditions(plan(alone))["ScalingLimited"] == ("False", "NotLimited")
