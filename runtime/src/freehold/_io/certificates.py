"""The cluster's CA and what it signs: who may say that it is the head, or a node.

Place in the flow: the control service has the `Authority`; a node makes a key and a signing
request, gets its leaf by `Enroll`, and shows it on the peer plane and in `Join`. Names in a request
are ignored: the control service sets them, so that a node cannot call itself another.

- a node's leaf: URI `freehold://<cluster>/<node>/<incarnation>`,
  DNS `<node>-<incarnation>.<cluster>.freehold.invalid`;
- the control service's: URI `freehold://<cluster>/control`,
  DNS `control.<cluster>.freehold.invalid`.

`.invalid` is nobody's name in the DNS, so no leaf is ever valid for a real host.

Imported only where nodes join over a network.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from freehold._core.limits import CA_DAYS, CLOCK_SKEW_S, LEAF_S
from freehold._io.credentials import Credentials
from freehold.errors import AuthenticationError

_CLUSTER = re.compile(r"[0-9a-f]{12}")
_NODE = re.compile(r"[0-9a-f]{32}")
_CONTROL_NAME = re.compile(r"control\.([0-9a-f]{12})\.freehold\.invalid")
_NODE_URI = re.compile(r"freehold://([0-9a-f]{12})/([0-9a-f]{32})/([0-9]+)")


class Identity(NamedTuple):
    """Whom a node's leaf names."""

    cluster: str
    node: str
    incarnation: int


def control_name(cluster: str) -> str:
    """The name that a control service's certificate is for, and that its clients pin."""
    return f"control.{cluster}.freehold.invalid"


class Authority:
    """A cluster's CA, with its key: the control service's alone.

    Args:
        lifetime_s: of the leaves it signs.
    """

    def __init__(self, ca_pem: bytes, key_pem: bytes, cluster: str, lifetime_s: float = LEAF_S):
        if not _CLUSTER.fullmatch(cluster):
            raise ValueError(f"cluster is {cluster!r} but must be 12 hex digits")
        self.ca_pem = ca_pem
        self.cluster = cluster
        self.lifetime_s = lifetime_s
        self._certificate = _load_certificate(ca_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the CA's key must be an elliptic curve key")
        if key.public_key() != self._certificate.public_key():
            raise ValueError("the CA's key does not belong to its certificate")
        self._key = key

    def sign_node(self, request_pem: bytes, node: str, incarnation: int) -> tuple[bytes, int]:
        """A node's leaf for the key of a signing request, and when it expires (Unix, s).

        Raises:
            ValueError: the request is malformed, or not signed by its own key.
        """
        if not _NODE.fullmatch(node):
            raise ValueError("a node's id is 32 hex digits")
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
        if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
            raise ValueError("the signing request must be of an elliptic curve key and its own")
        return self._sign(
            key,
            f"{node}-{incarnation}.{self.cluster}.freehold.invalid",
            f"freehold://{self.cluster}/{node}/{incarnation}",
        )

    def enroll_own(self, node: str, incarnation: int) -> Credentials:
        """A leaf for the control service's own node."""
        key_pem, request_pem = make_request()
        certificate_pem, expires = self.sign_node(request_pem, node, incarnation)
        return Credentials(self.ca_pem, certificate_pem, key_pem, expires)

    def control_credentials(self) -> Credentials:
        """A leaf for the control service's own name; the CA comes behind it in the chain, so that
        who only knows its SHA-256 can fetch it."""
        key = ec.generate_private_key(ec.SECP256R1())
        uri = f"freehold://{self.cluster}/control"
        leaf, expires = self._sign(key.public_key(), control_name(self.cluster), uri)
        return Credentials(self.ca_pem, leaf + self.ca_pem, _key_pem(key), expires)

    def _sign(self, key: ec.EllipticCurvePublicKey, dns: str, uri: str) -> tuple[bytes, int]:
        now = dt.datetime.now(dt.UTC)
        ends = min(
            now + dt.timedelta(seconds=self.lifetime_s), self._certificate.not_valid_after_utc
        )
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [x509.DNSName(dns), x509.UniformResourceIdentifier(uri)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(seconds=CLOCK_SKEW_S))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            # Critical since the subject is empty: RFC 5280, 4.2.1.6.
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        leaf = builder.sign(self._key, hashes.SHA256())
        return leaf.public_bytes(serialization.Encoding.PEM), int(ends.timestamp())


def make_authority(cluster: str) -> tuple[bytes, bytes]:
    """A new CA: certificate and key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"freehold cluster {cluster}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=CLOCK_SKEW_S))
        .not_valid_after(now + dt.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def make_request() -> tuple[bytes, bytes]:
    """A new key and a signing request for it, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), request.public_bytes(serialization.Encoding.PEM)


def fingerprint(ca_pem: bytes) -> str:
    """The SHA-256 of a certificate, 64 hex digits."""
    return _load_certificate(ca_pem).fingerprint(hashes.SHA256()).hex()


def to_pem(certificate_der: bytes) -> bytes:
    """A certificate as it is on the wire, as PEM."""
    return x509.load_der_x509_certificate(certificate_der).public_bytes(serialization.Encoding.PEM)


def cluster_of(control_pem: bytes) -> str:
    """The cluster whose control service a certificate names, unverified.

    Raises:
        AuthenticationError: it is no control service's.
    """
    for name in _names(_load_certificate(control_pem), x509.DNSName):
        found = _CONTROL_NAME.fullmatch(name)
        if found is not None:
            return found[1]
    raise AuthenticationError(peer="the server", reason="it is not a freehold control service")


def check_node(certificate_pem: bytes, ca_pem: bytes) -> Identity:
    """Whom a leaf names, if this CA signed it and it is valid now.

    Raises:
        AuthenticationError: it is not.
    """
    try:
        leaf, ca = _load_certificate(certificate_pem), _load_certificate(ca_pem)
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise AuthenticationError(
            peer="a node", reason="its certificate is of another CA"
        ) from None
    now = dt.datetime.now(dt.UTC)
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        raise AuthenticationError(peer="a node", reason="its certificate has expired")
    for uri in _names(leaf, x509.UniformResourceIdentifier):
        found = _NODE_URI.fullmatch(uri)
        if found is not None:
            return Identity(found[1], found[2], int(found[3]))
    raise AuthenticationError(peer="a node", reason="its certificate names no node")


def sign(key_pem: bytes, data: bytes) -> bytes:
    """A signature by a leaf's key: ECDSA, SHA-256."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def check_signature(certificate_pem: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the key of a certificate signed this."""
    key = _load_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _load_certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def _names(certificate: x509.Certificate, kind: type[x509.GeneralName]) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found.value if isinstance(name, kind)]


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
