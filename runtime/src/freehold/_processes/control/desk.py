"""What the control service answers its clients, and how nodes of other machines come to it.

Place in the flow: `_io.rpc.server` calls this on the reactor's thread, for calls of clients
(`Desk`) and for messages of nodes (`NodeListener`); what must be decided is the `ControlService`'s
machines'.
What nothing is behind yet answers UNIMPLEMENTED, naming what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from freehold._core import messages as m
from freehold._core.limits import DEAD_SHOWN_S, DEATH_SILENCE_S
from freehold._core.resources import UNIT, to_floats
from freehold._io import clock
from freehold._io.certificates import Identity
from freehold._io.reactor import Reactor
from freehold._io.rpc.server import CallRefused
from freehold._io.rpc.streams import NodeSession, NodeStreams
from freehold._processes.control.service import ControlService
from freehold._proto import control_pb2 as pb
from freehold.errors import ProtocolError

_LOOK_S = 1.0
"""How often silence is looked for; `DEATH_SILENCE_S` is many times that."""

_STATES = {
    "alive": pb.NODE_STATE_ALIVE,
    "draining": pb.NODE_STATE_DRAINING,
    "drained": pb.NODE_STATE_DRAINED,
    "dead": pb.NODE_STATE_DEAD,
}


class IncarnationBook:
    """The last incarnation of each node that ever enrolled; forgotten with the process."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, node: str) -> int:
        """One above every one that the node had; 0 for a node that is new."""
        self._last[node] = self._last.get(node, -1) + 1
        return self._last[node]


class ControlDesk:
    """See `_io.rpc.server.Desk` and `_io.rpc.streams.NodeListener`.

    Args:
        head_incarnation: one more with each start of this cluster's control service.
    """

    def __init__(
        self,
        reactor: Reactor,
        control: ControlService,
        cluster: str,
        head_incarnation: int,
    ) -> None:
        self._reactor = reactor
        self._control = control
        self._cluster = cluster
        self._head_incarnation = head_incarnation
        self.book = IncarnationBook()
        self.streams: NodeStreams
        """Set by whoever makes both."""
        self.on_change: Callable[[], None] = lambda: None
        """Called whenever `cluster_state` gives something new."""
        self._nodes: dict[str, m.NodeInfo] = {}
        self._died_at: dict[str, float] = {}
        self._heard_at: dict[str, float] = {}
        """Of nodes of other machines, on the reactor's clock."""
        control.on_change = self._changed
        reactor.call_later(_LOOK_S, self._look_for_silence)

    # ---- calls of clients ------------------------------------------------------------------------

    def next_incarnation(self, node: str) -> int:
        """See `Desk`."""
        return self.book.next(node)

    def cluster_state(self) -> pb.ClusterState:
        """See `Desk`."""
        self._forget_dead()
        return pb.ClusterState(
            cluster=self._cluster,
            head_incarnation=self._head_incarnation,
            nodes=[_node(info) for info in self._nodes.values()],
            demand=demand_of(list(self._nodes.values())),
            sent_unix_ms=int(time.time() * 1000),
        )

    def drain_node(self, request: pb.DrainNodeRequest) -> pb.DrainNodeResponse:
        """See `Desk`."""
        self._find(request.node)
        raise CallRefused("UNIMPLEMENTED", "nodes cannot be drained yet")

    def set_groups(self, request: pb.SetGroupsRequest) -> pb.SetGroupsResponse:
        """See `Desk`."""
        raise CallRefused("UNIMPLEMENTED", "groups of nodes are not known yet")

    def begin_job(self, request: pb.BeginJobRequest) -> pb.BeginJobResponse:
        """See `Desk`."""
        raise CallRefused("UNIMPLEMENTED", "jobs are not known yet")

    def end_job(self, request: pb.EndJobRequest) -> pb.EndJobResponse:
        """See `Desk`."""
        raise CallRefused("UNIMPLEMENTED", "jobs are not known yet")

    def _find(self, name: str) -> m.NodeInfo:
        """The living node of that id, beginning of an id, or name."""
        living = [info for info in self._nodes.values() if info.is_alive]
        found = [info for info in living if name in (info.node, info.name)]
        if not found and len(name) >= 6:
            found = [info for info in living if info.node.startswith(name)]
        if len(found) != 1:
            many = "more than one node is" if found else "no living node is"
            known = ", ".join(f"{info.name or '-'} ({info.node[:8]})" for info in living)
            raise CallRefused("NOT_FOUND", f"{many} called {name!r}; there are: {known}")
        return found[0]

    # ---- nodes of other machines -----------------------------------------------------------------

    def admits(self, identity: Identity) -> str:
        """See `NodeListener`."""
        known = self._nodes.get(identity.node)
        if known is None or known.is_alive or known.incarnation < identity.incarnation:
            return ""
        return f"node {identity.node[:8]} was declared dead ({known.reason or 'it was silent'})"

    def on_message(self, session: NodeSession, message: m.Message) -> None:
        """See `NodeListener`."""
        node = session.identity.node
        _check_speaker(session.identity, message)
        if isinstance(message, m.NodeJoined):
            self._heard_at[node] = clock.now()
            self._control.join(message, session.send, is_remote=True)
        elif isinstance(message, m.ShutDown):
            self._lose(node, message.reason or "it ended")
        else:
            self._control.handle(node, message)

    def on_heard(self, session: NodeSession) -> None:
        """See `NodeListener`."""
        if session.identity.node in self._heard_at:
            self._heard_at[session.identity.node] = clock.now()

    def on_disconnected(self, session: NodeSession) -> None:
        """See `NodeListener`; it may come back until it was silent for too long."""

    def on_overflow(self, session: NodeSession, reason: str) -> None:
        """See `NodeListener`."""
        if self.streams.get(session.identity.node) is session:
            self._lose(session.identity.node, reason)

    def _look_for_silence(self) -> None:
        self._reactor.call_later(_LOOK_S, self._look_for_silence)
        latest = clock.now() - DEATH_SILENCE_S
        for node in [node for node, heard_at in self._heard_at.items() if heard_at < latest]:
            self._lose(node, f"it was silent for {DEATH_SILENCE_S:g} s")

    def _lose(self, node: str, reason: str) -> None:
        self._heard_at.pop(node, None)
        self.streams.forget(node)
        self._control.lose(node, reason)

    # ---- the view --------------------------------------------------------------------------------

    def _changed(self, nodes: list[m.NodeInfo]) -> None:
        for info in nodes:
            self._nodes[info.node] = info
            if info.is_alive:
                self._died_at.pop(info.node, None)
            else:
                self._died_at.setdefault(info.node, clock.now())
        self.on_change()

    def _forget_dead(self) -> None:
        latest = clock.now() - DEAD_SHOWN_S
        for node in [node for node, died_at in self._died_at.items() if died_at < latest]:
            del self._died_at[node]
            self._nodes.pop(node, None)


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


def _node(info: m.NodeInfo) -> pb.Node:
    host = f"[{info.host}]" if ":" in info.host else info.host
    state = info.state if info.is_alive else "dead"
    return pb.Node(
        id=info.node,
        name=info.name,
        incarnation=info.incarnation,
        state=_STATES.get(state, pb.NODE_STATE_UNSPECIFIED),
        is_head=info.is_head,
        total=to_floats(info.total),
        available=to_floats(info.available),
        labels=info.labels,
        reason=info.reason,
        store_bytes=info.store_bytes,
        store_total_bytes=info.store_total_bytes,
        hostname=info.hostname,
        address=f"{host}:{info.port}" if info.host else "",
    )


def demand_of(nodes: list[m.NodeInfo]) -> list[pb.Demand]:
    """What waits in the whole cluster, summed by shape.

    Nodes report shapes as people read them (`CPU: 1, accelerator: 0.5`), so they are read back; the
    one place that knows it.
    """
    queued: dict[str, int] = {}
    for info in nodes:
        if info.is_alive:
            for shape, count in info.queued.items():
                queued[shape] = queued.get(shape, 0) + count
    return [
        pb.Demand(resources=_amounts(shape), queued=count)
        for shape, count in sorted(queued.items())
        if count
    ]


def _amounts(shape: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in shape.split(", "):
        name, _, amount = part.rpartition(": ")
        try:
            found[name] = round(float(amount) * UNIT) / UNIT
        except ValueError:
            continue
    return found
