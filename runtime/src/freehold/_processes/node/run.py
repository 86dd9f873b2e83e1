"""A node process from the moment its modules are loaded: make the session, serve, clean up."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import msgspec

from freehold._io import session
from freehold._io.naming import name_process
from freehold._io.session import SessionFolder
from freehold._io.zygote_spawn import Spawned
from freehold._processes.node import record
from freehold._processes.node.service import NodeManager
from freehold._processes.node.settings import session_base
from freehold._processes.node.start import CHILD, FOREGROUND, NodeReady, NodeStart
from freehold.errors import FreeholdError

if TYPE_CHECKING:
    from freehold._processes.node.control_plane import ControlPlane

SWEEP_AFTER_S = 0.25
"""Old sessions are swept when the new one has begun, not while its driver waits."""


def run(body: bytes, channel: int, spawned: Spawned) -> None:
    """Serve until the end; tells the starter over `channel` how it went."""
    start: NodeStart | None = None
    plane: ControlPlane | None = None
    folder: SessionFolder | None = None
    try:
        start = msgspec.json.decode(body, type=NodeStart)
        if start.mode == FOREGROUND:
            # Until there is something to end in order. Without a handler a container's first
            # process would not hear it at all.
            signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(128 + signal.SIGTERM))
        _ignore_terminal()
        _become_subreaper()
        name_process("freehold-node")
        _raise_descriptor_limit()
        node = start.node or os.urandom(16).hex()
        root = _root(session_base(start.settings))
        plane = _plane(start, node)
        cluster = plane.cluster if plane is not None else start.cluster or os.urandom(6).hex()
        path = start.session_path or os.path.join(root, cluster)
        folder = SessionFolder(path, node)
        if plane is not None:
            folder.share()
        else:
            folder.create(is_first=start.is_first)
        manager = NodeManager(start, node, cluster, folder, spawned, plane)
        manager.begin()
        notes = _serve_health(manager)
    except BaseException as error:
        if folder is not None and start is not None:
            folder.remove(is_first=start.is_first)
        if plane is not None:
            plane.close("it did not start")
        _say_failed(error, start.mode if start is not None else CHILD, channel)
        raise
    _serve(manager, channel, root, notes)


def _serve(manager: NodeManager, channel: int, root: str, notes: list[str]) -> None:
    """Run a node that has begun, until its end."""
    start = manager.start
    ready = _ready(manager)
    ready.notes += notes

    def say_ready() -> None:
        _tell(channel, ready)
        if start.mode == FOREGROUND:
            _say_started(ready, is_head=start.is_first)

    if start.mode != FOREGROUND:
        _to_log(manager.session)
    _end_on_signals(manager)  # before anybody is told that it runs, and may end it
    if manager.is_first:
        say_ready()
    else:
        manager.on_joined = say_ready
    if start.mode == CHILD:
        manager.watch_starter(channel)
    if start.is_first:
        manager.reactor.call_later(SWEEP_AFTER_S, lambda: _sweep(root))
    gc.collect()
    gc.freeze()
    try:
        manager.reactor.run_forever()
    except BaseException:
        traceback.print_exc()
        manager.end("its node process failed inside; its log says how")
        raise
    finally:
        reason = manager.close()
        if manager.on_joined is not None:  # it ended before it had joined
            _tell(channel, NodeReady(error=reason))
        if start.mode == FOREGROUND:
            print(f"freehold: the node ended: {reason}", flush=True)  # noqa: T201 - its terminal
    is_to_end = manager.is_terminating or manager.drain.reason
    if manager.is_fenced and start.mode != CHILD and not is_to_end:
        _begin_anew(start)


def _plane(start: NodeStart, node: str) -> ControlPlane | None:
    """Its part in a cluster of several machines; imports what that takes only then."""
    if not start.has_network:
        return None
    from freehold._processes.node.control_plane import HeadPlane, MemberPlane

    return HeadPlane(start, node) if start.is_first else MemberPlane(start, node)


def _serve_health(manager: NodeManager) -> list[str]:
    """Open the health port if there is to be one; what the starter should know of it."""
    start, plane = manager.start, manager.plane
    port = start.settings.health_port
    if not port:
        return []
    from freehold._processes.node import health

    host = plane.host if plane is not None else start.settings.host or "127.0.0.1"
    try:
        manager.health = health.serve(manager, host, port)
    except OSError as error:
        if not start.is_health_optional:
            raise ValueError(
                f"health_port {port} cannot be listened on ({error.strerror}): give another, or 0 "
                "for none"
            ) from None
        return [f"no health port: {port} cannot be listened on ({error.strerror})"]
    return []


def _ready(manager: NodeManager) -> NodeReady:
    ready = NodeReady(manager.hub.cluster, manager.hub.node, manager.session.path, os.getpid())
    ready.host, ready.port = manager.network.place.host, manager.network.place.port
    ready.health_port = manager.health.port if manager.health is not None else 0
    ready.notes += manager.network.notes
    plane = manager.plane
    if plane is not None:
        control = plane.control
        ready.address = control.target
        if manager.is_first:
            ready.join_string = control.join_string()
        record.write(
            manager.session.node_path,
            record.NodeRecord(
                cluster=manager.hub.cluster,
                node=manager.hub.node,
                session_path=manager.session.path,
                pid=os.getpid(),
                started=record.start_time(os.getpid()),
                is_head=manager.is_first,
                mode=record.JOB if manager.start.is_for_job else manager.start.mode,
                control=control,
                ca_pem=plane.ca_pem.decode(),
                log_path=os.path.join(manager.session.logs_path, "node.log"),
            ),
        )
    return ready


def _begin_anew(start: NodeStart) -> NoReturn:
    """Exec this process again, as a node that has nothing of what this one had.

    It takes a new id rather than a new incarnation of the old one: nothing that is still under way
    to the old one can reach it, whoever sent it and however late.
    """
    print("freehold: it joins again, as a new node", file=sys.stderr, flush=True)  # noqa: T201 - the log
    text = "\0".join(start.sys_path).encode() + b"\n" + msgspec.json.encode(start)
    stdin_fd = os.memfd_create("freehold-node-start", os.MFD_CLOEXEC)
    with open(stdin_fd, "wb", closefd=False) as file:
        file.write(text)
    os.lseek(stdin_fd, 0, os.SEEK_SET)
    os.dup2(stdin_fd, 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 3)  # its starter has heard all that it wanted
    os.execv(sys.executable, sys.orig_argv)


def _end_on_signals(manager: NodeManager) -> None:
    """Drain and end on SIGTERM, and on ^C where this is the terminal's own process; end at once
    when told so."""

    def on(number: int, then: Callable[[], None]) -> None:
        fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

        def told(_events: int) -> None:
            os.eventfd_read(fd)
            then()

        def note(_number: int, _frame: object) -> None:
            os.eventfd_write(fd, 1)  # no more than that: the thread may hold the reactor's lock

        manager.reactor.register(fd, told)
        signal.signal(number, note)

    on(signal.SIGTERM, manager.terminate)
    on(record.END_NOW, lambda: manager.end("it was asked to end"))
    if manager.start.mode == FOREGROUND:
        on(signal.SIGINT, manager.terminate)


def _become_subreaper() -> None:
    """Have orphans of this process's children become its own: workers of a dead zygote."""
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def _ignore_terminal() -> None:
    """A ^C at the driver's terminal is the driver's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _raise_descriptor_limit() -> None:
    """Each worker takes four descriptors here, and each of its callers one more."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _root(base: str) -> str:
    try:
        return session.make_root(base)
    except PermissionError as error:
        if error.errno is None:
            raise  # there, but not only ours: it says what to do
        reason = error.strerror
    except OSError as error:
        reason = error.strerror
    raise ValueError(
        f"dir is {base!r} but must be a folder where this user can make folders ({reason})"
    )


def _sweep(root: str) -> None:
    for name in session.sweep(root):
        print(f"swept what was left of cluster {name}", file=sys.stderr)  # noqa: T201 - the log


def _to_log(folder: SessionFolder) -> None:
    """From now on the process's own output is a file of the session."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log = os.open(os.path.join(folder.logs_path, "node.log"), flags, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.close(nothing)


def _say_started(ready: NodeReady, *, is_head: bool) -> None:
    """What the terminal or the container's log shows; never the token."""
    role = "head" if is_head else "node"
    text = f"freehold: {role} {ready.node[:8]} of cluster {ready.cluster}, pid {ready.pid}"
    where = f", control service at {ready.address}" if ready.address else ""
    peers = f", peers at port {ready.port}" if ready.port else ""
    print(text + where + peers, flush=True)  # noqa: T201 - its terminal
    for note in ready.notes:
        print(f"freehold: note: {note}", flush=True)  # noqa: T201 - its terminal


def _say_failed(error: BaseException, mode: str, channel: int) -> None:
    text = f"{type(error).__name__}: {error}"
    _tell(channel, NodeReady(error=text))
    if mode == FOREGROUND and isinstance(error, FreeholdError | OSError | ValueError):
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - its terminal
        os._exit(1)  # a traceback would say no more


def _tell(channel: int, ready: NodeReady) -> None:
    try:
        os.write(channel, msgspec.json.encode(ready) + b"\n")
    except OSError:
        pass  # the starter is gone; reading the channel says so too
