"""The no-op bodies that every call row runs remotely, and the checks of what they return.

Place in the flow: rows declare these functions with `bench.remote`; both sides import this module
by name in their workers. A body does the least that proves that it ran elsewhere: it returns its
process id, with the number of the call where the call had an argument.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.adapter import (
    PID_BITS,
    Bench,
    foreign_pids,
    payload,
    payload_number,
    result_payload,
    result_pid,
)
from benchmarks.model import BenchError, Variant


def run_plain() -> int:
    return os.getpid()


def run_argument(value: bytes) -> int:
    return payload_number(value) << PID_BITS | os.getpid()


def run_result() -> bytes:
    return result_payload()


BODIES: dict[Variant, Callable[..., Any]] = {
    "plain": run_plain,
    "argument": run_argument,
    "result": run_result,
}


class Target:
    """An actor with the same three bodies as methods."""

    def __init__(self, value: bytes | None = None) -> None:
        self.number = -1 if value is None else payload_number(value)

    def run_plain(self) -> int:
        return os.getpid()

    def run_argument(self, value: bytes) -> int:
        return run_argument(value)

    def run_result(self) -> bytes:
        return result_payload()

    def run_number(self) -> int:
        return self.number << PID_BITS | os.getpid()


class AsyncTarget:
    """The same, as an async actor."""

    async def run_plain(self) -> int:
        return os.getpid()

    async def run_argument(self, value: bytes) -> int:
        return run_argument(value)

    async def run_result(self) -> bytes:
        return result_payload()


class Caller:
    """Calls one remote body, numbers the calls, and checks the results after the clock was
    stopped."""

    def __init__(self, variant: Variant, remote_call: Callable[..., Any]) -> None:
        self.variant = variant
        self._remote = remote_call
        self._next = 0
        self._expected: list[int] = []
        self._results: list[Any] = []

    def submit(self) -> Any:
        if self.variant != "argument":
            return self._remote()
        number = self._next
        self._next = number + 1
        self._expected.append(number)
        return self._remote(payload(number))

    def keep(self, results: Sequence[Any]) -> None:
        """Results in the order of their calls, to be checked by `check`."""
        self._results.extend(results)

    def check(self, calls: int) -> list[int]:
        """The pids the calls ran in; raises `BenchError` when a result is not that of its own
        call."""
        results, self._results = self._results, []
        expected, self._expected = self._expected, []
        if len(results) != calls:
            raise BenchError(f"{calls} calls gave {len(results)} results")
        if self.variant == "result":
            return foreign_pids([result_pid(value) for value in results])
        if self.variant == "plain":
            return foreign_pids(results)
        if [value >> PID_BITS for value in results] != expected:
            raise BenchError("a call returned another call's result")
        return foreign_pids([value & ((1 << PID_BITS) - 1) for value in results])


def task_caller(bench: Bench, variant: Variant, **options: Any) -> Caller:
    return Caller(variant, bench.remote(BODIES[variant], **options).remote)


def actor_caller(bench: Bench, variant: Variant, handle: Any) -> Caller:
    return Caller(variant, getattr(handle, f"run_{variant}").remote)
