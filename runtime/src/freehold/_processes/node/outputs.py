"""What workers write to standard output and error, on its way to the drivers.

Each worker has two pipes. Whole lines are gathered for a moment and sent as `LogLines`; the last
few stay here, to be told with the worker's death. A worker that floods is cut: past
`log_bytes_per_s` lines are counted instead of sent, and the count is sent. Reading never stops, so
a worker never blocks on a full pipe.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from freehold._core.ids import Address
from freehold._core.limits import EXIT_LOG_LINES
from freehold._core.messages import LogLines
from freehold._io import clock
from freehold._io.reactor import Reactor
from freehold._processes.node.processes import LocalProcess

SEND_AFTER_S = 0.05
"""Lines wait this long for others: an eye sees no difference, a driver is woken less."""

LINE_BYTES = 16 << 10
"""A longer line is broken here, so that a worker that never ends one costs no memory."""

_READ_BYTES = 64 << 10
_READS_PER_TURN = 4


class _Pipe:
    __slots__ = ("fd", "is_error", "partial", "process")

    def __init__(self, fd: int, process: LocalProcess, is_error: bool) -> None:
        self.fd = fd
        self.process = process
        self.is_error = is_error
        self.partial = b""


class Outputs:
    """The pipes of all workers of a node.

    Args:
        send: passes lines on to whoever shows them.
        driver_of: the driver of the job that an environment is of.
        bytes_per_s: what is passed on at the most.
    """

    def __init__(
        self,
        reactor: Reactor,
        send: Callable[[LogLines], None],
        driver_of: Callable[[str], Address | None],
        bytes_per_s: int,
    ) -> None:
        self._reactor = reactor
        self._send = send
        self._driver_of = driver_of
        self._bytes_per_s = bytes_per_s
        self._budget = float(bytes_per_s)
        self._budget_at = clock.now()
        self._dropped = 0
        self._pipes: dict[Address, list[_Pipe]] = {}
        self._last: dict[Address, deque[str]] = {}
        self._pending: dict[tuple[Address, bool], LogLines] = {}
        self._is_armed = False

    def open(self, process: LocalProcess) -> list[int]:
        """Pipes for a worker that is about to start: their writing ends, for the caller to give
        away.
        """
        ends = []
        pipes = []
        for is_error in (False, True):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reading, False)
            pipe = _Pipe(reading, process, is_error)
            self._reactor.register(reading, lambda _events, p=pipe: self._read(p))  # type: ignore[misc]
            pipes.append(pipe)
            ends.append(writing)
        self._pipes[process.address] = pipes
        self._last[process.address] = deque(maxlen=EXIT_LOG_LINES)
        return ends

    def close(self, process: LocalProcess) -> list[str]:
        """The worker ended: take in what is left; returns its last lines.

        A process that it left behind may hold the pipe open; what that still writes is lost.
        """
        for pipe in self._pipes.pop(process.address, ()):
            if pipe.fd >= 0:
                self._read(pipe)
                self._end(pipe)
        self.flush()
        return list(self._last.pop(process.address, ()))

    def read_all(self) -> None:
        """Take in what workers have written by now, and send it."""
        for pipes in list(self._pipes.values()):
            for pipe in pipes:
                if pipe.fd >= 0:
                    self._read(pipe)
        self.flush()

    def _read(self, pipe: _Pipe) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data = os.read(pipe.fd, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end(pipe)
                return
            self._take(pipe, data)

    def _end(self, pipe: _Pipe) -> None:
        if pipe.fd < 0:
            return
        if pipe.partial:
            self._take(pipe, b"\n")
        self._reactor.unregister(pipe.fd)
        os.close(pipe.fd)
        pipe.fd = -1

    def _take(self, pipe: _Pipe, data: bytes) -> None:
        lines = (pipe.partial + data).split(b"\n")
        pipe.partial = lines.pop()
        if len(pipe.partial) > LINE_BYTES:
            lines.append(pipe.partial)
            pipe.partial = b""
        if not lines:
            return
        process = pipe.process
        texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
        last = self._last.get(process.address)
        if last is not None:
            last.extend(texts[-EXIT_LOG_LINES:])
        if not self._may_send(sum(map(len, lines))):
            self._dropped += len(lines)
            self._arm()
            return
        key = (process.address, pipe.is_error)
        pending = self._pending.get(key)
        if pending is None:
            self._pending[key] = LogLines(
                process.address,
                process.pid,
                process.name,
                texts,
                pipe.is_error,
                self._driver_of(process.env),
            )
            self._arm()
        else:
            pending.lines += texts

    def _may_send(self, size_bytes: int) -> bool:
        now = clock.now()
        self._budget = min(
            float(self._bytes_per_s), self._budget + (now - self._budget_at) * self._bytes_per_s
        )
        self._budget_at = now
        if size_bytes > self._budget:
            return False
        self._budget -= size_bytes
        return True

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._reactor.call_later(SEND_AFTER_S, self.flush)

    def flush(self) -> None:
        """Send what is gathered."""
        self._is_armed = False
        pending, self._pending = self._pending, {}
        for lines in pending.values():
            self._send(lines)
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            text = f"({dropped} lines left out: over log_bytes_per_s={self._bytes_per_s})"
            self._send(LogLines(Address("", 0), os.getpid(), "freehold", [text], True))
