"""The zygote: imports what is worth importing once, and forks workers from it in 2 ms.

Place in the flow: a node manager exec's one zygote for each runtime environment and talks to it
over a datagram socket (`_io.zygote_protocol`). It is exec'ed, never forked from a process with
threads, and refuses to fork if it has more than one thread itself, because a fork copies locks that
other threads hold. It reaps its workers and reports how they ended.

Nothing outlives a node manager: when the socket closes, the zygote kills every worker (and the
process group it leads) by pidfd, deletes the session folder, and ends. Should the zygote be killed
at the same moment, each worker has a guard in the kernel: a pipe whose only writing end is the node
manager's sends SIGKILL when it closes, also to a worker that never returns to the interpreter.

It deliberately has no reactor, no peer plane and no policy; who is forked when is decided in
`_core.scheduling`.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec

from freehold._io import session
from freehold._io.naming import name_process
from freehold._io.zygote_protocol import (
    DATAGRAM_BYTES,
    FORK_FDS,
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

CONTROL_FD = 3
LIFELINE_FD = 4
ARENA_FD = 5

F_SETSIG = 10
"""Linux: which signal an O_ASYNC descriptor sends; `fcntl` does not name it before 3.13."""

_decode = msgspec.msgpack.Decoder(ToZygote).decode
_encode = msgspec.msgpack.Encoder().encode


class _Child:
    __slots__ = ("pid", "pidfd", "start")

    def __init__(self, start: int, pid: int, pidfd: int) -> None:
        self.start = start
        self.pid = pid
        self.pidfd = pidfd


class Zygote:
    """The loop of a zygote process."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, _Child] = {}
        self._config = Configure([], [], "", "")
        self._poll: select.epoll
        self._is_over = False
        self._is_dismissed = False

    def run(self) -> tuple[WorkerStart, dict[str, str]] | None:
        """Serve until the node manager is gone; returns in a forked child what it is to be."""
        config, fds = self._receive()
        if not isinstance(config, Configure) or len(fds) != 2:
            return None
        place(fds, [LIFELINE_FD, ARENA_FD])
        self._poll = select.epoll()
        self._config = config
        started = time.perf_counter()
        try:
            preload(config)
        except BaseException:
            traceback.print_exc()  # the node manager reads what was written when it sees the end
            raise
        gc.collect()
        gc.freeze()
        self._send(Ready(os.getpid(), (time.perf_counter() - started) * 1e3))
        self._poll.register(self._control.fileno(), select.EPOLLIN)
        while not self._is_over:
            for fd, _events in self._poll.poll():
                if fd == self._control.fileno():
                    work = self._serve()
                    if work is not None:
                        return work
                elif fd in self._children:
                    self._reap(self._children[fd])
        self._end()
        return None

    def _serve(self) -> tuple[WorkerStart, dict[str, str]] | None:
        message, fds = self._receive()
        if message is None or isinstance(message, Dismiss):
            self._is_over = True
            self._is_dismissed = message is not None
        elif isinstance(message, Fork):
            if len(fds) != FORK_FDS:
                self._send(ForkFailed(message.worker.start, f"{len(fds)} descriptors came along"))
            elif self._fork(message, fds):
                return message.worker, message.env_vars
        for fd in fds:
            os.close(fd)
        return None

    def _fork(self, message: Fork, fds: list[int]) -> bool:
        """Fork; True in the child."""
        started = time.perf_counter()
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            self._send(ForkFailed(message.worker.start, f"the zygote has {threads} threads"))
            return False
        try:
            pid = os.fork()
        except OSError as error:
            self._send(ForkFailed(message.worker.start, f"cannot fork: {error}"))
            return False
        if pid == 0:
            self._control.detach()  # what closes by itself later must not close another's number
            self._poll.close()
            become_child(fds)
            return True
        pidfd = os.pidfd_open(pid)
        with contextlib.suppress(OSError):  # also set by the child, whoever comes first
            os.setpgid(pid, pid)
        self._children[pidfd] = _Child(message.worker.start, pid, pidfd)
        self._poll.register(pidfd, select.EPOLLIN)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        self._send(Forked(message.worker.start, pid, elapsed_ms), [pidfd])
        return False

    def _reap(self, child: _Child) -> None:
        # While the zombie is there its group's number cannot belong to anyone else.
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        if found is None:
            return
        self._poll.unregister(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)
        is_exit = found.si_code == os.CLD_EXITED
        code, number = (found.si_status, None) if is_exit else (None, found.si_status)
        self._send(Exited(child.start, child.pid, code, number))

    def _end(self) -> None:
        """Kill every worker; delete the session's folder if the node manager is gone.

        One that was dismissed may leave a node that lives, and has other environments; a node that
        ends deletes its folder itself.
        """
        children = list(self._children.values())
        for child in children:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
        for child in children:
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        if self._config.remove_path and not self._is_dismissed:
            session.remove_tree(self._config.remove_path)

    def _receive(self) -> tuple[ToZygote | None, list[int]]:
        """The next message with its descriptors; None when the node manager is gone."""
        try:
            data, fds, _flags, _address = socket.recv_fds(self._control, DATAGRAM_BYTES, FORK_FDS)
        except OSError:
            return None, []
        return (_decode(data) if data else None), list(fds)

    def _send(self, message: FromZygote, fds: list[int] | None = None) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        with contextlib.suppress(OSError):  # gone: the next receive says so
            self._control.sendmsg([_encode(message)], ancillary)


# ---- before the fork -----------------------------------------------------------------------------


def preload(config: Configure) -> None:
    """Import everything that workers share."""
    if config.working_dir:
        os.chdir(config.working_dir)
    sys.path[:] = config.sys_path
    for name in config.restored:
        os.environ[name] = "1"  # thread pools: one thread each, or there would be several to fork
    for name in config.preload:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # What is not installed here no worker can need; a broken module is another matter.
            if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
                raise
    if config.worker:
        find_main(config.worker)


def find_main(name: str) -> Callable[[WorkerStart], Any]:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    found: Callable[[WorkerStart], Any] = getattr(importlib.import_module(module), function)
    return found


# ---- after the fork ------------------------------------------------------------------------------


def become_child(fds: list[int]) -> None:
    """Make a process of its own of a fresh fork: group, signals, descriptors, guard."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # so that ^C at the driver's terminal is the driver's alone
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(fds[0], 1)
    os.dup2(fds[1], 2)
    close_all_but([0, 1, 2, LIFELINE_FD, ARENA_FD])
    die_with(LIFELINE_FD)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def place(sources: list[int], targets: list[int]) -> None:
    """Move descriptors to fixed numbers, by way of numbers above all of them."""
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ARENA_FD + 1) for fd in sources]
    for fd in sources:
        os.close(fd)
    for fd, target in zip(above, targets, strict=True):
        os.dup2(fd, target, inheritable=False)
        os.close(fd)


def close_all_but(kept: list[int]) -> None:
    """Close every descriptor that is not listed."""
    previous = -1
    for fd in sorted(set(kept)):
        if fd > previous + 1:  # closerange takes an empty range at 0 for everything
            os.closerange(previous + 1, fd)
        previous = fd
    os.closerange(previous + 1, 1 << 20)


def die_with(lifeline: int) -> None:
    """Have the kernel SIGKILL this process when the last writer of the pipe `lifeline` is gone.

    The signal comes with the pipe's closing, whatever the process is doing, and goes to its whole
    group: what user code started ends too. The pipe is opened anew because who is signalled
    belongs to the open file, and forks share that.
    """
    fd = os.open(f"/proc/self/fd/{lifeline}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.close(lifeline)
    is_leader = os.getpgrp() == os.getpid()
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpid() if is_leader else os.getpid())
    fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):  # it closed before the guard was set
        os._exit(1)


def settle_child(config: Configure, env_vars: dict[str, str]) -> None:
    """Put the environment back, and make random numbers differ from the siblings'."""
    name_process("freehold-worker")
    for name, value in config.restored.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.environ.update(config.env_vars)
    os.environ.update(env_vars)
    # `random` reseeds itself after a fork; numpy's legacy global generator does not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


@contextlib.contextmanager
def _exit_code_of_failure() -> Iterator[None]:
    """A worker's main function never comes back into the zygote's code."""
    try:
        yield
    except SystemExit as error:
        sys.stdout.flush()
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    except BaseException:  # noqa: BLE001 - whatever it was, the zygote's code must not go on here
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main() -> NoReturn:
    """Run the zygote on `CONTROL_FD`; in a child, the worker."""
    name_process("freehold-zygote")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.closerange(CONTROL_FD + 1, 1 << 20)  # a driver's inheritable descriptors are not ours
    os.set_inheritable(CONTROL_FD, False)
    zygote = Zygote(socket.socket(fileno=CONTROL_FD))
    work = zygote.run()
    if work is None:
        os._exit(0)
    start, env_vars = work
    config = zygote._config
    del zygote
    with _exit_code_of_failure():
        settle_child(config, env_vars)
        find_main(config.worker)(start)
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
