"""A cluster without Kubernetes: carries a plan's actions out with delays, failures and lost writes.

Far less faithful than the API tests, and thousands of times faster: it exists to find orders of
events that no one thought of. What it checks after each plan are the operator's promises about
*actions*.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
from tests.unit.operator.build import NOW, settled

from freehold_operator import names
from freehold_operator.actions import (
    Action,
    Apply,
    Create,
    Delete,
    Drain,
    Plan,
    SetGroups,
    TellEnded,
    WriteStatus,
)
from freehold_operator.facts import DemandFacts, HeadReport, NodeFacts, PodFacts, parse_pod
from freehold_operator.model import Cluster
from freehold_operator.plan import plan_cluster
from freehold_operator.view import ClusterView

Planner = Callable[[ClusterView, float], Plan]

STEP_S = 1.0
START_S = (0.0, 4.0)
END_S = (0.0, 6.0)
DRAIN_S = (0.5, 5.0)
SILENCE_S = 15.0
"""Until the head knows of an end that nobody tells it of."""
REASONS = frozenset({"cancelled", "drained", "overdue", "ended", "lost", "suspended", "ended-job"})
"""Why a pod may be deleted: DESIGN §8."""


class Broken(AssertionError):
    """A promise was broken by an action."""


class Body(msgspec.Struct, kw_only=True):
    """A pod as it really is.

    Attributes:
        failures: in a row before it, counted here and not read from its annotation.
    """

    pod: PodFacts
    ready_at: float | None
    gone_at: float | None = None
    node: NodeFacts | None = None
    drained_at: float | None = None
    busy_until: float = 0.0
    silent_until: float = 0.0
    failures: int = 0

    @property
    def failed_young(self) -> bool:
        """Whether it ended within ten minutes."""
        pod = self.pod
        if not pod.has_ended or pod.finished is None or pod.started is None:
            return False
        return pod.finished - pod.started < 600

    @property
    def failures_with_it(self) -> int:
        """In a row, this pod's own included, unless it was not wanted any more when it went."""
        if self.pod.meta.deleting:
            return self.failures
        if self.failed_young:
            return self.failures + 1
        return 0 if self.pod.has_ended else self.failures


class World:
    """Pods, a head and a clock.

    Args:
        seed: of everything that varies.
        planner: what is tested; another one to see that the checks fire.
    """

    def __init__(self, cluster: Cluster, seed: int, planner: Planner = plan_cluster) -> None:
        self.cluster = cluster
        self.random = random.Random(seed)
        self.plan = planner
        self.now = NOW
        self.bodies: dict[str, Body] = {}
        self.stale: list[PodFacts] | None = None
        self.has_head = True
        self.is_failing = False
        self.never_schedules: set[str] = set()
        self.crashes: set[str] = set()
        self.demand: tuple[DemandFacts, ...] = ()
        self.told = ""
        self.drains: dict[str, float] = {}
        self.asked: dict[str, float] = {}
        self.counter = 0
        self.look_again: float | None = None
        self.writes = 0
        self.refused = 0

    # The world's own course

    def tick(self) -> None:
        """A second passes."""
        self.now += STEP_S
        for name, body in list(self.bodies.items()):
            self._advance(name, body)
        for uid in [u for u, at in self.asked.items() if self.now - at > 10]:
            del self.asked[uid]

    def _advance(self, name: str, body: Body) -> None:
        pod = body.pod
        if body.gone_at is not None:
            if self.now >= body.gone_at:
                del self.bodies[name]
            return
        if pod.group in self.never_schedules and not pod.node:
            if pod.unscheduled_since is None:
                body.pod = msgspec.structs.replace(
                    pod, is_scheduled=False, unscheduled_since=self.now
                )
            return
        if pod.has_ended:
            if body.node is not None and self.now >= body.silent_until:
                body.node = msgspec.structs.replace(body.node, state="DEAD")
            return  # for good: its containers are not started again
        if body.ready_at is not None and self.now >= body.ready_at and not pod.is_ready:
            if pod.group in self.crashes:
                self._end(body)
                return
            fields: dict[str, Any] = {"phase": "Running", "is_ready": True, "node": "k"}
            body.pod = msgspec.structs.replace(pod, **fields, started=self.now)
            body.node = NodeFacts(id=f"id-{pod.meta.uid}", name=name)
        if body.node is not None and body.node.state == "DRAINING":
            if body.drained_at is not None and self.now >= body.drained_at:
                body.node = msgspec.structs.replace(body.node, state="DRAINED")
        elif body.node is not None and body.node.state == "ALIVE":
            idle = body.node.idle_s + STEP_S if self.now >= body.busy_until else 0.0
            body.node = msgspec.structs.replace(body.node, idle_s=idle)

    def fail_pod(self) -> None:
        """Some pod ends by itself, ready or not."""
        found = [b for b in self.bodies.values() if b.pod.is_living]
        if found:
            self._end(self.random.choice(found))

    def _end(self, body: Body) -> None:
        fields: dict[str, Any] = {"phase": "Failed", "is_ready": False, "exit_code": 1, "node": "k"}
        started = body.pod.started if body.pod.started is not None else self.now
        body.pod = msgspec.structs.replace(body.pod, **fields, started=started, finished=self.now)
        body.silent_until = self.now + SILENCE_S

    def lose_node(self) -> None:
        """The head declares some node dead; its pod is not ready any more."""
        found = [b for b in self.bodies.values() if b.node is not None and b.gone_at is None]
        if found:
            body = self.random.choice(found)
            assert body.node is not None
            body.node = msgspec.structs.replace(body.node, state="DEAD")
            body.pod = msgspec.structs.replace(body.pod, is_ready=False)

    # What the operator sees

    def report(self) -> HeadReport | None:
        """What the head says, if it is there."""
        if not self.has_head:
            return None
        nodes = tuple(b.node for b in self.bodies.values() if b.node is not None)
        return HeadReport(
            incarnation=1,
            nodes=nodes,
            demand=self.demand,
            received=self.now,
            groups_told=self.told,
        )

    def view(self) -> ClusterView:
        """The view of a pass; of pods it may be an old one."""
        pods = [b.pod for b in self.bodies.values()]
        if self.stale is not None:
            # Own writes are in the cache at once; what others did is not.
            fresh = {p.meta.uid for p in pods}
            known = {p.meta.uid for p in self.stale}
            mine = [p for p in pods if p.meta.uid not in known]
            ending = {p.meta.uid for p in pods if p.meta.deleting}
            kept = [p for p in self.stale if p.meta.uid in fresh and p.meta.uid not in ending]
            pods = kept + mine + [p for p in pods if p.meta.uid in ending & known]
        view = settled(self.cluster, *pods, report=self.report())
        return msgspec.structs.replace(view, drains=dict(self.drains), asked=frozenset(self.asked))

    # A pass

    def reconcile(self) -> tuple[Action, ...]:
        """Plan, check the actions, carry them out."""
        report = self.report()
        for node in report.nodes if report else ():
            body = self.bodies.get(node.name)
            if body is not None and node.state == "DRAINING":
                self.drains.setdefault(body.pod.meta.uid, self.now)
        view = self.view()
        plan = self.plan(view, self.now)
        self.look_again = plan.look_again
        check(view, plan.actions)
        for action in plan.actions:
            # A write may fail, or be carried out while its answer is lost; either ends the pass.
            luck = self.random.random() if self.is_failing else 1.0
            if luck < 0.15:
                break
            self._carry(action)
            if luck < 0.3:
                break
        self._check_reality()
        return plan.actions

    def _carry(self, action: Action) -> None:
        if isinstance(action, WriteStatus):
            self.cluster = msgspec.structs.replace(self.cluster, status=action.status)
        elif isinstance(action, Create):
            self._create(action)
        elif isinstance(action, Delete):
            self._delete(action)
        elif isinstance(action, Drain):
            self._drain(action)
        elif isinstance(action, SetGroups):
            self.told = action.hash
        elif isinstance(action, TellEnded):
            body = self.bodies[action.pod]
            assert body.node is not None
            assert body.node.id == action.node
            body.node = msgspec.structs.replace(body.node, state="DEAD")
        elif isinstance(action, Apply):
            pass
        self.writes += isinstance(action, WriteStatus | Create | Delete | Drain | Apply)

    def _create(self, action: Create) -> None:
        if action.name in self.bodies:
            return  # 409: it is ours
        self.counter += 1
        manifest = {**action.manifest, "metadata": dict(action.manifest["metadata"])}
        manifest["metadata"]["uid"] = f"uid-{self.counter}"
        pod = parse_pod(manifest)
        meta = msgspec.structs.replace(pod.meta, created=self.now)
        ready_at = self.now + self.random.uniform(*START_S)
        before = self._last_of(pod.group, pod.ordinal)
        failures = 0
        if before is not None and before.pod.template_hash == pod.template_hash:
            failures = before.failures_with_it
            self._check_pause(before, failures)
        self.bodies[action.name] = Body(
            pod=msgspec.structs.replace(pod, meta=meta), ready_at=ready_at, failures=failures
        )

    def _last_of(self, group: str, ordinal: int) -> Body | None:
        place = [
            b for b in self.bodies.values() if (b.pod.group, b.pod.ordinal) == (group, ordinal)
        ]
        return max(place, key=lambda b: b.pod.attempt, default=None)

    def _check_pause(self, before: Body, failures: int) -> None:
        """The n-th failure in a row is followed by a pause of 10 × 2^(n - 1) s, 300 at most."""
        if before.pod.meta.deleting or not before.failed_young:
            return
        assert before.pod.finished is not None
        waited_s = self.now - before.pod.finished
        if waited_s < min(300, 10 * 2 ** (failures - 1)):
            name = before.pod.meta.name
            raise Broken(f"{name} replaced {waited_s:g} s after failure {failures} in a row")

    def _delete(self, action: Delete) -> None:
        body = self.bodies.get(action.name)
        if body is None or body.pod.meta.uid != action.uid:
            return
        meta = msgspec.structs.replace(body.pod.meta, deleting=True)
        body.pod = msgspec.structs.replace(body.pod, meta=meta, grace_s=action.grace_s or 75)
        body.gone_at = self.now + self.random.uniform(*END_S)

    def _drain(self, action: Drain) -> None:
        body = self.bodies.get(action.pod)
        if body is None or body.node is None or body.node.state != "ALIVE":
            return
        if action.is_idle and self.random.random() < 0.3:
            self.refused += 1
            body.busy_until = self.now + 3  # it has got work meanwhile
            body.node = msgspec.structs.replace(body.node, idle_s=0.0)
            return
        body.node = msgspec.structs.replace(body.node, state="DRAINING")
        body.drained_at = self.now + self.random.uniform(*DRAIN_S)
        self.asked[action.uid] = self.now
        self.drains[action.uid] = self.now

    def _check_reality(self) -> None:
        for group in self.cluster.spec.groups:
            living = sum(b.pod.is_living for b in self.bodies.values() if b.pod.group == group.name)
            if living > group.max_replicas:
                raise Broken(f"{living} pods of {group.name}, of {group.max_replicas}")

    def settle(self, steps: int = 400) -> None:
        """Let everything heal, and demand that nothing is left to do."""
        self.is_failing, self.stale, self.has_head = False, None, True
        for _ in range(steps):
            self.tick()
            actions = self.reconcile()
            if not self._is_moving() and self.look_again is None and not actions:
                return
        raise Broken(f"no rest within {steps} s: {[_short(a) for a in actions]}")

    def _is_moving(self) -> bool:
        """Whether something is under way that a plan cannot hasten.

        A node that got work just before it was to drain is busy, and the plan waits for the head to
        say that it is idle again.
        """
        return any(
            body.gone_at is not None
            or self.now < body.busy_until
            or (body.node is not None and body.node.state != "ALIVE")
            or (body.pod.is_living and not body.pod.is_ready)
            for body in self.bodies.values()
        )

    def ready(self, group: str) -> int:
        """Ready workers of a group."""
        return sum(
            b.pod.is_ready and b.pod.is_living for b in self.bodies.values() if b.pod.group == group
        )


def _short(action: Action) -> str:
    return f"{type(action).__name__} {getattr(action, 'name', '')} {getattr(action, 'why', '')}"


def check(view: ClusterView, actions: tuple[Action, ...]) -> None:
    """What holds of the actions of any plan, whatever was observed."""
    pods = {p.meta.name: p for p in view.pods if p.role == names.ROLE_WORKER}
    gone = view.cluster.spec.suspend or view.cluster.deletes_workers
    for group in view.cluster.spec.groups:
        mine = [p for p in pods.values() if p.group == group.name]
        created = [
            a
            for a in actions
            if isinstance(a, Create)
            and a.manifest["metadata"]["labels"].get(names.LABEL_GROUP) == group.name
        ]
        living = sum(p.is_living for p in mine)
        if created and living + len(created) > group.max_replicas:
            raise Broken(f"{len(created)} created beside {living}, of {group.max_replicas}")
        fixed = view.cluster.spec.fixed_replicas(group)
        least = group.min_replicas if view.cluster.spec.is_autoscaled else fixed
        draining = {
            n.name
            for n in (view.report.nodes if view.report else ())
            if n.state in ("DRAINING", "DRAINED")
        } | {p.meta.name for p in mine if p.meta.uid in view.asked}
        ready = {p.meta.name for p in mine if p.is_ready and p.is_living} - draining
        taken = {a.pod for a in actions if isinstance(a, Drain)}
        taken |= {a.name for a in actions if isinstance(a, Delete)}
        if not gone and taken & ready and len(ready - taken) < least:
            raise Broken(f"{sorted(taken & ready)} of {group.name} taken, {least} are wanted")
    _check_deletions(view, actions, pods)


def _check_deletions(
    view: ClusterView, actions: tuple[Action, ...], pods: dict[str, PodFacts]
) -> None:
    nodes = {n.name: n for n in (view.report.nodes if view.report else ())}
    gone = view.cluster.spec.suspend or view.cluster.deletes_workers
    for action in actions:
        if isinstance(action, Drain) and nodes[action.pod].actors:
            raise Broken(f"{action.pod} has living actors")
        if not isinstance(action, Delete) or action.name not in pods:
            continue
        why = action.why.split(":")[0]
        if why not in REASONS:
            raise Broken(f"{action.name} deleted because {action.why}")
        pod, node = pods[action.name], nodes.get(action.name)
        is_done = node is not None and node.state in ("DRAINED", "DRAINING")
        if pod.is_ready and pod.is_living and not gone and not is_done:
            raise Broken(f"{action.name} is ready and not drained: {action.why}")
        if node is not None and node.state == "DRAINING" and why != "overdue" and not gone:
            raise Broken(f"{action.name} still drains: {action.why}")
