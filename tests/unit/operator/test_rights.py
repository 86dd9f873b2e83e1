"""The rights that are declared are those that are used, and those that the chart gives.

What plans lead to is found out by playing: scenes give the actions that there are of each kind, and
each is carried out where nothing is in its way, where its object is there already, and where a
deletion meets another object of the name.
"""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.unit.operator import test_carry, test_jobs
from tests.unit.operator.build import DEFAULTS, NOW, cluster, group, pod, settled
from tests.unit.operator.fake_kube import FakeKube

from freehold_operator import handlers, kinds
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
    WriteStatus,
)
from freehold_operator.cache import Cache
from freehold_operator.errors import ApiError
from freehold_operator.facts import Plain
from freehold_operator.kinds import Kind
from freehold_operator.kube import check_right
from freehold_operator.liveness import Liveness
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta
from freehold_operator.plan import plan_cluster
from freehold_operator.quantity import format_time
from freehold_operator.settings import Settings
from freehold_operator.sync import Sync
from freehold_operator.view import ClusterView

RULES = Path(__file__).parents[3] / "charts" / "freehold" / "templates" / "rbac.yaml"

Rights = set[tuple[str, str]]
"""Verb and resource: `patch`, `futuresjobs/status`."""


def declared() -> Rights:
    found = {(verb, kind.plural) for kind in kinds.ALL.values() for verb in kind.verbs}
    return found | {("patch", f"{k.plural}/status") for k in kinds.ALL.values() if k.has_status}


def given() -> dict[tuple[str, str], list[str]]:
    """What the chart gives: verbs by API group and resource."""
    text = RULES.read_text()
    block = text.split('{{- define "freehold.rules" -}}')[1].split("{{- end -}}")[0]
    found: dict[tuple[str, str], list[str]] = {}
    for rule in yaml.safe_load(block):
        for name in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert (name, resource) not in found, f"{resource} has two rules"
                found[(name, resource)] = rule["verbs"]
    return found


def test_the_chart_gives_what_is_declared() -> None:
    wanted: dict[tuple[str, str], set[str]] = {}
    for kind in kinds.ALL.values():
        name = kind.api_version.rpartition("/")[0]
        wanted[(name, kind.plural)] = set(kind.verbs)
        if kind.has_status:
            wanted[(name, f"{kind.plural}/status")] = {"patch"}
    found = given()
    assert {key: set(verbs) for key, verbs in found.items()} == wanted
    assert all(len(verbs) == len(set(verbs)) for verbs in found.values())


def scenes() -> list[Action]:
    """Actions of every kind of plan."""
    of = cluster(group(replicas=1))
    claim = {"metadata": {"name": "x"}, "spec": {"resources": {"requests": {"storage": "1"}}}}
    small = Plain(Meta(name="x", namespace="n", uid="u", owner_uid=of.meta.uid), claim)
    late = {"conditions": [{"type": "Complete", "status": "True", "reason": "Succeeded"}]}
    late |= {"completionTime": format_time(NOW - 60), "result": {"reason": "Succeeded"}}
    done = test_jobs.job(
        late,
        clusterTemplate=test_jobs.own(),
        ttlSecondsAfterFinished=1,
        deletionPolicy={"onSuccess": "DeleteCluster"},
    )
    fresh = test_jobs.job(clusterTemplate=test_jobs.own())
    own = test_jobs.on("uid-j")
    clusters = [
        ClusterView(cluster=of, defaults=DEFAULTS),
        settled(of, claim=small),
        settled(of, pods=()),
        settled(of, pod(of, 0), pod(of, 1, state="pending")),
    ]
    jobs = [
        test_jobs.view(fresh, None),
        test_jobs.view(fresh, own),
        test_jobs.view(done, own, test_jobs.attempt(1)),
    ]
    found = [a for view in clusters for a in plan_cluster(view, NOW).actions]
    return found + [a for view in jobs for a in test_jobs.plan(view)]


def rights_of(action: Action, kind: Kind) -> Rights:
    """What carrying an action out may take, with `kind` as the object that it is about."""
    used: Rights = set()
    for is_taken in (False, True):
        stage = test_carry.Stage()
        stage.kube.put(kind, {"metadata": {"name": "c", "namespace": "n", "uid": "uid-c"}})
        manifest = getattr(action, "manifest", None)
        one = action
        if manifest is not None:
            own = copy.deepcopy(manifest)
            own["metadata"] |= {"namespace": "n", "ownerReferences": test_carry.OWNERS}
            one = msgspec.structs.replace(action, manifest=own)  # type: ignore[type-var]
            if is_taken:
                stage.kube.put(kinds.ALL[own["kind"]], own)
        elif isinstance(action, Delete):
            uid = "another" if is_taken else action.uid
            body = {"metadata": {"name": action.name, "namespace": "n", "uid": uid}}
            stage.kube.put(kinds.ALL[action.kind], body)
        elif isinstance(action, EnsureSecrets) and is_taken:
            stage.run(action)
        stage.run(one, kind=kind)
        used |= stage.kube.used
    return used


def test_every_right_is_used_and_no_other() -> None:
    used: Rights = set()
    told = scenes()
    for action in told:
        if not isinstance(action, SetGroups | Drain):
            of_job = isinstance(action, WriteStatus) and "attempts" in action.status
            kind = kinds.JOB if of_job else kinds.CLUSTER
            used |= rights_of(action, kind)
    assert {type(a) for a in told} >= {
        Apply, CheckPod, Create, Delete, EnsureSecrets, Tell, WriteStatus
    }  # fmt: skip
    used |= listed() | watched()
    assert used == declared()


def listed() -> Rights:
    """What the first lists take."""
    kube, metrics = FakeKube(), Metrics()
    tools = (kube, Cache(), Liveness(60.0, metrics), metrics)
    sync = Sync(tools, Settings(), lambda: NOW, lambda kind, meta: None)

    async def run() -> None:
        for kind in kinds.WATCHED:
            await sync.replace(kind)

    asyncio.run(run())
    return kube.used


def watched() -> Rights:
    """What kopf is told to watch."""
    registry: Any = handlers.registry(lambda kind, event, body: None)
    selectors = [handler.selector for handler in registry._watching.get_all_handlers()]
    return {("watch", selector.any_name or selector.plural) for selector in selectors}


def test_what_is_not_declared_is_refused() -> None:
    for kind, verb, is_status in (
        (kinds.SECRET, "list", False),
        (kinds.CLUSTER, "patch", False),
        (kinds.POD, "patch", True),
        (kinds.JOB, "get", True),
    ):
        with pytest.raises(ApiError, match="is declared"):
            check_right(kind, verb, is_status=is_status)
    check_right(kinds.JOB, "patch", is_status=True)
