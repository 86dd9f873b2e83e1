"""Exec a zygote, before anything else of a node process is imported.

Apart from `_io.zygote_client`, because a starting node process does this first: its own imports and
those of the zygote then run side by side. So this module imports next to nothing.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Mapping

_CODE = (
    "import sys; sys.path[:] = {path!r}; from freehold._io.zygote import main; main()"
    "  # the zygote of a freehold node"
)
_ABOVE_TARGETS = 16


class Spawned:
    """An exec'ed zygote: its pid, the control socket, and what it writes to standard error."""

    __slots__ = ("control", "pid", "stderr_fd")

    def __init__(self, pid: int, control: socket.socket, stderr_fd: int) -> None:
        self.pid = pid
        self.control = control
        self.stderr_fd = stderr_fd

    def close(self) -> None:
        """Give back the descriptors; a living zygote takes that as its end."""
        self.control.close()
        os.close(self.stderr_fd)

    def last_words(self, limit_bytes: int = 4000) -> str:
        """The end of what it wrote to standard error."""
        size = os.fstat(self.stderr_fd).st_size
        start = max(0, size - limit_bytes)
        return os.pread(self.stderr_fd, size - start, start).decode(errors="replace").strip()


def spawn(sys_path: list[str], environment: Mapping[str, str] | None = None) -> Spawned:
    """Exec a zygote that finds `freehold` on `sys_path`, in this environment or another.

    Raises:
        OSError: the interpreter cannot be executed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stderr_fd = os.memfd_create("freehold-zygote-stderr", os.MFD_CLOEXEC)
    # Sources are moved above the targets, so that no dup2 overwrites one that is still needed.
    control = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _ABOVE_TARGETS)
    output = fcntl.fcntl(stderr_fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_TARGETS)
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", _CODE.format(path=sys_path)],
            os.environ if environment is None else environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
                (os.POSIX_SPAWN_DUP2, control, 3),
            ],
        )
    except BaseException:
        ours.close()
        os.close(stderr_fd)
        raise
    finally:
        os.close(control)
        os.close(output)
        theirs.close()
    return Spawned(pid, ours, stderr_fd)
