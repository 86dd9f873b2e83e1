"""For each CEL rule what it must let pass and what it must refuse, at the boundary if it has one.

A case is a whole object, or a change from one object to another, perhaps after a status was
written. FuturesCluster's cases (but for changes) are tried inside a job's clusterTemplate too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.api.client import Manifest
from tests.api.crds.objects import cluster, job

AUTOSCALING: Manifest = {"autoscaling": {}}
OFF: Manifest = {"autoscaling": {"enabled": False}}
DRY: Manifest = {"autoscaling": {"dryRun": True}}
GROUP: Manifest = {"name": "a", "maxReplicas": 10}


@dataclass(frozen=True)
class Case:
    """Something a user might send.

    Attributes:
        after: the object sent.
        before: the object that is there, for a change.
        status: what the operator has written to it by then.
    """

    after: Manifest
    before: Manifest | None = None
    status: Manifest | None = None


@dataclass(frozen=True)
class RuleCases:
    """One rule, known by the beginning of its message."""

    kind: str
    path: str
    message: str
    accepted: tuple[Case, ...]
    refused: tuple[Case, ...]


def creating(*manifests: Manifest) -> tuple[Case, ...]:
    return tuple(Case(manifest) for manifest in manifests)


def sized(size: str, **storage: str) -> Manifest:
    return cluster(head={"storage": {"size": size, **storage}})


def changing(*pairs: tuple[Manifest, Manifest]) -> tuple[Case, ...]:
    return tuple(Case(after, before) for before, after in pairs)


NAMES = [
    RuleCases(
        kind,
        "",
        f"the name of a {kind} has at most 36",
        creating(make("a" * 36)),
        creating(make("a" * 37)),
    )
    for kind, make in (("FuturesCluster", cluster), ("FuturesJob", job))
] + [
    RuleCases(
        kind,
        "",
        f"the name of a {kind} begins with a letter",
        creating(make("a"), make("a-1")),
        creating(make("1a"), make("a.b")),
    )
    for kind, make in (("FuturesCluster", cluster), ("FuturesJob", job))
]

REPLICAS = [
    RuleCases(
        "FuturesCluster",
        "spec",
        "without worker groups",
        creating(cluster(), cluster(workerGroups=[], head={"runsTasks": True})),
        creating(cluster(workerGroups=[]), cluster(workerGroups=[], head={"runsTasks": False})),
    ),
    RuleCases(
        "FuturesCluster",
        "spec",
        "replicas (and kubectl scale) is for clusters of exactly one",
        creating(cluster(replicas=3)),
        creating(
            cluster(replicas=3, workerGroups=[{"name": "a"}, {"name": "b"}]),
            cluster(replicas=0, workerGroups=[], head={"runsTasks": True}),
        ),
    ),
    RuleCases(
        "FuturesCluster",
        "spec",
        "replicas (and kubectl scale) cannot be set while autoscaling",
        creating(
            cluster(replicas=3, workerGroups=[GROUP], **OFF),
            cluster(replicas=3, workerGroups=[GROUP], **DRY),
        ),
        creating(cluster(replicas=3, workerGroups=[GROUP], **AUTOSCALING)),
    ),
    RuleCases(
        "FuturesCluster",
        "spec",
        "replicas and workerGroups[].replicas would say the same",
        creating(cluster(workerGroups=[{"name": "a", "replicas": 3}])),
        creating(cluster(replicas=3, workerGroups=[{"name": "a", "replicas": 3}])),
    ),
    RuleCases(
        "FuturesCluster",
        "spec",
        "replicas must lie between",
        creating(
            cluster(replicas=2, workerGroups=[{"name": "a", "minReplicas": 2, "maxReplicas": 4}]),
            cluster(replicas=4, workerGroups=[{"name": "a", "minReplicas": 2, "maxReplicas": 4}]),
            cluster(replicas=4, workerGroups=[{"name": "a", "minReplicas": 2}]),
        ),
        creating(
            cluster(replicas=1, workerGroups=[{"name": "a", "minReplicas": 2, "maxReplicas": 4}]),
            cluster(replicas=5, workerGroups=[{"name": "a", "minReplicas": 2, "maxReplicas": 4}]),
        ),
    ),
]

AUTOSCALED = [
    RuleCases(
        "FuturesCluster",
        "spec",
        "a group's replicas cannot be set while autoscaling",
        creating(
            cluster(workerGroups=[GROUP], **AUTOSCALING),
            cluster(workerGroups=[{**GROUP, "replicas": 3}], **OFF),
            cluster(workerGroups=[{**GROUP, "replicas": 3}], **DRY),
        ),
        creating(
            cluster(workerGroups=[{**GROUP, "replicas": 3}], **AUTOSCALING),
            cluster(workerGroups=[GROUP, {**GROUP, "name": "b", "replicas": 3}], **AUTOSCALING),
        ),
    ),
    RuleCases(
        "FuturesCluster",
        "spec",
        "autoscaling needs to know",
        creating(
            cluster(workerGroups=[{"name": "a", "maxReplicas": 0}], **AUTOSCALING),
            cluster(workerGroups=[{"name": "a"}], **OFF),
        ),
        creating(
            cluster(**AUTOSCALING),
            cluster(**DRY),
            cluster(workerGroups=[GROUP, {"name": "b"}], **DRY),
        ),
    ),
]

GROUPS = [
    RuleCases(
        "FuturesCluster",
        "spec.workerGroups[]",
        "minReplicas is above maxReplicas",
        creating(cluster(workerGroups=[{"name": "a", "minReplicas": 2, "maxReplicas": 2}])),
        creating(
            cluster(workerGroups=[{"name": "a", "minReplicas": 3, "maxReplicas": 2}]),
            cluster(workerGroups=[GROUP, {"name": "b", "minReplicas": 1, "maxReplicas": 0}]),
        ),
    ),
    RuleCases(
        "FuturesCluster",
        "spec.workerGroups[]",
        "replicas is below minReplicas",
        creating(cluster(workerGroups=[{"name": "a", "minReplicas": 2, "replicas": 2}])),
        creating(cluster(workerGroups=[{"name": "a", "minReplicas": 2, "replicas": 1}])),
    ),
    RuleCases(
        "FuturesCluster",
        "spec.workerGroups[]",
        "replicas is above maxReplicas",
        creating(cluster(workerGroups=[{"name": "a", "maxReplicas": 2, "replicas": 2}])),
        creating(cluster(workerGroups=[{"name": "a", "maxReplicas": 2, "replicas": 3}])),
    ),
]

STORAGE = [
    RuleCases(
        "FuturesCluster",
        "spec.head.storage",
        "a volume cannot shrink",
        changing(
            (sized("1Gi"), sized("2Gi")), (sized("1Gi"), sized("1024Mi")), (cluster(), sized("1Gi"))
        ),
        changing((sized("1Gi"), sized("1000Mi")), (sized("2Gi"), cluster())),
    ),
    RuleCases(
        "FuturesCluster",
        "spec.head.storage",
        "a head cannot change between a volume and none",
        changing((sized("0"), sized("0"))),
        changing((sized("0"), sized("1Gi")), (sized("1Gi"), sized("0")), (sized("0"), cluster())),
    ),
    RuleCases(
        "FuturesCluster",
        "spec.head.storage",
        "the volume is there already and cannot change its class",
        changing(
            (sized("1Gi", storageClassName="x"), sized("2Gi", storageClassName="x")),
            (cluster(), cluster(head={"storage": {"retain": True}})),
        ),
        changing(
            (sized("1Gi", storageClassName="x"), sized("1Gi", storageClassName="y")),
            (sized("1Gi", storageClassName="x"), sized("1Gi")),
            (sized("1Gi"), sized("1Gi", storageClassName="")),
        ),
    ),
]

TEMPLATE: Manifest = {"spec": {"workerGroups": [{"name": "a"}]}}

CHOICES = [
    RuleCases(
        "FuturesJob",
        "spec",
        "a job runs either an entrypoint",
        creating(job(), job(entrypoint=None, command=["python", "main.py"])),
        creating(job(entrypoint=None), job(command=["python", "main.py"])),
    ),
    RuleCases(
        "FuturesJob",
        "spec",
        "a job runs either on a cluster that is there",
        creating(job(), job(clusterRef=None, clusterTemplate=TEMPLATE)),
        creating(job(clusterRef=None), job(clusterTemplate=TEMPLATE)),
    ),
    RuleCases(
        "FuturesJob",
        "spec",
        "the cluster of clusterRef belongs to others too",
        creating(
            job(deletionPolicy={}),
            job(deletionPolicy={"onSuccess": "Keep", "onFailure": "Keep"}),
            job(
                clusterRef=None,
                clusterTemplate=TEMPLATE,
                deletionPolicy={"onSuccess": "DeleteCluster", "onFailure": "DeleteWorkers"},
            ),
        ),
        creating(
            job(deletionPolicy={"onSuccess": "DeleteCluster"}),
            job(deletionPolicy={"onFailure": "DeleteWorkers", "onSuccess": "Keep"}),
        ),
    ),
    RuleCases(
        "FuturesJob",
        "spec",
        "a suspended cluster would never run",
        creating(
            job(clusterRef=None, clusterTemplate=TEMPLATE, suspend=True),
            job(clusterRef=None, clusterTemplate={"spec": {**TEMPLATE["spec"], "suspend": False}}),
        ),
        creating(
            job(clusterRef=None, clusterTemplate={"spec": {**TEMPLATE["spec"], "suspend": True}})
        ),
    ),
    RuleCases(
        "FuturesJob",
        "spec.env[]",
        "a variable has either value or valueFrom",
        creating(
            job(env=[{"name": "A", "value": "1"}, {"name": "B"}]),
            job(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        ),
        creating(
            job(env=[{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}])
        ),
    ),
    RuleCases(
        "FuturesJob",
        "spec.workingDir",
        "the files come either from a ConfigMap or from the image",
        creating(job(workingDir={"configMap": {"name": "x"}}), job(workingDir={"path": "/srv"})),
        creating(job(workingDir={}), job(workingDir={"path": "/srv", "configMap": {"name": "x"}})),
    ),
]


def driver(priority: str) -> Manifest:
    return {"template": {"spec": {"priorityClassName": priority}}}


def template(image: str) -> Manifest:
    containers = [{"name": "freehold", "image": image}]
    group = {"name": "a", "template": {"spec": {"containers": containers}}}
    return {"spec": {"workerGroups": [group]}}


def fixed(message: str, *changes: tuple[Manifest, Manifest]) -> RuleCases:
    """What may change while suspended before the first attempt, and at no other time.

    A change is two specs; each is tried in the states that matter.
    """
    accepted: list[Case] = []
    refused: list[Case] = []
    for old, new in changes:
        waiting, changed = job(**old, suspend=True), job(**new, suspend=True)
        accepted += [
            Case(changed, waiting),
            Case(job(**new), waiting),  # changed and resumed in one update, as Kueue does
            Case(changed, waiting, {"attempts": 0}),
            Case(job(**old, backoffLimit=1, suspend=True), job(**old), {"attempts": 1}),
        ]
        refused += [
            Case(job(**new), job(**old)),
            Case(changed, job(**old)),
            Case(changed, waiting, {"attempts": 1}),
        ]
    return RuleCases("FuturesJob", "", message, tuple(accepted), tuple(refused))


MADE: Manifest = {"clusterRef": None}
STARTED = [
    fixed(
        "entrypoint, command and args cannot change",
        ({}, {"entrypoint": "python other.py"}),
        ({}, {"entrypoint": None, "command": ["python", "main.py"]}),
        ({}, {"args": ["--rows=1"]}),
        ({"args": ["--rows=1"]}, {"args": ["--rows=2"]}),
    ),
    fixed(
        "env, workingDir and driver cannot change",
        ({}, {"env": [{"name": "A"}]}),
        ({"env": [{"name": "A"}]}, {"env": [{"name": "A", "value": "1"}]}),
        ({"workingDir": {"path": "/a"}}, {"workingDir": {"path": "/b"}}),
        ({"workingDir": {"path": "/a"}}, {}),
        ({"driver": driver("low")}, {"driver": driver("high")}),
    ),
    fixed(
        "clusterRef and clusterTemplate cannot change",
        ({}, {"clusterRef": {"name": "d"}}),
        ({}, {**MADE, "clusterTemplate": TEMPLATE}),
        (
            {**MADE, "clusterTemplate": template("x:1")},
            {**MADE, "clusterTemplate": template("x:2")},
        ),
    ),
]

ALL: list[RuleCases] = [*NAMES, *REPLICAS, *AUTOSCALED, *GROUPS, *STORAGE, *CHOICES, *STARTED]
