"""Sends and receives that keep the interpreter's lock, alone and under a whole cluster."""

from __future__ import annotations

import gc
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import freehold
from freehold._api import state
from freehold._io import quick_socket
from freehold._io.quick_socket import QUICK_BYTES


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    yield near, far
    near.close()
    far.close()


def test_bytes_arrive_where_they_should(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    buffer = bytearray(b"." * 10)
    assert quick_socket.send(near, b"a\0b") == 3
    assert quick_socket.receive_into(far, buffer, 4) == 3
    assert buffer == b"....a\0b..."
    assert quick_socket.send(near, b"0123456789") == 10
    assert quick_socket.receive_into(far, buffer, 7) == 3
    assert buffer == b"....a\0b012"
    buffer += b"!"  # nothing holds it


def fill(sock: socket.socket, size: int) -> None:
    while quick_socket.send(sock, bytes(size)):
        pass


def test_full_empty_and_broken_sockets(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    buffer = bytearray(100)
    with pytest.raises(BlockingIOError):
        quick_socket.receive_into(far, buffer, 0)
    for size in (QUICK_BYTES, QUICK_BYTES + 1):
        with pytest.raises(BlockingIOError):
            fill(near, size)
    far.close()
    with pytest.raises(BrokenPipeError):
        quick_socket.send(near, b"x")
    near.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        quick_socket.send(near, b"x")


def test_the_end_of_a_stream_is_no_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    near.close()
    assert quick_socket.receive_into(far, bytearray(10), 0) == 0


class Contended:
    """As if somebody always competed."""

    is_contended = True
    polls = 0

    def on_wait(self, thread: int) -> None:
        pass

    def on_idle(self) -> None:
        pass

    def poll(self, poll: Callable[[float, int], Any], timeout: float, count: int) -> Any:
        self.polls += 1
        return poll(timeout, count)


@freehold.remote
def echo(value: Any) -> Any:
    return value


@pytest.fixture
def core() -> Iterator[Any]:
    freehold.init(num_cpus=2, object_store_memory=64 << 20, log_to_driver=False)
    yield state.core
    freehold.shutdown()


def test_a_contended_driver_does_all_that_another_does(core: Any) -> None:
    pacing = core.reactor.pacing = Contended()
    for size in (0, 1 << 10, 60_000, 99_000, 1 << 20):
        value = bytes([size % 251]) * size
        assert freehold.get(echo.remote(value)) == value
    assert freehold.get([echo.remote(i) for i in range(2_000)]) == list(range(2_000))
    refs = [echo.remote(bytes(90_000)) for _ in range(100)]
    assert all(value == bytes(90_000) for value in freehold.get(refs))
    assert pacing.polls > 0


def test_calls_beside_a_thread_that_computes(core: Any) -> None:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for i in range(300):
            assert freehold.get(echo.remote(i)) == i
    finally:
        stop.set()
        thread.join()
    for i in range(100):
        assert freehold.get(echo.remote(i)) == i


def test_the_switch_interval_is_put_back_unless_somebody_else_set_it() -> None:
    found = sys.getswitchinterval()
    try:
        freehold.init(num_cpus=1, object_store_memory=64 << 20, log_to_driver=False)
        assert sys.getswitchinterval() == pytest.approx(0.001)
        state.core._tuning.set_interval(0.0017)  # type: ignore[union-attr]
        assert sys.getswitchinterval() == pytest.approx(0.0017)
        freehold.shutdown()
        assert sys.getswitchinterval() == found

        freehold.init(num_cpus=1, object_store_memory=64 << 20, log_to_driver=False)
        sys.setswitchinterval(0.0003)
        state.core._tuning.set_interval(0.0017)  # type: ignore[union-attr]
        freehold.shutdown()
        assert sys.getswitchinterval() == pytest.approx(0.0003)
    finally:
        sys.setswitchinterval(found)


def test_the_interpreter_is_left_alone_if_told_so() -> None:
    found = sys.getswitchinterval(), gc.get_threshold()
    freehold.init(num_cpus=1, _system_config={"tune_interpreter": False})
    try:
        state.core._tuning.set_interval(0.0017)  # type: ignore[union-attr]
        assert (sys.getswitchinterval(), gc.get_threshold()) == found
        assert freehold.get(freehold.put(5)) == 5
    finally:
        freehold.shutdown()
    assert (sys.getswitchinterval(), gc.get_threshold()) == found


def test_a_collector_that_was_switched_off_stays_off() -> None:
    found = gc.get_threshold()
    gc.set_threshold(0)
    try:
        freehold.init(num_cpus=1)
        assert gc.get_threshold()[0] == 0
        freehold.shutdown()
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*found)
