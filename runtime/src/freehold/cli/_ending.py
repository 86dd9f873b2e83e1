"""Ends processes that may not be children of this one, never one that only has their number."""

from __future__ import annotations

import os
import select
import signal
import time

from freehold._processes.node.record import END_NOW, start_time

_LOOK_S = 0.05


def end_all(processes: list[tuple[int, int]], timeout_s: float) -> set[int]:
    """Tell each (pid, start time) to end, without a drain; SIGKILL what is left after a while.

    The pids of those are returned.

    A pidfd is opened before the start time is looked at, so it is that process's or nobody's.
    """
    open_fds: dict[int, int] = {}
    for pid, started in processes:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if start_time(pid) == started:
            signal.pidfd_send_signal(pidfd, END_NOW)
            open_fds[pid] = pidfd
        else:
            os.close(pidfd)
    _await(open_fds, timeout_s)
    killed = set(open_fds)
    for pidfd in open_fds.values():
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    _await(open_fds, 5.0)
    for pidfd in open_fds.values():
        os.close(pidfd)
    return killed


def _await(open_fds: dict[int, int], timeout_s: float) -> None:
    """Wait until they have ended; those that have are taken out."""
    deadline = time.monotonic() + timeout_s
    poll = select.poll()
    for pidfd in open_fds.values():
        poll.register(pidfd, select.POLLIN)
    while open_fds and time.monotonic() < deadline:
        ended = {fd for fd, _ in poll.poll(_LOOK_S * 1000)}
        for pid, pidfd in list(open_fds.items()):
            if pidfd in ended:
                poll.unregister(pidfd)
                os.close(pidfd)
                del open_fds[pid]
