"""Drains that were asked for and not answered yet.

Place in the flow: part of `Membership`, which says what a node's state is; here is who waits for
what. A drain that was requested is never refused: it is answered at once, and said to the node
again when it joins without knowing of it. One that is for idle nodes only the node itself grants.
"""

from __future__ import annotations

from freehold._core.limits import DRAIN_ANSWER_S
from freehold._core.membership import events as ev
from freehold._core.membership.events import Instant
from freehold._core.membership.members import ALIVE, Member
from freehold._core.messages import DrainAnswered, DrainNode


class Drains:
    """Questions to nodes whether they are idle enough to be drained."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[str, Instant, str]] = {}
        """Request → node, when to give up, reason; in order of asking."""

    def ask(self, event: ev.DrainAsked, member: Member, now: Instant) -> list[ev.MembershipEffect]:
        """Somebody wants this node drained."""
        info, request = member.info, event.request
        if info.state != ALIVE:
            return [ev.AnswerDrain(request, True, "", info.state)]
        message = DrainNode(request, event.is_idle_only, event.deadline_s, event.reason)
        if not event.is_idle_only:
            return [
                ev.AskDrain(info.node, message),
                ev.AnswerDrain(request, True, "", "draining"),
            ]
        if member.is_absent:
            refusal = f"node {info.node[:12]} has not come back since the head was started again"
            return [ev.AnswerDrain(request, False, refusal, info.state)]
        self._asked[request] = (info.node, now + DRAIN_ANSWER_S, event.reason)
        return [ev.AskDrain(info.node, message)]

    def repeat(self, member: Member) -> ev.AskDrain:
        """A node joined that shall drain and does not know of it."""
        info = member.info
        return ev.AskDrain(info.node, DrainNode(0, False, member.drain or 0.0, info.reason))

    def answered(
        self, answer: DrainAnswered, member: Member
    ) -> tuple[list[ev.MembershipEffect], str | None]:
        """A node answered: what to do, and the reason for which it drains, if it does."""
        asked = self._asked.pop(answer.request, None)
        if asked is None:
            return [], None  # never refusable, or given up on: then its report says how it is
        state = "draining" if answer.accepted else member.info.state
        told = ev.AnswerDrain(answer.request, answer.accepted, answer.refusal, state)
        return [told], asked[2] if answer.accepted else None

    def node_died(self, node: str) -> list[ev.MembershipEffect]:
        """Who waits for its answer hears that it needs none."""
        gone = [request for request, asked in self._asked.items() if asked[0] == node]
        for request in gone:
            del self._asked[request]
        return [ev.AnswerDrain(request, True, "", "dead") for request in gone]

    def expire(self, now: Instant) -> list[ev.MembershipEffect]:
        """Who has waited too long is refused."""
        effects: list[ev.MembershipEffect] = []
        for request, (node, until, _) in list(self._asked.items()):
            if until > now:
                break
            del self._asked[request]
            refusal = f"node {node[:12]} did not answer within {DRAIN_ANSWER_S:g} s; ask again"
            effects.append(ev.AnswerDrain(request, False, refusal, ALIVE))
        return effects

    def next_deadline(self) -> Instant | None:
        """When somebody has waited too long."""
        for _, until, _ in self._asked.values():
            return until
        return None
