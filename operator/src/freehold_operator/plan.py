"""What to do about a FuturesCluster: (spec, observed, now) → actions. The one place that decides.

The order of actions is the order they are carried out in: status first, so that what is said of a
terminal state, and each group's target, is there before anything is deleted; then what others need
(Secrets, account, Service), the head, the workers, drains, and deletions last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from freehold_operator import merge, names, render
from freehold_operator.actions import (
    Action,
    Apply,
    CheckPod,
    Create,
    Delete,
    Drain,
    EnsureSecrets,
    Plan,
    SetGroups,
    Tell,
    TellEnded,
    WriteStatus,
)
from freehold_operator.facts import HeadReport, PodFacts
from freehold_operator.pods import PodTemplate
from freehold_operator.quantity import parse_quantity
from freehold_operator.scaling import Targets, idle_from, targets
from freehold_operator.status import Findings, blind_from, cluster_status, head_pod
from freehold_operator.supply import State, Worker, aged, classify, nodes_by_name
from freehold_operator.view import ClusterView
from freehold_operator.workers import GroupPlan, Scene, kill, plan_group, soonest

HEAD_POD_PATIENCE_S = 3.0
"""Within it the StatefulSet's controller makes the head's pod, unless something forbids it."""

_ORDER: tuple[type, ...] = (
    WriteStatus, EnsureSecrets, Apply, CheckPod, Create, TellEnded, SetGroups, Drain, Delete, Tell
)  # fmt: skip


def in_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    """Actions as they are carried out; those of a kind keep their order."""
    return tuple(sorted(actions, key=lambda action: _ORDER.index(type(action))))


def _is_blocked(view: ClusterView, key: str, now: float) -> bool:
    return key in view.refusals and now < view.refusals[key].until


def _apply(
    view: ClusterView, manifest: dict[str, Any], live: dict[str, Any] | None, now: float
) -> list[Action]:
    kind = manifest["kind"]
    # The items of a list do not say their kind.
    wanted = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    if live is not None and merge.is_part(wanted, live):
        return []
    if _is_blocked(view, kind, now):
        return []
    why = "it is missing" if live is None else "it is not as it should be"
    return [Apply(kind=kind, manifest=manifest, why=why)]


def _base(view: ClusterView, now: float) -> list[Action]:
    """What head and workers need before they can start."""
    actions: list[Action] = []
    if not view.has_secrets and not _is_blocked(view, "Secret", now):
        actions.append(EnsureSecrets(why="no token and CA yet"))
    account, service = view.account, view.service
    actions += _apply(
        view, render.service_account(view.cluster), account.body if account else None, now
    )
    actions += _apply(view, render.service(view.cluster), service.body if service else None, now)
    return actions


def _head(view: ClusterView, now: float) -> tuple[list[Action], float | None]:
    """The head's StatefulSet, its volume, and its pod where that is stuck in an old template."""
    actions: list[Action] = []
    again: float | None = None
    found = view.stateful_set
    manifest = render.stateful_set(
        view.cluster,
        view.defaults,
        replicas=0 if view.cluster.spec.suspend else 1,
        claims=found.claim_templates if found is not None else (),
    )
    annotations = manifest["metadata"]["annotations"]
    live = found.body["metadata"].get("annotations") or {} if found is not None else {}
    if found is None or not merge.is_part(annotations, live):
        is_wanted = found is not None or not view.cluster.spec.suspend
        if is_wanted and not _is_blocked(view, "StatefulSet", now):
            why = "there is no head yet" if found is None else "the head's template has changed"
            actions.append(Apply(kind="StatefulSet", manifest=manifest, why=why))
    elif found.replicas != manifest["spec"]["replicas"]:
        actions.append(Apply(kind="StatefulSet", manifest=manifest, why="its size was changed"))
    else:
        stuck = _stuck_head(view)
        actions += stuck
        if head_pod(view) is None and not view.cluster.spec.suspend:
            due = max(found.meta.created + HEAD_POD_PATIENCE_S, view.head_checked)
            again = due if due > now else None
            if due <= now and not _is_blocked(view, "CheckPod", now):
                pod = render.head_pod(view.cluster, view.defaults)
                actions.append(CheckPod(manifest=pod, why="the head's pod does not come up"))
    actions += _claim(view, now)
    return actions, again


def _stuck_head(view: ClusterView) -> list[Action]:
    """A head that never came up is made anew when its template changes; one that runs is left
    alone."""
    pod, found = head_pod(view), view.stateful_set
    if pod is None or found is None or pod.meta.deleting or pod.is_ready:
        return []
    is_seen = found.observed_generation >= found.meta.generation
    is_old = is_seen and found.update_revision and pod.revision != found.update_revision
    if not is_old or (pod.trouble is None and pod.node):
        return []
    why = "cancelled: its template has changed, and it has not come up"
    return [Delete(kind="Pod", name=pod.meta.name, uid=pod.meta.uid, why=why)]


def _claim(view: ClusterView, now: float) -> list[Action]:
    """A volume that is to grow."""
    storage = view.cluster.spec.head.storage
    if (
        view.claim is None
        or not storage.is_volume
        or _is_blocked(view, "PersistentVolumeClaim", now)
    ):
        return []
    requests = ((view.claim.body.get("spec") or {}).get("resources") or {}).get("requests") or {}
    if parse_quantity(requests.get("storage", "0")) >= parse_quantity(storage.size):
        return []
    manifest = render.claim(view.cluster)
    why = "the head's volume is to grow"
    return [Apply(kind="PersistentVolumeClaim", manifest=manifest, why=why)]


def _set_groups(
    view: ClusterView, templates: dict[str, PodTemplate], found: Targets
) -> list[Action]:
    """Tell the head what nodes could be added, once for each change and each of its lives."""
    if view.report is None:
        return []
    groups = []
    for group in view.cluster.spec.groups:
        is_growing = view.cluster.spec.is_autoscaled
        most = group.max_replicas if is_growing else found.desired.get(group.name, 0)
        if most > 0:
            given = templates[group.name].offer
            groups.append(
                {
                    "name": group.name,
                    "resources": given.resources,
                    "labels": given.labels,
                    "max": most,
                }
            )
    hash_ = names.content_hash(groups)
    if view.report.groups_told == hash_:
        return []
    return [
        SetGroups(groups=tuple(groups), hash=hash_, why="groups have changed, or the head is new")
    ]


def _tell_ended(pods: Iterable[PodFacts], report: HeadReport | None) -> list[Action]:
    """The head waits for seconds of silence before it takes a node for dead; a kubelet has seen the
    container end. Of a machine that is gone nobody has."""
    nodes = nodes_by_name(report)
    actions: list[Action] = []
    for pod in pods:
        node = nodes.get(pod.meta.name)
        if node is None or node.state == "DEAD" or pod.exit_code is None or pod.is_lost:
            continue
        why = f"its container ended with exit code {pod.exit_code}"
        if pod.trouble is not None:
            why += f" ({pod.trouble.reason})"
        actions.append(TellEnded(pod=pod.meta.name, node=node.id, why=why))
    return actions


def _room(limit: int | None, used: int) -> int | None:
    return None if limit is None else max(0, limit - used)


def _workers(
    view: ClusterView,
    templates: dict[str, PodTemplate],
    workers: Sequence[Worker],
    found: Targets,
    now: float,
) -> list[GroupPlan]:
    spec = view.cluster.spec
    rules = spec.autoscaling if spec.is_autoscaled else None
    pending = sum(w.state in (State.PENDING, State.STARTING) and not w.is_overdue for w in workers)
    draining = sum(w.state is State.DRAINING for w in workers)
    may_create = _room(rules.max_pending if rules else None, pending)
    may_drain = _room(rules.max_draining if rules else None, draining)
    taken = frozenset(node.name for node in view.report.nodes) if view.report else frozenset()
    groups = {group.name: group for group in spec.groups}
    blocked = {name for name in groups if _is_blocked(view, f"Pod/{name}", now)}
    if head_pod(view) is None:
        # The head first: under a tight quota workers would otherwise take its place.
        blocked = set(groups)
    plans = []
    for name in (*groups, *sorted({w.pod.group for w in workers} - groups.keys())):
        scene = Scene(
            cluster=view.cluster,
            now=now,
            has_head=view.report is not None,
            drains=view.drains,
            blocked=frozenset(blocked),
            taken=taken,
            may_drain=may_drain,
            may_create=may_create,
        )
        mine = [w for w in workers if w.pod.group == name]
        one = plan_group(
            scene, groups.get(name), templates.get(name), mine, found.desired.get(name, 0)
        )
        may_create = _room(may_create, sum(isinstance(a, Create) for a in one.actions))
        may_drain = _room(may_drain, sum(isinstance(a, Drain) for a in one.actions))
        plans.append(one)
    return plans


def foreign_pods(view: ClusterView) -> list[PodFacts]:
    """Workers of an earlier cluster of the same name."""
    return [
        p
        for p in view.pods
        if p.role == names.ROLE_WORKER and p.meta.owner_uid != view.cluster.meta.uid
    ]


def _kill_all(view: ClusterView) -> list[Action]:
    own = [p for p in view.pods if p.role in (names.ROLE_HEAD, names.ROLE_WORKER)]
    return kill(classify(own, None, 0.0, 0.0), "suspended: its cluster is suspended or deleted")


def _told(view: ClusterView, status: dict[str, Any]) -> list[Action]:
    """Events for what has changed for the worse or the better, and for sizes."""
    before = view.cluster.status
    old = {c["type"]: c for c in before.get("conditions") or ()}
    actions: list[Action] = []
    for new in status["conditions"]:
        was = old.get(new["type"], {})
        if (was.get("status"), was.get("reason")) == (new["status"], new["reason"]):
            continue
        bad = new["status"] == (
            "True" if new["type"] in ("Degraded", "ScalingLimited") else "False"
        )
        if new["type"] == "Ready" and new["status"] == "True":
            actions.append(Tell(is_warning=False, reason="Ready", message=new["message"]))
        elif (new["type"] in ("Degraded", "ScalingLimited") and bad) or (
            new["type"] in ("HeadReady", "WorkersReady") and bad and new["reason"] not in _QUIET
        ):
            actions.append(Tell(is_warning=True, reason=new["reason"], message=new["message"]))
    scale = status.get("lastScale")
    if scale is not None and scale != before.get("lastScale"):
        words = f"{scale['group']}: {scale['from']} to {scale['to']} workers, {scale['reason']}"
        actions.append(Tell(is_warning=False, reason="Scaled", message=words))
    return actions


_QUIET = ("Starting", "Restarting", "Suspended")
"""Reasons that pass by themselves."""


def _status(view: ClusterView, findings: Findings, now: float) -> list[Action]:
    status = cluster_status(view, findings, now)
    if status == view.cluster.status:
        return []
    return [WriteStatus(status=status, why="what holds has changed"), *_told(view, status)]


def plan_cluster(view: ClusterView, now: float) -> Plan:
    """Actions on a FuturesCluster and what belongs to it, and when to look again unasked."""
    cluster, spec = view.cluster, view.cluster.spec
    if cluster.meta.deleting:
        return Plan(actions=in_order(_kill_all(view)))
    if view.report is not None:
        view = msgspec.structs.replace(view, report=aged(view.report, now))
    head = render.head_template(cluster, view.defaults)
    templates = {g.name: render.worker_template(cluster, g, view.defaults) for g in spec.groups}
    foreign = foreign_pods(view)
    own = [p for p in view.pods if p.role == names.ROLE_WORKER and p not in foreign]
    timeout_s = float(spec.autoscaling.pending_timeout_s) if spec.autoscaling else float("inf")
    workers = classify(own, view.report, timeout_s, now, view.asked)
    refused = [g.name for g in spec.groups if _is_blocked(view, f"Pod/{g.name}", now)]
    offers = {name: template.offer for name, template in templates.items()}
    found = targets(cluster, offers, workers, view.report, refused)
    actions: list[Action] = list(
        kill(classify(foreign, None, 0.0, now), "suspended: an earlier one's")
    )
    plans: list[GroupPlan] = []
    if spec.suspend:
        made, again = _head(view, now)
        actions += [*made, *_kill_all(view)]
    else:
        made, again = _head(view, now)
        actions += [*_base(view, now), *made, *_set_groups(view, templates, found)]
        actions += _tell_ended((*own, *view.drivers), view.report)
        if cluster.deletes_workers:
            actions += kill(workers, "ended-job: its deletionPolicy is DeleteWorkers")
        else:
            plans = _workers(view, templates, workers, found, now)
    for one in plans:
        actions += one.actions
        again = soonest(again, one.look_again)
    findings = Findings(
        workers=workers,
        targets=found,
        refused_fields=(*head.refused, *(r for t in templates.values() for r in t.refused)),
        waits_for_head=any(p.waits_for_head for p in plans),
        waits_for_actors=sum(p.waits_for_actors for p in plans),
    )
    actions += _status(view, findings, now)
    blind = blind_from(view, findings)
    again = soonest(again, idle_from(cluster, workers, now))
    again = soonest(again, blind if blind is not None and blind > now else None)
    overdue = [
        w.pod.unscheduled_since + timeout_s
        for w in workers
        if w.state is State.PENDING and not w.is_overdue and w.pod.unscheduled_since is not None
    ]
    refusals = [r.until for r in view.refusals.values() if r.until > now]
    return Plan(
        actions=in_order(actions),
        look_again=soonest(again, *(t for t in (*overdue, *refusals) if t != float("inf"))),
    )
