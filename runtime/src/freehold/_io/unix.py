"""Unix sockets of the peer plane: paths of any length, and who is at the other end."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

_SOCKET_BUFFER_BYTES = 1 << 20
_BACKLOG = 256
_ucred = struct.Struct("3i")


class PeerCredentials(NamedTuple):
    """The process at the other end of a unix socket, by the kernel's word."""

    pid: int
    uid: int
    gid: int


def peer_credentials(sock: socket.socket) -> PeerCredentials:
    """Who connected; or, where this side did, who listens."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _ucred.size)
    return PeerCredentials(*_ucred.unpack(data))


def peer_uid(sock: socket.socket) -> int:
    """The user whose process connected, by the kernel's word."""
    return peer_credentials(sock).uid


def widen(sock: socket.socket) -> None:
    """Let a unix socket hold a whole frame of some size."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)


def listen(path: str) -> socket.socket:
    """A listening socket at `path`, non-blocking.

    Raises:
        OSError: it cannot be made there.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _at_path(sock.bind, path)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def connect_socket(path: str, *, waits: bool = True) -> socket.socket:
    """A stream socket connected to `path`.

    Args:
        waits: whether to wait where too many others wait to be accepted.

    Raises:
        OSError: nobody listens there; or, without `waits`, too many others wait.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(waits)
        widen(sock)
        _at_path(sock.connect, path)
    except OSError:
        sock.close()
        raise
    return sock


def _at_path(call: Callable[[str], None], path: str) -> None:
    """Bind or connect to a path that may be longer than the 107 bytes a unix address has."""
    if len(os.fsencode(path)) < 108:
        call(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        call(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)
