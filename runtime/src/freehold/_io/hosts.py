"""Under which address other machines reach this one, and on which interfaces it listens."""

from __future__ import annotations

import socket

_LOOPBACK = ("127.", "localhost", "::1")
_OUTSIDE = "192.0.2.1"
"""An address that documentation may use (RFC 5737): routed like any other, and nobody's."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine's alone."""
    return host.startswith(_LOOPBACK)


def own_host(towards: str = _OUTSIDE) -> str:
    """The address of the interface that leads to another machine; nothing is sent."""
    if is_loopback(towards):
        return "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((towards, 9))
                host: str = sock.getsockname()[0]
                return host
        except OSError:
            continue
    return "127.0.0.1"


def bind_address(host: str) -> str:
    """Where to listen for those who reach this machine as `host`: on the loopback interface alone,
    or on all, of both families where the machine has both."""
    if is_loopback(host):
        return "::1" if host == "::1" else "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::", 0))
        return "::"
    except OSError:
        return "0.0.0.0"


def listen(bind: str, port: int, backlog: int = 128) -> socket.socket:
    """A listening socket that does not block.

    Raises:
        OSError: the port is taken, or not allowed.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((bind, port))
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
