"""The kinds of objects the operator deals with: where the API has them, what is kept of them, and
what it may do with them.

The rights stand here once. The client refuses what is not among them, as the API server would, so
that tests with an administrator's rights find it; the chart's rules are compared with them, and
they with the calls that plans lead to (`tests/unit/operator/test_rights.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from freehold_operator import facts, model, names


class HasMeta(Protocol):
    """Whatever is kept of an object, it has its metadata."""

    @property
    def meta(self) -> model.Meta:
        """The metadata."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind.

    Attributes:
        path: of its API group and version.
        parse: JSON to what is kept in the cache; None for a kind that is not watched.
        is_ours: it carries the operator's label, by which it is listed and watched.
        verbs: what the operator does with such objects.
        has_status: it also writes their status.
    """

    name: str
    path: str
    plural: str
    parse: Callable[[Mapping[str, Any]], HasMeta] | None = None
    is_ours: bool = True
    verbs: tuple[str, ...]
    has_status: bool = False

    @property
    def api_version(self) -> str:
        """As it stands in a manifest."""
        return self.path.removeprefix("/apis/").removeprefix("/api/")

    @property
    def selector(self) -> str:
        """What it is listed and watched by."""
        return names.MANAGED_SELECTOR if self.is_ours else ""


_READ = ("list", "watch")
_MADE = ("get", *_READ, "create", "delete")
"""Made once, deleted by its UID; read where a name turns out to be taken."""
_APPLIED = (*_READ, "create", "patch")
"""An apply that makes an object takes both rights."""

_OWN_GROUP = f"/apis/{names.API_VERSION}"

CLUSTER = Kind(
    name="FuturesCluster",
    path=_OWN_GROUP,
    plural="futuresclusters",
    parse=model.parse_cluster,
    is_ours=False,
    verbs=_MADE,
    has_status=True,
)
JOB = Kind(
    name="FuturesJob",
    path=_OWN_GROUP,
    plural="futuresjobs",
    parse=model.parse_job,
    is_ours=False,
    verbs=("get", *_READ, "delete"),
    has_status=True,
)
POD = Kind(name="Pod", path="/api/v1", plural="pods", parse=facts.parse_pod, verbs=_MADE)
STATEFUL_SET = Kind(
    name="StatefulSet",
    path="/apis/apps/v1",
    plural="statefulsets",
    parse=facts.parse_set,
    verbs=_APPLIED,
)
ATTEMPT = Kind(
    name="Job", path="/apis/batch/v1", plural="jobs", parse=facts.parse_attempt, verbs=_MADE
)
SERVICE = Kind(
    name="Service", path="/api/v1", plural="services", parse=facts.parse_plain, verbs=_APPLIED
)
ACCOUNT = Kind(
    name="ServiceAccount",
    path="/api/v1",
    plural="serviceaccounts",
    parse=facts.parse_plain,
    verbs=_APPLIED,
)
CLAIM = Kind(
    name="PersistentVolumeClaim",
    path="/api/v1",
    plural="persistentvolumeclaims",
    parse=facts.parse_plain,
    verbs=_APPLIED,
)

SECRET = Kind(name="Secret", path="/api/v1", plural="secrets", verbs=("get", "create"))
"""Not watched: the operator has no right to list Secrets, only to make and read one by its name."""

EVENT = Kind(name="Event", path="/apis/events.k8s.io/v1", plural="events", verbs=("create",))

WATCHED: tuple[Kind, ...] = (
    CLUSTER, JOB, POD, STATEFUL_SET, ATTEMPT, SERVICE, ACCOUNT, CLAIM
)  # fmt: skip
ALL: Mapping[str, Kind] = {kind.name: kind for kind in (*WATCHED, SECRET, EVENT)}
