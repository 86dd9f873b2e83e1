"""A node manager's way to the control service over the network, head up or not.

Place in the flow: the node manager says its messages to `send`, and hears the control service's
through `LinkListener`; both on the reactor's thread. The stream itself is read and written on the
`Loop`'s thread. While the head is away everything waits here: what was said and not confirmed goes
out again when it is back; a new control service, which knows nothing of this node, is told all that
the listener's `standing` gives. Running work never comes here.

It does not decide when the head counts as lost, or this node as fenced: it tells when it last heard
(`heard_at`), and that it was refused.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import grpc
import grpc.aio

from freehold._core import messages as m
from freehold._core.limits import (
    CONFIRM_S,
    CONTROL_FRAME_MESSAGES,
    HEARTBEAT_S,
    PROOF_S,
    RECONNECT_FIRST_S,
    RECONNECT_MOST_S,
    REPORT_PERIOD_S,
    STREAM_SILENCE_S,
    UNCONFIRMED_MESSAGES,
)
from freehold._io import certificates, clock
from freehold._io.credentials import Credentials
from freehold._io.reactor import Reactor, Timer
from freehold._io.rpc import convert, wire
from freehold._io.rpc.calls import Trust, own_version
from freehold._io.rpc.numbered import Incoming, Outgoing
from freehold._io.rpc.pipe import Pipe, carry
from freehold._io.rpc.runtime import Loop, Mailbox, secure_channel
from freehold._io.rpc.server import join_statement
from freehold._io.rpc.streams import FRAME_BUDGET_BYTES
from freehold._proto import nodes_pb2
from freehold.errors import ProtocolError


class LinkListener(Protocol):
    """What a node manager does with its link; all on the reactor's thread."""

    def on_control(self, message: m.Message) -> None:
        """The control service said something."""

    def standing(self) -> list[m.Message]:
        """All that a control service must be told which knows nothing of this node."""

    def on_connected(self, head_node: str) -> None:
        """The control service let this node in; `head_node` is the node that it lives on."""

    def on_disconnected(self, reason: str) -> None:
        """The stream ended; it is being tried again."""

    def on_renewed(self) -> None:
        """The link's `credentials` are new ones: those before will not hold for long."""

    def on_refused(self, reason: str) -> None:
        """This node may not come in under its incarnation, ever: it was declared dead, or its
        certificate is no good any more."""


_IN_STANDING = frozenset(
    convert.snake_case(kind.__name__)
    for kind in (
        m.NodeJoined,
        m.NodeReported,
        m.FromProcess,
        m.ActorStarted,
        m.ActorEnded,
        m.PlacementFailed,
        m.ProcessGone,
        m.Heartbeat,
    )
)
"""What `standing` says, as it is now: not to be said a second time out of the queue."""


class _Refused(Exception):
    pass


class ControlLink:
    """One node's stream, made again whenever it breaks.

    Args:
        targets: `host:port` of the control service, by several names: tried in turn.
        token: gives the token that is good now.
        credentials: of this node; `credentials` is replaced when they are renewed.
    """

    def __init__(
        self,
        parts: tuple[Reactor, Loop, Mailbox],
        targets: Sequence[str],
        trust: Trust,
        token: Callable[[], str],
        credentials: Credentials,
        listener: LinkListener,
    ) -> None:
        self._reactor, self._loop, self._mailbox = parts
        self._targets = targets
        self._trust = trust
        self._token = token
        self.credentials = credentials
        self._issued_unix_s = time.time()
        self._listener = listener
        self.version = ""
        self.heard_at = clock.now()
        """When the control service was last heard of, on the reactor's clock."""
        self._outgoing = Outgoing[Any]()
        self._incoming = Incoming()
        self._session = ""
        self._pipe: Pipe | None = None
        self._sent_at = 0.0
        self._reported_at = 0.0
        self._report: m.NodeReported | None = None
        self._reporting: Timer | None = None
        self._confirming: Timer | None = None
        self._renewal: tuple[bytes, bytes] | None = None
        """Key and signing request of a renewal under way, so that a late answer fits the key."""
        self.frames_sent = self.frames_received = 0
        """Of all streams so far, without the introductions; for the metrics."""
        self.is_dirty = False
        self._is_closed = False
        self._has_opened = False
        """Whether the present try has led to a stream."""

    # ---- on the reactor's thread -----------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether there is a stream now."""
        return self._pipe is not None

    def start(self) -> None:
        """Connect, and stay connected."""
        self._loop.submit(self._keep_connected())
        self._reactor.call_later(HEARTBEAT_S, self._beat)

    def close(self, last: m.Message | None = None, timeout_s: float = 1.0) -> None:
        """Say one last thing, if there is a stream, and hang up; blocks for it."""
        if last is not None and self._pipe is not None:
            self.send(last)
            self.flush()
            deadline = time.monotonic() + timeout_s
            while self._pipe.has_frames and time.monotonic() < deadline:
                time.sleep(0.005)
        self._is_closed = True

    def send(self, message: m.Message) -> None:
        """Say something, now or when the head is back."""
        if isinstance(message, m.NodeReported):
            self._report = message  # absolute: only the last counts
            self._send_report()
            return
        if isinstance(message, m.Heartbeat):
            if self._pipe is None:
                return  # its answer would come too late to say anything
            if self._report is not None:
                self._tell_report()  # in the heartbeat's frame, not in one of its own
            elif clock.now() - self._reported_at < REPORT_PERIOD_S:
                # The next report in its turn after this frame: so the next heartbeat finds one.
                self._reported_at = clock.now()
        self._push(message)

    def _push(self, message: m.Message) -> None:
        try:
            envelope = wire.from_node.pack(message)
        except (ValueError, TypeError) as error:
            _log(f"a {type(message).__name__} to the control service is lost: {error}")
            return
        if len(self._outgoing) >= UNCONFIRMED_MESSAGES:
            _log(f"the head is away and {UNCONFIRMED_MESSAGES} messages wait for it: one is lost")
            return
        self._outgoing.push(envelope)
        self._make_dirty()

    def _make_dirty(self) -> None:
        if not self.is_dirty:
            self.is_dirty = True
            self._reactor.dirty.append(self)

    def flush(self) -> None:
        """Write what is new; see `Flushable`."""
        self.is_dirty = False
        while self._pipe is not None and self._outgoing.has_more and self._pipe.has_room:
            first, messages = self._outgoing.take(CONTROL_FRAME_MESSAGES, _size, FRAME_BUDGET_BYTES)
            self._put(nodes_pb2.FromNode(first=first, messages=messages))

    def _put(self, frame: nodes_pb2.FromNode) -> None:
        assert self._pipe is not None
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None
        frame.received = self._incoming.received
        self._sent_at = clock.now()
        self.frames_sent += 1
        self._pipe.put(frame)

    def _send_report(self) -> None:
        """Reports come with every lease; the head needs to know twice a second."""
        if self._reporting is not None or self._report is None:
            return
        wait = self._reported_at + REPORT_PERIOD_S - clock.now()
        if wait > 0 or self._pipe is None:
            self._reporting = self._reactor.call_later(max(wait, 0.05), self._report_due)
            return
        self._tell_report()

    def _tell_report(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        assert self._report is not None
        self._reported_at = clock.now()
        report, self._report = self._report, None
        self._push(report)

    def _report_due(self) -> None:
        self._reporting = None
        if self._pipe is not None:
            self._send_report()

    def _opened(self, welcome: nodes_pb2.Welcome, session: str, pipe: Pipe) -> None:
        self._pipe = pipe
        self._has_opened = True
        pipe.on_room = self.flush
        if welcome.resumed:
            self._outgoing.confirm(welcome.received)
            self._outgoing.rewind()
        else:
            self._begin_session(session)
        self.heard_at = clock.now()
        self._listener.on_connected(welcome.head_node)
        self._send_report()
        self._make_dirty()

    def _begin_session(self, session: str) -> None:
        """The control service knows nothing: tell it all that it must know, which has in it what
        was said before and may not have been heard; and of the rest what waits.
        """
        self._session = session
        self._incoming = Incoming()
        waiting = [x for x in self._outgoing.kept() if x.WhichOneof("kind") not in _IN_STANDING]
        self._outgoing = Outgoing()
        for message in self._listener.standing():
            self._outgoing.push(wire.from_node.pack(message))
        for envelope in waiting:
            self._outgoing.push(envelope)

    def _receive(self, frame: nodes_pb2.ToNode) -> None:
        self.heard_at = clock.now()
        self.frames_received += 1
        if frame.HasField("renewed"):
            self._renewed(frame.renewed)
            return
        self._outgoing.confirm(frame.received)
        for envelope in self._incoming.accept(frame.first, list(frame.messages)):
            message = wire.to_node.unpack(envelope)
            if message is not None:
                self._listener.on_control(message)
        if frame.messages and self._confirming is None and not self.is_dirty:
            self._confirming = self._reactor.call_later(CONFIRM_S, self._confirm)

    def _confirm(self) -> None:
        self._confirming = None
        if self._pipe is not None:
            self._put(nodes_pb2.FromNode())

    def _beat(self) -> None:
        """Say that this node lives, if nothing else was said; and see to the certificate."""
        if self._is_closed:
            return
        now = clock.now()
        if self._pipe is not None:
            if now - self.heard_at > STREAM_SILENCE_S:
                self._pipe.cut()  # the stream's coroutine makes another
            elif now - self._sent_at >= HEARTBEAT_S * 0.9:
                self._put(nodes_pb2.FromNode())
            self._renew_if_due()
        self._reactor.call_later(HEARTBEAT_S, self._beat)

    def _renew_if_due(self) -> None:
        assert self._pipe is not None
        life = self.credentials.expires_unix_s - self._issued_unix_s
        if time.time() < self._issued_unix_s + life / 2:
            return
        if self._renewal is None:
            self._renewal = certificates.make_request()
        renewal = nodes_pb2.Renewal(signing_request_pem=self._renewal[1])
        self.frames_sent += 1
        self._pipe.put(nodes_pb2.FromNode(renewal=renewal))

    def _renewed(self, renewed: nodes_pb2.Renewed) -> None:
        if self._renewal is None:
            return
        key, _ = self._renewal
        self._renewal = None
        self.credentials = Credentials(
            renewed.ca_pem, renewed.certificate_pem, key, renewed.expires_unix_s
        )
        self._issued_unix_s = time.time()
        self._listener.on_renewed()

    def _lost(self, pipe: Pipe | None, reason: str) -> None:
        if pipe is not None and self._pipe is pipe:
            self._pipe = None
            self._listener.on_disconnected(reason)

    def _refused(self, reason: str) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._listener.on_refused(reason)

    # ---- on the loop's thread --------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        pause_s, told, turn, reason = RECONNECT_FIRST_S, "", 0, ""
        while not self._is_closed:
            began, self._has_opened = time.monotonic(), False
            target = self._targets[turn % len(self._targets)]
            try:
                failure = await self._connect(target)
            except _Refused as refused:
                self._mailbox.post(partial(self._refused, str(refused)))
                return
            if self._has_opened and time.monotonic() - began > RECONNECT_MOST_S:
                pause_s, turn = RECONNECT_FIRST_S, 0  # it had held
            if turn % len(self._targets) == 0:
                reason = f"the control service at {target} is away: {failure}"
            turn += 1
            if turn % len(self._targets):
                continue  # the next one at once
            if reason != told and not self._is_closed:
                told = reason
                _log(f"{reason}; trying again")
            # Spread, so that a thousand nodes do not come back in the same instant.
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, RECONNECT_MOST_S)

    async def _connect(self, target: str) -> str:
        """One stream from its beginning to its end; why it ended.

        Raises:
            _Refused: there is no use in trying again.
        """
        name = certificates.control_name(self._trust.cluster)
        pipe: Pipe | None = None
        async with secure_channel(target, self._trust.ca_pem, name) as channel:
            call = channel.stream_stream(
                "/freehold.v1.Nodes/Join",
                nodes_pb2.FromNode.SerializeToString,
                nodes_pb2.ToNode.FromString,
            )(metadata=(("authorization", f"Bearer {self._token()}"),))
            reason = f"it said nothing for {STREAM_SILENCE_S:g} s"
            try:
                welcome, session = await asyncio.wait_for(self._introduce(call), PROOF_S)
                pipe = opened = Pipe(self._loop, self._mailbox)
                await self._mailbox.ask(lambda: self._opened(welcome, session, opened))
                await carry(call.read, call.write, pipe, self._hand_on)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # the call's code says why
            except TimeoutError:
                call.cancel()
                reason = "it does not read" if pipe else f"it let nobody in within {PROOF_S:g} s"
            except (ProtocolError, ValueError) as error:
                call.cancel()
                reason = str(error)
            finally:
                ended = pipe
                self._mailbox.post(lambda: self._lost(ended, reason))
            if call.done():
                code, details = await call.code(), await call.details()
                if code is grpc.StatusCode.PERMISSION_DENIED:
                    raise _Refused(details)
                reason = details or reason
        return reason

    async def _introduce(self, call: Any) -> tuple[nodes_pb2.Welcome, str]:
        challenge = await _read(call)
        session = challenge.challenge.session
        credentials = self.credentials
        statement = join_statement(self._trust.cluster, challenge.challenge.nonce)
        known, received = await self._mailbox.ask(lambda: (self._session, self._incoming.received))
        proof = nodes_pb2.Proof(
            version=own_version(self.version),
            certificate_pem=credentials.certificate_pem,
            signature=certificates.sign(credentials.key_pem, statement),
            session=known,
            received=received,
        )
        await call.write(nodes_pb2.FromNode(proof=proof))
        answer = await _read(call)
        return answer.welcome, session

    async def _hand_on(self, frame: nodes_pb2.ToNode) -> None:
        await self._mailbox.ask(lambda: self._receive(frame))


async def _read(call: Any) -> nodes_pb2.ToNode:
    frame = await call.read()
    if not isinstance(frame, nodes_pb2.ToNode):
        raise asyncio.InvalidStateError("the stream ended")
    return frame


def _size(envelope: Any) -> int:
    size: int = envelope.ByteSize()
    return size


def _log(text: str) -> None:
    print(f"freehold: {text}", file=sys.stderr)  # noqa: T201 - a node process's log is its stderr
