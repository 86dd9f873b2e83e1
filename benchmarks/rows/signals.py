"""A storm of signals: SIGALRM raises in the driver every millisecond while eight threads wait for
results.

Freehold only. The handler raises inside Freehold's own code and nowhere else (the storm's loop must
be able to count): a call that is interrupted before it returned may or may not have run; one that
returned a reference must give that reference's own value, once, to the one thread that asks.
"""

from __future__ import annotations

import collections
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.adapter import PID_BITS, Bench, foreign_pids
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

INTERVAL_S = 0.001
STORM_S = 60.0
STORM_REFS = 100_000
WAITERS = 8
MAX_S = 400.0
_MASK = (1 << PID_BITS) - 1
_PROGRAM = __file__


class AlarmError(Exception):
    """What the handler raises."""


_log: dict[str, int] = {}


def record(folder: str, number: int) -> int:
    """Runs in a worker: writes the number down, so that a second run of the same call shows."""
    if folder not in _log:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        _log[folder] = os.open(f"{folder}/{os.getpid()}", flags)
    os.write(_log[folder], number.to_bytes(8, "little"))
    return number << PID_BITS | os.getpid()


class Storm:
    """The driver's side: submits under alarms, while threads fetch."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.api = bench.api
        self.submit = bench.remote(record).remote
        self.folder = str(folder)
        self.alarms = 0
        self.returned = 0
        self.waiting: collections.deque[tuple[int, Any]] = collections.deque()
        self.fetched: list[list[tuple[int, int]]] = [[] for _ in range(WAITERS)]
        self.failures: list[str] = []
        self.stop = False

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        """Raise, unless the storm's own loop is what was interrupted."""
        del number
        if frame is not None and frame.f_code.co_filename != _PROGRAM:
            self.alarms += 1
            raise AlarmError

    def wait_in_thread(self, index: int) -> None:
        """One of the eight: takes a reference, fetches it, notes what came."""
        mine = self.fetched[index]
        while True:
            try:
                number, ref = self.waiting.popleft()
            except IndexError:
                if self.stop:
                    return
                time.sleep(0.001)
                continue
            try:
                mine.append((number, self.api.get(ref, timeout=60)))
            except Exception as error:
                self.failures.append(f"{number}: {type(error).__name__}: {error}")

    def run(self, seconds: float, refs: int) -> float:
        """Submit until both `seconds` have passed and `refs` references came back."""
        started = time.perf_counter()
        number = 0
        while True:
            elapsed = time.perf_counter() - started
            if (elapsed >= seconds and self.returned >= refs) or elapsed > MAX_S:
                return elapsed
            while len(self.waiting) > 2_000:
                time.sleep(0.001)
            number += 1
            try:
                ref = self.submit(self.folder, number)
            except AlarmError:
                continue
            self.returned += 1
            if number % 50:
                self.waiting.append((number, ref))
            else:
                self.fetch_here(number, ref)

    def fetch_here(self, number: int, ref: Any) -> None:
        """Now and then the main thread fetches itself, interrupted as often as it takes."""
        for _ in range(10_000):
            try:
                value = self.api.get(ref, timeout=60)
            except AlarmError:
                continue
            except Exception as error:
                self.failures.append(f"{number}: {type(error).__name__}: {error}")
                return
            self.fetched[0].append((number, value))
            return
        self.failures.append(f"{number}: get was interrupted 10,000 times and never came through")


def storm(bench: Bench, variant: Variant) -> Sample:
    """Sixty seconds and 100,000 references under an alarm a millisecond; then the cluster must
    still work."""
    del variant
    quick = bench.seconds < 0.5
    bench.init(num_cpus=2)
    folder = Path(bench.scratch) / f"storm-{os.getpid()}"
    folder.mkdir()
    it = Storm(bench, folder)
    it.api.get(it.submit(it.folder, 0))
    threads = [
        threading.Thread(target=it.wait_in_thread, args=(i,), daemon=True) for i in range(WAITERS)
    ]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, it.on_alarm)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)
    try:
        elapsed = it.run(5.0 if quick else STORM_S, 5_000 if quick else STORM_REFS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        it.stop = True
    for thread in threads:
        thread.join(120)
    return _judge(bench, it, folder, elapsed, sum(thread.is_alive() for thread in threads))


def _judge(bench: Bench, it: Storm, folder: Path, elapsed: float, stuck: int) -> Sample:
    pairs = [pair for each in it.fetched for pair in each]
    wrong = sum(number != value >> PID_BITS for number, value in pairs)
    twice_fetched = len(pairs) - len({number for number, _ in pairs})
    ran = collections.Counter(_numbers(folder))
    twice_run = sum(count - 1 for count in ran.values())
    lost = it.returned - len(pairs)
    # The cluster still works: a last thousand without alarms.
    last = bench.api.get([it.submit(it.folder, -1 & 0xFFFF) for _ in range(1_000)], timeout=60)
    if it.alarms < 100:
        raise BenchError(f"only {it.alarms} alarms struck in {elapsed:.0f} s: no storm")
    bad = wrong + twice_fetched + twice_run + lost + stuck + len(it.failures)
    return Sample(
        float(bad),
        {
            "seconds": elapsed,
            "returned_refs": float(it.returned),
            "alarms": float(it.alarms),
            "wrong": float(wrong),
            "lost": float(lost),
            "run_twice": float(twice_run),
            "stuck_threads": float(stuck),
        },
        foreign_pids([value & _MASK for _, value in pairs] + [value & _MASK for value in last]),
        notes="; ".join(it.failures[:5]),
    )


def _numbers(folder: Path) -> list[int]:
    numbers = []
    for path in folder.iterdir():
        data = path.read_bytes()
        numbers += [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    return numbers


ROWS = [
    Row(
        key="signal_storm",
        title="SIGALRM every 1 ms, 8 waiting threads",
        unit="wrong",
        program=storm,
        where="fresh",
        sides=("freehold",),
        bars=(
            Bar("at_most", 0, label="values lost, wrong or twice"),
            Bar("at_least", STORM_REFS, metric="returned_refs", label="references returned"),
            Bar("at_least", STORM_S, metric="seconds", label="seconds"),
        ),
        higher_is_better=False,
        max_rounds=1,
        timeout_s=600,
    ),
]
