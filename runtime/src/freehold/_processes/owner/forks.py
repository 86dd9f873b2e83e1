"""What becomes of a core in a child that user code made by `fork`: it goes inert.

Sockets, locks and the arena's bookkeeping are the parent's. The child closes its copies of the
sockets (a peer must see the parent's end when the parent ends), leaves the shared epoll alone, and
every call raises `ForkedProcessError`. A child that would go back into the runtime's own code, as
after a `fork` inside a task, ends there instead (`_processes.worker.service`).
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freehold._processes.owner.core import OwnerCore

_watched: weakref.WeakKeyDictionary[OwnerCore, Callable[[], None] | None] = (
    weakref.WeakKeyDictionary()
)
_is_hooked = False


def watch_forks(core: OwnerCore, also: Callable[[], None] | None = None) -> None:
    """Make `core` inert in children that this process forks from now on.

    Args:
        also: called in the child besides.
    """
    global _is_hooked
    if not _is_hooked:  # a hook cannot be taken back, so there is one for all cores
        _is_hooked = True
        os.register_at_fork(after_in_child=_after_fork)
    _watched[core] = also


def _after_fork() -> None:
    for core, also in list(_watched.items()):
        core.leave_fork()
        if also is not None:
            also()
