"""What a worker says while its task waits: its CPU and what is queued behind it may serve others.

Waits come from `get` and `wait` (`CoreBase.block`), from `ref.future().result()`, and from `await
ref` on an event loop of the task's own. The last is told by the reference alone: a loop that has
something else to compute meanwhile does so on a CPU that was given back. That overbooks a core for
a while; to keep it would be a deadlock when what is awaited needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.limits import BLOCKED_AFTER_S
from freehold._processes.worker.loops import AsyncLoop

if TYPE_CHECKING:
    from freehold._processes.worker.service import WorkerService


class Waiting:
    """How many waits of the running task are under way."""

    def __init__(self, service: WorkerService) -> None:
        self._service = service
        self.count = 0
        self._epoch = 0
        """Grows when a task ends with a wait under way, whose end must not count afterwards."""

    def on_blocked(self, is_blocked: bool) -> None:
        """A wait of the task was found to take long, or is over. Without the lock."""
        service = self._service
        if not service.core.running:
            return  # a thread that a task left behind
        with service.core.reactor.lock:
            before = self.count
            self.count = before + 1 if is_blocked else max(0, before - 1)
            if is_blocked and self.count == 1:
                if service.actor is None:
                    service.return_unstarted()
                service.core.owner.outbox.ask_node(m.Blocked(True))
            elif before == 1 and self.count == 0:
                service.core.owner.outbox.ask_node(m.Blocked(False))
            service.core.carry_out()

    def on_await(self, future: Any) -> None:
        """The asyncio future of a reference was made on the loop of this thread."""
        service = self._service
        if not service.core.running or isinstance(service.loop, AsyncLoop):
            return  # an async actor's other calls go on meanwhile

        def report() -> None:
            if future.done() or not service.core.running:
                return
            epoch = self._epoch
            self.on_blocked(True)
            future.add_done_callback(lambda _: self._end(epoch))

        future.get_loop().call_later(BLOCKED_AFTER_S, report)

    def _end(self, epoch: int) -> None:
        if epoch == self._epoch:
            self.on_blocked(False)

    def on_idle(self) -> None:
        """The last running task ended, with waits of threads or loops it left behind."""
        service = self._service
        with service.core.reactor.lock:
            self._epoch += 1
            self.count = 0
            service.core.owner.outbox.ask_node(m.Blocked(False))
            service.core.carry_out()
