"""How a running node is found on its machine: a file in its folder, gone with it.

    <root>/<cluster>/<node8>/node.json      mode 0600: it has the token

It names the process by pid *and* start time, so that a pid that is in use again is never mistaken
for it. `init(address="auto")` and the command line read it.
"""

from __future__ import annotations

import os
import signal

import msgspec

from freehold._io.join_string import ControlAddress
from freehold._processes.node.settings import NodeSettings, session_base

NAME = "node.json"

END_NOW = signal.SIGUSR1
"""Ends a node at once, where SIGTERM has it drain first."""

JOB = "job"
"""The mode of a node that `freehold job run` started: it ends with that, and serves its drivers."""


class NodeRecord(msgspec.Struct, kw_only=True):
    """One node of this machine that is, or was, running."""

    cluster: str
    node: str
    session_path: str
    pid: int
    started: int
    """When the process started, in clock ticks after boot: what tells it from another with its
    number."""
    is_head: bool
    mode: str
    control: ControlAddress
    ca_pem: str = ""
    log_path: str = ""

    @property
    def is_running(self) -> bool:
        """Whether that very process lives."""
        return self.started != 0 and start_time(self.pid) == self.started


def write(node_path: str, record: NodeRecord) -> None:
    """Let the node be found."""
    path = os.path.join(node_path, NAME)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
    os.replace(f"{path}.new", path)


def find(settings: NodeSettings, uid: int | None = None) -> list[NodeRecord]:
    """The running nodes of this user (or another) on this machine, the oldest first."""
    owner = os.getuid() if uid is None else uid
    root = os.path.join(session_base(settings), f"freehold-{owner}")
    found = []
    for cluster in _folders(root):
        for node in _folders(os.path.join(root, cluster)):
            record = _read(os.path.join(root, cluster, node, NAME))
            if record is not None and record.is_running:
                found.append(record)
    return sorted(found, key=lambda record: record.started)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks after boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _folders(path: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    except OSError:
        return []


def _read(path: str) -> NodeRecord | None:
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=NodeRecord)
    except (OSError, msgspec.MsgspecError):
        return None
