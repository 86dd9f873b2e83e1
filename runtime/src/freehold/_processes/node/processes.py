"""The processes of one node that its manager knows: drivers and workers, by number.

A record begins when a driver attaches or a worker's start is asked for, and ends when the process
has *ended* and everything it had sent was handled. Numbers are never used twice.
"""

from __future__ import annotations

import os

from freehold._core.ids import Address
from freehold._core.messages import ExitCause
from freehold._io.transport import ANYONE, Connection

__all__ = ["ANYONE", "LocalProcess", "ProcessTable"]


class LocalProcess:
    """A driver or worker of this node; `start` is 0 for a driver."""

    __slots__ = (
        "address",
        "cause",
        "connection",
        "end_reason",
        "env",
        "exit",
        "heir",
        "is_registered",
        "is_retiring",
        "name",
        "pid",
        "pidfd",
        "start",
    )

    def __init__(self, address: Address, start: int, env: str = "") -> None:
        self.address = address
        self.start = start
        self.env = env
        self.name = ""
        """What its output is shown under: the class of the actor that it is."""
        self.pid = 0
        self.pidfd = -1
        self.connection: Connection | None = None
        self.is_registered = False
        self.is_retiring = False
        """It announced its end."""
        self.end_reason = ""
        """Why the runtime ended it, if it did."""
        self.exit: tuple[int | None, int | None] | None = None
        """Code and signal, once it has ended."""
        self.cause: ExitCause | None = None
        self.heir: Address | None = None
        """Who answers for what it owns once it has ended, if it leaves in an orderly way."""

    @property
    def number(self) -> int:
        """Its number on this node."""
        return self.address.process

    @property
    def is_driver(self) -> bool:
        """Whether it is a driver."""
        return self.start == 0

    def close(self) -> None:
        """Give back the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class ProcessTable:
    """All of them, by number and, until they end, workers by start."""

    def __init__(self, node: str, incarnation: int) -> None:
        self._node = node
        self._incarnation = incarnation
        self._last = 0
        self.by_number: dict[int, LocalProcess] = {}
        self.by_start: dict[int, LocalProcess] = {}

    def add(self, start: int, env: str = "") -> LocalProcess:
        """A new record under the next number; `start` 0 is a driver."""
        self._last += 1
        process = LocalProcess(Address(self._node, self._last, self._incarnation), start, env)
        self.by_number[self._last] = process
        if start:
            self.by_start[start] = process
        return process

    def remove(self, process: LocalProcess) -> None:
        """Forget a process that ended or never came."""
        self.by_number.pop(process.number, None)
        self.by_start.pop(process.start, None)
        process.close()

    def drivers(self) -> list[LocalProcess]:
        """The drivers that are attached."""
        return [process for process in self.by_number.values() if process.is_driver]

    def environments(self) -> set[str]:
        """Those that a worker runs in, or is being started in."""
        return {process.env for process in self.by_start.values()}

    def registered(self) -> list[LocalProcess]:
        """All processes that can be spoken to."""
        return [process for process in self.by_number.values() if process.is_registered]
