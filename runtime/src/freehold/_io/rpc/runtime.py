"""The thread that grpc lives in, and the ways between it and the reactor.

A process that speaks gRPC has one thread for all of it: grpc's asyncio flavour, for streams by the
thousand. Rejected: grpc's threads (one for each stream), grpc on the reactor itself (it cannot
be polled through a descriptor). Whatever decides something runs on the reactor's thread, under its
lock, as everything else does: a `Mailbox` carries calls there, `Loop.call` carries them back.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
import grpc.aio

from freehold._core.limits import (
    CONTROL_FRAME_BYTES,
    KEEPALIVE_PERIOD_S,
    KEEPALIVE_TIMEOUT_S,
)
from freehold._io.reactor import Reactor

T = TypeVar("T")

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
"""The Python version that all processes of a cluster share: pickles of code go between them."""

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", int(KEEPALIVE_PERIOD_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # What a server bears of its clients' pings; as often as ours come, and then some.
    ("grpc.http2.min_ping_interval_without_data_ms", int(KEEPALIVE_PERIOD_S * 500)),
    ("grpc.max_receive_message_length", CONTROL_FRAME_BYTES),
    ("grpc.max_send_message_length", CONTROL_FRAME_BYTES),
    # A machine's proxy is not for its own cluster, and nobody may read along.
    ("grpc.enable_http_proxy", 0),
)


class Loop:
    """An asyncio loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="freehold-rpc", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Call it on the loop's thread, soon; nothing once it is closed. From any thread."""
        try:
            self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # closed

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine there; from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine there and wait for it.

        Raises:
            TimeoutError: it took longer; it was cancelled.
        """
        future = self.submit(coroutine)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def close(self, timeout_s: float = 2.0) -> None:
        """Cancel what runs there, and end the thread."""
        if self.loop.is_closed():
            return
        try:
            self.run(self._cancel_all(), timeout_s)
        except TimeoutError:
            pass
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self.loop.close()

    async def _cancel_all(self) -> None:
        own = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Mailbox:
    """Calls that other threads ask the reactor's thread to make, in order."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._calls: deque[Callable[[], object]] = deque()
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        reactor.register(self._fd, self._on_wake)

    def post(self, function: Callable[[], object]) -> None:
        """Have it called on the reactor's thread; from any thread."""
        with self._lock:
            if self._fd < 0:
                return
            self._calls.append(function)
            if len(self._calls) == 1:
                os.eventfd_write(self._fd, 1)

    async def ask(self, function: Callable[[], T]) -> T:
        """Have it called there, and give what it returned or raised; on a loop."""
        return await self.ask_later(lambda then: then(function()))

    async def ask_later(self, function: Callable[[Callable[[T | Exception], None]], None]) -> T:
        """Have `function(then)` called there, and give what it gives to `then`, maybe later.

        An exception is raised, whether it is raised there or given.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(found: T | Exception) -> None:
            if answer.done():
                return  # whoever asked has gone
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def then(found: T | Exception) -> None:
            try:
                loop.call_soon_threadsafe(settle, found)
            except RuntimeError:
                pass  # the loop has ended

        def call() -> None:
            try:
                function(then)
            except Exception as error:  # whoever asked gets it  # noqa: BLE001
                then(error)

        self.post(call)
        return await answer

    def close(self) -> None:
        """Take nothing more; on the reactor's thread."""
        with self._lock:
            self._reactor.unregister(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._calls.clear()

    def _on_wake(self, _events: int) -> None:
        with self._lock:
            if self._fd < 0:
                return
            os.eventfd_read(self._fd)
            calls, self._calls = self._calls, deque()
        for call in calls:
            try:
                call()
            except Exception:  # one call's defect must not take the others along  # noqa: BLE001
                traceback.print_exc()


def secure_channel(target: str, ca_pem: bytes, name: str) -> grpc.aio.Channel:
    """A channel to whoever has a certificate of this CA for this name; on a loop's thread."""
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target, credentials, options=options)
