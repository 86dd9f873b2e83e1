"""The ways a worker runs what it is sent: one after another, on threads, on an event loop.

Each takes (source, message) pairs in the order they arrived and gives back those that have not
started. Tasks and plain actors use `MainLoop`: the main thread leads the reactor while it waits, so
a call crosses no thread. Threaded actors hand over to a pool a group; async actors run the reactor
from their event loop's own poll.
"""

from __future__ import annotations

import time
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io.reactor import Waiter
from freehold._processes.worker.run_times import SHORT_NS, Past, RunTimes

if TYPE_CHECKING:
    from freehold._io.transport import Connection
    from freehold._processes.worker.service import WorkerService

Item = tuple[Address, Any]

_HOLD_REPLIES_S = 0.001


class MainLoop:
    """One after another, on the main thread.

    A reply leaves before anything else is begun, for what comes next may hold the interpreter's
    lock for long or end the process, and take the reply along. One case is excepted, because a
    frame a reply halves the rate of calls that do next to nothing: while what comes next is known
    to be short (`RunTimes`), replies are gathered for `_HOLD_REPLIES_S`, at most a frame's worth.
    """

    def __init__(self, service: WorkerService) -> None:
        self._service = service
        self.queue: deque[Item] = deque()
        self._idle: Waiter | None = None
        self._sent_at = 0.0
        self._thread = 0
        self._is_holding = False
        self._times = RunTimes()
        self._running = service.core.running
        self._cpu_mark_ns = 0
        """The thread's time on the core, read about once in `_HOLD_REPLIES_S`: it is a system
        call."""

    def push(self, item: Item) -> None:
        """Take a message; under the lock."""
        self.queue.append(item)
        idle = self._idle
        if idle is not None:
            self._idle = None
            idle.finish()

    def run(self) -> None:
        """Run until the service ends."""
        service = self._service
        reactor = service.core.reactor
        queue = self.queue
        self._thread = get_ident()
        while self._is_current():
            if queue:
                source, message = queue.popleft()
                past = self._times.of(source, message)
                if self._is_holding and not past.is_short:
                    self._let_go()
                started_ns = time.perf_counter_ns()
                service.execute(source, message)
                self._note(past, time.perf_counter_ns() - started_ns)
                continue
            waiter = Waiter()
            with reactor.lock:
                if queue or not self._is_current():
                    continue
                self._idle = waiter
            reactor.wait(waiter)

    def _note(self, past: Past, run_ns: int) -> None:
        cpu_ns = run_ns
        if run_ns > SHORT_NS:
            now_ns = time.thread_time_ns()
            cpu_ns, self._cpu_mark_ns = now_ns - self._cpu_mark_ns, now_ns
        past.note(run_ns, cpu_ns)

    def _is_current(self) -> bool:
        return not self._service.is_ending and self._service.loop is self

    def send(self, source: Address, answer: Any) -> None:
        """Answer; what is held back `run` sends before it begins what is not known to be short.

        Under the lock. Whoever calls this while a task runs, or on another thread, does not pass by
        `run` afterwards: such an answer leaves at once.
        """
        connection = self._service.core.peers.get(source)
        if connection is None:
            return
        if not self.queue or self._running or get_ident() != self._thread:
            self._send_all(connection, answer)
        elif time.monotonic() - self._sent_at > _HOLD_REPLIES_S:
            self._cpu_mark_ns = time.thread_time_ns()
            self._send_all(connection, answer)
        else:
            self._is_holding = True
            connection.send(answer)

    def _send_all(self, connection: Connection, answer: Any) -> None:
        self._sent_at = time.monotonic()
        connection.send_now(answer)
        if self._is_holding:
            self._is_holding = False
            self._service.core.reactor.flush()  # other callers' replies

    def _let_go(self) -> None:
        reactor = self._service.core.reactor
        with reactor.lock:
            self._is_holding = False
            self._sent_at = time.monotonic()
            reactor.flush()

    def take_unstarted(self, keys: list[int] | None = None) -> dict[Address, list[int]]:
        """Give back tasks that have not started, all or those of `keys`; under the lock."""
        returned: dict[Address, list[int]] = {}
        rest: deque[Item] = deque()
        for source, message in self.queue:
            is_task = type(message) is m.Run
            if is_task and (keys is None or message.key in keys):
                returned.setdefault(source, []).append(message.key)
            else:
                rest.append((source, message))
        self.queue.clear()
        self.queue.extend(rest)
        return returned

    def stop(self) -> None:
        """End `run`; under the lock."""
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.finish()


class ThreadedLoop(MainLoop):
    """Calls on pools of threads, one pool a concurrency group; the main thread receives."""

    def __init__(self, service: WorkerService, sizes: dict[str, int]) -> None:
        super().__init__(service)
        from concurrent.futures import ThreadPoolExecutor

        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=name or "actor")
            for name, size in sizes.items()
        }

    def run(self) -> None:
        """Receive until the service ends; the pools run the calls."""
        service = self._service
        while self._is_current():
            waiter = Waiter()
            with service.core.reactor.lock:
                if not self._is_current():
                    break  # a call has left on its thread meanwhile, and `stop` found nobody idle
                self._idle = waiter
                self._dispatch()
            if not waiter.is_done:
                service.core.reactor.wait(waiter)
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def push(self, item: Item) -> None:
        """Take a message; under the lock."""
        self.queue.append(item)
        self._dispatch()

    def _dispatch(self) -> None:
        queue = self.queue
        while queue:
            source, message = queue.popleft()
            group = message.options.concurrency_group if message.options is not None else ""
            pools = self._pools
            pool = pools.get(group or self._service.group_of(message.method), pools[""])
            pool.submit(self._service.execute, source, message)

    def send(self, source: Address, answer: Any) -> None:
        """Answer at once; under the lock."""
        connection = self._service.core.peers.get(source)
        if connection is not None:
            connection.send_now(answer)


class AsyncLoop(MainLoop):
    """Coroutines on an event loop that also runs the reactor."""

    def __init__(self, service: WorkerService, sizes: dict[str, int]) -> None:
        super().__init__(service)
        import asyncio

        self._asyncio = asyncio
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self._sizes = sizes
        self._limits: dict[str, Any] = {
            name: asyncio.Semaphore(size) for name, size in sizes.items()
        }
        self.running: dict[tuple[Address, int], Any] = {}
        self._under_way: dict[Past, int] = {}
        """How many of each method have begun or are about to."""
        self._is_flush_due = False
        self._is_in_turn = False
        self._alarm: Any = None

    def run(self) -> None:
        """Run the event loop until the service ends."""
        reactor = self._service.core.reactor
        descriptor = reactor.attach_loop()
        self.loop.add_reader(descriptor, self._on_readable)
        self.loop.call_soon(self._on_readable)
        self.loop.run_forever()

    def _on_readable(self) -> None:
        reactor = self._service.core.reactor
        self._is_in_turn = True
        reactor.lead_once()
        self._is_in_turn = False
        queue = self.queue
        while queue:
            source, message = queue.popleft()
            self._begin(source, message)
        if self._service.is_ending:
            self.loop.stop()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        when = reactor.next_timer()
        if when is not None:
            delay = max(0.0, when - time.monotonic())
            self._alarm = self.loop.call_later(delay, self._on_readable)

    def _begin(self, source: Address, message: Any) -> None:
        past = self._times.of(source, message)
        under_way = self._under_way
        under_way[past] = under_way.get(past, 0) + 1
        task = self.loop.create_task(self._one(source, message, past))
        place = (source, message.key)
        self.running[place] = task

        def end(_task: object) -> None:
            self.running.pop(place, None)
            under_way[past] -= 1
            if not under_way[past]:
                del under_way[past]

        task.add_done_callback(end)

    async def _one(self, source: Address, message: Any, past: Past) -> None:
        group = message.options.concurrency_group if message.options is not None else ""
        name = group or self._service.group_of(message.method)
        limit = self._limits.get(name, self._limits[""])
        async with limit:
            started_ns = time.perf_counter_ns()
            await self._service.execute_async(source, message)
            self._note(past, time.perf_counter_ns() - started_ns)

    def send(self, source: Address, answer: Any) -> None:
        """Answer with the others of this turn of the loop if all that may run before its end is
        known to be short, else at once; under the lock."""
        connection = self._service.core.peers.get(source)
        if connection is None:
            return
        if not all(past.is_short for past in self._under_way):
            self._send_all(connection, answer)
            return
        if time.monotonic() - self._sent_at > _HOLD_REPLIES_S:
            self._cpu_mark_ns = time.thread_time_ns()
            self._send_all(connection, answer)
            return
        self._is_holding = True
        connection.send(answer)
        if not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        self._let_go()

    def push(self, item: Item) -> None:
        """Take a message; under the lock, on the loop's thread or on one that blocks in `get`."""
        self.queue.append(item)
        if not self._is_in_turn:
            self.loop.call_soon_threadsafe(self._on_readable)

    def stop(self) -> None:
        """End `run`; under the lock."""
        self.loop.call_soon_threadsafe(self.loop.stop)
