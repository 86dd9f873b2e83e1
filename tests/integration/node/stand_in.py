"""Workers that do next to nothing, in the place of the real one: `module:function` of a setting."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import frames
from freehold._io.transport import connect_socket

ANYONE = 0xFFFF_FFFF


def register(start: Any) -> socket.socket:
    """Report to the node manager and take in its answer."""
    manager = start.node_manager
    sock = connect_socket(f"{start.sockets}/{manager.node[:8]}/0.sock")
    hello = m.Hello(start.cluster, Address(manager.node, ANYONE), manager, m.PROTOCOL)
    sock.sendall(frames.encode([hello, m.Register(os.getpid(), start.start)]))
    header = sock.recv(frames.HEADER_BYTES, socket.MSG_WAITALL)
    sock.recv(frames.body_length(bytearray(header)), socket.MSG_WAITALL)
    return sock


def idle(start: Any) -> None:
    """Wait until the node manager is gone."""
    sock = register(start)
    while sock.recv(1 << 16):
        pass


def spin(start: Any) -> None:
    """Never come back to the interpreter."""
    register(start)
    sum(range(10**14))


def talk(start: Any) -> None:
    """Write to both streams and wait."""
    print("a line to", "standard output")
    print("a line to standard error", file=sys.stderr)
    idle(start)


def tell(start: Any) -> None:
    """Say what the environment is like, and wait."""
    thread_variable = os.environ.get("OMP_NUM_THREADS")
    print(f"COLOUR={os.environ.get('COLOUR')} cwd={os.getcwd()} threads={thread_variable}")
    print(f"descriptors={sorted(map(int, os.listdir('/proc/self/fd')))[:-1]}")
    idle(start)


def leave(start: Any) -> None:
    """End with a code of its own, some time after having registered and written."""
    sock = register(start)
    print("last words")
    sock.recv(1 << 16)
    sys.exit(3)


def fail(start: Any) -> None:
    """Fail before it registers."""
    raise RuntimeError(f"start {start.start} fails on purpose")
