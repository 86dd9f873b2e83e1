"""The control service's ends of the nodes' streams, on the reactor's thread.

Place in the flow: the server's thread opens and closes streams and hands frames in (`open`,
`receive`, `closed`); their messages go to a `NodeListener`, which is the control service. What it
says to a node leaves at the reactor's next flush, all of a turn in one frame.

A node whose stream broke is kept with what it has not confirmed until the control service gives it
up: it may come back and go on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Protocol

from freehold._core import messages as m
from freehold._core.limits import (
    CONFIRM_S,
    CONTROL_FRAME_MESSAGES,
    UNCONFIRMED_MESSAGES,
)
from freehold._io.certificates import Identity
from freehold._io.reactor import Reactor, Timer
from freehold._io.rpc import wire
from freehold._io.rpc.numbered import Incoming, Outgoing
from freehold._io.rpc.pipe import Pipe
from freehold._proto import nodes_pb2

FRAME_BUDGET_BYTES = 1 << 20
"""A frame takes no further message once it has this much: others of the stream wait less."""


class NodeListener(Protocol):
    """What the control service does with nodes' streams; all on the reactor's thread."""

    def admits(self, identity: Identity) -> str:
        """Why this node may not join under this incarnation; empty if it may."""

    def on_message(self, session: NodeSession, message: m.Message) -> None:
        """A node said something."""

    def on_heard(self, session: NodeSession) -> None:
        """A node lives: it said something, or at least that."""

    def on_disconnected(self, session: NodeSession) -> None:
        """A node's stream ended; it may come back."""

    def on_overflow(self, session: NodeSession, reason: str) -> None:
        """A node has confirmed nothing for too long."""


class NodeSession:
    """One node, under one incarnation, over as many streams as it takes."""

    def __init__(self, reactor: Reactor, identity: Identity, listener: NodeListener) -> None:
        self.identity = identity
        self._reactor = reactor
        self._listener = listener
        self._outgoing = Outgoing[Any]()
        self._incoming = Incoming()
        self._pipe: Pipe | None = None
        self._confirming: Timer | None = None
        self.is_dirty = False

    @property
    def is_connected(self) -> bool:
        """Whether there is a stream now."""
        return self._pipe is not None

    def send(self, message: m.Message) -> None:
        """Say something to the node, now or when it is back."""
        try:
            envelope = wire.to_node.pack(message)
        except (ValueError, TypeError) as error:
            _log(f"a {type(message).__name__} to node {self.identity.node[:8]} is lost: {error}")
            return
        self._outgoing.push(envelope)
        if len(self._outgoing) > UNCONFIRMED_MESSAGES:
            reason = f"it confirmed none of {UNCONFIRMED_MESSAGES} messages"
            self._reactor.call_later(0, lambda: self._listener.on_overflow(self, reason))
        self._make_dirty()

    def flush(self) -> None:
        """Write what is new; see `Flushable`."""
        self.is_dirty = False
        while self._pipe is not None and self._outgoing.has_more and self._pipe.has_room:
            first, messages = self._outgoing.take(CONTROL_FRAME_MESSAGES, _size, FRAME_BUDGET_BYTES)
            self._put(first, messages)

    def connect(self, pipe: Pipe, proof: nodes_pb2.Proof, *, resumes: bool) -> int:
        """There is a new stream; the last number that was taken of the node's."""
        self.cut()
        self._pipe = pipe
        pipe.on_room = self.flush
        if resumes:
            self._outgoing.confirm(proof.received)
        self._outgoing.rewind()
        self._make_dirty()
        return self._incoming.received

    def receive(self, frame: nodes_pb2.FromNode) -> None:
        """Take a frame of the node.

        Raises:
            ProtocolError, ValueError: it is malformed.
        """
        self._outgoing.confirm(frame.received)
        for envelope in self._incoming.accept(frame.first, list(frame.messages)):
            message = wire.from_node.unpack(envelope)
            if message is not None:
                self._listener.on_message(self, message)
        self._listener.on_heard(self)
        if self._confirming is None and not self.is_dirty:
            self._confirming = self._reactor.call_later(CONFIRM_S, self._confirm)

    def disconnect(self, pipe: Pipe) -> None:
        """A stream ended."""
        if self._pipe is pipe:
            self._pipe = None
            self._listener.on_disconnected(self)

    def cut(self) -> None:
        """End the stream there is, if any, without a word."""
        if self._pipe is not None:
            self._pipe.cut()
            self._pipe = None

    def _make_dirty(self) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            self._reactor.dirty.append(self)

    def _put(self, first: int, messages: list[Any]) -> None:
        assert self._pipe is not None
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None
        received = self._incoming.received
        self._pipe.put(nodes_pb2.ToNode(first=first, received=received, messages=messages))

    def _confirm(self) -> None:
        self._confirming = None
        if self._pipe is not None:
            self._put(0, [])


class NodeStreams:
    """All nodes that joined over the network."""

    def __init__(self, reactor: Reactor, listener: NodeListener, session: str) -> None:
        self.session = session
        """Changes with each start of the control service."""
        self._reactor = reactor
        self._listener = listener
        self._sessions: dict[str, NodeSession] = {}

    def open(
        self, identity: Identity, proof: nodes_pb2.Proof, pipe: Pipe, head_node: str
    ) -> tuple[NodeSession, nodes_pb2.Welcome]:
        """A node has shown who it is and comes in.

        Raises:
            PermissionError: not under this incarnation.
        """
        refusal = self._listener.admits(identity)
        known = self._sessions.get(identity.node)
        if known is not None and known.identity.incarnation > identity.incarnation:
            refusal = "it has joined under a later incarnation since"
        if refusal:
            raise PermissionError(refusal)
        resumes = known is not None and known.identity == identity and proof.session == self.session
        if known is None or not resumes:
            if known is not None:
                known.cut()
            known = NodeSession(self._reactor, identity, self._listener)
            self._sessions[identity.node] = known
        received = known.connect(pipe, proof, resumes=resumes)
        welcome = nodes_pb2.Welcome(resumed=resumes, received=received, head_node=head_node)
        return known, welcome

    def forget(self, node: str) -> None:
        """The control service has given a node up."""
        session = self._sessions.pop(node, None)
        if session is not None:
            session.cut()

    def forget_refused(self) -> None:
        """Nodes that are not let in any more, and have no stream, are not kept for."""
        for node, session in list(self._sessions.items()):
            if not session.is_connected and self._listener.admits(session.identity):
                del self._sessions[node]

    def get(self, node: str) -> NodeSession | None:
        """The session of a node that joined here."""
        return self._sessions.get(node)

    def close(self) -> None:
        """Cut all streams."""
        for session in self._sessions.values():
            session.cut()
        self._sessions.clear()


Opener = Callable[[Identity, nodes_pb2.Proof, Pipe], tuple[NodeSession, nodes_pb2.Welcome]]


def _size(envelope: Any) -> int:
    size: int = envelope.ByteSize()
    return size


def _log(text: str) -> None:
    print(f"freehold: {text}", file=sys.stderr)  # noqa: T201 - a node process's log is its stderr
