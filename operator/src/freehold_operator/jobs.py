"""What to do about a FuturesJob: (spec, observed, now) → actions.

Nothing is counted up in a status that an object could say: attempts, failures and disruptions are
the Jobs that are there, and a status only remembers those that are not any more. The end is written
into the status first; only a pass that finds it there deletes anything.
"""

from __future__ import annotations

from typing import Any

import msgspec

from freehold_operator import drivers, names
from freehold_operator.actions import Action, Create, Delete, Plan, Tell, WriteStatus
from freehold_operator.conditions import Condition, holds, written
from freehold_operator.facts import AttemptFacts, PodFacts, Trouble
from freehold_operator.model import Job
from freehold_operator.plan import in_order
from freehold_operator.quantity import format_time, parse_time
from freehold_operator.view import JobView
from freehold_operator.workers import soonest

POD_LAG_S = 10.0
"""How long the pod's own end is waited for after its Job's: two watches tell of them."""

REFUSED_EXIT_CODE = 64
"""Of `freehold job run` when the control service has seen this attempt before."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt, or the whole job, ended."""

    reason: str
    message: str
    exit_code: int | None = None

    def written(self) -> dict[str, Any]:
        """As it goes into a status."""
        found: dict[str, Any] = {"reason": self.reason, "message": self.message}
        if self.exit_code is not None:
            found["exitCode"] = self.exit_code
        return found


class Standing(msgspec.Struct, kw_only=True):
    """Where a job stands.

    Attributes:
        attempts: started so far.
        current: the attempt that has not ended.
        end: how the job ended, if it has; `has_succeeded` says which way.
        waits: why nothing runs, while that is so.
    """

    attempts: int = 0
    failures: int = 0
    disruptions: int = 0
    current: AttemptFacts | None = None
    last: Result | None = None
    end: Result | None = None
    has_succeeded: bool = False
    waits: Trouble | None = None
    started: float | None = None


def is_finished(job: Job) -> bool:
    """Whether its end is on record."""
    return holds(job.status, "Complete") or holds(job.status, "Failed")


def policy(job: Job) -> str:
    """What becomes of the cluster made for a job that has ended."""
    return job.spec.on_success if holds(job.status, "Complete") else job.spec.on_failure


def deletes_workers(job: Job) -> bool:
    """Whether the cluster made for a job keeps its head alone from now on."""
    return is_finished(job) and policy(job) == "DeleteWorkers"


def is_disruption(attempt: AttemptFacts, pod: PodFacts | None) -> bool:
    """Whether an attempt failed without the program's fault: the pod was taken away."""
    if attempt.reason == drivers.DISRUPTED:
        return True
    if pod is not None:
        return pod.is_disrupted or pod.is_lost
    # Deleted by somebody: what ended by itself stays to be looked at.
    return attempt.failed and attempt.reason != "DeadlineExceeded"


def result_of(attempt: AttemptFacts, pod: PodFacts | None) -> Result:
    """How an attempt ended, in the pod's own words where there are some."""
    code = pod.exit_code if pod is not None else None
    if attempt.succeeded:
        return Result(reason="Succeeded", message="the program succeeded", exit_code=0)
    if attempt.reason == "DeadlineExceeded":
        return Result(reason="DeadlineExceeded", message=attempt.message)
    if is_disruption(attempt, pod):
        words = attempt.message or "its pod was deleted"
        return Result(reason="Disrupted", message=f"attempt {attempt.attempt}: {words}")
    words = pod.trouble.message if pod is not None and pod.trouble else attempt.message
    if code == REFUSED_EXIT_CODE:
        words = f"the control service refused attempt {attempt.attempt}, or the program ended so"
    reason = "ProgramFailed"
    if pod is not None and pod.trouble is not None and pod.trouble.reason == "OOMKilled":
        reason = "OOMKilled"
    return Result(reason=reason, message=words, exit_code=code)


def _pod_of(view: JobView, attempt: AttemptFacts) -> PodFacts | None:
    mine = [p for p in view.pods if p.attempt == attempt.attempt]
    return max(mine, key=lambda p: p.meta.created, default=None)


def _is_pod_behind(attempt: AttemptFacts, pod: PodFacts | None, now: float) -> bool:
    """Whether a failure's exit code is not known yet, but may be in a moment."""
    if attempt.succeeded or attempt.reason == "DeadlineExceeded":
        return False
    is_told = pod is not None and (pod.has_ended or pod.is_lost)
    return not is_told and attempt.finished is not None and now < attempt.finished + POD_LAG_S


def standing(view: JobView, now: float) -> Standing:
    """Where the job stands, from its Jobs and their pods."""
    status = view.job.status
    mine = [a for a in view.attempts if a.meta.owner_uid == view.job.meta.uid]
    found = Standing(started=parse_time(status.get("startTime")))
    found.attempts = max([status.get("attempts", 0), *(a.attempt for a in mine)])
    last_ended = 0
    for attempt in sorted(mine, key=lambda a: a.attempt):
        pod = _pod_of(view, attempt)
        if not attempt.has_ended or _is_pod_behind(attempt, pod, now):
            if not attempt.meta.deleting:
                found.current = attempt
            continue
        last_ended = attempt.attempt
        found.last = result_of(attempt, pod)
        if attempt.succeeded:
            found.end, found.has_succeeded = found.last, True
        elif attempt.reason == "DeadlineExceeded":
            found.end = found.last
        elif is_disruption(attempt, pod):
            found.disruptions += 1
        else:
            found.failures += 1
    # Jobs may have been deleted by somebody; what was counted stays counted.
    found.failures = max(found.failures, status.get("failures", 0))
    found.disruptions = max(found.disruptions, status.get("disruptions", 0))
    if found.end is None:
        found.end = _limit_reached(found, view, now)
    if found.last is None and last_ended == 0:
        found.last = _remembered(status.get("result"))
    return found


def _remembered(result: Any) -> Result | None:
    if not result:
        return None
    code = result.get("exitCode")
    return Result(
        reason=result.get("reason", ""), message=result.get("message", ""), exit_code=code
    )


def _limit_reached(found: Standing, view: JobView, now: float) -> Result | None:
    spec = view.job.spec
    last = found.last
    if found.failures > spec.backoff_limit:
        assert last is not None or view.job.status
        return last or Result(reason="ProgramFailed", message="the program failed")
    if found.disruptions > spec.max_disruptions:
        words = last.message if last is not None else "its pod was taken away"
        count = f"lost {found.disruptions} attempts, more than maxDisruptions allows"
        return Result(reason="TooManyDisruptions", message=f"{count}: {words}")
    deadline = deadline_of(view.job)
    if deadline is not None and now >= deadline and not spec.suspend:
        words = f"it ran for longer than activeDeadlineSeconds ({spec.active_deadline_s})"
        return Result(reason="DeadlineExceeded", message=words)
    return None


def deadline_of(job: Job) -> float | None:
    """When the job is out of time."""
    started = parse_time(job.status.get("startTime"))
    if started is None or job.spec.active_deadline_s is None:
        return None
    return started + job.spec.active_deadline_s


def job_status(view: JobView, found: Standing, now: float) -> dict[str, Any]:
    """The whole status."""
    job = view.job
    meta, before = job.meta, job.status
    # The end is final: what is found out about it later changes nothing.
    if is_finished(job):
        return before
    conditions = _conditions(view, found)
    status: dict[str, Any] = {
        "observedGeneration": meta.generation,
        "conditions": written(conditions, before.get("conditions") or (), meta.generation, now),
        "attempts": found.attempts,
        "failures": found.failures,
        "disruptions": found.disruptions,
        "clusterName": job.spec.cluster_ref or meta.name,
    }
    if not job.spec.suspend:
        status["startTime"] = format_time(now if found.started is None else found.started)
    if found.attempts:
        status["driverJobName"] = names.attempt_name(meta.name, found.attempts)
    if found.end is not None:
        status["completionTime"] = format_time(now)
        status["result"] = found.end.written()
        status.setdefault("startTime", format_time(now))
    elif found.last is not None:
        status["result"] = found.last.written()
    return status


def _conditions(view: JobView, found: Standing) -> list[Condition]:
    is_over = found.end is not None
    end = found.end or Result(reason="NotFinished", message="")
    complete = Condition("Complete", is_over and found.has_succeeded, end.reason, end.message)
    failed = Condition("Failed", is_over and not found.has_succeeded, end.reason, end.message)
    if found.end is not None and found.end.exit_code and not found.has_succeeded:
        failed = Condition("Failed", True, end.reason, f"exit code {end.exit_code}: {end.message}")
    suspended = Condition("Suspended", False, "NotSuspended")
    running = Condition("Running", False, "NotRunning")
    if not is_over and view.job.spec.suspend:
        words = "the driver is ending" if found.current is not None else ""
        suspended = Condition("Suspended", found.current is None, "Suspended", words)
    elif not is_over and found.waits is not None:
        running = Condition("Running", False, found.waits.reason, found.waits.message)
    elif not is_over and found.current is not None:
        running = Condition("Running", True, "Running", f"attempt {found.current.attempt} runs")
    return [complete, failed, suspended, running]


def _waits_for_cluster(view: JobView) -> Trouble | None:
    """Why no attempt can start on the cluster yet, in its own words."""
    cluster, job = view.cluster, view.job
    name = job.spec.cluster_ref or job.meta.name
    if "FuturesCluster" in view.refusals:
        return view.refusals["FuturesCluster"].trouble
    if cluster is None:
        return Trouble("ClusterMissing", f"there is no FuturesCluster {name} yet")
    if job.spec.cluster_template is not None and cluster.meta.owner_uid != job.meta.uid:
        words = f"FuturesCluster {name} is not this job's: delete it, or name the job otherwise"
        return Trouble("NameTaken", words)
    if cluster.meta.deleting:
        return Trouble("ClusterMissing", f"FuturesCluster {name} is being deleted")
    if holds(cluster.status, "HeadReady"):
        return None
    for condition in cluster.status.get("conditions") or ():
        if condition["type"] == "HeadReady":
            words = f"FuturesCluster {name}: {condition['message']}"
            return Trouble(condition["reason"], words)
    return Trouble("ClusterStarting", f"FuturesCluster {name} is starting")


def _waits_for_pod(view: JobView, attempt: AttemptFacts) -> Trouble | None:
    """Why the driver of an attempt does not run yet."""
    pod = _pod_of(view, attempt)
    if pod is None:
        return Trouble("Starting", f"attempt {attempt.attempt} is starting; {_job_words(attempt)}")
    if pod.trouble is not None and not pod.has_ended:
        return Trouble(pod.trouble.reason, f"pod {pod.meta.name}: {pod.trouble.message}")
    if pod.phase == "Pending":
        return Trouble("Starting", f"pod {pod.meta.name} is starting")
    return None


def _job_words(attempt: AttemptFacts) -> str:
    name = attempt.meta.name
    return attempt.message or f"if it stays so: kubectl describe job {name}"


def _start(view: JobView, found: Standing, now: float) -> tuple[list[Action], float | None]:
    """Make the cluster, or the next attempt when the cluster is there."""
    job, refusals = view.job, view.refusals

    def is_blocked(kind: str) -> bool:
        return kind in refusals and now < refusals[kind].until

    if view.cluster is None and job.spec.cluster_template is not None:
        if is_blocked("FuturesCluster"):
            return [], refusals["FuturesCluster"].until
        manifest = drivers.job_cluster(job)
        found.waits = _waits_for_cluster(view)
        return [Create(kind="FuturesCluster", manifest=manifest, why="the job's own cluster")], None
    if found.current is not None:
        found.waits = _waits_for_pod(view, found.current)
        ended = found.current.finished
        return [], None if ended is None else ended + POD_LAG_S
    found.waits = _waits_for_cluster(view)
    if found.waits is not None:
        return [], None
    if "Job" in refusals:
        found.waits = refusals["Job"].trouble
        if is_blocked("Job"):
            return [], refusals["Job"].until
    assert view.cluster is not None
    name, number = view.cluster.meta.name, found.attempts + 1
    image = drivers.image_of(job, view.cluster.spec.image, view.defaults)
    template = drivers.driver_template(job, name, image, number)
    manifest = drivers.attempt_job(job, template, name, number)
    deadline = deadline_of(job)
    if deadline is not None:
        # So that it ends in time without an operator, too.
        manifest["spec"]["activeDeadlineSeconds"] = max(1, int(deadline - now))
    why = f"attempt {number}, after {found.failures} failures, {found.disruptions} disruptions"
    found.waits = found.waits or Trouble("Starting", f"attempt {number} is starting")
    return [Create(kind="Job", manifest=manifest, why=why)], None


def _stop(found: Standing, why: str) -> list[Action]:
    if found.current is None:
        return []
    meta = found.current.meta
    return [Delete(kind="Job", name=meta.name, uid=meta.uid, why=why)]


def _clean_up(view: JobView, now: float) -> Plan:
    """A job whose end is on record."""
    job, actions = view.job, list[Action]()
    found = standing(view, now)
    if found.current is not None:
        actions += _stop(found, f"{job.status['result']['reason']}: the job has ended")
    cluster = view.cluster
    is_own = cluster is not None and cluster.meta.owner_uid == job.meta.uid
    is_unwanted = is_own and policy(job) == "DeleteCluster"
    if cluster is not None and is_unwanted and not cluster.meta.deleting:
        meta = cluster.meta
        why = "the job has ended, and its deletionPolicy says so"
        actions.append(Delete(kind="FuturesCluster", name=meta.name, uid=meta.uid, why=why))
    again = None
    ended = parse_time(job.status.get("completionTime"))
    if job.spec.ttl_s is not None and ended is not None:
        again = ended + job.spec.ttl_s
        if now >= again:
            meta, again = job.meta, None
            why = f"it ended {now - ended:.0f} s ago (ttlSecondsAfterFinished)"
            actions.append(Delete(kind="FuturesJob", name=meta.name, uid=meta.uid, why=why))
    return Plan(actions=in_order(actions), look_again=again)


def plan_job(view: JobView, now: float) -> Plan:
    """Actions on a FuturesJob and what belongs to it, and when to look again unasked."""
    job = view.job
    if job.meta.deleting:
        return Plan()
    if is_finished(job):
        return _clean_up(view, now)
    found = standing(view, now)
    actions: list[Action] = []
    again: float | None = None
    if found.end is None and job.spec.suspend:
        found.started = None
        actions += _stop(found, "the job is suspended")
    elif found.end is None:
        try:
            made, again = _start(view, found, now)
        except ValueError as error:
            words = f"entrypoint {job.spec.entrypoint!r} cannot be split into words: {error}"
            found.end, made = Result(reason="InvalidEntrypoint", message=words), []
        actions += made
        again = soonest(again, deadline_of(job))
    status = job_status(view, found, now)
    if status != job.status:
        actions.append(WriteStatus(status=status, why="what holds has changed"))
        actions += _told(found)
    return Plan(actions=in_order(actions), look_again=again)


def _told(found: Standing) -> list[Action]:
    if found.end is None:
        return []
    kind = "Complete" if found.has_succeeded else "Failed"
    words = f"{found.end.reason}: {found.end.message}"
    return [Tell(is_warning=not found.has_succeeded, reason=kind, message=words)]
