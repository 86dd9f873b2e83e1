"""The one word with which a machine joins a cluster: where it is, its token, whose CA.

    freehold://TOKEN@HOST:PORT?ca=SHA256-OF-THE-CA

The CA itself is fetched over the wire and compared with its SHA-256 before the token is sent. In
Kubernetes token and CA are files, and the address is a bare `HOST:PORT`.
"""

from __future__ import annotations

import re

import msgspec

SCHEME = "freehold://"
DEFAULT_PORT = 7400

_HOST = r"(?P<host>\[[0-9a-fA-F:.%a-z]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
_JOIN = r"freehold://(?P<token>[A-Za-z0-9._~+/=-]+)@" + _HOST + r"/?\?ca=(?P<ca>[0-9a-fA-F]{64})"
# Compiled when needed: every start imports this, few parse anything.


class ControlAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a control service is, and with a join string also how to be let in."""

    host: str
    port: int = DEFAULT_PORT
    token: str = ""
    ca_sha256: str = ""

    @property
    def target(self) -> str:
        """`host:port`: what may be shown and logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def join_string(self) -> str:
        """All of it as one word; a secret."""
        return f"{SCHEME}{self.token}@{self.target}?ca={self.ca_sha256}"

    def __repr__(self) -> str:
        return f"ControlAddress({self.target!r})"  # without the token: errors and logs show it


def places(address: ControlAddress, second: str) -> list[ControlAddress]:
    """Where a control service is looked for, in turn: at its address, then under its second name.

    Raises:
        ValueError: the second is not an address; it names the setting.
    """
    if not second:
        return [address]
    try:
        other = parse(second)
    except ValueError as error:
        raise ValueError(f"second_address: {error}") from None
    return [address, msgspec.structs.replace(address, host=other.host, port=other.port)]


def parse(text: str) -> ControlAddress:
    """Read `HOST:PORT`, `HOST`, or a join string.

    Raises:
        ValueError: it is neither; the message does not repeat it, since it may hold a token.

    Example:
        >>> parse("head.example:7400").target
        'head.example:7400'
    """
    text = text.strip()
    if text.startswith(SCHEME):
        found = re.fullmatch(_JOIN, text)
        if found is None:
            raise ValueError(
                "this is not a whole join string; it looks like "
                "freehold://TOKEN@HOST:PORT?ca=64 hex digits (quote it in a shell)"
            )
        return ControlAddress(
            host=found["host"].strip("[]"),
            port=_port(found["port"]),
            token=found["token"],
            ca_sha256=found["ca"].lower(),
        )
    found = re.fullmatch(_HOST, text)
    if found is None:
        raise ValueError("an address is HOST:PORT, or the join string that the head printed")
    return ControlAddress(host=found["host"].strip("[]"), port=_port(found["port"]))


def _port(text: str | None) -> int:
    port = DEFAULT_PORT if text is None else int(text)
    if not 0 < port < 1 << 16:
        raise ValueError(f"port {port} is not one of 1 to 65535")
    return port
