"""What a process shows to others of its cluster; without the library that makes it."""

from __future__ import annotations

import msgspec


class Credentials(msgspec.Struct, frozen=True):
    """A leaf certificate, its key, and the CA that signed both ends'; PEM, secret."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    expires_unix_s: int = 0

    def __repr__(self) -> str:
        return "Credentials(…)"  # the key is in it
