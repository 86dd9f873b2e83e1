"""A driver for tests: a blocking socket to a node manager, and the messages that came over it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any, TypeVar

import psutil

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import frames
from freehold._io.transport import connect_socket
from freehold._processes.driver.bootstrap import (
    Membership,
    NodeProcess,
    resolve_settings,
    start_node,
)

ANYONE = 0xFFFF_FFFF
ONE_CPU = (("CPU", 10_000),)
HERE = str(Path(__file__).parent)

T = TypeVar("T", bound=m.Message)


def start(
    worker: str = "idle",
    join: NodeProcess | None = None,
    membership: Membership | None = None,
    **settings: Any,
) -> NodeProcess:
    """A node process with stand-in workers; with `membership` it is there for other machines."""
    import sys

    given: dict[str, Any] = {
        "num_cpus": 2,
        "object_store_memory": 16 << 20,
        "worker": f"stand_in:{worker}",
    }
    if membership is not None:
        given |= {"host": "127.0.0.1", "tls": not membership.credentials.secret}
    return start_node(
        resolve_settings({**given, **settings}),
        join=join,
        sys_path=[HERE, *sys.path],
        membership=membership,
    )


class Driver:
    """Attached to a node process."""

    def __init__(self, node: NodeProcess) -> None:
        self.node = node
        self.seen: list[m.Message] = []
        self.fds: list[int] = []
        self._buffer = b""
        self._sock = connect_socket(f"{node.sockets}/{node.node[:8]}/0.sock")
        hello = m.Hello(node.cluster, Address(node.node, ANYONE), node.address, m.PROTOCOL)
        self.send(hello, m.Register(os.getpid(), is_driver=True))
        self.registered = self.await_message(m.Registered)
        self.address = self.registered.address

    def send(self, *messages: m.Message) -> None:
        self._sock.sendall(frames.encode(messages))

    def await_message(self, kind: type[T], timeout_s: float = 5.0, **fields: Any) -> T:
        """The next message of a kind (with these fields), taken out of what was seen."""
        deadline = time.monotonic() + timeout_s
        while True:
            for message in self.seen:
                if isinstance(message, kind) and all(
                    getattr(message, name) == value for name, value in fields.items()
                ):
                    self.seen.remove(message)
                    return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {kind.__name__} {fields} among {self.seen}")
            self._read(left)

    def _read(self, timeout_s: float) -> None:
        self._sock.settimeout(timeout_s)
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, 1 << 20, 4)
        except TimeoutError:
            return
        if not data:
            raise ConnectionError(f"the node manager closed; seen {self.seen}")
        self.fds += fds
        self._buffer += data
        while len(self._buffer) >= frames.HEADER_BYTES:
            end = frames.HEADER_BYTES + frames.body_length(bytearray(self._buffer))
            if len(self._buffer) < end:
                break
            self.seen += frames.decode(self._buffer[frames.HEADER_BYTES : end])
            self._buffer = self._buffer[end:]

    def lease(self, wanted: int = 1, key: int = 0, env: str = "") -> m.LeaseGranted:
        """Ask for leases and await the next grant."""
        self.send(m.LeaseDemand(key, ONE_CPU, env, wanted, wanted))
        return self.await_message(m.LeaseGranted, 10.0, key=key)

    def lines(self, *, is_error: bool = False, timeout_s: float = 5.0) -> list[str]:
        return self.await_message(m.LogLines, timeout_s, is_error=is_error).lines

    def close(self) -> None:
        self._sock.close()
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def zygotes(node: NodeProcess) -> list[int]:
    """The pids of a node's zygotes."""
    children = [child.pid for child in psutil.Process(node.pid).children()]
    # Workers that were taken over look the same, but each leads a process group.
    return [pid for pid in children if is_alive(pid) and os.getpgid(pid) == node.pid]


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
