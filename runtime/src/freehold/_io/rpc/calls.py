"""What clients ask of a control service: trust first, then calls with the token.

`probe` connects without trusting anybody, to see which certificates are shown; nothing secret is
sent. If the CA among them is the one wanted, every connection after that is gRPC's own, which
checks the whole chain and the name.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf import message_factory

from freehold._core.limits import CALL_S
from freehold._core.messages import PROTOCOL
from freehold._io import certificates
from freehold._io.credentials import Credentials
from freehold._io.join_string import ControlAddress
from freehold._io.rpc.runtime import PYTHON, Loop, secure_channel
from freehold._io.rpc.server import describe
from freehold._proto import control_pb2
from freehold.errors import AuthenticationError, ClusterUnreachableError, JoinRefusedError


class Trust(NamedTuple):
    """Whose word is good for a control service: its CA, and the cluster whose name it must have."""

    ca_pem: bytes
    cluster: str


class Enrolled(NamedTuple):
    """What a node gets for its signing request."""

    cluster: str
    incarnation: int
    credentials: Credentials


def probe(address: ControlAddress, ca_pem: bytes = b"", timeout_s: float = CALL_S) -> Trust:
    """Whom to trust at an address, given the CA's SHA-256 in it, or the CA itself.

    Raises:
        ClusterUnreachableError: nobody answers there.
        AuthenticationError: whoever does is not of this CA.
    """
    chain = _shown_certificates(address, timeout_s)
    target = address.target
    if ca_pem:
        wanted = certificates.fingerprint(ca_pem)
    elif address.ca_sha256:
        wanted = address.ca_sha256
    else:
        raise AuthenticationError(
            peer=target, reason="an address alone does not say whose certificate to trust"
        )
    found = [der for der in chain[1:] if hashlib.sha256(der).hexdigest() == wanted]
    if not found:
        raise AuthenticationError(
            peer=target,
            reason=f"its CA is not the one with SHA-256 {wanted[:16]}…: this is another cluster, "
            "or the join string is an old one",
        )
    # Claimed so far; gRPC verifies that this CA signed a certificate for that very name.
    return Trust(certificates.to_pem(found[0]), certificates.cluster_of(_pem(chain[0])))


def find(
    places: Sequence[ControlAddress], ca_pem: bytes = b"", timeout_s: float = CALL_S
) -> tuple[ControlAddress, Trust]:
    """The first of the places at which the control service is, and whom to trust there.

    Raises:
        ClusterUnreachableError, AuthenticationError: it is at none; what `probe` says of the first.
    """
    failure: ClusterUnreachableError | AuthenticationError | None = None
    for place in places:
        try:
            return place, probe(place, ca_pem, timeout_s)
        except (ClusterUnreachableError, AuthenticationError) as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _shown_certificates(address: ControlAddress, timeout_s: float) -> list[bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is looked at, not trusted
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((address.host, address.port), timeout_s) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return _chain(secure)
    except ssl.SSLError:
        reason = "what listens there does not speak TLS"
    except OSError as error:
        reason = error.strerror or str(error)
    raise ClusterUnreachableError(address=address.target, reason=reason)


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    """The certificates that the server has shown, its own first; DER."""
    if hasattr(secure, "get_unverified_chain"):  # since Python 3.13
        return list(secure.get_unverified_chain())
    inner: Any = secure._sslobj  # type: ignore[attr-defined]
    encoding_der = 2
    return [item.public_bytes(encoding_der) for item in inner.get_unverified_chain()]


def _pem(der: bytes) -> bytes:
    return certificates.to_pem(der)


class ControlCalls:
    """A connection to a control service, for calls one by one.

    Args:
        loop: where grpc lives in this process.
        token: "" for `GetInfo` alone.
    """

    def __init__(self, loop: Loop, address: ControlAddress, trust: Trust, token: str) -> None:
        self._loop = loop
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        name = certificates.control_name(trust.cluster)
        self._channel = loop.run(_open(address.target, trust.ca_pem, name))

    def call(self, method: str, request: Any, timeout_s: float = CALL_S) -> Any:
        """One call of `Control`.

        Raises:
            ClusterUnreachableError, AuthenticationError, JoinRefusedError, LookupError.
        """
        described = control_pb2.DESCRIPTOR.services_by_name["Control"].methods_by_name[method]
        answer = message_factory.GetMessageClass(described.output_type)
        serialize: Callable[[Any], bytes] = type(request).SerializeToString
        stub = self._channel.unary_unary(
            f"/freehold.v1.Control/{method}", serialize, answer.FromString
        )

        async def ask() -> Any:
            return await stub(request, timeout=timeout_s, metadata=self._metadata)

        try:
            return self._loop.run(ask(), timeout_s + 5.0)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error.code(), error.details()) from None

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        """What a call of `Control` sends back, one by one, for as long as it does.

        Raises:
            as `call`.
        """
        described = control_pb2.DESCRIPTOR.services_by_name["Control"].methods_by_name[method]
        answer = message_factory.GetMessageClass(described.output_type)
        stub = self._channel.unary_stream(
            f"/freehold.v1.Control/{method}", type(request).SerializeToString, answer.FromString
        )

        async def begin() -> Any:
            return stub(request, metadata=self._metadata)

        stream = self._loop.run(begin())
        try:
            while (frame := self._loop.run(stream.read())) is not grpc.aio.EOF:
                yield frame
            if (status := self._loop.run(stream.code())) is not grpc.StatusCode.OK:
                details = self._loop.run(stream.details())
                raise self._failed(status, details)
        except grpc.aio.AioRpcError as error:
            raise self._failed(error.code(), error.details()) from None
        finally:
            stream.cancel()

    def _failed(self, code: grpc.StatusCode, details: str | None) -> Exception:
        return translate(code, details, self._address.target)

    def check_version(self, version: str) -> control_pb2.GetInfoResponse:
        """Who it is, if we can speak to it.

        Raises:
            JoinRefusedError: it has another protocol.
        """
        info: control_pb2.GetInfoResponse = self.call("GetInfo", control_pb2.GetInfoRequest())
        if info.version.protocol != PROTOCOL:
            ours = describe(own_version(version))
            raise JoinRefusedError(
                address=self._address.target,
                reason=f"it has {describe(info.version)}, you have {ours}: use the same",
            )
        return info

    def enroll(self, node: str, version: str) -> Enrolled:
        """Have a new key signed for a node.

        Raises:
            as `call`.
        """
        key_pem, request_pem = certificates.make_request()
        request = control_pb2.EnrollRequest(
            version=own_version(version), node=node, signing_request_pem=request_pem
        )
        answer = self.call("Enroll", request)
        credentials = Credentials(
            answer.ca_pem, answer.certificate_pem, key_pem, answer.expires_unix_s
        )
        return Enrolled(answer.cluster, answer.incarnation, credentials)

    def close(self) -> None:
        """Hang up."""
        self._loop.run(self._channel.close())


async def _open(target: str, ca_pem: bytes, name: str) -> grpc.aio.Channel:
    return secure_channel(target, ca_pem, name)


def own_version(freehold: str) -> control_pb2.Version:
    """What this process is."""
    return control_pb2.Version(protocol=PROTOCOL, python=PYTHON, freehold=freehold)


def translate(code: grpc.StatusCode, details: str | None, target: str) -> Exception:
    """gRPC's error as one of ours."""
    details = details or "no reason given"
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return AuthenticationError(peer=f"us at {target}", reason=details)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        if "verif" in details.lower():  # of the chain, or of the name in it
            return AuthenticationError(peer=target, reason="its certificate is not of this cluster")
        reason = "it did not answer in time" if "eadline" in details else details
        return ClusterUnreachableError(address=target, reason=reason)
    if code is grpc.StatusCode.NOT_FOUND:
        return LookupError(details)
    return JoinRefusedError(address=target, reason=details)
