"""A certificate authority that lives as long as a test: credentials for nodes of local clusters.

Real clusters have theirs in the control service, with a key that stays there and certificates that
are asked for by signing request. Here one process makes everything, keys included.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from freehold._core.messages import Credentials
from freehold._io.identity import node_uri

_VALID = dt.timedelta(days=1)
_SKEW = dt.timedelta(minutes=5)


class ThrowawayAuthority:
    """The CA of one cluster.

    Args:
        cluster: its id.
    """

    def __init__(self, cluster: str) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self.cluster = cluster
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"freehold {cluster}")
        self._certificate = _sign(name, name, self._key.public_key(), self._key, "")
        self.ca_pem = _pem(self._certificate)

    def credentials(self, node: str, incarnation: int = 0, *, cluster: str = "") -> Credentials:
        """What a node of that name proves itself with."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        uri = node_uri(cluster or self.cluster, node, incarnation)
        issuer = self._certificate.subject
        certificate = _sign(_name(node[:8]), issuer, key.public_key(), self._key, uri)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        return Credentials(self.ca_pem, _pem(certificate), key_pem)


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _sign(subject: Any, issuer: Any, public_key: Any, signing_key: Any, uri: str) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=not uri, path_length=None), critical=True)
    )
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _pem(certificate: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    text: str = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return text
