"""Futures of references: for event loops and callers that must not block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    from freehold._core.ownership.reference import ObjectRef
    from freehold._processes.owner.core import OwnerCore


class Callback:
    """A waiter of a row that calls instead of waking a thread.

    The call leaves the reactor's lock first: it runs on a thread of its own pool only if it could
    block; a future's `set_result` runs callbacks of users, so it always does.
    """

    __slots__ = ("function", "is_done")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.is_done = False

    def count_down(self) -> None:
        """The row was resolved; under the lock."""
        if not self.is_done:
            self.is_done = True
            self.function()


class FutureBridge:
    """Resolves futures outside the reactor's lock, on one thread that starts when first needed."""

    def __init__(self, core: OwnerCore) -> None:
        self._core = core
        self._queue: Any = None
        self._thread: Any = None

    def future(self, ref: ObjectRef[Any]) -> Future[Any]:
        """A future that gets the value or the error of `ref`."""
        from freehold._processes.owner.waiting_future import WaitingFuture

        future: Future[Any] = WaitingFuture(self._core)
        self._start()

        def resolve() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = self._core.get([ref], None, False)[0]
            except BaseException as error:  # noqa: BLE001 - told on, not swallowed
                future.set_exception(error)
            else:
                future.set_result(value)

        self._core.add_done_callback(ref, lambda: self._queue.put(resolve))
        return future

    def _start(self) -> None:
        if self._thread is not None:
            return
        import queue
        import threading

        self._queue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="freehold-futures", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            resolve = self._queue.get()
            if resolve is None:
                return
            resolve()
            del resolve  # or the last one's reference is held until there is another

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=1.0)
            self._thread = None
