"""One pass over one custom resource: look at the cache, plan, carry out, and say when to look
again.

Handlers only note which object changed. Nothing is planned before every watched kind was listed
once: an empty cache would look like a cluster without pods.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from freehold_operator import authority, kinds, names
from freehold_operator.actions import Action, Plan
from freehold_operator.cache import Cache
from freehold_operator.carry import Carrier, Outcome, Tools
from freehold_operator.errors import ApiError, HeadError
from freehold_operator.facts import PodFacts
from freehold_operator.head import Access, ClusterKey
from freehold_operator.jobs import deletes_workers, is_finished, plan_job
from freehold_operator.kinds import Kind
from freehold_operator.kube import Body
from freehold_operator.memory import Memory
from freehold_operator.model import Cluster, Job, Meta
from freehold_operator.plan import in_order, plan_cluster
from freehold_operator.render import Defaults
from freehold_operator.settings import Settings
from freehold_operator.supply import classify
from freehold_operator.view import ClusterView, JobView
from freehold_operator.workers import kill
from freehold_operator.workqueue import Key, WorkQueue

SECRETS_LOOK_S = 300.0
"""Between looks whether the Secrets are still there; they are not watched."""

GONE_AGAIN_S = 5.0
"""Before an object that the cache lacks and a list shows is looked at again."""

_log = logging.getLogger(__name__)


class Reconciler:
    """Runs passes as the queue asks for them."""

    def __init__(self, tools: Tools, queue: WorkQueue, settings: Settings) -> None:
        self._tools = tools
        self._cache: Cache = tools.cache
        self._queue = queue
        self._settings = settings
        self._defaults = Defaults(image=settings.runtime_image)
        self._memories: dict[Key, Memory] = {}
        self._heads_seen: dict[ClusterKey, tuple[str, bool, bool]] = {}
        """The UID of a head's pod, and whether it runs and is ready."""

    async def run(self) -> None:
        """Pass over objects, several at a time, for ever."""
        await asyncio.gather(*(self._worker() for _ in range(self._settings.workers)))

    def note(self, kind: Kind, meta: Meta) -> None:
        """An object changed: let what it belongs to be passed over."""
        if not self._cache.has_listed(kinds.WATCHED):
            return
        for key in self.concerned(kind, meta):
            self._queue.add(key)

    def concerned(self, kind: Kind, meta: Meta) -> set[Key]:
        """The custom resources whose plan looks at this object."""
        space = meta.namespace
        found: set[Key] = set()
        if kind is kinds.CLUSTER:
            found.add(Key(kinds.CLUSTER.name, space, meta.name))
            for job in self._cache.all(kinds.JOB):
                is_its = meta.owner_uid == job.meta.uid or job.spec.cluster_ref == meta.name
                if job.meta.namespace == space and is_its:
                    found.add(Key(kinds.JOB.name, space, job.meta.name))
            return found
        if kind is kinds.JOB:
            found.add(Key(kinds.JOB.name, space, meta.name))
            # The cluster made for a job has its name.
            if self._cache.get(kinds.CLUSTER, space, meta.name) is not None:
                found.add(Key(kinds.CLUSTER.name, space, meta.name))
            return found
        is_jobs = names.LABEL_JOB in meta.labels
        # A driver's pod is a node of its cluster, too; its batch/v1 Job is the job's own business.
        if names.LABEL_CLUSTER in meta.labels and (kind is kinds.POD or not is_jobs):
            found.add(Key(kinds.CLUSTER.name, space, meta.labels[names.LABEL_CLUSTER]))
        if is_jobs:
            found.add(Key(kinds.JOB.name, space, meta.labels[names.LABEL_JOB]))
        return found

    def head_changed(self, key: ClusterKey) -> None:
        """A head's report changed or is gone."""
        self._tools.metrics.heads.set(self._tools.heads.connected())
        self._queue.add(Key(kinds.CLUSTER.name, *key))

    async def _worker(self) -> None:
        while True:
            key = await self._queue.take()
            self._tools.metrics.queue.set(len(self._queue))
            started = time.monotonic()
            result = await self._guarded(key)
            self._tools.metrics.reconciles.labels(key.kind, result).inc()
            self._tools.metrics.reconcile_seconds.labels(key.kind).observe(
                time.monotonic() - started
            )

    async def _guarded(self, key: Key) -> str:
        """A pass whose failure concerns this object alone."""
        try:
            outcome = await self.reconcile(key)
        except ApiError as error:
            delay_s = self._queue.failed(key, error.retry_after_s or 0.0)
            _log.warning("%s: %s; again in %.1f s", key, error, delay_s)
            return "failed"
        except Exception:  # noqa: BLE001 — see below
            # A defect in one object's plan must not stop the others' workers.
            _log.exception("%s: the pass ended in a defect; please report it", key)
            self._queue.failed(key)
            return "defect"
        if outcome.retry_s is not None:
            if outcome.has_acted:
                self._queue.forgive(key)
            delay_s = self._queue.failed(key, outcome.retry_s)
            _log.warning("%s: %s; again in %.1f s", key, "; ".join(outcome.errors), delay_s)
            return "failed"
        self._queue.done(key)
        if outcome.again is not None:
            self._queue.add_at(key, outcome.again)
        return "ok"

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one object.

        Raises:
            ApiError: a look failed; the pass is to be made again.
        """
        if key.kind == kinds.CLUSTER.name:
            cluster = self._cache.get(kinds.CLUSTER, key.namespace, key.name)
            return await (self._gone(key) if cluster is None else self._cluster(key, cluster))
        job = self._cache.get(kinds.JOB, key.namespace, key.name)
        return await (self._gone(key) if job is None else self._job(key, job))

    def _memory(self, key: Key, meta: Meta) -> Memory:
        memory = self._memories.get(key)
        if memory is None or memory.uid != meta.uid:
            memory = self._memories[key] = Memory(meta.uid)
        memory.see_generation(meta.generation)
        return memory

    async def _carry(self, key: Key, found: Cluster | Job, plan: Plan, memory: Memory) -> Outcome:
        kind = kinds.ALL[key.kind]
        carrier = Carrier(self._tools, kind, found.meta, found.status, memory)
        outcome = await carrier.run(plan.actions)
        if plan.look_again is not None:
            outcome.look_at(plan.look_again)
        return outcome

    async def _cluster(self, key: Key, cluster: Cluster) -> Outcome:
        memory = self._memory(key, cluster.meta)
        space, name, now = key.namespace, key.name, self._tools.clock()
        if not cluster.meta.deleting:
            await self._look_for_secrets(cluster, memory, now)
        owner = self._cache.get(kinds.JOB, space, cluster.meta.owner_name)
        if owner is not None and owner.meta.uid == cluster.meta.owner_uid:
            cluster = _as_its_job_says(cluster, owner)
        pods, drivers = self._pods_of(space, name)
        self._watch_head(cluster, pods, memory)
        report = self._tools.heads.report((space, name))
        workers = {p.meta.name: p.meta.uid for p in pods if p.role == names.ROLE_WORKER}
        memory.see_report(report, workers, now)
        view = ClusterView(
            cluster=cluster,
            defaults=self._defaults,
            pods=pods,
            drivers=drivers,
            stateful_set=self._cache.get(kinds.STATEFUL_SET, space, names.head_name(name)),
            service=self._cache.get(kinds.SERVICE, space, names.head_name(name)),
            account=self._cache.get(kinds.ACCOUNT, space, name),
            claim=self._cache.get(kinds.CLAIM, space, names.claim_name(name)),
            has_secrets=memory.has_secrets,
            report=report,
            drains=dict(memory.drains),
            asked=frozenset(memory.asked),
            refusals=dict(memory.refusals),
            head_checked=memory.head_checked,
        )
        outcome = await self._carry(key, cluster, plan_cluster(view, now), memory)
        latest = self._cache.get(kinds.CLUSTER, space, name)
        if latest is not None:
            self._tools.metrics.show_cluster(space, name, latest.status)
        return outcome

    def _pods_of(self, space: str, cluster: str) -> tuple[tuple[PodFacts, ...], ...]:
        """Those of a cluster, and the drivers on it."""
        found = self._cache.of(kinds.POD, names.LABEL_CLUSTER, space, cluster)
        drivers = tuple(p for p in found if p.role == names.ROLE_DRIVER)
        return tuple(p for p in found if p.role != names.ROLE_DRIVER), drivers

    async def _look_for_secrets(self, cluster: Cluster, memory: Memory, now: float) -> None:
        """Whether both Secrets are there and ours; seldom asked, as they are made once."""
        if now - memory.secrets_seen < SECRETS_LOOK_S and memory.has_secrets:
            return
        memory.has_secrets = True
        for name in (
            names.ca_secret_name(cluster.meta.name),
            names.auth_secret_name(cluster.meta.name),
        ):
            body = await self._get(kinds.SECRET, cluster.meta.namespace, name)
            # A foreign one is found out by the attempt to create ours, which says so.
            if body is None or not _is_owned(body, cluster.meta.uid):
                memory.has_secrets = False
        memory.secrets_seen = now

    async def _get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        try:
            return await self._tools.kube.get(kind, namespace, name)
        except ApiError as error:
            if error.is_absent:
                return None
            raise

    def _watch_head(self, cluster: Cluster, pods: Sequence[PodFacts], memory: Memory) -> None:
        """Keep a stream to the head from when its pod runs: it serves before a probe looks."""
        key = (cluster.meta.namespace, cluster.meta.name)
        if cluster.spec.suspend or cluster.meta.deleting or not memory.has_secrets:
            self._tools.heads.forget(key)
            self._heads_seen.pop(key, None)
            return
        pod = _living_head(pods)
        if pod is None:
            return
        seen = (pod.meta.uid, pod.is_running, pod.is_ready)
        before = self._heads_seen.get(key, seen)
        if before[0] != seen[0]:
            # The stream may be open to the pod before, which cannot say any more that it is gone.
            self._tools.heads.forget(key)
        if not (pod.is_running or pod.is_ready):
            self._heads_seen[key] = seen
            return
        meta = cluster.meta
        self._tools.heads.watch(key, meta.uid, lambda: self._access(meta))
        if self._heads_seen.get(key) != seen:
            self._heads_seen[key] = seen
            self._tools.heads.kick(key)

    async def _access(self, meta: Meta) -> Access:
        """How a head is reached: token and CA are read anew for each connection."""
        try:
            name = names.auth_secret_name(meta.name)
            body = await self._tools.kube.get(kinds.SECRET, meta.namespace, name)
        except ApiError as error:
            raise HeadError(f"no access: {error}") from None
        data = body.get("data") or {}
        return Access(
            address=self._settings.head_address or self._head_pod_address(meta),
            tls_name=names.control_name(meta.uid),
            token=authority.decoded(data.get("token", "")).decode(),
            ca=authority.decoded(data.get("ca.crt", "")),
        )

    def _head_pod_address(self, meta: Meta) -> str:
        """The pod's own: a new Service has no rules for up to a second, a name may be cached."""
        pods, _ = self._pods_of(meta.namespace, meta.name)
        pod = _living_head(pods)
        if pod is None or not pod.ip:
            raise HeadError("the head's pod has no address yet")
        return names.at(pod.ip)

    async def _job(self, key: Key, job: Job) -> Outcome:
        memory = self._memory(key, job.meta)
        space, now = key.namespace, self._tools.clock()
        name = job.spec.cluster_ref or job.meta.name
        view = JobView(
            job=job,
            defaults=self._defaults,
            cluster=self._cache.get(kinds.CLUSTER, space, name),
            attempts=self._cache.of(kinds.ATTEMPT, names.LABEL_JOB, space, job.meta.name),
            pods=self._cache.of(kinds.POD, names.LABEL_JOB, space, job.meta.name),
            refusals=dict(memory.refusals),
        )
        return await self._carry(key, job, plan_job(view, now), memory)

    async def _gone(self, key: Key) -> Outcome:
        """An object that is no more: the garbage collector deletes what it owned within the pods'
        own grace period, which is shortened here."""
        kind = kinds.ALL[key.kind]
        self._memories.pop(key, None)
        self._queue.forget(key)
        if kind is kinds.CLUSTER:
            self._tools.heads.forget((key.namespace, key.name))
            self._heads_seen.pop((key.namespace, key.name), None)
            self._tools.metrics.forget_cluster(key.namespace, key.name)
            pods, _ = self._pods_of(key.namespace, key.name)
        else:
            pods = self._cache.of(kinds.POD, names.LABEL_JOB, key.namespace, key.name)
        if not pods:
            return Outcome(errors=[])
        # The cache may be wrong, and killing is not undone: ask. By a list, for which there are
        # rights anyway.
        listed, _ = await self._tools.kube.list(kind, key.namespace, names_only=True)
        if any(body["metadata"]["name"] == key.name for body in listed):
            return Outcome(errors=[], again=self._tools.clock() + GONE_AGAIN_S)
        actions: list[Action] = kill(
            classify(pods, None, 0.0, 0.0), f"suspended: {key.kind} {key.name} was deleted"
        )
        meta = Meta(name=key.name, namespace=key.namespace, uid="")
        memory = Memory("")
        carrier = Carrier(self._tools, kind, meta, {}, memory)
        return await carrier.run(in_order(actions))


def _living_head(pods: Sequence[PodFacts]) -> PodFacts | None:
    return next((p for p in pods if p.role == names.ROLE_HEAD and not p.meta.deleting), None)


def _is_owned(body: Body, uid: str) -> bool:
    owners = body["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def _as_its_job_says(cluster: Cluster, job: Job) -> Cluster:
    """A job's own cluster is suspended with it, without anybody writing that into its spec."""
    cluster = msgspec.structs.replace(cluster, deletes_workers=deletes_workers(job))
    if job.spec.suspend and not is_finished(job):
        spec = msgspec.structs.replace(cluster.spec, suspend=True)
        cluster = msgspec.structs.replace(cluster, spec=spec)
    return cluster
