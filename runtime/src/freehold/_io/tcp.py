"""TCP sockets of the peer plane, and the clear words that open one.

Whoever connects to a node's one port says which of its processes it wants, in twenty fixed bytes,
before anything is encrypted: `<8s magic | u16 protocol | u16 flags | u32 process | u32
incarnation>`. They say nothing that is secret and are believed by nobody; the node manager needs
them to pass the socket on unread. Rejected: TLS's own server name with MSG_PEEK (a parser of
ClientHello, and nothing for connections without TLS), a port for each worker (a NetworkPolicy could
name none).
"""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct as _Packer
from typing import NamedTuple

from freehold._core.ids import Address
from freehold._core.limits import KEEPALIVE_S, UNANSWERED_S
from freehold._core.messages import PROTOCOL
from freehold.errors import ProtocolError

_MAGIC = b"FREEHOLD"
_TLS = 1
_preamble = _Packer("<8sHHII")
PREAMBLE_BYTES = _preamble.size
_BACKLOG = 256


class Preamble(NamedTuple):
    """What a stranger says in the clear: which process it wants, and how it will go on."""

    process: int
    incarnation: int
    is_tls: bool


def encode_preamble(target: Address, *, is_tls: bool) -> bytes:
    """The first bytes of a connection to `target`."""
    flags = _TLS if is_tls else 0
    return _preamble.pack(_MAGIC, PROTOCOL, flags, target.process, target.incarnation)


def decode_preamble(data: bytes) -> Preamble:
    """The first bytes of a connection, as the acceptor reads them.

    Raises:
        ProtocolError: they are not those of a peer of this version.
    """
    magic, protocol, flags, process, incarnation = _preamble.unpack(data)
    if magic != _MAGIC:
        raise ProtocolError(reason=f"not a peer of this protocol (it began with {magic!r})")
    if protocol != PROTOCOL or flags & ~_TLS:
        raise ProtocolError(reason=f"protocol {protocol} is not {PROTOCOL}: use one version")
    return Preamble(process, incarnation, bool(flags & _TLS))


def resolve(host: str) -> str:
    """The numeric address of a host, once, so that nobody looks up a name under a lock later.

    Raises:
        OSError: the name is not known.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return str(found[0][4][0])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, non-blocking, on a numeric address.

    Raises:
        OSError: not an address of this machine, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def dial(host: str, port: int) -> socket.socket:
    """A non-blocking socket that is connecting to a numeric address: writable when it has.

    Raises:
        OSError: it failed at once.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        tune(sock)
        code = sock.connect_ex((host, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except OSError:
        sock.close()
        raise
    return sock


def tune(sock: socket.socket) -> None:
    """Send small frames at once, and find out within seconds that the other machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, UNANSWERED_S - KEEPALIVE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_S * 1000)
