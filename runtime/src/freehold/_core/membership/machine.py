"""Decides which nodes are in the cluster and what each is told of the others.

Place in the flow: the control service passes on what node managers say and what it found out about
their ends. Changes go to every other node, changed nodes only and at most one frame a node and
second: the first after quiet at once, the rest together when the second is over. A node where
something waits hears ten times as soon of one where nothing does: it may send there what waits; but
no node gets more than two frames in any second.

Death is of (node, incarnation) and is declared here and nowhere else: by the evidence of its
process's end, or by `DEATH_SILENCE_S` of silence where no process can be watched. Who was declared
dead is refused under that incarnation, however late it reports again. A control service that was
started again declares nobody dead by silence before `RETURN_S`.

Incarnations are one number for the whole cluster that only grows, so that a node's next one is
above all it ever had, even when what it had is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from freehold._core.invariants import check
from freehold._core.limits import (
    DEAD_SHOWN_S,
    DEATH_SILENCE_S,
    GROUPS,
    RETURN_S,
    STORE_NEWS_SHARE,
)
from freehold._core.membership import events as ev
from freehold._core.membership.draining import Drains
from freehold._core.membership.events import Instant, MembershipEffect, MembershipEvent
from freehold._core.membership.members import ALIVE, DEAD, DRAINED, DRAINING, Member, find
from freehold._core.messages import DeadNode, NodeGroup, NodeInfo, NodeJoined, NodeReported

PUSH_PERIOD_S = 1.0
"""Least time between two views sent to one node."""

PUSH_SOON_S = 0.1
"""The same where something waits and the news may be of room, but for two in a second."""

DEAD_NODES = 1_000
"""Dead nodes remembered for queries and refusals; the first to die is forgotten first."""

_STORE = ("store_bytes", "store_touched_free_bytes", "store_pinned_bytes")
_VIEWED = ("available", "queued", *_STORE, "state", "reason")
"""Of a report, what other nodes are told."""

_ORDER = {ALIVE: 0, DRAINING: 1, DRAINED: 2}
"""A living node's state only goes on."""


class _Target:
    """What a living node has been told."""

    __slots__ = ("before", "groups", "pushed_at", "seen")

    def __init__(self, seen: int, pushed_at: Instant, groups: int) -> None:
        self.seen = seen
        self.pushed_at = pushed_at
        self.before = pushed_at - PUSH_PERIOD_S
        """When the push before the last was."""
        self.groups = groups


class Membership:
    """The nodes of a cluster.

    Example:
        >>> membership = Membership()
        >>> node = NodeInfo("a" * 32, 0, {"CPU": 10_000}, {"CPU": 10_000})
        >>> [type(effect).__name__ for effect in membership.handle(NodeJoined(node), now=0.0)]
        ['KeepNode', 'NotifyChange', 'PushView']
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        """In order of joining, dead ones too."""
        self._changed: dict[str, int] = {}
        """Node → version of its last change, the latest change last."""
        self._version = 0
        self._groups: list[NodeGroup] = []
        self._groups_version = 0
        self._incarnation = 0
        self._targets: dict[str, _Target] = {}
        self._due: Instant | None = None
        self._grace_until: Instant = 0.0
        self._look_at: Instant | None = None
        """Before then nobody can have been silent too long."""
        self._drains = Drains()
        self._ignored = 0
        # Both are only meaningful during `handle`.
        self._effects: list[MembershipEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Restored: self._restored,
            ev.NodeEnrolled: self._enrolled,
            NodeJoined: self._joined,
            ev.NodeHeard: self._heard,
            NodeReported: self._reported,
            ev.NodeLost: self._lost,
            ev.DrainAsked: self._drain_asked,
            ev.NodeAnsweredDrain: self._drain_answered,
            ev.GroupsSet: self._groups_set,
            ev.ClusterQueried: self._queried,
            ev.DeadlineReached: lambda event: None,
        }

    def handle(self, event: MembershipEvent, *, now: Instant) -> list[MembershipEffect]:
        """Take one event; what has to be done about it, in order."""
        self._now = now
        effects: list[MembershipEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        if self._look_at is not None and now >= self._look_at:
            self._look_for_silence()
        effects += self._drains.expire(now)
        if self._due is not None and now >= self._due:
            self._push()
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        times = (self._due, self._look_at, self._drains.next_deadline())
        return min((at for at in times if at is not None), default=None)

    def snapshot(self) -> ev.MembershipSnapshot:
        """Sums over the living nodes, for metrics, dashboard and tests."""
        living = [member for member in self._members.values() if member.info.is_alive]
        infos = [member.info for member in living]
        return ev.MembershipSnapshot(
            alive=len(living),
            dead=len(self._members) - len(living),
            total=_sum(info.total for info in infos),
            available=_sum(info.available for info in infos),
            queued=_sum(info.queued for info in infos),
            ignored_events=self._ignored,
            absent=sum(member.is_absent for member in living),
            draining=sum(info.state == DRAINING for info in infos),
        )

    def nodes(self, now: Instant) -> list[ev.NodeStatus]:
        """The living, and those that died within the last hour, in order of joining."""
        return [
            ev.NodeStatus(
                info=member.info,
                idle_s=0.0 if member.idle_since is None else now - member.idle_since,
                actors=member.actors,
                drivers=member.drivers,
                demand=member.demand,
                demand_age_s=now - member.demand_at,
            )
            for member in self._members.values()
            if member.died_at is None or now - member.died_at <= DEAD_SHOWN_S
        ]

    def knows(self, node: str) -> bool:
        """Whether that node joined, be it under an earlier control service."""
        return node in self._members

    def is_refused(self, node: str, incarnation: int) -> bool:
        """Whether that node may not join under this incarnation: it was declared dead."""
        member = self._members.get(node)
        if member is None:
            return False
        known = member.info
        return incarnation < known.incarnation or (
            incarnation == known.incarnation and not known.is_alive
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        MEM-1: exactly the living nodes that have joined this control service are sent views.
        MEM-2: whenever a node has not seen the latest change, a push is due.
        MEM-3: the dead are bounded in number.
        MEM-4: whoever may die of silence is looked at in time, and not before the grace is over.
        MEM-5: no node has an incarnation above the highest that was given.

        Raises:
            InvariantError: one of them does not hold.
        """
        members = self._members
        joined = [n for n, x in members.items() if x.info.is_alive and not x.is_absent]
        check(sorted(joined) == sorted(self._targets), "MEM-1", f"{joined} have joined")
        for node, target in self._targets.items():
            current = target.seen == self._version and target.groups == self._groups_version
            check(current or self._due is not None, "MEM-2", f"node {node} is not told")
        dead = sum(not member.info.is_alive for member in members.values())
        check(dead <= DEAD_NODES, "MEM-3", f"{dead} dead nodes are kept")
        for node, member in members.items():
            if member.info.is_alive and (member.is_silence_death or member.is_absent):
                at = member.dies_at(self._grace_until)
                is_seen = self._look_at is not None and self._look_at <= at
                check(is_seen, "MEM-4", f"node {node} dies at {at}, looked at {self._look_at}")
                check(at >= self._grace_until, "MEM-4", f"node {node} dies within the grace")
            highest = self._incarnation
            check(member.info.incarnation <= highest, "MEM-5", f"node {node} is above {highest}")

    # ---- events ------------------------------------------------------------------------------

    def _restored(self, event: ev.Restored) -> None:
        check(not self._members, "MEM-1", "restored although nodes have joined")
        self._incarnation = event.incarnation
        self._grace_until = self._now + RETURN_S
        if event.groups:
            self._groups, self._groups_version = event.groups, 1
        for info in event.nodes:
            member = Member(info, self._now, is_absent=info.is_alive)
            self._members[info.node] = member
            if not info.is_alive:
                member.died_at = self._now
                continue
            # Of what it had free nothing is known; nobody sends work there before it says so.
            member.info = msgspec.structs.replace(info, available={}, queued={})
            self._note_change(info.node)
            self._look_by(self._grace_until)
        for member in list(self._members.values()):
            if member.is_absent and member.info.is_head:
                self._declare_dead(member, "the head was started again")

    def _enrolled(self, event: ev.NodeEnrolled) -> None:
        self._incarnation += 1
        self._effects.append(ev.KeepIncarnation(self._incarnation))
        self._effects.append(ev.GrantIncarnation(event.node, self._incarnation))

    def _joined(self, event: NodeJoined) -> None:
        info = event.info
        known = self._members.get(info.node)
        if known is not None:
            old = known.info
            if self.is_refused(info.node, info.incarnation):
                self._refuse(info.node, info.incarnation)
                return
            if old.is_alive and old.incarnation != info.incarnation:
                self._declare_dead(known, "it rejoined under a new incarnation")
            if old.incarnation != info.incarnation:
                del self._members[info.node]
                known = None
        if info.incarnation > self._incarnation:
            # Given by a control service whose volume is lost.
            self._incarnation = info.incarnation
            self._effects.append(ev.KeepIncarnation(self._incarnation))
        member = Member(info, self._now)
        member.drivers = len(event.drivers)
        member.actors = len(event.actors)
        if known is not None:
            # A drain it was told of it may know better by now; one it was not told of it hears.
            member.drain = known.drain
            if info.state == ALIVE and known.info.state == DRAINING:
                member.info = msgspec.structs.replace(
                    info, state=DRAINING, reason=known.info.reason
                )
                member.drain = known.drain or 0.0
        self._members[info.node] = member
        self._keep(member)
        self._changed_to(member)
        others = [x.info for node, x in self._members.items() if node != info.node]
        self._targets[info.node] = _Target(self._version, self._now, self._groups_version)
        if member.is_silence_death:
            self._look_by(member.dies_at(self._grace_until))
        dead = [
            DeadNode(other.node, other.incarnation, other.reason)
            for other in others
            if not other.is_alive
        ]
        if dead:
            self._effects.append(ev.TellDead(info.node, dead))
        groups = self._groups if self._groups_version else None
        self._effects.append(ev.PushView(info.node, others, groups))
        if member.info.state == DRAINING and info.state == ALIVE:
            self._effects.append(self._drains.repeat(member))

    def _heard(self, event: ev.NodeHeard) -> None:
        member = self._members.get(event.node)
        if member is None or member.info.incarnation != event.incarnation or member.is_absent:
            self._ignored += 1
        elif member.info.is_alive:
            member.heard_at = self._now
        else:
            self._refuse(event.node, event.incarnation)

    def _reported(self, event: NodeReported) -> None:
        member = self._members.get(event.node)
        if member is None or not member.info.is_alive or member.is_absent:
            self._ignored += 1
            return
        member.heard_at = self._now
        member.actors, member.drivers = event.actors, event.drivers
        member.demand, member.demand_at = event.demand, self._now
        was_idle = member.idle_since is not None
        if not event.is_idle:
            member.idle_since = None
        elif member.idle_since is None:
            member.idle_since = self._now
        old = member.info
        if _ORDER.get(event.state, -1) < _ORDER[old.state]:
            # It was said before the node heard that it shall drain.
            event = msgspec.structs.replace(event, state=old.state, reason=old.reason)
        new = msgspec.structs.replace(old, **{name: getattr(event, name) for name in _VIEWED})
        member.info = new
        if new.state != old.state:
            self._keep(member)
        if _is_news(member.told, new):
            self._changed_to(member)
        elif was_idle is not event.is_idle:
            # Nothing that other nodes go by, but whoever watches the cluster may drain it.
            self._effects.append(ev.NotifyChange([new]))

    def _lost(self, event: ev.NodeLost) -> None:
        member = self._members.get(event.node)
        if (
            member is None
            or not member.info.is_alive
            or event.incarnation not in (-1, member.info.incarnation)
        ):
            self._ignored += 1
            return
        self._declare_dead(member, event.reason)

    def _groups_set(self, event: ev.GroupsSet) -> None:
        groups = event.groups[:GROUPS]
        if groups != self._groups:
            self._groups = groups
            self._groups_version += 1
            self._effects.append(ev.KeepGroups(groups))
            self._due = self._now

    def _queried(self, event: ev.ClusterQueried) -> None:
        nodes = [
            msgspec.structs.replace(member.info, demand=member.demand)
            for member in self._members.values()
        ]
        self._effects.append(ev.AnswerQuery(event.source, event.request, nodes))

    def _drain_asked(self, event: ev.DrainAsked) -> None:
        found = find((member.info for member in self._members.values()), event.node)
        if isinstance(found, str):
            self._effects.append(ev.AnswerDrain(event.request, False, found, "", True))
            return
        member = self._members[found.node]
        self._effects += self._drains.ask(event, member, self._now)
        if not event.is_idle_only and member.info.state == ALIVE:
            member.drain = event.deadline_s
            self._set_draining(member, event.reason)

    def _drain_answered(self, event: ev.NodeAnsweredDrain) -> None:
        member = self._members.get(event.node)
        if member is None or not member.info.is_alive:
            self._ignored += 1
            return
        effects, reason = self._drains.answered(event.answer, member)
        if reason is not None and member.info.state == ALIVE:
            self._set_draining(member, reason)
        self._effects += effects

    # ---- transitions -------------------------------------------------------------------------

    def _set_draining(self, member: Member, reason: str) -> None:
        member.info = msgspec.structs.replace(member.info, state=DRAINING, reason=reason)
        self._keep(member)
        self._changed_to(member)

    def _refuse(self, node: str, incarnation: int) -> None:
        reason = "it was declared dead; it must rejoin under a new incarnation"
        self._effects.append(ev.RefuseNode(node, incarnation, reason))

    def _look_by(self, at: Instant) -> None:
        self._look_at = at if self._look_at is None else min(at, self._look_at)

    def _look_for_silence(self) -> None:
        self._look_at = None
        for member in list(self._members.values()):
            if not member.info.is_alive or not (member.is_silence_death or member.is_absent):
                continue
            at = member.dies_at(self._grace_until)
            if at > self._now:
                self._look_by(at)
            elif member.is_absent:
                reason = f"it did not come back within {RETURN_S:g} s of the head's start"
                self._declare_dead(member, reason)
            else:
                self._declare_dead(member, f"it was silent for {DEATH_SILENCE_S:g} s")

    def _declare_dead(self, member: Member, reason: str) -> None:
        info = member.info
        self._targets.pop(info.node, None)
        self._effects += self._drains.node_died(info.node)
        member.info = msgspec.structs.replace(
            info, is_alive=False, available={}, queued={}, state=DEAD, reason=reason
        )
        member.is_absent = False
        member.died_at = self._now
        member.idle_since = None
        member.actors = member.drivers = 0
        member.demand = []
        self._keep(member)
        self._effects.append(ev.DeclareDead(info.node, info.incarnation, reason))
        self._changed_to(member)
        dead = [node for node, other in self._members.items() if not other.info.is_alive]
        if len(dead) > DEAD_NODES:
            oldest = min(dead, key=self._died_at)
            del self._members[oldest]
            self._changed.pop(oldest, None)
            self._effects.append(ev.ForgetNode(oldest))

    def _died_at(self, node: str) -> Instant:
        return self._members[node].died_at or 0.0

    def _keep(self, member: Member) -> None:
        self._effects.append(ev.KeepNode(member.info))

    def _changed_to(self, member: Member) -> None:
        """A node is like this from now on; the others have to be told."""
        member.told = member.info
        self._note_change(member.info.node)
        self._effects.append(ev.NotifyChange([member.info]))

    def _note_change(self, node: str) -> None:
        self._version += 1
        self._changed.pop(node, None)
        self._changed[node] = self._version
        # Who was last told long ago is told now; `_push` finds out who is not due yet.
        self._due = self._now

    def _push(self) -> None:
        due: Instant | None = None
        for node, target in self._targets.items():
            has_groups = target.groups != self._groups_version
            if target.seen == self._version and not has_groups:
                continue
            news = self._news(node, target.seen)
            waits = self._members[node].info.queued
            at = target.pushed_at + PUSH_PERIOD_S
            if waits and any(not info.queued for info in news):
                at = max(target.pushed_at + PUSH_SOON_S, target.before + PUSH_PERIOD_S)
            if at > self._now:
                due = at if due is None else min(due, at)
                continue
            target.seen = self._version
            target.groups = self._groups_version
            if news or has_groups:
                target.before, target.pushed_at = target.pushed_at, self._now
                groups = self._groups if has_groups else None
                self._effects.append(ev.PushView(node, news, groups))
        self._due = due

    def _news(self, node: str, seen: int) -> list[NodeInfo]:
        """What changed since a version, but for the node's own changes, in order of change."""
        news: list[NodeInfo] = []
        for changed, version in reversed(self._changed.items()):
            if version <= seen:
                break
            if changed != node:
                news.append(self._members[changed].info)
        news.reverse()
        return news


def _is_news(told: NodeInfo, new: NodeInfo) -> bool:
    """Whether other nodes must be told: of what a store holds they need a rough idea, and that
    changes with each object."""
    if any(getattr(told, name) != getattr(new, name) for name in _VIEWED if name not in _STORE):
        return True
    step = new.store_total_bytes * STORE_NEWS_SHARE
    return any(abs(getattr(told, name) - getattr(new, name)) > step for name in _STORE)


def _sum(parts: Any) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, units in part.items():
            sums[name] = sums.get(name, 0) + units
    return sums
