"""The core that this process is attached to, and the environment its children inherit.

`init` sets it in a driver, the worker's start in a worker. The hot paths read `state.core` and
compare; everyone else asks `require`, which starts a cluster, as Ray does. After a `fork` the
child's core answers every call with `ForkedProcessError`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from freehold.errors import ForkedProcessError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from freehold._core.interface import Core


class Inherited(NamedTuple):
    """The runtime environment that tasks get which name none: this job's, or this worker's own."""

    env: str = ""
    env_vars: Mapping[str, str] = {}
    working_dir: str = ""


core: Core | None = None
inherited = Inherited()
prepared_envs: dict[tuple[tuple[tuple[str, str], ...], str], str] = {}
"""Hashes of the environments this core knows already, by their variables and directory."""
staged_dirs: dict[tuple[str, tuple[str, ...]], tuple[bytes, str]] = {}
"""Snapshots of working directories this core has, by path and excludes: what the directory looked
like from outside when it was copied, and where the copy is."""
_watches_forks = False


class ForkedCore:
    """Stands for the core in a child made by `fork`: sockets and locks are its parent's."""

    def __init__(self, parent_pid: int) -> None:
        self._parent_pid = parent_pid

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ForkedProcessError(pid=os.getpid(), parent_pid=self._parent_pid)


def set_core(new: Core | None, environment: Inherited | None = None) -> None:
    """Attach this process to a core, or to none.

    Args:
        new: the core; None after `shutdown`.
        environment: what this process itself runs in, which its tasks inherit.
    """
    global core, inherited, _watches_forks
    prepared_envs.clear()
    staged_dirs.clear()
    inherited = environment or Inherited()
    core = new
    if new is not None and not _watches_forks:
        _watches_forks = True
        pid = os.getpid()
        os.register_at_fork(after_in_child=lambda: _after_fork(pid))


def inherit(environment: Inherited) -> None:
    """Give the tasks of this process another environment: the job's, once the core knows it."""
    global inherited
    inherited = environment


def _after_fork(parent_pid: int) -> None:
    global core
    if core is not None and not is_forked():
        core = cast("Core", ForkedCore(parent_pid))


def is_forked() -> bool:
    """Whether this process is a fork of one that used Freehold."""
    return isinstance(core, ForkedCore)


def require() -> Core:
    """The current core; starts a cluster if there is none."""
    if core is None:
        from freehold._api.init import auto_init

        auto_init()
    assert core is not None
    return core
