"""What the control service answers its clients, and how nodes of other machines come to it.

Place in the flow: `_io.rpc.server` calls this on the reactor's thread, for calls of clients
(`Desk`) and for messages of nodes (`NodeListener`); what must be decided is the `ControlService`'s
machines'. An answer may come later than its question: when what it says will not be forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from freehold._core import messages as m
from freehold._core.jobs.events import JobRecord
from freehold._core.limits import STREAM_SILENCE_S
from freehold._core.membership.events import AnswerDrain
from freehold._core.resources import make_shape, to_floats
from freehold._io import clock
from freehold._io.certificates import Identity
from freehold._io.reactor import Reactor
from freehold._io.rpc.server import CallRefused
from freehold._io.rpc.streams import NodeSession, NodeStreams
from freehold._processes.control.cluster_state import Demand, NodeView
from freehold._processes.control.service import ControlService
from freehold._proto import control_pb2 as pb
from freehold.errors import ProtocolError

_LOOK_S = 1.0
"""How often silent streams are looked for; `STREAM_SILENCE_S` is several times that."""

_STATES = {
    "alive": pb.NODE_STATE_ALIVE,
    "draining": pb.NODE_STATE_DRAINING,
    "drained": pb.NODE_STATE_DRAINED,
    "dead": pb.NODE_STATE_DEAD,
}


_JOB_STATES = {
    "running": pb.Job.STATE_RUNNING,
    "succeeded": pb.Job.STATE_SUCCEEDED,
    "failed": pb.Job.STATE_FAILED,
}


class ControlDesk:
    """See `_io.rpc.server.Desk` and `_io.rpc.streams.NodeListener`."""

    def __init__(self, reactor: Reactor, control: ControlService) -> None:
        self._reactor = reactor
        self._control = control
        self.streams: NodeStreams
        """Set by whoever makes both."""
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever `cluster_state` gives something new."""
        self._heard_at: dict[str, float] = {}
        control.on_change = lambda nodes: self.on_change()
        reactor.call_later(_LOOK_S, self._look_for_silence)

    # ---- calls of clients ------------------------------------------------------------------------

    def next_incarnation(self, node: str) -> int:
        """See `Desk`."""
        # A node process draws its id anew (ADR 0014), so that one which nobody knows is its first
        # incarnation, as every address of a node without one means.
        if not self._control.membership.knows(node):
            return 0
        return self._control.next_incarnation(node)

    def cluster_state(self) -> pb.ClusterState:
        """See `Desk`."""
        state = self._control.cluster_state()
        return pb.ClusterState(
            cluster=state.cluster,
            head_incarnation=state.head_incarnation,
            nodes=[_node(view) for view in state.nodes],
            demand=[_demand(each) for each in state.demand],
            jobs=[_job(record) for record in state.jobs],
            sent_unix_ms=int(time.time() * 1000),
        )

    def drain_node(self, request: pb.DrainNodeRequest, then: Callable[[Any], None]) -> None:
        """See `Desk`."""
        is_idle_only = request.reason == pb.DrainNodeRequest.REASON_IDLE

        def answer(found: AnswerDrain) -> None:
            if found.is_unknown:
                then(CallRefused("NOT_FOUND", found.refusal))
                return
            state = _STATES.get(found.state, pb.NODE_STATE_UNSPECIFIED)
            then(pb.DrainNodeResponse(accepted=found.accepted, refusal=found.refusal, state=state))

        self._control.drain(
            request.node,
            is_idle_only=is_idle_only,
            deadline_s=request.deadline_s,
            reason=request.message or ("it is idle" if is_idle_only else "it was asked to"),
            then=answer,
        )

    def node_ended(self, request: pb.NodeEndedRequest, then: Callable[[Any], None]) -> None:
        """See `Desk`."""
        if not self._control.membership.knows(request.node):
            raise CallRefused("NOT_FOUND", f"no node has the id {request.node!r}")
        reason = request.reason or "its process has ended"
        refusal = self._control.node_ended(request.node, reason)
        if refusal:
            raise CallRefused("FAILED_PRECONDITION", f"node {request.node[:12]}: {refusal}")
        then(pb.NodeEndedResponse())

    def set_groups(self, request: pb.SetGroupsRequest, then: Callable[[Any], None]) -> None:
        """See `Desk`."""
        groups = []
        for group in request.groups:
            try:
                amounts = dict(make_shape(group.resources))
            except ValueError as error:
                raise CallRefused("INVALID_ARGUMENT", f"group {group.name}: {error}") from None
            groups.append(m.NodeGroup(group.name, amounts, dict(group.labels), group.max))
        self._control.set_groups(groups, lambda: then(pb.SetGroupsResponse()))

    def begin_job(self, request: pb.BeginJobRequest, then: Callable[[Any], None]) -> None:
        """See `Desk`."""
        self._control.begin_job(
            request.id,
            request.attempt,
            request.node,
            request.entrypoint,
            lambda found: then(pb.BeginJobResponse(accepted=found.accepted, refusal=found.refusal)),
        )

    def end_job(self, request: pb.EndJobRequest, then: Callable[[Any], None]) -> None:
        """See `Desk`."""
        self._control.end_job(
            request.id,
            request.attempt,
            request.exit_code,
            request.message,
            lambda: then(pb.EndJobResponse()),
        )

    # ---- nodes of other machines -----------------------------------------------------------------

    def admits(self, identity: Identity) -> str:
        """See `NodeListener`."""
        if self._control.membership.is_refused(identity.node, identity.incarnation):
            return f"node {identity.node[:8]} was declared dead under this incarnation"
        return ""

    def on_message(self, session: NodeSession, message: m.Message) -> None:
        """See `NodeListener`."""
        _check_speaker(session.identity, message)
        if isinstance(message, m.NodeJoined):
            self._control.join(message, session.send, is_remote=True)
        else:
            self._control.handle(session.identity.node, message)

    def on_heard(self, session: NodeSession) -> None:
        """See `NodeListener`."""
        self._heard_at[session.identity.node] = clock.now()
        self._control.heard(session.identity.node)

    def on_disconnected(self, session: NodeSession) -> None:
        """See `NodeListener`; it may come back until it was silent for too long."""
        self._control.disconnected(session.identity.node)

    def on_overflow(self, session: NodeSession, reason: str) -> None:
        """See `NodeListener`."""
        node = session.identity.node
        if self.streams.get(node) is session:
            self.streams.forget(node)
            self._control.lose(node, reason)

    def _look_for_silence(self) -> None:
        """Cut the streams that nothing comes over: their nodes may come back by another."""
        self._reactor.call_later(_LOOK_S, self._look_for_silence)
        self.streams.forget_refused()
        latest = clock.now() - STREAM_SILENCE_S
        for node in [node for node, at in self._heard_at.items() if at < latest]:
            del self._heard_at[node]
            session = self.streams.get(node)
            if session is not None:
                session.cut()
                self._control.disconnected(node)


def _check_speaker(identity: Identity, message: m.Message) -> None:
    """A node speaks for itself and its processes alone, whatever its message says.

    Raises:
        ProtocolError: it does not.
    """
    named = (identity.node, identity.incarnation)
    if isinstance(message, m.NodeJoined):
        named = (message.info.node, message.info.incarnation)
    elif isinstance(message, m.NodeReported):
        named = (message.node, identity.incarnation)
    elif isinstance(message, m.FromProcess):
        named = (message.source.node, message.source.incarnation)
    elif isinstance(message, m.ProcessGone):
        named = (message.address.node, message.address.incarnation)
    if named != (identity.node, identity.incarnation):
        raise ProtocolError(
            peer=f"node {identity.node[:8]}",
            reason=f"its {type(message).__name__} speaks for node {named[0][:8]}",
        )


def _node(view: NodeView) -> pb.Node:
    return pb.Node(
        id=view.id,
        name=view.name,
        incarnation=view.incarnation,
        state=_STATES.get(view.state, pb.NODE_STATE_UNSPECIFIED),
        is_head=view.is_head,
        total=view.total,
        available=view.available,
        labels=view.labels,
        idle_s=view.idle_s,
        actors=view.actors,
        drivers=view.drivers,
        reason=view.reason,
        store_bytes=view.store_bytes,
        store_total_bytes=view.store_total_bytes,
        hostname=view.hostname,
        address=view.address,
    )


def _demand(demand: Demand) -> pb.Demand:
    where = demand.where
    return pb.Demand(
        resources=to_floats(demand.shape),
        labels=dict(where.labels) if where is not None else {},
        queued=demand.queued,
        running=demand.running,
        oldest_s=demand.oldest_s,
        infeasible=bool(demand.reason),
        reason=demand.reason,
    )


def _job(record: JobRecord) -> pb.Job:
    return pb.Job(
        id=record.id,
        attempt=record.attempt,
        state=_JOB_STATES.get(record.state, pb.Job.STATE_UNSPECIFIED),
        message=record.message,
        started_unix_ms=record.started_unix_ms,
        ended_unix_ms=record.ended_unix_ms,
    )
