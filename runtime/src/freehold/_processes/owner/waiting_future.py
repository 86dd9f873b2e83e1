"""The `concurrent.futures.Future` of a reference, which gives a worker's CPU back as `get` does.

Apart from `futures`, because `concurrent.futures` is imported only when somebody wants a future.
`concurrent.futures.wait` and `as_completed` have waits of their own and keep the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from freehold._io.signals import interruptible

if TYPE_CHECKING:
    from freehold._processes.owner.base import CoreBase


class WaitingFuture(Future[Any]):
    """A future whose `result` and `exception` report a wait that takes long."""

    def __init__(self, core: CoreBase) -> None:
        super().__init__()
        self._core = core

    def result(self, timeout: float | None = None) -> Any:
        """See `concurrent.futures.Future.result`."""
        return self._await(super().result, timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `concurrent.futures.Future.exception`."""
        found: BaseException | None = self._await(super().exception, timeout)
        return found

    def _await(self, wait: Callable[[float | None], Any], timeout: float | None) -> Any:
        core = self._core
        soon_s = core.blocked_after_s
        if core.on_blocked is None or soon_s is None or self.done():
            return _wait(wait, timeout)
        if timeout is not None and timeout <= soon_s:
            return _wait(wait, timeout)
        try:
            return _wait(wait, soon_s)
        except TimeoutError:
            if self.done():
                return wait(0)  # it is the task's own error, or came this moment
        core.on_blocked(True)
        try:
            return _wait(wait, None if timeout is None else timeout - soon_s)
        finally:
            core.on_blocked(False)


@interruptible
def _wait(wait: Callable[[float | None], Any], timeout: float | None) -> Any:
    """Here a signal's handler may raise, and in no other frame of ours."""
    return wait(timeout)
