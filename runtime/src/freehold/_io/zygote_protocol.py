"""What a node manager and its zygotes say to each other, one datagram each.

A zygote lives at the other end of a SOCK_SEQPACKET pair, so a datagram is a message and may carry
descriptors. It is a protocol of its own because a zygote must stay small and single-threaded: it
has neither a reactor nor the peer plane.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address

DATAGRAM_BYTES = 180_000
"""Largest datagram: below the kernel's default socket buffer of 208 KiB."""

FORK_FDS = 2
"""Descriptors that come with `Fork`: standard output and standard error."""


class _Datagram(msgspec.Struct, array_like=True, gc=False):
    pass


class WorkerStart(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that a forked worker starts from, handed to its main function.

    It reports to `node_manager` with `Register(pid, start)`, whose socket is in the folder
    `sockets` as everybody's is (`<sockets>/<node8>/<process>.sock`). `arena_fd` is for reading
    alone.
    `lineage_bytes` and `pending_bytes` are the settings of these names.
    """

    start: int
    cluster: str
    node_manager: Address
    sockets: str
    arena_fd: int
    arena_bytes: int
    env: str = ""
    gpus: list[int] = []
    paths: list[str] = []
    process: int = 0
    namespace: str = ""
    lineage_bytes: int = 0
    pending_bytes: int = 0


class Configure(_Datagram, tag=1):
    """First to a zygote: what to import and how to look like the driver.

    `worker` is `module:function`, called with a `WorkerStart` in each child. `remove_path` is the
    folder to delete when the node manager is gone. `env_vars` are set in every child, after the
    variables in `restored` (None: unset) were put back to what the driver has.
    """

    sys_path: list[str]
    preload: list[str]
    worker: str
    remove_path: str
    working_dir: str = ""
    env_vars: dict[str, str] = {}
    restored: dict[str, str | None] = {}


class Fork(_Datagram, tag=2):
    """Fork a worker (with `FORK_FDS` descriptors); `env_vars` are set before any user code."""

    worker: WorkerStart
    env_vars: dict[str, str] = {}


class Dismiss(_Datagram, tag=3):
    """End every worker, and yourself."""


class Ready(_Datagram, tag=10):
    """The zygote has imported everything."""

    pid: int
    preload_ms: float


class Forked(_Datagram, tag=11):
    """A worker was forked; its pidfd comes along."""

    start: int
    pid: int
    fork_ms: float


class ForkFailed(_Datagram, tag=12):
    """No worker was forked."""

    start: int
    reason: str


class Exited(_Datagram, tag=13):
    """A worker ended, and was reaped."""

    start: int
    pid: int
    code: int | None
    signal: int | None


ToZygote: TypeAlias = Configure | Fork | Dismiss
FromZygote: TypeAlias = Ready | Forked | ForkFailed | Exited
