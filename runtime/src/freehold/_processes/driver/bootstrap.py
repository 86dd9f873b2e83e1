"""Starts a node process and waits until it can be attached to.

The node process is exec'ed with nothing of this process but its environment: settings and
`sys.path` go over standard input, answers come over a socket that both keep open. Its closing is
what ends the cluster: nothing stays behind without an orderly `stop()`, which is for waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import Credentials, NodePlace
from freehold._io.join_string import SCHEME, parse
from freehold._processes import settings as resolution
from freehold._processes.node.settings import NodeSettings
from freehold._processes.node.start import NodeReady, NodeStart
from freehold.errors import (
    AuthenticationError,
    ClusterUnreachableError,
    FreeholdError,
    FreeholdSystemError,
    JoinRefusedError,
    SettingsError,
)

_PASSED_ON: dict[str, type[FreeholdError]] = {
    kind.__name__: kind for kind in (AuthenticationError, ClusterUnreachableError, JoinRefusedError)
}
"""Errors of a node process that are its starter's to raise, as they are."""
_ABOVE_TARGETS = 16
_CODE = """\
import posix, sys  # freehold node process
sys.path[:] = posix.read(0, 1 << 20).partition(b"\\n")[0].decode().split("\\0")
posix.lseek(0, 0, 0)
package = type(sys)("freehold")  # without the public API, which takes longer than all the rest
package.__path__ = sys.argv[1:]
sys.modules["freehold"] = package
from freehold._processes.node.__main__ import main
main()
"""


class Membership(NamedTuple):
    """Who a node is to be: it has credentials before it exists."""

    cluster: str
    node: str
    credentials: Credentials


class NodeProcess:
    """A node process that this process started.

    Attributes:
        cluster: the cluster's id, 12 hex digits.
        node: the node's id, 32 hex digits.
        sockets: the cluster's folder: `<sockets>/<node8>/<process>.sock`.
        host, port: where other nodes reach it; empty and 0 if its cluster is on one machine.
        pid: its pid.
    """

    def __init__(self, ready: NodeReady, pid: int, channel: socket.socket) -> None:
        self.cluster = ready.cluster
        self.node = ready.node
        self.sockets = ready.session_path
        self.host, self.port = ready.host, ready.port
        self.pid = pid
        self.ready = ready
        self._channel = channel
        self._owner_pid = os.getpid()

    @property
    def session_path(self) -> str:
        """The cluster's folder, as `NodeReady` and a node's record call it."""
        return self.sockets

    @property
    def address(self) -> Address:
        """The node manager's address."""
        return Address(self.node, 0)

    def fileno(self) -> int:
        """The channel's descriptor: readable when the node process has ended."""
        return self._channel.fileno()

    def stop(self, timeout_s: float = 10.0) -> int | None:
        """End the node and wait until its processes and files are gone.

        Arguments:
            timeout_s: after these seconds it is killed, and its zygote clears up.

        Returns:
            The wait status of the process; None if somebody else reaped it.
        """
        self.forget()
        if os.getpid() != self._owner_pid:
            return None
        return _wait(self.pid, timeout_s)

    def kill(self) -> None:
        """SIGKILL the node process and reap it; its zygotes end the rest."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _wait(self.pid, 10.0)
        self.forget()

    def forget(self) -> None:
        """Close the channel: the node ends by itself. In a fork this only closes the copy."""
        self._channel.close()


def resolve_settings(given: Mapping[str, Any]) -> NodeSettings:
    """The node's settings from defaults, `FREEHOLD_*` variables and `given` values by name.

    Raises:
        SettingsError: an unknown name or a value that is not valid.
    """
    return resolution.resolve(NodeSettings, given)[0]


class Launch:
    """A node process that was exec'ed and is still starting; made by `launch_node`."""

    def __init__(self, pid: int, channel: socket.socket, stderr_fd: int) -> None:
        self.pid = pid
        self._channel = channel
        self._stderr_fd = stderr_fd

    def wait(self) -> NodeProcess:
        """Wait until it can be attached to; once.

        Raises:
            FreeholdSystemError: it did not start; the message has what it wrote.
            SettingsError: the machine refuses what the settings say.
        """
        try:
            ready = _await_ready(self._channel, self.pid, self._stderr_fd)
            return NodeProcess(ready, self.pid, self._channel)
        except FreeholdError:
            self._channel.close()  # it has ended, and was reaped
            raise
        except BaseException:  # Ctrl-C: with its channel closed it ends
            self._channel.close()
            _wait(self.pid, 10.0)
            raise
        finally:
            os.close(self._stderr_fd)

    def abandon(self) -> None:
        """Do not wait for it: it ends, and is reaped."""
        self._channel.close()
        os.close(self._stderr_fd)
        _wait(self.pid, 10.0)


def launch_node(
    settings: NodeSettings,
    *,
    is_driver: bool = True,
    join: NodeProcess | None = None,
    sys_path: list[str] | None = None,
    namespace: str = "",
    membership: Membership | None = None,
) -> Launch:
    """Exec a node process, of a new cluster or of the one that `join` is the first node of.

    It returns at once, so that the caller can import what it needs meanwhile.

    Arguments:
        is_driver: whether this process is going to attach as its driver.
        sys_path: what workers import from; by default this process's `sys.path`.
        namespace: where actors have their names unless they say otherwise.
        membership: who the node is to be, if somebody has settled that already.
    """
    start = NodeStart(
        settings=settings,
        sys_path=absolute(sys.path if sys_path is None else sys_path),
        is_driver=is_driver,
        starter_pid=os.getpid() if is_driver else 0,
        namespace=namespace,
    )
    if join is not None:
        start.head, start.cluster, start.session_path = join.node, join.cluster, join.sockets
        if join.host:
            start.head_place = NodePlace(join.node, 0, join.host, join.port)
    if membership is not None:
        start.cluster, start.node = membership.cluster, membership.node
        start.credentials = membership.credentials
    return launch(start)


def absolute(paths: list[str]) -> list[str]:
    """An import path that means the same in another folder."""
    return [os.path.abspath(path) for path in paths]


def launch(start: NodeStart) -> Launch:
    """Exec a node process that begins as it is told."""
    text = _start_text(start)
    ours, theirs = socket.socketpair()
    stderr_fd = os.memfd_create("freehold-node-stderr", os.MFD_CLOEXEC)
    try:
        with theirs:
            pid = _spawn(text, theirs.fileno(), stderr_fd)
    except BaseException:
        ours.close()
        os.close(stderr_fd)
        raise
    return Launch(pid, ours, stderr_fd)


def start_node(
    settings: NodeSettings,
    *,
    is_driver: bool = True,
    join: NodeProcess | None = None,
    sys_path: list[str] | None = None,
    namespace: str = "",
    membership: Membership | None = None,
) -> NodeProcess:
    """`launch_node` and wait until the node can be attached to.

    Raises:
        FreeholdSystemError: it did not start; the message has what it wrote.
        SettingsError: the machine refuses what the settings say.
    """
    launch = launch_node(
        settings,
        is_driver=is_driver,
        join=join,
        sys_path=sys_path,
        namespace=namespace,
        membership=membership,
    )
    return launch.wait()


def become_node(start: NodeStart) -> NoReturn:
    """Exec a node process in the place of this one: as a container's first process, for example."""
    stdin_fd = _start_file(_start_text(start))
    channel = os.open(os.devnull, os.O_WRONLY)
    os.dup2(stdin_fd, 0)
    os.dup2(channel, 3)
    sys.stdout.flush()
    os.execve(sys.executable, _arguments(), _child_environment())


def _start_text(start: NodeStart) -> bytes:
    return "\0".join(start.sys_path).encode() + b"\n" + msgspec.json.encode(start)


def _start_file(text: bytes) -> int:
    fd = os.memfd_create("freehold-node-start", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(text)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _arguments() -> list[str]:
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [sys.executable, "-I", "-S", "-c", _CODE, package]


def _child_environment() -> dict[str, str]:
    """Without the token that FREEHOLD_ADDRESS may hold: the node hands its environment on."""
    variables = resolution.environment()
    address = variables.get("FREEHOLD_ADDRESS", "")
    if address.startswith(SCHEME):
        try:
            variables["FREEHOLD_ADDRESS"] = parse(address).target
        except ValueError:
            del variables["FREEHOLD_ADDRESS"]
    return variables


def _spawn(text: bytes, channel: int, stderr_fd: int) -> int:
    stdin_fd = _start_file(text)
    # Sources are moved above the targets, so that no dup2 overwrites one that is still needed.
    sources = [
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_TARGETS)
        for fd in (stdin_fd, stderr_fd, channel)
    ]
    try:
        return os.posix_spawn(
            sys.executable,
            _arguments(),
            _child_environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, sources[0], 0),
                (os.POSIX_SPAWN_DUP2, sources[1], 1),
                (os.POSIX_SPAWN_DUP2, sources[1], 2),
                (os.POSIX_SPAWN_DUP2, sources[2], 3),
            ],
            setsid=True,  # so that ^C at the terminal reaches the driver alone
        )
    finally:
        for fd in (stdin_fd, *sources):
            os.close(fd)


def _await_ready(channel: socket.socket, pid: int, stderr_fd: int) -> NodeReady:
    received = b""
    while not received.endswith(b"\n"):
        data = channel.recv(1 << 16)
        if not data:
            break
        received += data
    if received.endswith(b"\n"):
        ready = msgspec.json.decode(received, type=NodeReady)
        if not ready.error:
            return ready
        _wait(pid, 5.0)
        kind, _, reason = ready.error.partition(": ")
        if kind in _PASSED_ON:
            raise _PASSED_ON[kind](reason)
        if "ValueError" in ready.error or "PermissionError" in ready.error:
            raise SettingsError(setting=resolution.blamed(reason, NodeSettings), reason=reason)
        raise FreeholdSystemError(reason=f"the node process did not start: {ready.error}")
    status = _wait(pid, 5.0)
    size = os.fstat(stderr_fd).st_size
    text = os.pread(stderr_fd, 8000, max(0, size - 8000)).decode(errors="replace").strip()
    raise FreeholdSystemError(
        reason=f"the node process ended at its start (wait status {status}): {text or 'no output'}"
    )


def _wait(pid: int, timeout_s: float) -> int | None:
    """Reap a child; SIGKILL it after `timeout_s`."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        pidfd = -1
    try:
        if pidfd >= 0:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            deadline = time.monotonic() + timeout_s
            while not poll.poll(max(0.0, deadline - time.monotonic()) * 1e3):
                if time.monotonic() >= deadline:
                    os.kill(pid, signal.SIGKILL)
                    deadline = time.monotonic() + 5.0
        return os.waitpid(pid, 0)[1]
    except (ChildProcessError, ProcessLookupError):
        return None  # the program reaps children by itself
    finally:
        if pidfd >= 0:
            os.close(pidfd)
