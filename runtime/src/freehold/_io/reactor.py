"""The event loop of every process, led by whichever thread waits (leader/follower).

A classic IO thread costs two thread hops a call: reply → IO thread → user thread. Here the user
thread that waits runs epoll itself, applies what arrives and returns when its own wait is over:
measured 14.1 k/s against 8.6 k/s for calls one by one. Rejected besides: asyncio (its loop cannot
be entered from whichever thread waits, and costs 8–9 k/s), a spinning IO thread (burns a core).

Who leads is a variable guarded by `lock`, the one lock of a process's core:

- A waiting user thread leads if nobody does; else it parks until its wait is over or the leader,
  leaving, promotes it.
- The background thread leads when no user thread has for about `FLUSH_AFTER_S`, and leaves at once
  when one wants to (an eventfd wakes it). It also flushes what busy user threads left unsent.
- Handlers run under `lock` and never call user code.
- A signal handler of the user's may wait inside a wait of the main thread. The outer wait cannot go
  on before it, so the inner one leads in its place, or is promoted before it.

A process whose main thread does nothing else (node manager) uses `run_forever` and has no
background thread.
"""

from __future__ import annotations

import gc
import heapq
import os
import select
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from freehold._core.limits import FLUSH_AFTER_S
from freehold._io.signals import interruptible

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
_MAX_EVENTS = 64
_NAPS_BESIDE_COMPUTING = 4


class Flushable(Protocol):
    """Something with unsent messages."""

    is_dirty: bool

    def flush(self) -> None: ...


class Pacing(Protocol):
    """Watches the waits of user threads, and has them step aside for one that computes."""

    is_contended: bool

    def on_wait(self, thread: int) -> None: ...

    def on_idle(self) -> None: ...

    def poll(self, poll: Callable[[float, int], Any], timeout: float, count: int) -> Any: ...


class Waiter:
    """One blocked thread's wait: over when `is_done`, set by a handler under the reactor's lock."""

    __slots__ = ("is_done", "is_parked", "park", "remaining", "thread")

    def __init__(self, remaining: int = 1) -> None:
        self.is_done = False
        self.is_parked = False
        self.remaining = remaining
        self.park: Any = None
        self.thread = 0

    def count_down(self) -> None:
        """One of the things waited for happened; under the reactor's lock."""
        self.remaining -= 1
        if self.remaining <= 0 and not self.is_done:
            self.finish()

    def finish(self) -> None:
        """End the wait; under the reactor's lock."""
        self.is_done = True
        if self.is_parked:
            self.is_parked = False
            self.park.release()


class Timer:
    """A call in the future; `cancel()` it under the lock."""

    __slots__ = ("function", "is_cancelled", "when")

    def __init__(self, when: float, function: Callable[[], None]) -> None:
        self.when = when
        self.function = function
        self.is_cancelled = False

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Do not call it any more."""
        self.is_cancelled = True


class CoreLock:
    """The lock of a process's core; while it is held, the garbage collector rests.

    A collection runs finalizers of the user's wherever it happens to strike. One that calls the
    runtime (`freehold.kill` in a `__del__`) would wait for the lock that its own thread holds.
    """

    __slots__ = ("_acquire", "_release", "_rests")

    def __init__(self) -> None:
        lock = threading.Lock()
        self._acquire = lock.acquire
        self._release = lock.release
        self._rests = False

    @property
    def is_resting(self) -> bool:
        """Whether its holder has put the collector to rest."""
        return self._rests

    def acquire(self) -> None:
        """Take the lock; waits for it."""
        self._acquire()
        if _collects():
            self._rests = True
            _rest()

    def release(self) -> None:
        """Give it back."""
        if self._rests:
            self._rests = False
            _collect()
        self._release()

    __enter__ = acquire

    def __exit__(self, *_error: object) -> None:
        if self._rests:
            self._rests = False
            _collect()
        self._release()


_collects, _rest, _collect = gc.isenabled, gc.disable, gc.enable
_main_ident = threading.main_thread().ident
_BACKGROUND = Waiter()
_MAIN = Waiter()
_LOOP = Waiter()
_POLLER = Waiter()


class Reactor:
    """epoll, timers and unsent messages of one process, and who runs them."""

    def __init__(self) -> None:
        self.lock = CoreLock()
        self.dirty: list[Flushable] = []
        self.on_tick: Callable[[], None] | None = None
        """Called under the lock by whoever leads, after each batch of events (drains drops)."""
        self.pacing: Pacing | None = None
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._leader: Waiter | None = None
        self._followers: deque[Waiter] = deque()
        self._turns = 0
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._is_asleep = False
        self._is_kicked = False
        self._is_wanted = False
        self._was_kicked = False
        self._is_attached = False
        self._is_stopping = False
        self._background: threading.Thread | None = None
        self._background_park = threading.Lock()
        self._background_park.acquire()
        self._is_background_parked = False
        self.register(self._wake_fd, self._on_wake)

    # ---- descriptors and timers (under the lock) ---------------------------------------------

    def register(self, fd: int, handler: Callable[[int], None], events: int = READABLE) -> None:
        """Call `handler(events)` under the lock whenever `fd` is ready (level-triggered)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    @property
    def is_contended(self) -> bool:
        """Whether letting go of the interpreter for a moment costs a switch interval."""
        return self.pacing is not None and self.pacing.is_contended

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events on a registered descriptor."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; before it is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_at(self, when: float, function: Callable[[], None]) -> Timer:
        """Call `function()` under the lock at `when` (time.monotonic) or soon after."""
        timer = Timer(when, function)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self.kick()
        return timer

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        """Call `function()` under the lock in `delay_s` seconds or soon after."""
        return self.call_at(time.monotonic() + delay_s, function)

    def next_timer(self) -> float | None:
        """When the next timer is due (time.monotonic)."""
        return self._timers[0].when if self._timers else None

    def flush(self) -> None:
        """Send what connections hold back; under the lock."""
        while self.dirty:
            dirty, self.dirty = self.dirty, []
            for connection in dirty:
                connection.flush()

    def kick(self) -> None:
        """Wake a leader that sleeps. Safe anywhere, also in `__del__` and signal handlers."""
        # Said before looking: a leader about to sleep has looked at the drops already.
        self._is_wanted = True
        if self._is_asleep and not self._is_kicked:
            self._is_kicked = True
            os.eventfd_write(self._wake_fd, 1)

    # ---- leading -----------------------------------------------------------------------------

    def wait(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Block the calling user thread until `waiter` is done; False if `deadline` came first.

        The caller must not hold the lock. Unsent messages are flushed first. An exception that a
        signal handler raises while this blocks leaves the wait with leadership passed on and every
        received byte kept.
        """
        lock = self.lock
        me = waiter.thread = get_ident()
        is_inner = False
        lock.acquire()
        try:
            self._turns += 1
            pacing = self.pacing
            if pacing is not None:
                pacing.on_wait(me)
            if self._is_wanted:
                self._tick()
            elif self.dirty:
                self.flush()
            while not waiter.is_done:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                leader = self._leader
                if leader is None or leader is waiter:
                    self._leader = waiter
                    self._turn(deadline)
                elif leader.thread == me:
                    is_inner = True
                    self._turn(deadline)
                else:
                    self._park(waiter, leader, deadline)
            return True
        finally:
            if self._leader is waiter:
                self._abdicate()
            elif is_inner and not self._is_stopping:
                os.eventfd_write(self._wake_fd, 1)  # the outer wait may be over by now
            lock.release()

    def lead_once(self) -> None:
        """Apply what has arrived without blocking: the callback of an asyncio reader.

        Only after `attach_loop`: the background thread, if it leads then, leaves and never leads
        again.
        """
        with self.lock:
            if self._leader is None:
                self._leader = _LOOP
                try:
                    self._dispatch(self._epoll.poll(0, _MAX_EVENTS))
                finally:
                    self._abdicate()

    def poll(self) -> None:
        """Apply what has arrived without blocking, if nobody leads; under the lock.

        For threads that submit for long without waiting.
        """
        if self._leader is None:
            self._turns += 1
            self._leader = _POLLER
            try:
                self._dispatch(self._epoll.poll(0, _MAX_EVENTS))
            finally:
                self._abdicate()

    def attach_loop(self) -> int:
        """An event loop will call `lead_once` when the returned descriptor is readable."""
        with self.lock:
            self._is_attached = True
            self._is_asleep = True
            if self._leader is _BACKGROUND:
                self.kick()  # it leaves, and never leads again
        return self._epoll.fileno()

    def run_forever(self) -> None:
        """Lead until `stop()`: for a process whose main thread does nothing else."""
        with self.lock:
            self._leader = _MAIN
            self._tick()
            while not self._is_stopping:
                self._turn(None)

    def stop(self) -> None:
        """End `run_forever` and the background thread; under no lock."""
        self._is_stopping = True
        self._is_kicked = False
        os.eventfd_write(self._wake_fd, 1)
        if self._background is not None and self._background is not threading.current_thread():
            with self.lock:
                self._wake_background()
            self._background.join()
            self._background = None

    def leave_fork(self) -> None:
        """In a forked child: never wake or wait, the descriptors are the parent's too."""
        self._is_asleep = self._is_attached = False
        self.on_tick = None
        if self.lock.is_resting:
            gc.enable()  # the thread that held the lock is not here to do it
        self.lock = CoreLock()

    def close(self) -> None:
        """Give back the descriptors; after `stop()`."""
        self._epoll.close()
        os.close(self._wake_fd)
        self._handlers.clear()

    def _turn(self, deadline: float | None) -> None:
        """Sleep until something happens, without the lock, then apply it under the lock."""
        when = self._timers[0].when if self._timers else None
        if deadline is not None and (when is None or deadline < when):
            when = deadline
        timeout = -1.0 if when is None else max(0.0, when - time.monotonic())
        events: list[tuple[int, int]] = []
        self._is_asleep = True
        if self._is_wanted:
            timeout = 0.0
        self.lock.release()
        try:
            events = self._sleep(timeout)
        except (OSError, ValueError):
            if not self._is_stopping:  # a signal handler of this thread closed it under us
                raise
        finally:
            self.lock.acquire()
            self._is_asleep = self._is_attached
        self._dispatch(events)

    @interruptible
    def _sleep(self, timeout: float) -> list[tuple[int, int]]:
        # Here and in _rest alone may a signal handler raise through the reactor.
        pacing = self.pacing
        if pacing is not None and pacing.is_contended and self._leader is not _BACKGROUND:
            return pacing.poll(self._epoll.poll, timeout, _MAX_EVENTS)  # type: ignore[no-any-return]
        return self._epoll.poll(timeout, _MAX_EVENTS)

    @interruptible
    def _rest(self, park: Any, timeout: float) -> None:
        park.acquire(True, timeout)

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        handlers = self._handlers
        for fd, event in events:
            handler = handlers.get(fd)
            if handler is not None:
                try:
                    handler(event)
                except Exception:  # a handler's defect must not take the leader's wait with it  # noqa: BLE001
                    traceback.print_exc()
        timers = self._timers
        if timers:
            now = time.monotonic()
            while timers and timers[0].when <= now:
                timer = heapq.heappop(timers)
                if not timer.is_cancelled:
                    try:
                        timer.function()
                    except Exception:  # noqa: BLE001 - told on, not swallowed
                        traceback.print_exc()
        self._tick()

    def _tick(self) -> None:
        self._is_wanted = False
        if self.on_tick is not None:
            self.on_tick()
        if self.dirty:
            self.flush()

    def _on_wake(self, _events: int) -> None:
        if self._is_stopping:
            return  # whoever else leads is to wake too; the descriptor goes with the reactor
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            pass
        self._is_kicked = False
        self._was_kicked = True

    def _park(self, waiter: Waiter, leader: Waiter, deadline: float | None) -> None:
        """Sleep as a follower until done, promoted, or out of time."""
        if waiter.park is None:
            waiter.park = threading.Lock()
        waiter.park.acquire(False)
        waiter.is_parked = True
        if waiter.thread == _main_ident and any(f.thread == _main_ident for f in self._followers):
            self._followers.appendleft(waiter)  # in a signal handler: the outer wait waits for it
        else:
            self._followers.append(waiter)
        if leader is _BACKGROUND:
            self.kick()
        timeout = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        self.lock.release()
        try:
            self._rest(waiter.park, timeout)
        finally:
            self.lock.acquire()
            if waiter.is_parked:
                waiter.is_parked = False
                self._followers.remove(waiter)

    def _abdicate(self) -> None:
        """Leave leadership to a follower, or to nobody until the background thread takes it."""
        leader, self._leader = self._leader, None
        followers = self._followers
        while followers:
            follower = followers.popleft()
            if follower.is_parked:
                follower.is_parked = False
                self._leader = follower
                follower.park.release()
                return
        if self._is_attached:
            if leader is not _LOOP and not self._is_stopping:
                # The loop's own alarm knows nothing of timers that were set while another led.
                os.eventfd_write(self._wake_fd, 1)
        elif self._is_background_parked:
            self._wake_background()

    # ---- the background thread ---------------------------------------------------------------

    def start_background(self) -> None:
        """Start the thread that leads while no user thread does."""
        self._background = threading.Thread(
            target=self._run_background, name="freehold-reactor", daemon=True
        )
        self._background.start()

    def _wake_background(self) -> None:
        if self._is_background_parked:
            self._is_background_parked = False
            self._background_park.release()

    def _run_background(self) -> None:
        """Nap while user threads take turns, lead when none does, park while one leads for long.

        A nap ends by itself: woken at the end of each user's wait, this thread would compete with
        that user for the interpreter in every call one by one, and hold the lock while it waits.
        """
        lock = self.lock
        seen = -1
        while not self._is_stopping:
            pacing = self.pacing
            is_contended = pacing is not None and pacing.is_contended
            time.sleep(FLUSH_AFTER_S * (_NAPS_BESIDE_COMPUTING if is_contended else 1))
            is_quiet = seen == self._turns
            seen = self._turns
            if self._is_wanted or self.dirty:
                with lock:
                    self._tick()
            if is_quiet:
                self._lead_or_park(seen)

    def _lead_or_park(self, seen: int) -> None:
        with self.lock:
            if seen != self._turns or self._is_stopping:
                return
            if self._leader is None and not self._is_attached:
                if self.pacing is not None:
                    self.pacing.on_idle()
                self._leader = _BACKGROUND
                self._was_kicked = False
                self._tick()
                while not (self._was_kicked or self._followers or self._is_stopping):
                    self._turn(None)
                self._abdicate()
                return
            self._is_background_parked = True
        self._background_park.acquire()
