"""What a worker takes for short: only what was, many times, without one that was long."""

from __future__ import annotations

import pytest

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._processes.worker import run_times
from freehold._processes.worker.run_times import Past, RunTimes

CALLER = Address("a" * 32, 1)


def known_short() -> Past:
    past = Past()
    for _ in range(run_times.KNOWN_AT_MOST):
        past.note(20_000, 20_000)
    return past


def test_nothing_is_short_before_it_was_measured_often() -> None:
    past = Past()
    for _ in range(run_times.KNOWN_AFTER - 1):
        assert not past.is_short
        past.note(20_000, 20_000)
    assert not past.is_short
    past.note(20_000, 20_000)
    assert past.is_short


def test_one_long_call_is_remembered_for_many_short_ones() -> None:
    past = known_short()
    past.note(run_times.LONG_CPU_NS, run_times.LONG_CPU_NS)
    for _ in range(run_times.LONG_COSTS):
        assert not past.is_short
        past.note(20_000, 20_000)


def test_a_call_that_was_off_the_core_once_is_still_short() -> None:
    past = known_short()
    past.note(50_000_000, 30_000)
    assert past.is_short


def test_what_often_takes_longer_is_not_short() -> None:
    past = known_short()
    for _ in range(10):
        past.note(50_000_000, 30_000)
        past.note(20_000, 20_000)
    assert not past.is_short


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (m.Call(1, 0, "a", b"", 0), m.Call(2, 0, "b", b"", 0)),
        (m.Run(1, 0, 7, b"", 0), m.Run(2, 0, 8, b"", 0)),
    ],
    ids=["methods", "functions"],
)
def test_each_function_and_caller_has_its_own(one: m.Message, other: m.Message) -> None:
    times = RunTimes()
    past = times.of(CALLER, one)
    assert times.of(CALLER, one) is past
    assert times.of(CALLER, other) is not past
    assert times.of(Address("b" * 32, 1), one) is not past
    assert times.of(CALLER, one) is past


def test_the_callers_remembered_are_bounded() -> None:
    times = RunTimes()
    call = m.Call(1, 0, "a", b"", 0)
    past = times.of(CALLER, call)
    for number in range(run_times.CALLERS):
        times.of(Address("b" * 32, number), call)
    assert times.of(CALLER, call) is not past


def test_another_message_is_never_short() -> None:
    times = RunTimes()
    assert not times.of(CALLER, m.Recall([])).is_short
