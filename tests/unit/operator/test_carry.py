"""Actions are carried out in order; what fails ends as much as it must and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.unit.operator.build import NOW
from tests.unit.operator.fake_kube import FakeKube

from freehold_operator import kinds
from freehold_operator.actions import (
    Action,
    Apply,
    CheckPod,
    Create,
    Delete,
    EnsureSecrets,
    WriteStatus,
)  # fmt: skip
from freehold_operator.cache import Cache
from freehold_operator.carry import Carrier, Outcome, Tools
from freehold_operator.errors import ApiError, ApiUnreachableError
from freehold_operator.events import Events
from freehold_operator.head import Heads
from freehold_operator.kinds import Kind
from freehold_operator.memory import Memory
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta

META = Meta(name="c", namespace="n", uid="uid-c", generation=1)
OWNERS = [{"uid": "uid-c", "controller": True}]


def manifest(name: str, group: str = "g", owners: list[dict[str, Any]] = OWNERS) -> dict[str, Any]:
    """A pod's."""
    labels = {"freehold.dev/group": group}
    metadata = {"name": name, "namespace": "n", "labels": labels, "ownerReferences": owners}
    return {"kind": "Pod", "metadata": metadata, "spec": {}}


def create(name: str, group: str = "g") -> Create:
    """Create a pod."""
    return Create(kind="Pod", manifest=manifest(name, group), why="wanted")


def delete(name: str, uid: str) -> Delete:
    """Delete a pod."""
    return Delete(kind="Pod", name=name, uid=uid, why="drained")


STATUS = WriteStatus(status={"replicas": 1}, why="changed")


class Stage:
    """A carrier's surroundings."""

    def __init__(self) -> None:
        self.kube = FakeKube()
        self.cache = Cache()
        self.memory = Memory("uid-c")
        self.now = NOW
        self.changed: list[str] = []
        self.kube.put(kinds.CLUSTER, {"metadata": {"name": "c", "namespace": "n", "uid": "uid-c"}})

    def run(
        self,
        *actions: Action,
        status: dict[str, Any] | None = None,
        kind: Kind = kinds.CLUSTER,
    ) -> Outcome:
        """Carry out, for an object of a kind."""

        async def go() -> Outcome:
            tools = Tools(
                kube=self.kube,
                cache=self.cache,
                heads=Heads(lambda key: None, 250, lambda: self.now),
                events=Events(self.kube),
                metrics=Metrics(),
                clock=lambda: self.now,
                changed=lambda kind, meta: self.changed.append(f"{kind.name}/{meta.name}"),
            )
            carrier = Carrier(tools, kind, META, status or {}, self.memory)
            return await carrier.run(actions)

        return asyncio.run(go())

    def failing(self, *errors: tuple[str, str, ApiError]) -> None:
        """Calls that fail: verb, name and error."""

        def fail(verb: str, kind: Kind, name: str) -> ApiError | None:
            found = (e for v, n, e in errors if v == verb and n in (name, "*"))
            return next(found, None)

        self.kube.fail = fail

    @property
    def writes(self) -> Sequence[str]:
        """What was written."""
        return self.kube.writes


def test_everything_is_done_and_in_the_cache_at_once() -> None:
    stage = Stage()
    outcome = stage.run(STATUS, create("a"), create("b"))
    assert stage.writes == ["status FuturesCluster/c", "create Pod/a", "create Pod/b"]
    assert stage.cache.get(kinds.POD, "n", "a") is not None
    assert stage.changed == ["FuturesCluster/c", "Pod/a", "Pod/b"]
    assert outcome.retry_s is None


def test_what_is_there_and_ours_is_taken_as_it_is() -> None:
    stage = Stage()
    stage.kube.put(kinds.POD, manifest("a"))
    outcome = stage.run(create("a"))
    assert stage.writes == []
    assert stage.cache.get(kinds.POD, "n", "a") is not None
    assert (outcome.retry_s, stage.memory.refusals) == (None, {})


def test_what_is_there_and_foreign_is_left_alone_and_said() -> None:
    stage = Stage()
    stage.kube.put(kinds.POD, manifest("a", owners=[{"uid": "other"}]))
    stage.run(create("a"))
    assert stage.memory.refusals["Pod/g"].trouble.reason == "NameTaken"


def test_a_refusal_is_remembered_and_ends_the_group_alone() -> None:
    stage = Stage()
    quota = ApiError(403, "Forbidden", "exceeded quota: q")
    stage.failing(("create", "a", quota))
    outcome = stage.run(create("a"), create("b"), create("c", "other"))
    assert stage.writes == ["create Pod/c"]
    refusal = stage.memory.refusals["Pod/g"]
    assert refusal.trouble.reason == "QuotaExceeded"
    assert refusal.until == NOW + 2
    assert outcome.again == NOW, "for the status to say it"
    assert outcome.retry_s is None


def test_refusals_are_tried_again_more_and_more_seldom() -> None:
    stage = Stage()
    stage.failing(("create", "*", ApiError(403, "Forbidden", "no")))
    delays = []
    for _ in range(8):
        stage.run(create("a"))
        delays.append(stage.memory.refusals["Pod/g"].until - stage.now)
    assert delays == [2, 4, 8, 16, 32, 60, 60, 60]
    stage.memory.see_generation(2)
    assert stage.memory.refusals == {}


def test_a_status_that_cannot_be_written_lets_nothing_be_deleted() -> None:
    stage = Stage()
    uid = stage.kube.put(kinds.POD, manifest("a"))["metadata"]["uid"]
    stage.failing(("status", "c", ApiError(500, "InternalError", "no")))
    outcome = stage.run(STATUS, create("b"), delete("a", uid))
    assert stage.writes == ["create Pod/b"]
    assert outcome.retry_s == 0.0


def test_what_may_pass_ends_the_pass_and_is_tried_again() -> None:
    stage = Stage()
    stage.failing(("apply", "s", ApiError(429, "TooManyRequests", "slow down", 7.0)))
    service = {"kind": "Service", "metadata": {"name": "s", "namespace": "n"}}
    outcome = stage.run(Apply(kind="Service", manifest=service, why="missing"), create("a"))
    assert stage.writes == []
    assert outcome.retry_s == 7.0


def test_a_lost_answer_is_found_out_by_the_next_pass() -> None:
    stage = Stage()
    stage.failing(("create", "a", ApiUnreachableError("timeout")))
    assert stage.run(create("a"), create("b")).retry_s == 0.0
    assert stage.writes == ["create Pod/b"]


def test_only_the_object_of_the_uid_is_deleted() -> None:
    stage = Stage()
    body = stage.kube.put(kinds.POD, manifest("a"))
    stage.cache.put(kinds.POD, body, NOW)
    stage.run(delete("a", "an-earlier-one"))
    assert stage.writes == []
    assert stage.cache.get(kinds.POD, "n", "a") is not None
    stage.run(delete("a", body["metadata"]["uid"]))
    assert stage.writes == ["delete Pod/a"]
    assert stage.cache.get(kinds.POD, "n", "a") is None


def test_what_is_gone_already_is_done() -> None:
    stage = Stage()
    assert stage.run(delete("a", "u")).retry_s is None


def test_an_apply_takes_nobody_elses_object() -> None:
    stage = Stage()
    account = {"kind": "ServiceAccount", "metadata": {"name": "c", "namespace": "n"}}
    stage.kube.put(kinds.ACCOUNT, account)
    account["metadata"]["ownerReferences"] = OWNERS
    stage.run(Apply(kind="ServiceAccount", manifest=account, why="missing"), create("a"))
    assert stage.writes == []
    assert stage.memory.refusals["ServiceAccount"].trouble.reason == "NameTaken"


def test_secrets_are_made_once_and_fit_together() -> None:
    stage = Stage()
    stage.run(EnsureSecrets(why="none"))
    ca = stage.kube.objects[("Secret", "n", "c-ca")]["data"]
    auth = stage.kube.objects[("Secret", "n", "c-auth")]["data"]
    assert auth["ca.crt"] == ca["ca.crt"]
    assert set(auth) == {"ca.crt", "token"}
    del stage.kube.objects[("Secret", "n", "c-auth")]
    stage.run(EnsureSecrets(why="one is gone"))
    assert stage.kube.objects[("Secret", "n", "c-ca")]["data"] == ca
    assert stage.kube.objects[("Secret", "n", "c-auth")]["data"]["ca.crt"] == ca["ca.crt"]


def test_figures_alone_are_written_seldom() -> None:
    stage = Stage()
    old = {"replicas": 1, "queue": {"queued": 1}}
    new = WriteStatus(status={"replicas": 1, "queue": {"queued": 2}}, why="x")
    stage.memory.status_written = NOW - 4
    assert stage.run(new, status=old).again == NOW + 1
    assert stage.writes == []
    stage.now = NOW + 1
    stage.run(new, status=old)
    assert stage.writes == ["status FuturesCluster/c"]


def test_a_pod_is_tried_out_without_being_made() -> None:
    stage = Stage()
    stage.run(CheckPod(manifest=manifest("head"), why="it does not come"))
    assert stage.writes == []
    assert stage.memory.head_checked == NOW + 30
    stage.failing(("create", "head", ApiError(403, "Forbidden", "violates PodSecurity")))
    stage.run(CheckPod(manifest=manifest("head"), why="it does not come"))
    assert stage.memory.refusals["CheckPod"].trouble.reason == "PodSecurity"
