"""A node manager's end of a zygote: asks for workers, hears of their birth and their end.

It keeps the starts that a zygote has not answered, so that they can be failed if it dies, and
nothing of the workers themselves: those are `_processes.node.pool`'s, which also decides whether a
dead zygote is replaced. Everything runs under the reactor's lock.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from typing import Protocol

import msgspec

from freehold._io.reactor import READABLE, WRITABLE, Reactor
from freehold._io.zygote_protocol import (
    DATAGRAM_BYTES,
    Configure,
    Dismiss,
    Exited,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    Ready,
    ToZygote,
    WorkerStart,
)
from freehold._io.zygote_spawn import Spawned

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromZygote).decode


class ZygoteListener(Protocol):
    """Who is told what a zygote did."""

    def zygote_ready(self, client: ZygoteClient, preload_ms: float) -> None:
        """Everything is imported."""

    def worker_forked(self, start: int, pid: int, pidfd: int, fork_ms: float) -> None:
        """A worker runs; the listener owns `pidfd`."""

    def fork_failed(self, start: int, reason: str) -> None:
        """A worker will not come."""

    def worker_exited(self, start: int, pid: int, code: int | None, number: int | None) -> None:
        """A worker ended, with an exit code or by a signal's number."""

    def zygote_died(self, client: ZygoteClient, unanswered: list[int], reason: str) -> None:
        """The zygote is gone; `unanswered` starts will not come, its workers live on."""


class ZygoteClient:
    """One zygote, from its exec to its end."""

    def __init__(
        self, spawned: Spawned, reactor: Reactor, listener: ZygoteListener, env: str = ""
    ) -> None:
        self.env = env
        self.pid = spawned.pid
        self.is_ready = False
        self.is_closed = False
        self.preload_ms = 0.0
        self._spawned = spawned
        self._control = spawned.control
        self._control.setblocking(False)
        self._reactor = reactor
        self._listener = listener
        self._unanswered: dict[int, None] = {}
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        reactor.register(self._control.fileno(), self._on_ready)

    def configure(self, config: Configure, lifeline_fd: int, arena_fd: int) -> None:
        """Say what to import; first of all. The descriptors stay the caller's."""
        self._send(config, [os.dup(lifeline_fd), os.dup(arena_fd)])

    def fork(self, worker: WorkerStart, env_vars: dict[str, str], fds: list[int]) -> None:
        """Ask for a worker; takes over `fds` (standard output, standard error)."""
        self._unanswered[worker.start] = None
        self._send(Fork(worker, env_vars), fds)

    def dismiss(self) -> None:
        """Let the zygote end, with all its workers."""
        self._send(Dismiss(), [])

    def last_words(self) -> str:
        """The end of what the zygote wrote to standard error."""
        return self._spawned.last_words()

    def close(self) -> None:
        """Forget the zygote; if it lives it takes that as the node manager's end."""
        if self.is_closed:
            return
        self.is_closed = True
        self._reactor.unregister(self._control.fileno())
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()
        self._spawned.close()

    def _send(self, message: ToZygote, fds: list[int]) -> None:
        if self.is_closed:
            _close_all(fds)
            return
        self._unsent.append((_encode(message), fds))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        unsent = self._unsent
        while unsent:
            data, fds = unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._control.sendmsg([data], rights)
            except BlockingIOError:
                self._reactor.modify(self._control.fileno(), READABLE | WRITABLE)
                return
            except OSError:
                # Its end is read from the socket, in order behind what it still said.
                break
            unsent.popleft()
            _close_all(fds)
        while unsent:
            _close_all(unsent.popleft()[1])
        self._reactor.modify(self._control.fileno(), READABLE)

    def _on_ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE:
            self.drain()

    def drain(self) -> None:
        """Take in everything that the zygote has said."""
        while not self.is_closed:
            try:
                data, fds, _, _ = socket.recv_fds(self._control, DATAGRAM_BYTES, 4)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self._died()
                return
            self._take(_decode(data), list(fds))

    def _take(self, message: FromZygote, fds: list[int]) -> None:
        listener = self._listener
        if isinstance(message, Forked):
            self._unanswered.pop(message.start, None)
            os.set_inheritable(fds[0], False)
            listener.worker_forked(message.start, message.pid, fds[0], message.fork_ms)
        elif isinstance(message, Exited):
            listener.worker_exited(message.start, message.pid, message.code, message.signal)
        elif isinstance(message, ForkFailed):
            self._unanswered.pop(message.start, None)
            listener.fork_failed(message.start, message.reason)
        elif isinstance(message, Ready):
            self.is_ready = True
            self.preload_ms = message.preload_ms
            listener.zygote_ready(self, message.preload_ms)

    def _died(self) -> None:
        words = self.last_words()
        unanswered = list(self._unanswered)
        self._unanswered.clear()
        self.close()
        state = "its worker zygote ended" if self.is_ready else "its worker zygote did not start"
        self._listener.zygote_died(self, unanswered, f"{state}: {words or 'no output'}")


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
