"""Who leads the reactor: a thread that waits, else the background thread, which does not interfere.

A real reactor with its background thread, a socket, and an echo beyond it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold._core.limits import FLUSH_AFTER_S
from freehold._io.reactor import Reactor, Waiter
from freehold.testing import eventually


class Echo:
    """A thread that sends back what it gets, and a reactor that waits for it."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.near, self._far = socket.socketpair()
        self.waiter = Waiter()
        self.answered_in: list[int] = []
        with self.reactor.lock:
            self.reactor.register(self.near.fileno(), self._on_ready)
        self.reactor.start_background()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while data := self._far.recv(1):
            self._far.send(data)

    def _on_ready(self, _events: int) -> None:
        self.near.recv(1)
        self.answered_in.append(threading.get_ident())
        self.waiter.finish()

    def ask(self) -> None:
        """Send, without waiting for the answer."""
        self.waiter = Waiter()
        self.near.send(b"?")

    def call(self) -> None:
        """One call one by one."""
        self.ask()
        assert self.reactor.wait(self.waiter, time.monotonic() + 10)

    def close(self) -> None:
        self.near.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.reactor.stop()
        self.reactor.close()
        self.near.close()
        self._far.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.close()


def background() -> threading.Thread:
    return next(t for t in threading.enumerate() if t.name == "freehold-reactor")


def switches(thread: threading.Thread) -> int:
    """How often a thread has gone to sleep."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])


def test_calls_one_by_one_do_not_wake_the_background_thread(echo: Echo) -> None:
    thread = background()
    echo.call()
    wakes = []
    for _ in range(10):
        before = switches(thread)
        for _ in range(100):
            echo.call()
        wakes.append(switches(thread) - before)
    assert min(wakes) < 50, "of 100 calls; it naps for 5 ms, a call takes 0.1"
    assert set(echo.answered_in) == {threading.get_ident()}


def test_what_comes_while_nobody_waits_is_applied_by_the_background_thread(echo: Echo) -> None:
    echo.call()
    for count in (2, 3):
        echo.ask()
        eventually(lambda count=count: len(echo.answered_in) == count, timeout_s=5)
    # Also right after a wait that was long enough for the background thread to park.
    assert not echo.reactor.wait(Waiter(), time.monotonic() + 10 * FLUSH_AFTER_S)
    echo.ask()
    eventually(lambda: len(echo.answered_in) == 4, timeout_s=5)
    assert set(echo.answered_in[1:]) == {background().ident}


def test_a_thread_that_waits_takes_over_from_the_background_thread(echo: Echo) -> None:
    echo.ask()
    eventually(lambda: len(echo.answered_in) == 1, timeout_s=5)
    echo.call()
    assert echo.waiter.is_done


class Unsent:
    """What a connection with unsent messages is to the reactor."""

    is_dirty = True

    def __init__(self) -> None:
        self.sent_in: list[int] = []

    def flush(self) -> None:
        self.sent_in.append(threading.get_ident())


def test_the_background_thread_sends_what_a_busy_thread_left_unsent(echo: Echo) -> None:
    unsent = Unsent()
    with echo.reactor.lock:
        echo.reactor.dirty.append(unsent)
        echo.reactor.kick()
    eventually(lambda: unsent.sent_in == [background().ident], timeout_s=5)


def test_timers_run_while_nobody_waits(echo: Echo) -> None:
    rang: list[int] = []
    with echo.reactor.lock:
        echo.reactor.call_later(0.02, lambda: rang.append(threading.get_ident()))
    eventually(lambda: rang == [background().ident], timeout_s=5)
