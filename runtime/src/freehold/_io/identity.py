"""Who this process is to processes of other machines, and how it knows who they are.

With TLS: contexts made of the node's credentials when first needed (a cluster on one machine never
imports `ssl`), mutual, TLS 1.3 alone, believing the cluster's CA alone. *Which* node a certificate
names is looked at after the handshake (`check`); host names and addresses are nobody's word.
Without TLS: a secret of all nodes, and an HMAC over a nonce of the other side's.

Contexts are never used by a fork's child (`forget`): its parent's sessions are not its own.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address
from freehold._core.messages import Credentials
from freehold.errors import ProtocolError

if TYPE_CHECKING:
    import socket
    import ssl

NONCE_BYTES = 32
_SCHEME = "freehold://"


def secret_of(token: str) -> bytes:
    """What nodes without TLS prove to each other, so that the token itself stays where it is."""
    return hashlib.blake2b(token.encode(), digest_size=32, person=b"freehold-peers").digest()


def node_uri(cluster: str, node: str, incarnation: int) -> str:
    """The name that a node's certificate carries as its URI."""
    return f"{_SCHEME}{cluster}/{node}/{incarnation}"


class Identity:
    """One process's credentials, which may change, and what is made of them.

    Args:
        cluster: its id; certificates of another are refused.
    """

    def __init__(self, cluster: str, credentials: Credentials, *, is_tls: bool) -> None:
        self.cluster = cluster
        self.is_tls = is_tls
        self.credentials = credentials
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def change(self, credentials: Credentials) -> None:
        """Use these for every handshake from now on."""
        self.credentials = credentials
        self._contexts = {}

    def forget(self) -> None:
        """In a forked child: use nothing of the parent's."""
        self.change(Credentials())

    def wrap(self, sock: socket.socket, *, is_server: bool) -> ssl.SSLSocket:
        """A TLS socket over a connected one, before its handshake.

        Raises:
            OSError: the credentials are no good.
        """
        context = self._contexts.get(is_server)
        if context is None:
            context = self._contexts[is_server] = _make_context(self.credentials, is_server)
        return context.wrap_socket(
            sock,
            server_side=is_server,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,  # a cut connection is not an orderly end
        )

    def check(self, sock: ssl.SSLSocket, address: Address) -> None:
        """Is the other end of a finished handshake a process of `address`'s node?

        Raises:
            ProtocolError: its certificate names another node, incarnation or cluster, or none.
        """
        wanted = node_uri(self.cluster, address.node, address.incarnation)
        found = _uris(sock.getpeercert())
        if wanted not in found:
            shown = ", ".join(found) or "no node at all"
            raise ProtocolError(reason=f"its certificate is for {shown}, not for {wanted}")

    def prove(self, role: str, nonce: bytes, source: Address, target: Address) -> bytes:
        """The proof that this process knows the secret, for whoever drew `nonce`."""
        text = f"{role} {self.cluster} {source.node} {source.process} {source.incarnation} "
        text += f"{target.node} {target.process} {target.incarnation} "
        if not self.credentials.secret:
            raise ProtocolError(reason="this process has no secret of its cluster")
        return hmac.digest(self.credentials.secret, text.encode() + nonce, "sha256")

    def is_proof(
        self, proof: bytes, role: str, nonce: bytes, source: Address, target: Address
    ) -> bool:
        """Whether the other side has proved that it knows the secret."""
        return hmac.compare_digest(proof, self.prove(role, nonce, source, target))


def new_nonce() -> bytes:
    """Bytes that were never used before."""
    return os.urandom(NONCE_BYTES)


def _make_context(credentials: Credentials, is_server: bool) -> ssl.SSLContext:
    import ssl  # only where there are several machines: 5 ms, and memory in each worker

    protocol = ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # `check` looks at the node's URI instead
    context.verify_mode = ssl.CERT_REQUIRED
    if is_server:
        context.num_tickets = 0  # nobody resumes: who it is is looked at each time
    context.load_verify_locations(cadata=credentials.ca_pem)
    # OpenSSL reads a key from a file alone; this one is in no folder and nobody else's.
    fd = os.memfd_create("freehold-key", os.MFD_CLOEXEC)
    try:
        os.write(fd, f"{credentials.key_pem}\n{credentials.certificate_pem}".encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def _uris(certificate: Any) -> list[str]:
    names = (certificate or {}).get("subjectAltName", ())
    return [str(value) for kind, value in names if kind == "URI"]
