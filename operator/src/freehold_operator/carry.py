"""Carries actions out, in their order, and says what came of them.

Every call may fail. What is refused until somebody changes something (quota, validation) is
remembered with its reason and not tried again at once; what may pass (a timeout, 429, 500) ends the
pass, which is made again from what is then there. When a status could not be written nothing is
deleted or drained in that pass: a terminal state, and each group's target, must be on record first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from freehold_operator import authority, kinds, log, names, render
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
from freehold_operator.cache import Cache
from freehold_operator.errors import ApiError, HeadError
from freehold_operator.events import Events
from freehold_operator.head import Heads
from freehold_operator.kinds import Kind
from freehold_operator.kube import Body, Kube
from freehold_operator.memory import HEAD_CHECK_S, Memory
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta, parse_meta
from freehold_operator.status import without_figures

FIGURES_S = 5.0
"""A status in which only the queue's figures differ is written this often at most."""

DRAIN_AGAIN_S = 5.0
"""After a refused drain, before the same cluster is asked for another."""

Clock = Callable[[], float]


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What carrying out needs, shared by all objects.

    Attributes:
        changed: called with each object that an own write changed, as a watch's echo is no news.
    """

    kube: Kube
    cache: Cache
    heads: Heads
    events: Events
    metrics: Metrics
    clock: Clock
    changed: Callable[[Kind, Meta], None]
    creates_at_once: int = 16


class Outcome(msgspec.Struct, kw_only=True):
    """What came of a plan.

    Attributes:
        again: look again at this time, or at once if it has passed.
        retry_s: something failed that may pass; make the pass again after at least this long.
        has_acted: something was changed, so that the next failure is another than the last.
    """

    again: float | None = None
    retry_s: float | None = None
    has_acted: bool = False
    errors: list[str] = []

    def look_at(self, when: float) -> None:
        """Look again then, if not sooner."""
        self.again = when if self.again is None else min(self.again, when)

    def fail(self, error: Exception) -> None:
        """Note a failure that may pass."""
        after = getattr(error, "retry_after_s", None) or 0.0
        self.retry_s = max(self.retry_s or 0.0, after)
        self.errors.append(str(error))


class Stopped(Exception):
    """The rest of the plan is not carried out."""


def refusal_key(action: Create | Apply | CheckPod | EnsureSecrets) -> str:
    """What a refusal of this action is remembered under."""
    if isinstance(action, CheckPod):
        return "CheckPod"
    if isinstance(action, EnsureSecrets):
        return "Secret"
    group = action.manifest["metadata"].get("labels", {}).get(names.LABEL_GROUP)
    return f"Pod/{group}" if action.kind == "Pod" and group else action.kind


class Carrier:
    """Carries out one plan for one custom resource.

    Args:
        kind: of the custom resource.
        meta: of it.
        status: as it was when the plan was made.
    """

    def __init__(
        self, tools: Tools, kind: Kind, meta: Meta, status: dict[str, Any], memory: Memory
    ) -> None:
        self._tools = tools
        self._kube = tools.kube
        self._kind = kind
        self._meta = meta
        self._status = status
        self._memory = memory
        self._outcome = Outcome(errors=[])
        self._is_status_missing = False
        self._refused: set[str] = set()

    @property
    def _about(self) -> str:
        return f"{self._kind.name}/{self._meta.namespace}/{self._meta.name}"

    async def run(self, actions: Sequence[Action]) -> Outcome:
        """Carry out all actions, or as many as make sense."""
        index = 0
        try:
            while index < len(actions):
                batch = [actions[index]]
                if isinstance(actions[index], Create | Delete | Drain | TellEnded):
                    kind = type(actions[index])
                    while index + len(batch) < len(actions):
                        following = actions[index + len(batch)]
                        if not isinstance(following, kind):
                            break
                        batch.append(following)
                index += len(batch)
                await self._run_batch(batch)
        except Stopped:
            pass
        return self._outcome

    async def _run_batch(self, batch: Sequence[Action]) -> None:
        """Actions of one kind, the first alone: if that is refused the rest is not tried."""
        await self._run_one(batch[0])
        rest = list(batch[1:])
        width = self._tools.creates_at_once
        while rest:
            now, rest = rest[:width], rest[width:]
            done = await asyncio.gather(*map(self._run_one, now), return_exceptions=True)
            for error in done:
                if isinstance(error, BaseException):
                    raise error

    async def _run_one(self, action: Action) -> None:
        handles: dict[type, Callable[[Any], Awaitable[None]]] = {
            WriteStatus: self._write_status,
            EnsureSecrets: self._ensure_secrets,
            Apply: self._apply,
            CheckPod: self._check_pod,
            Create: self._create,
            SetGroups: self._set_groups,
            TellEnded: self._tell_ended,
            Drain: self._drain,
            Delete: self._delete,
            Tell: self._tell,
        }
        if isinstance(action, Delete | Drain) and self._is_status_missing:
            return
        try:
            await handles[type(action)](action)
        except HeadError as error:
            self._outcome.look_at(self._tools.clock() + DRAIN_AGAIN_S)
            log.decision(self._about, type(action).__name__.lower(), "head", f"failed: {error}")
        except ApiError as error:
            self._fail(action, error)

    def _fail(self, action: Action, error: ApiError) -> None:
        if error.is_absent and isinstance(action, Create | Apply | WriteStatus | EnsureSecrets):
            # The namespace, or the custom resource itself, is gone, which will be told of.
            self._outcome.fail(error)
            raise Stopped
        if error.is_refusal and isinstance(action, Create | Apply | CheckPod | EnsureSecrets):
            self._refuse(action, error)
            return
        self._outcome.fail(error)
        if isinstance(action, Create | Delete | Drain | Tell):
            return  # the others do not depend on it
        if isinstance(action, WriteStatus):
            self._is_status_missing = True
            return
        raise Stopped

    def _refuse(self, action: Create | Apply | CheckPod | EnsureSecrets, error: ApiError) -> None:
        now, key = self._tools.clock(), refusal_key(action)
        if key not in self._refused:
            self._refused.add(key)
            self._memory.refuse(key, error, now)
            log.decision(self._about, "refused", key, error.message)
        # Once more at once, for the status to say it.
        self._outcome.look_at(now)
        if not isinstance(action, Create):
            raise Stopped

    def _count(self, action: Action, kind: str) -> None:
        self._tools.metrics.actions.labels(type(action).__name__, kind).inc()
        if not isinstance(action, WriteStatus):
            self._outcome.has_acted = True

    async def _look_again(
        self, kind: Kind, key: tuple[str, str], uid: str, error: ApiError
    ) -> None:
        """A deletion met a conflict: another object has the name, or this one was just changed."""
        try:
            body = await self._kube.get(kind, *key)
        except ApiError as gone:
            if not gone.is_absent:
                raise
            self._drop(kind, key, uid, is_sure=False)
            return
        if body["metadata"]["uid"] == uid:
            raise error
        self._drop(kind, key, uid)
        self._take(kind, body)

    def _take(self, kind: Kind, body: Body) -> None:
        """An object as an own write left it."""
        if self._tools.cache.put(kind, body, self._tools.clock()):
            self._tools.changed(kind, parse_meta(body))

    def _drop(self, kind: Kind, key: tuple[str, str], uid: str, *, is_sure: bool = True) -> None:
        """An object that an own write removed, or did not find."""
        known, now = self._tools.cache.get(kind, *key), self._tools.clock()
        if self._tools.cache.remove(kind, key, uid, now, is_sure=is_sure):
            self._tools.changed(kind, known.meta)

    async def _write_status(self, action: WriteStatus) -> None:
        now = self._tools.clock()
        is_minor = without_figures(action.status) == without_figures(self._status)
        if is_minor and now - self._memory.status_written < FIGURES_S:
            self._outcome.look_at(self._memory.status_written + FIGURES_S)
            return
        manifest = {
            "apiVersion": self._kind.api_version,
            "kind": self._kind.name,
            "metadata": {
                "name": self._meta.name,
                "namespace": self._meta.namespace,
                # Without it an apply could bring a deleted object's status to one of the same name.
                "uid": self._meta.uid,
            },
            "status": action.status,
        }
        body = await self._kube.apply_status(self._kind, manifest)
        self._memory.status_written = now
        self._take(self._kind, body)
        self._count(action, self._kind.name)

    async def _ensure_secrets(self, action: EnsureSecrets) -> None:
        """The CA first: the other Secret has its certificate."""
        meta = self._meta
        ca_name, auth_name = names.ca_secret_name(meta.name), names.auth_secret_name(meta.name)
        certificate, key = authority.new_ca(names.cluster_id(meta.uid))
        data = {"ca.crt": authority.encoded(certificate), "ca.key": authority.encoded(key)}
        made = await self._create_secret(ca_name, data, action.why)
        token = authority.encoded(authority.new_token().encode())
        data = {"token": token, "ca.crt": made["data"]["ca.crt"]}
        await self._create_secret(auth_name, data, action.why)
        self._memory.has_secrets = True
        self._memory.accept("Secret")
        self._count(action, "Secret")

    async def _create_secret(self, name: str, data: dict[str, str], why: str) -> Body:
        manifest = render.secret(self._meta, name, data)
        body, is_new = await self._create_or_adopt(kinds.SECRET, manifest)
        if is_new:
            log.decision(self._about, "create", f"Secret/{name}", why)
        return body

    async def _apply(self, action: Apply) -> None:
        kind = kinds.ALL[action.kind]
        metadata = action.manifest["metadata"]
        known = self._tools.cache.get(kind, metadata["namespace"], metadata["name"])
        owner = next(iter(metadata.get("ownerReferences") or ()), None)
        if known is not None and owner is not None and known.meta.owner_uid != owner["uid"]:
            raise _taken(kind, metadata["name"])
        if known is None:
            await self._check_free(kind, action.manifest)
        body = await self._kube.apply(kind, action.manifest)
        self._take(kind, body)
        self._memory.accept(refusal_key(action))
        self._count(action, action.kind)
        log.decision(self._about, "apply", f"{action.kind}/{action.name}", action.why)

    async def _check_free(self, kind: Kind, manifest: Body) -> None:
        """An apply would take over somebody else's object of the name: try to create it first.

        The object is not created so: what `create` sets, no later `apply` would take away again.
        """
        try:
            await self._kube.create(kind, manifest, dry_run=True)
        except ApiError as error:
            if error.is_conflict:
                raise _taken(kind, manifest["metadata"]["name"]) from None
            raise

    async def _check_pod(self, action: CheckPod) -> None:
        try:
            await self._kube.create(kinds.POD, action.manifest, dry_run=True)
        except ApiError as error:
            if not error.is_conflict:
                raise
        self._memory.accept("CheckPod")
        self._memory.head_checked = self._tools.clock() + HEAD_CHECK_S

    async def _create(self, action: Create) -> None:
        key = refusal_key(action)
        if key in self._refused:
            return
        kind = kinds.ALL[action.kind]
        _, is_new = await self._create_or_adopt(kind, action.manifest)
        self._memory.accept(key)
        self._count(action, action.kind)
        if is_new:
            log.decision(self._about, "create", f"{action.kind}/{action.name}", action.why)

    async def _create_or_adopt(self, kind: Kind, manifest: Body) -> tuple[Body, bool]:
        """Create an object; one of this name and owner that is there already is taken as it is."""
        metadata = manifest["metadata"]
        try:
            body, is_new = await self._kube.create(kind, manifest), True
        except ApiError as error:
            if not error.is_conflict:
                raise
            body = await self._kube.get(kind, metadata["namespace"], metadata["name"])
            owners = {o.get("uid") for o in body["metadata"].get("ownerReferences") or ()}
            if metadata["ownerReferences"][0]["uid"] not in owners:
                raise _taken(kind, metadata["name"]) from None
            is_new = False
        if kind.parse is not None:
            self._take(kind, body)
        return body, is_new

    async def _set_groups(self, action: SetGroups) -> None:
        await self._tools.heads.set_groups((self._meta.namespace, self._meta.name), action)
        log.decision(self._about, "tell-groups", "head", action.why)

    async def _tell_ended(self, action: TellEnded) -> None:
        await self._tools.heads.node_ended((self._meta.namespace, self._meta.name), action)
        log.decision(self._about, "tell-ended", f"Pod/{action.pod}", action.why)

    async def _drain(self, action: Drain) -> None:
        now = self._tools.clock()
        refusal = await self._tools.heads.drain((self._meta.namespace, self._meta.name), action)
        if refusal:
            log.decision(self._about, "drain-refused", f"Pod/{action.pod}", refusal)
            self._outcome.look_at(now + DRAIN_AGAIN_S)
            return
        self._memory.asked[action.uid] = now
        self._memory.drains.setdefault(action.uid, now)
        self._count(action, "Pod")
        log.decision(self._about, "drain", f"Pod/{action.pod}", action.why)

    async def _delete(self, action: Delete) -> None:
        kind = kinds.ALL[action.kind]
        key = (self._meta.namespace, action.name)
        try:
            body = await self._kube.delete(kind, *key, uid=action.uid, grace_s=action.grace_s)
        except ApiError as error:
            if error.is_conflict:
                await self._look_again(kind, key, action.uid, error)
            elif error.is_absent:
                self._drop(kind, key, action.uid, is_sure=False)
            else:
                raise
            return
        if "deletionTimestamp" in (body.get("metadata") or {}):
            self._take(kind, body)
        known = self._tools.cache.get(kind, *key)
        if known is not None and not known.meta.deleting:
            # Nothing had to be waited for, as with a pod that was never scheduled.
            self._drop(kind, key, action.uid)
        self._count(action, action.kind)
        log.decision(self._about, "delete", f"{action.kind}/{action.name}", action.why)

    async def _tell(self, action: Tell) -> None:
        await self._tools.events.tell(self._kind.name, self._meta, action, self._tools.clock())


def _taken(kind: Kind, name: str) -> ApiError:
    return ApiError(
        422,
        "NameTaken",
        f"there is a {kind.name} {name} that this object did not make: remove it, "
        "or choose another name for the cluster or job",
    )
