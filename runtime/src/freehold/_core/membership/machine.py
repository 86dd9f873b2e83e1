"""Decides which nodes are in the cluster and what each is told of the others.

Place in the flow: the control service passes on what node managers report and what it found out
about their ends. Changes go to every other node, changed nodes only and at most one frame a node
and second: the first after quiet at once, the rest together when the second is over. A node where
something waits hears ten times as soon of one where nothing does: it may send there what waits.

Death is of (node, incarnation) and is declared here and nowhere else. Who was declared dead is
refused under that incarnation, however late it reports again.

It deliberately measures no silence: what counts as a node's end the shell finds out (`NodeLost`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from freehold._core.invariants import check
from freehold._core.membership import events as ev
from freehold._core.membership.events import Instant, MembershipEffect, MembershipEvent
from freehold._core.messages import NodeInfo, NodeJoined, NodeReported

PUSH_PERIOD_S = 1.0
"""Least time between two views sent to one node."""

PUSH_SOON_S = 0.1
"""The same where something waits and the news may be of room. In a cluster that is busy all over,
where frames would add up, nodes without a queue are rare."""

DEAD_NODES = 1_000
"""Dead nodes remembered for queries and refusals; the first to die is forgotten first."""


class _Target:
    """What a living node has been told."""

    __slots__ = ("pushed_at", "seen")

    def __init__(self, seen: int, pushed_at: Instant) -> None:
        self.seen = seen
        self.pushed_at = pushed_at


class Membership:
    """The nodes of a cluster.

    Example:
        >>> membership = Membership()
        >>> node = NodeInfo("a" * 32, 0, {"CPU": 10_000}, {"CPU": 10_000})
        >>> [type(effect).__name__ for effect in membership.handle(NodeJoined(node), now=0.0)]
        ['NotifyChange', 'PushView']
    """

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        """In order of joining, dead ones too."""
        self._changed: dict[str, int] = {}
        """Node → version of its last change, the latest change last."""
        self._version = 0
        self._targets: dict[str, _Target] = {}
        self._due: Instant | None = None
        self._ignored = 0
        # Both are only meaningful during `handle`.
        self._effects: list[MembershipEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            NodeJoined: self._joined,
            NodeReported: self._reported,
            ev.NodeLost: self._lost,
            ev.ClusterQueried: self._queried,
            ev.DeadlineReached: lambda event: None,
        }

    def handle(self, event: MembershipEvent, *, now: Instant) -> list[MembershipEffect]:
        """Take one event; what has to be done about it, in order."""
        self._now = now
        effects: list[MembershipEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        if self._due is not None and now >= self._due:
            self._push()
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        return self._due

    def snapshot(self) -> ev.MembershipSnapshot:
        """Sums over the living nodes, for metrics, dashboard and tests."""
        living = [info for info in self._nodes.values() if info.is_alive]
        return ev.MembershipSnapshot(
            alive=len(living),
            dead=len(self._nodes) - len(living),
            total=_sum(info.total for info in living),
            available=_sum(info.available for info in living),
            queued=_sum(info.queued for info in living),
            ignored_events=self._ignored,
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        MEM-1: exactly the living nodes are sent views.
        MEM-2: whenever a node has not seen the latest change, a push is due.
        MEM-3: the dead are bounded in number.

        Raises:
            InvariantError: one of them does not hold.
        """
        living = [node for node, info in self._nodes.items() if info.is_alive]
        check(sorted(living) == sorted(self._targets), "MEM-1", f"{living} are alive")
        for node, target in self._targets.items():
            current = target.seen == self._version
            check(current or self._due is not None, "MEM-2", f"node {node} is not told")
        dead = len(self._nodes) - len(living)
        check(dead <= DEAD_NODES, "MEM-3", f"{dead} dead nodes are kept")

    # ---- events ------------------------------------------------------------------------------

    def _joined(self, event: NodeJoined) -> None:
        info = event.info
        known = self._nodes.get(info.node)
        if known is not None:
            is_old = info.incarnation < known.incarnation
            if is_old or (info.incarnation == known.incarnation and not known.is_alive):
                reason = "it was declared dead; it must rejoin under a new incarnation"
                self._effects.append(ev.RefuseNode(info.node, info.incarnation, reason))
                return
            if known.is_alive and known.incarnation != info.incarnation:
                self._declare_dead(known, "it rejoined under a new incarnation")
            if known.incarnation != info.incarnation:
                del self._nodes[info.node]
        self._set(info)
        others = [other for node, other in self._nodes.items() if node != info.node]
        self._targets[info.node] = _Target(self._version, self._now)
        self._effects.append(ev.PushView(info.node, others))

    def _reported(self, event: NodeReported) -> None:
        known = self._nodes.get(event.node)
        if known is None or not known.is_alive:
            self._ignored += 1
            return
        if (
            known.available == event.available
            and known.queued == event.queued
            and known.store_bytes == event.store_bytes
            and known.store_touched_free_bytes == event.store_touched_free_bytes
            and known.store_pinned_bytes == event.store_pinned_bytes
            and (known.state, known.reason) == (event.state, event.reason)
        ):
            return
        self._set(
            msgspec.structs.replace(
                known,
                available=event.available,
                queued=event.queued,
                store_bytes=event.store_bytes,
                state=event.state,
                reason=event.reason,
                store_touched_free_bytes=event.store_touched_free_bytes,
                store_pinned_bytes=event.store_pinned_bytes,
            )
        )

    def _lost(self, event: ev.NodeLost) -> None:
        known = self._nodes.get(event.node)
        if known is None or not known.is_alive or event.incarnation not in (-1, known.incarnation):
            self._ignored += 1
            return
        self._declare_dead(known, event.reason)
        dead = [node for node, info in self._nodes.items() if not info.is_alive]
        if len(dead) > DEAD_NODES:
            del self._nodes[dead[0]]
            self._changed.pop(dead[0], None)

    def _queried(self, event: ev.ClusterQueried) -> None:
        nodes = list(self._nodes.values())
        self._effects.append(ev.AnswerQuery(event.source, event.request, nodes))

    # ---- transitions -------------------------------------------------------------------------

    def _declare_dead(self, info: NodeInfo, reason: str) -> None:
        del self._targets[info.node]
        self._effects.append(ev.DeclareDead(info.node, info.incarnation, reason))
        self._set(msgspec.structs.replace(info, is_alive=False, available={}, queued={}))

    def _set(self, info: NodeInfo) -> None:
        """A node is like this from now on; the others have to be told."""
        self._nodes[info.node] = info
        self._version += 1
        self._changed.pop(info.node, None)
        self._changed[info.node] = self._version
        self._effects.append(ev.NotifyChange([info]))
        # Who was last told long ago is told now; `_push` finds out who is not due yet.
        self._due = self._now

    def _push(self) -> None:
        due: Instant | None = None
        for node, target in self._targets.items():
            if target.seen == self._version:
                continue
            news = self._news(node, target.seen)
            is_wanted = self._nodes[node].queued and any(not info.queued for info in news)
            at = target.pushed_at + (PUSH_SOON_S if is_wanted else PUSH_PERIOD_S)
            if at > self._now:
                due = at if due is None else min(due, at)
                continue
            target.seen = self._version
            if news:
                target.pushed_at = self._now
                self._effects.append(ev.PushView(node, news))
        self._due = due

    def _news(self, node: str, seen: int) -> list[NodeInfo]:
        """What changed since a version, but for the node's own changes, in order of change."""
        news: list[NodeInfo] = []
        for changed, version in reversed(self._changed.items()):
            if version <= seen:
                break
            if changed != node:
                news.append(self._nodes[changed])
        news.reverse()
        return news


def _sum(parts: Any) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, units in part.items():
            sums[name] = sums.get(name, 0) + units
    return sums
