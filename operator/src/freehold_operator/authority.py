"""A cluster's CA and token, made once: what its Secrets hold.

The CA's key goes into a Secret that only the head mounts; everything else gets the token and the
CA's certificate. Nothing made here is ever made again: a cluster's certificates would not be
believed.
"""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CA_DAYS = 3650
TOKEN_BYTES = 32
_BACKDATED = timedelta(minutes=5)
"""Machines' clocks differ a little."""


def new_token() -> str:
    """A token nobody guesses."""
    return secrets.token_hex(TOKEN_BYTES)


def new_ca(cluster_id: str) -> tuple[bytes, bytes]:
    """A CA's certificate and key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Freehold CA of {cluster_id}")])
    now = datetime.now(UTC)
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
    public = key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(pem), private


def encoded(data: bytes) -> str:
    """As a Secret's `data` holds it."""
    return base64.b64encode(data).decode()


def decoded(text: str) -> bytes:
    """The bytes of a Secret's entry."""
    return base64.b64decode(text)
