"""What each worker's pod counts as, from the pod and from what the head says of its node.

Only a pod that is ready or on its way is supply. One that terminates, has ended, drains, was lost
with its machine or was declared dead by the head is not: it is replaced, if it is wanted at all.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

import msgspec

from freehold_operator.facts import HeadReport, NodeFacts, PodFacts


class State(enum.Enum):
    """Of a worker's pod; the first that applies."""

    TERMINATING = "terminating"
    ENDED = "ended"
    LOST = "lost"
    DRAINED = "drained"
    DRAINING = "draining"
    READY = "ready"
    STARTING = "starting"
    PENDING = "pending"


SUPPLY = frozenset({State.READY, State.STARTING, State.PENDING})


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's pod and what it counts as.

    Attributes:
        node: what the head says of it; None if it never joined or the head is away.
        is_overdue: it could not be scheduled for longer than it may take.
    """

    pod: PodFacts
    node: NodeFacts | None
    state: State
    is_overdue: bool = False

    @property
    def is_supply(self) -> bool:
        """Ready, or on its way."""
        return self.state in SUPPLY

    @property
    def name(self) -> str:
        """The pod's name."""
        return self.pod.meta.name


def aged(report: HeadReport, now: float) -> HeadReport:
    """A report as it would be now if nothing had changed: what was idle has been idle for longer.

    The head tells of changes at once, and else every ten seconds.
    """
    passed_s = max(0.0, now - report.received)
    nodes = tuple(
        msgspec.structs.replace(node, idle_s=node.idle_s + passed_s) if node.idle_s > 0 else node
        for node in report.nodes
    )
    return msgspec.structs.replace(report, nodes=nodes)


def nodes_by_name(report: HeadReport | None) -> dict[str, NodeFacts]:
    """The head's nodes by pod; of several lives of a name the one that lives."""
    found: dict[str, NodeFacts] = {}
    for node in report.nodes if report is not None else ():
        known = found.get(node.name)
        if known is None or known.state == "DEAD":
            found[node.name] = node
    return found


def _state(pod: PodFacts, node: NodeFacts | None) -> State:
    if pod.meta.deleting:
        return State.TERMINATING
    if pod.has_ended:
        return State.ENDED
    if pod.is_lost or (node is not None and node.state == "DEAD"):
        return State.LOST
    if node is not None and node.state == "DRAINED":
        return State.DRAINED
    if node is not None and node.state == "DRAINING":
        return State.DRAINING
    if pod.is_ready or node is not None:
        # A node that the head knows to be alive takes work, whatever the readiness probe's next
        # look will say.
        return State.READY
    return State.STARTING if pod.node else State.PENDING


def classify(
    pods: Iterable[PodFacts],
    report: HeadReport | None,
    pending_timeout_s: float,
    now: float,
    asked: Collection[str] = (),
) -> tuple[Worker, ...]:
    """The workers, by name.

    Args:
        asked: UIDs of pods whose drain was accepted a moment ago.
    """
    nodes = nodes_by_name(report)
    found = []
    for pod in sorted(pods, key=lambda p: p.meta.name):
        node = nodes.get(pod.meta.name)
        state = _state(pod, node)
        if state is State.READY and pod.meta.uid in asked:
            state = State.DRAINING
        since = pod.unscheduled_since
        is_overdue = (
            state is State.PENDING and since is not None and now - since >= pending_timeout_s
        )
        found.append(Worker(pod=pod, node=node, state=state, is_overdue=is_overdue))
    return tuple(found)
