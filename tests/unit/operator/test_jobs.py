"""A FuturesJob's plan, scene by scene."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.unit.operator.build import DEFAULTS, NOW, cluster, group

from freehold_operator.actions import Action, Create, Delete, WriteStatus
from freehold_operator.facts import AttemptFacts, PodFacts, Trouble
from freehold_operator.jobs import deletes_workers, plan_job
from freehold_operator.model import Cluster, Job, Meta, parse_job
from freehold_operator.quantity import format_time
from freehold_operator.view import JobView, Refusal

READY = {
    "conditions": [{"type": "HeadReady", "status": "True", "reason": "Serving", "message": ""}]
}


def job(status: dict[str, Any] | None = None, **spec: Any) -> Job:
    """A FuturesJob named j, on cluster c unless told otherwise."""
    where = {} if "clusterTemplate" in spec else {"clusterRef": {"name": "c"}}
    meta = {"name": "j", "namespace": "n", "uid": "uid-j", "generation": 1}
    body = {"metadata": meta, "spec": {"command": ["x"], **where, **spec}, "status": status or {}}
    return parse_job(body)


def own() -> dict[str, Any]:
    """A cluster of the job's own."""
    return {"spec": {"workerGroups": [group()]}}


def on(owner: str = "") -> Cluster:
    """A cluster whose head serves."""
    found = cluster(group(), status=READY)
    return msgspec.structs.replace(found, meta=msgspec.structs.replace(found.meta, owner_uid=owner))


def attempt(number: int, **fields: Any) -> AttemptFacts:
    """An attempt's Job."""
    meta = Meta(name=f"j-{number}", namespace="n", uid=f"uid-{number}", owner_uid="uid-j")
    finished = {"finished": NOW - 60} if {"failed", "succeeded"} & fields.keys() else {}
    return AttemptFacts(meta=meta, attempt=number, **(finished | fields))


def pod(number: int, **fields: Any) -> PodFacts:
    """A driver's pod."""
    meta = Meta(name=f"j-{number}-x", namespace="n", uid=f"pod-{number}")
    return PodFacts(meta=meta, role="driver", attempt=number, **({"phase": "Running"} | fields))


def view(of: Job, where: Cluster | None, *attempts: AttemptFacts, **fields: Any) -> JobView:
    """What a plan looks at."""
    return JobView(job=of, defaults=DEFAULTS, cluster=where, attempts=attempts, **fields)


def plan(of: JobView, now: float = NOW) -> tuple[Action, ...]:
    """The actions."""
    return plan_job(of, now).actions


def written(actions: tuple[Action, ...]) -> dict[str, Any]:
    """The status written."""
    return next(a.status for a in actions if isinstance(a, WriteStatus))


def holding(actions: tuple[Action, ...]) -> str:
    """The conditions that hold, with their reasons."""
    found = [c for c in written(actions)["conditions"] if c["status"] == "True"]
    return " ".join(f"{c['type']}={c['reason']}" for c in found)


def reason(actions: tuple[Action, ...], type_: str) -> str:
    """A condition's reason."""
    return next(c["reason"] for c in written(actions)["conditions"] if c["type"] == type_)


def created(actions: tuple[Action, ...]) -> list[str]:
    """What is created, by kind and name."""
    return [f"{a.kind}/{a.name}" for a in actions if isinstance(a, Create)]


def test_an_attempt_starts_on_a_cluster_whose_head_serves() -> None:
    assert created(plan(view(job(), on()))) == ["Job/j-1"]
    waits = plan(view(job(), None))
    assert created(waits) == []
    assert reason(waits, "Running") == "ClusterMissing"
    starting = plan(view(job(), cluster(group())))
    assert reason(starting, "Running") == "ClusterStarting"


def test_its_own_cluster_is_made_first() -> None:
    of = job(clusterTemplate=own())
    assert created(plan(view(of, None))) == ["FuturesCluster/j"]
    assert created(plan(view(of, on("uid-j")))) == ["Job/j-1"]
    foreign = plan(view(of, on("somebody")))
    assert created(foreign) == []
    assert reason(foreign, "Running") == "NameTaken"


def test_a_running_attempt() -> None:
    actions = plan(view(job(), on(), attempt(1), pods=(pod(1),)))
    assert created(actions) == []
    assert holding(actions) == "Running=Running"
    assert written(actions)["attempts"] == 1


def test_a_drivers_own_reason() -> None:
    bad = pod(1, phase="Pending", trouble=Trouble("ErrImagePull", "no such image"))
    assert reason(plan(view(job(), on(), attempt(1), pods=(bad,))), "Running") == "ErrImagePull"


def test_success_is_final() -> None:
    done = attempt(1, succeeded=True)
    actions = plan(view(job(), on(), done, pods=(pod(1, phase="Succeeded", exit_code=0),)))
    assert holding(actions) == "Complete=Succeeded"
    assert written(actions)["result"]["exitCode"] == 0
    after = msgspec.structs.replace(job(), status=written(actions))
    assert plan(view(after, on(), done), NOW + 500) == ()


def test_an_exit_code_is_told_and_retried_up_to_the_limit() -> None:
    failed = attempt(1, failed=True, reason="BackoffLimitExceeded")
    ended = pod(1, phase="Failed", exit_code=3, trouble=Trouble("Error", "exit code 3"))
    actions = plan(view(job(), on(), failed, pods=(ended,)))
    assert holding(actions) == "Failed=ProgramFailed"
    assert written(actions)["result"]["exitCode"] == 3
    retried = plan(view(job(backoffLimit=1), on(), failed, pods=(ended,)))
    assert created(retried) == ["Job/j-2"]
    assert written(retried)["failures"] == 1


def test_the_pods_end_is_waited_for_before_a_failure_is_final() -> None:
    just = attempt(1, failed=True, reason="BackoffLimitExceeded", finished=NOW - 1)
    found = plan_job(view(job(), on(), just, pods=(pod(1),)), NOW)
    assert "Failed" not in holding(found.actions)
    assert found.look_again == NOW + 9
    late = plan(view(job(), on(), just, pods=(pod(1),)), NOW + 10)
    assert holding(late) == "Failed=ProgramFailed"


def test_disruptions_do_not_count_as_failures() -> None:
    lost = attempt(1, failed=True, reason="PodFailurePolicy")
    actions = plan(view(job(), on(), lost))
    assert created(actions) == ["Job/j-2"]
    assert (written(actions)["failures"], written(actions)["disruptions"]) == (0, 1)
    gone = attempt(1, failed=True, reason="BackoffLimitExceeded")
    assert written(plan(view(job(), on(), gone)))["disruptions"] == 1
    assert holding(plan(view(job(maxDisruptions=0), on(), lost))) == "Failed=TooManyDisruptions"


def test_counts_survive_the_loss_of_old_jobs() -> None:
    before = {"attempts": 4, "failures": 2, "disruptions": 2}
    actions = plan(view(job(before, backoffLimit=5), on()))
    assert created(actions) == ["Job/j-5"]
    assert written(actions)["failures"] == 2


def test_a_deadline_is_over_all_attempts() -> None:
    begun = {"startTime": format_time(NOW - 100), "attempts": 1}
    of = job(begun, activeDeadlineSeconds=100)
    actions = plan(view(of, on(), attempt(1), pods=(pod(1),)))
    assert holding(actions) == "Failed=DeadlineExceeded"
    assert not [a for a in actions if isinstance(a, Delete)], "the end is on record first"
    after = msgspec.structs.replace(of, status=written(actions))
    gone = plan(view(after, on(), attempt(1), pods=(pod(1),)))
    assert [a.name for a in gone if isinstance(a, Delete)] == ["j-1"]


def test_what_is_left_of_the_deadline_is_the_jobs() -> None:
    of = job({"startTime": format_time(NOW - 40)}, activeDeadlineSeconds=100)
    manifest = next(a for a in plan(view(of, on())) if isinstance(a, Create)).manifest
    assert manifest["spec"]["activeDeadlineSeconds"] == 60


def test_suspending_ends_the_driver_and_counts_nothing() -> None:
    of = job({"startTime": format_time(NOW - 9), "attempts": 1}, suspend=True)
    actions = plan(view(of, on(), attempt(1), pods=(pod(1),)))
    assert [a.name for a in actions if isinstance(a, Delete)] == ["j-1"]
    assert "startTime" not in written(actions)
    done = plan(view(of, on()))
    assert holding(done) == "Suspended=Suspended"
    back = msgspec.structs.replace(job(), status=written(done))
    resumed = plan(view(back, on()))
    assert created(resumed) == ["Job/j-2"]
    assert written(resumed)["failures"] == written(resumed)["disruptions"] == 0


def finished(result: str = "Complete", **spec: Any) -> Job:
    """A job whose end is on record."""
    condition = {"type": result, "status": "True", "reason": "x", "message": ""}
    status = {
        "conditions": [condition],
        "completionTime": format_time(NOW - 50),
        "result": {"reason": "x", "message": ""},
    }
    return job(status, clusterTemplate=own(), **spec)


def test_its_cluster_is_deleted_after_the_end_is_on_record() -> None:
    deleted = [a for a in plan(view(finished(), on("uid-j"))) if isinstance(a, Delete)]
    assert [(a.kind, a.uid) for a in deleted] == [("FuturesCluster", "uid-of-c")]
    assert plan(view(finished(), on("somebody"))) == ()


def test_policies() -> None:
    keep = {"onSuccess": "Keep", "onFailure": "DeleteWorkers"}
    kept = finished(deletionPolicy=keep)
    assert plan(view(kept, on("uid-j"))) == ()
    assert not deletes_workers(kept)
    assert deletes_workers(finished("Failed", deletionPolicy=keep))


def test_time_to_live() -> None:
    of = finished(ttlSecondsAfterFinished=60)
    found = plan_job(view(of, None), NOW)
    assert found.actions == ()
    assert found.look_again == NOW + 10
    gone = plan(view(of, None), NOW + 10)
    assert [(a.kind, a.name) for a in gone if isinstance(a, Delete)] == [("FuturesJob", "j")]


def test_a_bad_entrypoint_fails_at_once() -> None:
    actions = plan(view(job(command=None, entrypoint="python 'x"), on()))
    assert holding(actions) == "Failed=InvalidEntrypoint"


def test_refused_creations_wait_and_say_why() -> None:
    refusal = Refusal(trouble=Trouble("QuotaExceeded", "exceeded quota"), until=NOW + 8)
    found = plan_job(view(job(), on(), refusals={"Job": refusal}), NOW)
    assert created(found.actions) == []
    assert found.look_again == NOW + 8
    assert reason(found.actions, "Running") == "QuotaExceeded"
