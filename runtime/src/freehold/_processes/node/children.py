"""The children of a node process: its zygotes, workers whose zygote died before them, and what user
code in workers started in a session of its own, whose parent has ended (this process is their
subreaper).

Only the kernel tells the end of a child, and only once; everything that ends here is reaped.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from freehold._io.reactor import Reactor

_POLL_S = 0.005


class Children:
    """Reaps on SIGCHLD.

    Args:
        on_reaped: is told pid and wait status of every child that ended.
    """

    def __init__(self, reactor: Reactor, on_reaped: Callable[[int, int], None]) -> None:
        self._reactor = reactor
        self._on_reaped = on_reaped
        self._reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        reactor.register(self._reading, self._on_signal)

    def _on_signal(self, _events: int) -> None:
        try:
            os.read(self._reading, 512)
        except BlockingIOError:
            pass
        self.reap()

    def reap(self) -> bool:
        """Reap all children that have ended; False if there are none left at all."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return True
                # An orphaned worker's children go with it, as with those that a zygote reaps. While
                # the zombie is there its group's number cannot belong to anyone else.
                try:
                    os.killpg(ended.si_pid, signal.SIGKILL)
                except OSError:
                    pass  # it led no group
                pid, status = os.waitpid(ended.si_pid, 0)
            except ChildProcessError:
                return False
            self._on_reaped(pid, status)

    def wait_for(self, pids: list[int], deadline: float) -> None:
        """Reap until no child is left; past the deadline SIGKILL `pids` and give up.

        The other children are orphans, to be killed at once. As their own children come to this
        process then, it looks again each time.
        """
        while self.reap():
            for orphan in set(_children()).difference(pids):
                # Its number is its own until it is reaped, which happens here alone.
                os.kill(orphan, signal.SIGKILL)
            if time.monotonic() > deadline:
                for pid in pids:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                return
            time.sleep(_POLL_S)


def _children() -> list[int]:
    """The children of this process, if the kernel tells (CONFIG_PROC_CHILDREN)."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
        except OSError:
            pass  # the thread has ended, or the kernel does not tell
    return found


def _nothing(_number: int, _frame: object) -> None:
    pass
