"""When calls one by one give way to a thread that computes, and with which switch interval."""

from __future__ import annotations

from typing import Any

import pytest

from freehold._core.pacing import (
    LARGEST_TURN_S,
    LONGEST_INTERVAL_S,
    SHORTEST_INTERVAL_S,
    WINDOWS_OFF,
    Pacer,
    Window,
)
from freehold._processes.owner import pacing
from freehold._processes.owner.pacing import MOMENT_S, WAITS, Pacing

BESIDE = Window(waits=16, wall_s=0.016, own_s=0.0016, others_s=0.013, late=16)
ALONE = Window(waits=16, wall_s=0.0016, own_s=0.0014, others_s=0.0)


def contended() -> Pacer:
    pacer = Pacer()
    pacer.observe(BESIDE)
    assert pacer.is_contended
    return pacer


def test_calls_without_another_thread_are_left_alone() -> None:
    pacer = Pacer()
    for _ in range(5):
        pacer.observe(ALONE)
        assert not pacer.is_contended
        assert pacer.interval_s == SHORTEST_INTERVAL_S


def test_the_interval_is_as_long_as_the_other_thread_needs() -> None:
    pacer = contended()
    for _ in range(30):  # each call takes 0.1 ms from the other thread
        pacer.observe(Window(16, wall_s=0.024, own_s=0.0016, others_s=0.0224, late=16))
    assert pacer.interval_s == pytest.approx(0.0001 * 0.93 / 0.07)
    for _ in range(30):
        pacer.observe(Window(16, wall_s=0.024, own_s=0.0016, others_s=0.008, late=16))
    assert pacer.interval_s == pytest.approx(LONGEST_INTERVAL_S)
    for _ in range(30):
        pacer.observe(Window(16, wall_s=0.024, own_s=0.0016, others_s=0.025, late=16))
    assert pacer.interval_s == pytest.approx(SHORTEST_INTERVAL_S)


def test_it_ends_with_the_other_thread() -> None:
    pacer = contended()
    pacer.observe(BESIDE)
    assert pacer.interval_s > SHORTEST_INTERVAL_S
    pacer.observe(ALONE)
    assert (pacer.is_contended, pacer.interval_s) == (False, SHORTEST_INTERVAL_S)


def test_a_thread_that_computes_outside_the_interpreter_is_no_reason() -> None:
    outside = Window(waits=16, wall_s=0.003, own_s=0.0016, others_s=0.003, late=0)
    pacer = contended()
    for _ in range(WINDOWS_OFF + 1):
        pacer.observe(outside)
        assert not pacer.is_contended
    pacer.observe(outside)
    assert pacer.is_contended  # tried again now and then: it may compute in Python by now


def test_a_caller_that_computes_itself_is_not_held_up() -> None:
    pacer = contended()
    pacer.observe(Window(16, wall_s=0.05, own_s=17 * LARGEST_TURN_S, others_s=0.03, late=16))
    assert not pacer.is_contended


class Clock:
    """Time as `Pacing` sees it: the other thread has the interpreter while the caller waits."""

    def __init__(self) -> None:
        self.now = self.own = self.process = 0.0
        self.is_other_busy = True
        self.interval_s = SHORTEST_INTERVAL_S

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.own

    def process_time(self) -> float:
        return self.process

    def call(self) -> None:
        """The caller's own part of a call."""
        self._pass(0.0001, 0.0001)

    def wait(self, seconds: float) -> None:
        busy = self.is_other_busy
        seconds += self.interval_s if busy and seconds > 0.00005 else 0.0
        self._pass(seconds, seconds if busy else 0.0)

    sleep = wait

    def _pass(self, seconds: float, process: float) -> None:
        self.now += seconds
        self.process += process
        self.own += seconds if process and seconds == 0.0001 else 0.0


class Caller:
    """Calls one by one, as the reactor makes them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.pacing = Pacing(self._set)
        self.polled: list[float] = []

    def _set(self, interval_s: float) -> None:
        self.clock.interval_s = interval_s

    def calls(self, count: int, answer_s: float, thread: int = 1) -> None:
        def poll(timeout: float, _count: int) -> list[Any]:
            self.clock.wait(answer_s)
            return ["answer", timeout]

        for _ in range(count):
            self.clock.call()
            self.pacing.on_wait(thread)
            if self.pacing.is_contended:
                assert self.pacing.poll(poll, -1.0, 64) == ["answer", -1.0]
            else:
                self.clock.wait(answer_s)


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    clock = Clock()
    monkeypatch.setattr(pacing, "time", clock)
    return Caller(clock)


def test_waits_are_measured_and_give_way(caller: Caller) -> None:
    caller.calls(2 * WAITS, answer_s=0.0002)
    assert caller.pacing.is_contended
    caller.calls(10 * WAITS, answer_s=0.0002)
    assert SHORTEST_INTERVAL_S < caller.clock.interval_s <= LONGEST_INTERVAL_S
    caller.clock.is_other_busy = False
    caller.calls(3 * WAITS, answer_s=0.0002)
    assert not caller.pacing.is_contended
    assert caller.clock.interval_s == SHORTEST_INTERVAL_S


def test_an_answer_that_comes_at_once_is_followed_by_a_moment_for_the_other(caller: Caller) -> None:
    caller.calls(2 * WAITS, answer_s=0.0002)
    began = caller.clock.now
    caller.calls(1, answer_s=0.00004)
    assert caller.clock.now - began >= MOMENT_S + caller.clock.interval_s


def test_two_threads_that_wait_do_not_give_way(caller: Caller) -> None:
    caller.calls(2 * WAITS, answer_s=0.0002)
    assert caller.pacing.is_contended
    caller.calls(1, answer_s=0.0002, thread=2)
    assert not caller.pacing.is_contended
    for thread in (1, 2) * (2 * WAITS):
        caller.calls(1, answer_s=0.0002, thread=thread)
    assert not caller.pacing.is_contended


def test_idle_time_between_calls_is_not_measured(caller: Caller) -> None:
    caller.clock.is_other_busy = False
    caller.calls(WAITS, answer_s=0.0002)
    caller.clock.is_other_busy = True
    caller.clock.wait(1.0)
    caller.clock.is_other_busy = False
    caller.pacing.on_idle()
    caller.calls(2 * WAITS, answer_s=0.0002)
    assert not caller.pacing.is_contended
