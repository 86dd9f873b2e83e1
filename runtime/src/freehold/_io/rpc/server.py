"""The control service's gRPC server: TLS, the token, and the ways to the reactor.

Place in the flow: runs on the `Loop`'s thread. Calls are checked here (token, version, proof of a
node's key) and decided elsewhere: by a `Desk` and the `NodeStreams`, on the reactor's thread.

A refusal is counted by its kind, and the first of each is logged. Nothing is unpickled here: what
is pickled inside a message stays bytes.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc
import grpc.aio
from google.protobuf import message_factory

from freehold._core.limits import (
    CONTROL_CALLS,
    PROOF_S,
    WATCH_SILENCE_S,
    WATCHERS,
)
from freehold._core.messages import PROTOCOL
from freehold._io import certificates, hosts
from freehold._io.rpc.pipe import Pipe, carry
from freehold._io.rpc.runtime import CHANNEL_OPTIONS, PYTHON, Loop, Mailbox
from freehold._io.rpc.streams import NodeSession, NodeStreams
from freehold._proto import control_pb2, nodes_pb2
from freehold.errors import AuthenticationError, ProtocolError

_OPEN = "/freehold.v1.Control/GetInfo"
_WATCH_PERIODS_S = (0.05, 60.0)
_ENROLL_BYTES = 16 << 10


class CallRefused(Exception):
    """A desk refuses a call: gRPC's name of the status, and why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


Then = Callable[[Any], None]


class Desk(Protocol):
    """What a control service answers its clients; all on the reactor's thread.

    Each may raise `CallRefused`; `then` gets the response, or a `CallRefused`, maybe later.
    """

    def next_incarnation(self, node: str) -> int:
        """The incarnation of a node that enrolls: above every one that it had."""

    def cluster_state(self) -> control_pb2.ClusterState:
        """The cluster now."""

    def drain_node(self, request: control_pb2.DrainNodeRequest, then: Then) -> None:
        """See `DrainNode`."""

    def node_ended(self, request: control_pb2.NodeEndedRequest, then: Then) -> None:
        """See `NodeEnded`."""

    def set_groups(self, request: control_pb2.SetGroupsRequest, then: Then) -> None:
        """See `SetGroups`."""

    def begin_job(self, request: control_pb2.BeginJobRequest, then: Then) -> None:
        """See `BeginJob`."""

    def end_job(self, request: control_pb2.EndJobRequest, then: Then) -> None:
        """See `EndJob`."""


class Refusals:
    """Counts who was not let in; the first of a kind is told, so that a flood fills no log."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()

    def count(self, kind: str, peer: str, reason: str) -> None:
        """One more."""
        self.by_kind[kind] += 1
        if self.by_kind[kind] == 1:
            text = f"freehold: the control service refused {peer}: {reason} (said once)"
            print(text, file=sys.stderr)  # noqa: T201 - a node process's log is its stderr


class ControlServer:
    """Serves one cluster's control plane.

    Args:
        tokens: those that are good now: the current, and the one before while it is replaced.
    """

    def __init__(
        self,
        loop: Loop,
        mailbox: Mailbox,
        authority: certificates.Authority,
        tokens: Callable[[], tuple[str, ...]],
        parts: tuple[Desk, NodeStreams, str],
        version: str,
    ) -> None:
        self._loop = loop
        self._mailbox = mailbox
        self._authority = authority
        self._tokens = tokens
        self._desk, self._streams, self._head_node = parts
        self.version = control_pb2.Version(protocol=PROTOCOL, python=PYTHON, freehold=version)
        self.refusals = Refusals()
        self._watchers: dict[asyncio.Event, None] = {}
        self._server: grpc.aio.Server | None = None
        self._leaf = authority.control_credentials()

    # ---- start and end ---------------------------------------------------------------------------

    def start(self, bind: str, port: int) -> int:
        """Listen; the port, which the system picks if it is 0. From another thread.

        Raises:
            OSError: the port is taken, or not allowed.
        """
        hosts.listen(bind, port).close()  # grpc would not say why it cannot
        return self._loop.run(self._start(bind, port), 10.0)

    async def _start(self, bind: str, port: int) -> int:
        self._server = grpc.aio.server(
            interceptors=[_TokenCheck(self._is_allowed, self.refusals)],
            maximum_concurrent_rpcs=CONTROL_CALLS,
            # A second server must not share the port in silence.
            options=[*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)],
        )
        self._server.add_generic_rpc_handlers(
            (
                _handlers(control_pb2.DESCRIPTOR, "Control", self),
                _handlers(nodes_pb2.DESCRIPTOR, "Nodes", self),
            )
        )
        credentials = grpc.dynamic_ssl_server_credentials(self._tls(), self._renewed_tls)
        host = f"[{bind}]" if ":" in bind else bind
        bound = self._server.add_secure_port(f"{host}:{port}", credentials)
        await self._server.start()
        return int(bound)

    def stop(self) -> None:
        """Hang up on everybody; from another thread."""
        if self._server is not None:
            try:
                self._loop.run(self._server.stop(0), 3.0)
            except (TimeoutError, asyncio.CancelledError):
                pass

    def cluster_changed(self) -> None:
        """Show the cluster to its watchers; from any thread."""
        self._loop.call(self._wake_watchers)

    def _wake_watchers(self) -> None:
        for event in self._watchers:
            event.set()

    def _tls(self) -> Any:
        pairs = [(self._leaf.key_pem, self._leaf.certificate_pem)]
        return grpc.ssl_server_certificate_configuration(pairs)

    def _renewed_tls(self) -> Any:
        """Asked at each handshake; None: as before."""
        if self._leaf.expires_unix_s - time.time() > self._authority.lifetime_s / 2:
            return None
        self._leaf = self._authority.control_credentials()
        return self._tls()

    def _is_allowed(self, header: str) -> bool:
        kind, _, token = header.partition(" ")
        given = token.encode()
        # Compared with all of them, so that the time says nothing about either.
        matches = [hmac.compare_digest(given, good.encode()) for good in self._tokens()]
        return kind.lower() == "bearer" and bool(token) and any(matches)

    # ---- Control ---------------------------------------------------------------------------------

    async def GetInfo(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the service
        return control_pb2.GetInfoResponse(version=self.version, cluster=self._authority.cluster)

    async def Enroll(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._check_version(request.version, context)
        pem = request.signing_request_pem
        try:
            if len(pem) > _ENROLL_BYTES:
                raise ValueError("the signing request is too large")
            self._authority.sign_node(pem, request.node, 0)  # before an incarnation is spent on it
        except ValueError as error:
            self.refusals.count("request", context.peer(), str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        node = request.node
        incarnation = await self._ask(context, lambda: self._desk.next_incarnation(node))
        certificate, expires = self._authority.sign_node(pem, node, incarnation)
        return control_pb2.EnrollResponse(
            cluster=self._authority.cluster,
            incarnation=incarnation,
            certificate_pem=certificate,
            ca_pem=self._authority.ca_pem,
            expires_unix_s=expires,
        )

    async def GetCluster(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask(context, self._desk.cluster_state)

    async def WatchCluster(self, request: Any, context: Any) -> None:  # noqa: N802
        if len(self._watchers) >= WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHERS} clients watch already"
            )
        least, most = _WATCH_PERIODS_S
        period_s = min(max((request.period_ms or 250) / 1000, least), most)
        changed = asyncio.Event()
        self._watchers[changed] = None
        try:
            while True:
                changed.clear()
                await context.write(await self._ask(context, self._desk.cluster_state))
                await asyncio.sleep(period_s)
                try:
                    await asyncio.wait_for(changed.wait(), max(0.0, WATCH_SILENCE_S - period_s))
                except TimeoutError:
                    pass
        finally:
            del self._watchers[changed]

    async def DrainNode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask_later(context, lambda then: self._desk.drain_node(request, then))

    async def NodeEnded(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask_later(context, lambda then: self._desk.node_ended(request, then))

    async def SetGroups(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask_later(context, lambda then: self._desk.set_groups(request, then))

    async def BeginJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask_later(context, lambda then: self._desk.begin_job(request, then))

    async def EndJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._ask_later(context, lambda then: self._desk.end_job(request, then))

    # ---- Nodes -----------------------------------------------------------------------------------

    async def Join(self, _requests: Any, context: Any) -> None:  # noqa: N802
        nonce = os.urandom(32)
        challenge = nodes_pb2.Challenge(nonce=nonce, session=self._streams.session)
        await context.write(nodes_pb2.ToNode(challenge=challenge))
        try:
            frame = await asyncio.wait_for(context.read(), PROOF_S)
        except TimeoutError:
            frame = None
        if not isinstance(frame, nodes_pb2.FromNode) or not frame.HasField("proof"):
            self.refusals.count("proof", context.peer(), "it did not show which node it is")
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "show which node you are")
            return
        proof = frame.proof
        await self._check_version(proof.version, context)
        identity = await self._check_proof(proof, nonce, context)
        pipe = Pipe(self._loop, self._mailbox)
        try:
            session, welcome = await self._mailbox.ask(
                lambda: self._streams.open(identity, proof, pipe, self._head_node)
            )
        except PermissionError as error:
            self.refusals.count("incarnation", context.peer(), str(error))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            return
        status, reason = grpc.StatusCode.ABORTED, "the stream was cut: silent, or replaced"
        try:
            await context.write(nodes_pb2.ToNode(welcome=welcome))
            await carry(context.read, context.write, pipe, self._receiver(session, pipe))
        except (ProtocolError, ValueError) as error:
            self.refusals.count("frame", context.peer(), str(error))
            status, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except TimeoutError:
            reason = "you do not read"
        finally:
            self._mailbox.post(lambda: session.disconnect(pipe))
        await context.abort(status, reason)  # may wait for a reader

    def _receiver(
        self, session: NodeSession, pipe: Pipe
    ) -> Callable[[nodes_pb2.FromNode], Awaitable[None]]:
        async def receive(frame: nodes_pb2.FromNode) -> None:
            if frame.HasField("renewal"):
                identity, request = session.identity, frame.renewal.signing_request_pem
                pem, expires = self._authority.sign_node(
                    request, identity.node, identity.incarnation
                )
                renewed = nodes_pb2.Renewed(
                    certificate_pem=pem, ca_pem=self._authority.ca_pem, expires_unix_s=expires
                )
                frame_back = nodes_pb2.ToNode(renewed=renewed)
                await self._mailbox.ask(lambda: pipe.put(frame_back))
            else:
                await self._mailbox.ask(lambda: session.receive(frame))

        return receive

    async def _check_proof(
        self, proof: nodes_pb2.Proof, nonce: bytes, context: Any
    ) -> certificates.Identity:
        pem = proof.certificate_pem
        try:
            identity = certificates.check_node(pem, self._authority.ca_pem)
            if identity.cluster != self._authority.cluster:
                raise AuthenticationError(peer="a node", reason="it is of another cluster")
            statement = join_statement(identity.cluster, nonce)
            if not certificates.check_signature(pem, proof.signature, statement):
                raise AuthenticationError(peer="a node", reason="its proof is not its key's")
        except AuthenticationError as error:
            self.refusals.count("certificate", context.peer(), error.reason)
            # Not UNAUTHENTICATED, which a node would take for a token that is being replaced: with
            # another leaf it may come in.
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, error.reason)
            raise
        return identity

    # ---- both ------------------------------------------------------------------------------------

    async def _check_version(self, theirs: control_pb2.Version, context: Any) -> None:
        ours = self.version
        if (theirs.protocol, theirs.python) == (ours.protocol, ours.python):
            return
        reason = f"this cluster has {describe(ours)}, you have {describe(theirs)}: use the same"
        self.refusals.count("version", context.peer(), reason)
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, reason)

    async def _ask(self, context: Any, call: Callable[[], Any]) -> Any:
        return await self._ask_later(context, lambda then: then(call()))

    async def _ask_later(self, context: Any, call: Callable[[Then], None]) -> Any:
        try:
            return await self._mailbox.ask_later(call)
        except CallRefused as refused:
            await context.abort(getattr(grpc.StatusCode, refused.code), refused.reason)


def describe(version: control_pb2.Version) -> str:
    """A version as a person reads it."""
    return (
        f"Freehold {version.freehold or '?'} (protocol {version.protocol}) on "
        f"Python {version.python or '?'}"
    )


def join_statement(cluster: str, nonce: bytes) -> bytes:
    """What a node signs to come in."""
    return b"freehold join 1\n" + cluster.encode() + b"\n" + nonce


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Turns away every call without a good token, before its body is read."""

    def __init__(self, is_allowed: Callable[[str], bool], refusals: Refusals) -> None:
        self._is_allowed = is_allowed
        self._refusals = refusals

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method == _OPEN:
            return handler
        header = ""
        for name, value in details.invocation_metadata or ():
            if name == "authorization" and isinstance(value, str):
                header = value
        if self._is_allowed(header):
            return handler
        reason = "a wrong token" if header else "no token"

        async def refuse(_request: Any, context: Any) -> None:
            self._refusals.count("token", context.peer(), reason)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

        kind = _kind(handler.request_streaming, handler.response_streaming)
        return kind(refuse, handler.request_deserializer, handler.response_serializer)


def _kind(requests: bool, responses: bool) -> Any:
    if requests:
        return grpc.stream_stream_rpc_method_handler
    return (
        grpc.unary_stream_rpc_method_handler if responses else grpc.unary_unary_rpc_method_handler
    )


def _handlers(file: Any, service: str, servicer: object) -> Any:
    """A service's methods, as its descriptor says, from the servicer's of the same names."""
    found = {}
    described = file.services_by_name[service]
    for method in described.methods:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        kind = _kind(method.client_streaming, method.server_streaming)
        found[method.name] = kind(
            getattr(servicer, method.name), request.FromString, response.SerializeToString
        )
    return grpc.method_handlers_generic_handler(described.full_name, found)


__all__ = ["CallRefused", "ControlServer", "Desk", "join_statement"]
