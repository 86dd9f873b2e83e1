"""A node process from the moment its modules are loaded: make the session, serve, clean up."""

from __future__ import annotations

import gc
import os
import sys
import traceback

import msgspec

from freehold._io import session
from freehold._io.naming import name_process
from freehold._io.session import SessionFolder
from freehold._io.zygote_spawn import Spawned
from freehold._processes.node.service import (
    NodeManager,
    become_subreaper,
    ignore_terminal,
    on_sigterm,
    raise_descriptor_limit,
)
from freehold._processes.node.settings import session_base
from freehold._processes.node.start import NodeReady, NodeStart

SWEEP_AFTER_S = 0.25
"""Old sessions are swept when the new one has begun, not while its driver waits."""


def run(body: bytes, channel: int, spawned: Spawned) -> None:
    """Serve until the end; tells the starter over `channel` how it went."""
    try:
        start = msgspec.json.decode(body, type=NodeStart)
        ignore_terminal()
        become_subreaper()
        name_process("freehold-node")
        raise_descriptor_limit()
        node = os.urandom(16).hex()
        cluster = start.cluster or os.urandom(6).hex()
        root = _root(session_base(start.settings))
        path = start.session_path or os.path.join(root, cluster)
        folder = SessionFolder(path, node)
        folder.create(is_first=not start.head)
    except BaseException as error:
        _tell(channel, NodeReady(error=f"{type(error).__name__}: {error}"))
        raise
    try:
        manager = NodeManager(start, node, cluster, folder, spawned)
        manager.begin()
    except BaseException as error:
        folder.remove(is_first=not start.head)
        _tell(channel, NodeReady(error=f"{type(error).__name__}: {error}"))
        raise
    _to_log(folder)
    ready = NodeReady(cluster, node, path, os.getpid())
    if manager.is_first:
        _tell(channel, ready)
    else:
        manager.on_joined = lambda: _tell(channel, ready)
    manager.watch_starter(channel)
    on_sigterm(manager.reactor, manager.on_sigterm)
    if manager.is_first:
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


def _tell(channel: int, ready: NodeReady) -> None:
    try:
        os.write(channel, msgspec.json.encode(ready) + b"\n")
    except OSError:
        pass  # the starter is gone; reading the channel says so too
