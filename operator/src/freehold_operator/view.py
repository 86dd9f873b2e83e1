"""Everything a plan may look at, put together by the shell before each plan."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from freehold_operator.facts import AttemptFacts, HeadReport, Plain, PodFacts, SetFacts, Trouble
from freehold_operator.model import Cluster, Job
from freehold_operator.render import Defaults


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A write that the API server refused, and until when it is not tried again."""

    trouble: Trouble
    until: float


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesCluster and what there is of it.

    Attributes:
        pods: head and workers, all that carry the cluster's label.
        drivers: the pods of jobs that run on it, or did.
        claim: of the head's volume.
        has_secrets: whether both Secrets are there and ours.
        report: the head's; None if it is away or silent.
        drains: when a drain was first seen or asked for, by pod UID.
        asked: pods whose drain was just accepted, though the report does not show it yet.
        refusals: by what was refused: `Pod/<group>`, `StatefulSet`, `CheckPod`, …
        head_checked: until when the head's pod need not be tried out again.
    """

    cluster: Cluster
    defaults: Defaults
    pods: tuple[PodFacts, ...] = ()
    drivers: tuple[PodFacts, ...] = ()
    stateful_set: SetFacts | None = None
    service: Plain | None = None
    account: Plain | None = None
    claim: Plain | None = None
    has_secrets: bool = False
    report: HeadReport | None = None
    drains: Mapping[str, float] = {}
    asked: frozenset[str] = frozenset()
    refusals: Mapping[str, Refusal] = {}
    head_checked: float = 0.0


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A FuturesJob and what there is of it.

    Attributes:
        cluster: the one it runs on, existing or made for it.
        attempts: its batch/v1 Jobs.
        pods: its drivers.
    """

    job: Job
    defaults: Defaults
    cluster: Cluster | None = None
    attempts: tuple[AttemptFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    refusals: Mapping[str, Refusal] = {}
