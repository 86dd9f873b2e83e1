"""What happens to the pods of one worker group: created, cancelled, drained, deleted.

A pod is deleted for one of these reasons and no other; each is the first word of the action's
`why`:

- *cancelled*: it never joined, and is not wanted or was made from a template that is no more
- *drained*: nothing of value is left there
- *overdue*: it drained for longer than its deadline
- *ended*: its containers have ended, and the pod is replaced or not wanted
- *lost*: the head declared its node dead, and it is not ready
- *suspended*: the cluster is, or is being deleted; *ended-job*: its job's policy says so
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from freehold_operator import backoff, names, render
from freehold_operator.actions import Action, Create, Delete, Drain
from freehold_operator.model import Cluster, GroupSpec
from freehold_operator.pods import PodTemplate
from freehold_operator.scaling import is_idle
from freehold_operator.supply import State, Worker

KILL_GRACE_S = 5
"""Of pods of a suspended or deleted cluster (DESIGN §8)."""

DEADLINE_MARGIN_S = 10.0
"""Past a drain's deadline the node ends itself; only one that does not is deleted."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What all groups of a cluster share while they are planned.

    Attributes:
        drains: when a drain was first seen or asked for, by pod UID.
        blocked: groups whose pods may not be created yet, by a refusal not long ago.
        taken: names that the head knows, which a new pod must not have.
        may_drain: drains that may still be started now; None if any number.
        may_create: creations that may still be started now; None if any number.
    """

    cluster: Cluster
    now: float
    has_head: bool
    drains: Mapping[str, float]
    blocked: frozenset[str] = frozenset()
    taken: frozenset[str] = frozenset()
    may_drain: int | None = None
    may_create: int | None = None


class GroupPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Actions on a group's pods, and when to look again."""

    actions: tuple[Action, ...] = ()
    look_again: float | None = None
    waits_for_head: bool = False
    waits_for_actors: int = 0


def soonest(*times: float | None) -> float | None:
    """The first of the times that are there."""
    return min((t for t in times if t is not None), default=None)


def _delete(worker: Worker, why: str, grace_s: int | None = None) -> Delete:
    meta = worker.pod.meta
    return Delete(kind="Pod", name=meta.name, uid=meta.uid, why=why, grace_s=grace_s)


def kill(workers: Sequence[Worker], why: str) -> list[Action]:
    """Delete all pods within seconds; a grace period under way is shortened."""
    return [
        _delete(w, why, KILL_GRACE_S)
        for w in workers
        if not w.pod.meta.deleting or (w.pod.grace_s or 0) > KILL_GRACE_S
    ]


def _clear_away(
    scene: Scene, group: GroupSpec | None, workers: Sequence[Worker]
) -> tuple[list[Action], float | None]:
    """Deletions that do not depend on how many workers are wanted."""
    actions: list[Action] = []
    again: float | None = None
    wanted_hash = render.template_hash(scene.cluster, group) if group is not None else ""
    for w in workers:
        pod = w.pod
        if w.state is State.DRAINED:
            actions.append(_delete(w, "drained"))
        elif w.state is State.DRAINING:
            started = scene.drains.get(pod.meta.uid, scene.now)
            deadline = started + pod.drain_timeout_s + DEADLINE_MARGIN_S
            if scene.now >= deadline:
                actions.append(_delete(w, f"overdue: drained for {scene.now - started:.0f} s"))
            else:
                again = soonest(again, deadline)
        elif w.state is State.LOST and not pod.is_ready:
            actions.append(_delete(w, "lost: its node was declared dead"))
        elif (
            w.state in (State.PENDING, State.STARTING)
            and group is not None
            and pod.template_hash != wanted_hash
        ):
            actions.append(_delete(w, "cancelled: its template has changed"))
    return actions, again


def _cancellable(w: Worker, *, has_head: bool, is_autoscaled: bool) -> bool:
    if w.state is State.PENDING:
        return True
    if w.state is not State.STARTING or not has_head:
        return False
    return w.pod.trouble is not None or not is_autoscaled


def _shrink(
    scene: Scene, group: GroupSpec | None, workers: Sequence[Worker], desired: int
) -> GroupPlan:
    """Take workers away: first those that never joined, then drains of the idlest."""
    spec = scene.cluster.spec
    # A group that is no longer in the spec goes like one whose replicas were set to zero.
    is_autoscaled = spec.is_autoscaled and group is not None
    actions: list[Action] = []
    excess = sum(w.is_supply for w in workers) - desired
    pending = [
        w for w in workers if _cancellable(w, has_head=scene.has_head, is_autoscaled=is_autoscaled)
    ]
    # The least far first; of them the youngest.
    order = {True: 0, False: 1}
    pending.sort(key=lambda w: (order[w.state is State.PENDING], -w.pod.meta.created, w.name))
    for w in pending[:excess]:
        actions.append(_delete(w, "cancelled: not wanted any more"))
    excess -= len(actions)
    if excess <= 0:
        return GroupPlan(actions=tuple(actions))
    if not scene.has_head:
        return GroupPlan(actions=tuple(actions), waits_for_head=True)
    idle_s = spec.autoscaling.idle_timeout_s if spec.autoscaling and is_autoscaled else 0.0
    ready = [w for w in workers if w.state is State.READY and w.node is not None]
    free = [w for w in ready if w.node is not None and w.node.actors == 0 and w.node.drivers == 0]
    if is_autoscaled:
        candidates = [w for w in free if is_idle(w, idle_s)]
    else:
        candidates = free
    # Of those that have been idle equally long, to the second, the highest ordinal.
    candidates.sort(key=lambda w: (-int(w.node.idle_s if w.node else 0), -w.pod.ordinal))
    if scene.may_drain is not None:
        candidates = candidates[: scene.may_drain]
    # What is ready and stays is never fewer than what is wanted, however many are on their way.
    spare = sum(w.state is State.READY and w.pod.is_ready for w in workers) - desired
    excess = min(excess, max(0, spare))
    for w in candidates[:excess]:
        assert w.node is not None
        actions.append(
            Drain(
                pod=w.name,
                uid=w.pod.meta.uid,
                node=w.node.id,
                is_idle=is_autoscaled,
                deadline_s=w.pod.drain_timeout_s,
                why=f"idle for {w.node.idle_s:.0f} s" if is_autoscaled else "replicas were reduced",
            )
        )
    return GroupPlan(
        actions=tuple(actions),
        waits_for_actors=0 if is_autoscaled else max(0, excess - len(candidates[:excess])),
    )


def _grow(
    scene: Scene,
    group: GroupSpec,
    template: PodTemplate,
    workers: Sequence[Worker],
    missing: int,
) -> GroupPlan:
    """Create pods on the first free ordinals, within the maximum."""
    taking_room = sum(w.pod.is_living for w in workers)
    count = min(missing, group.max_replicas - taking_room)
    if scene.may_create is not None:
        count = min(count, scene.may_create)
    if group.name in scene.blocked or count <= 0:
        return GroupPlan()
    occupied = {w.pod.ordinal for w in workers if w.pod.is_living}
    known = {w.name for w in workers} | scene.taken
    actions: list[Action] = []
    again: float | None = None
    template_hash = render.template_hash(scene.cluster, group)
    ordinal = 0
    while count > 0:
        if ordinal not in occupied:
            count -= 1
            before = [w for w in workers if w.pod.ordinal == ordinal]
            due, failures = backoff.successor(before, template_hash)
            if due > scene.now:
                again = soonest(again, due)
            else:
                attempt = max((w.pod.attempt + 1 for w in before), default=0)
                while _name(scene.cluster, group, ordinal, attempt) in known:
                    attempt += 1
                manifest = render.worker_pod(
                    scene.cluster, group, template, ordinal, attempt, failures
                )
                why = f"{len(occupied)} of {group.name} are there, {missing} more are wanted"
                if failures:
                    why += f"; {failures} failed here in a row"
                actions.append(Create(kind="Pod", manifest=manifest, why=why))
        ordinal += 1
    return GroupPlan(actions=tuple(actions), look_again=again)


def _name(cluster: Cluster, group: GroupSpec, ordinal: int, attempt: int) -> str:
    meta = cluster.meta
    return names.worker_pod_name(meta.name, meta.uid, group.name, ordinal, attempt)


def _bury(workers: Sequence[Worker], desired: int) -> list[Action]:
    """Delete pods that have ended, once they are replaced or their place is not wanted any more.

    Until then the pod stays: it says why it ended, and how many attempts there have been.
    """
    living = {w.pod.ordinal for w in workers if w.pod.is_living}
    is_full = len(living) >= desired
    return [
        _delete(w, "ended")
        for w in workers
        if w.state is State.ENDED and (is_full or w.pod.ordinal in living)
    ]


def plan_group(
    scene: Scene,
    group: GroupSpec | None,
    template: PodTemplate | None,
    workers: Sequence[Worker],
    desired: int,
) -> GroupPlan:
    """Actions on the pods of one group.

    Args:
        group: None for one that is no longer in the spec; then `desired` is 0.
        template: of its pods; None if `group` is.
        workers: all pods of the group, ending ones too.
    """
    cleared, again = _clear_away(scene, group, workers)
    gone = {action.name for action in cleared if isinstance(action, Delete)}
    left = [w for w in workers if w.name not in gone]
    supply = [w for w in left if w.is_supply]
    buried = _bury(left, desired)
    if len(supply) > desired:
        change = _shrink(scene, group, left, desired)
    elif len(supply) < desired and group is not None and template is not None:
        # What is deleted to be made anew is missed in the next pass, when its room is free.
        renewed = sum(w.is_supply for w in workers) - len(supply)
        change = _grow(scene, group, template, workers, desired - len(supply) - renewed)
    else:
        change = GroupPlan()
    return GroupPlan(
        actions=(*change.actions, *cleared, *buried),
        look_again=soonest(again, change.look_again),
        waits_for_head=change.waits_for_head,
        waits_for_actors=change.waits_for_actors,
    )
