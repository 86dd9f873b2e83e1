"""Tasks: one by one, pipelined, submitted from tasks, and beside a busy thread of the driver."""

from __future__ import annotations

import importlib
import statistics
import threading
import time
from typing import Any

from benchmarks.adapter import Bench, foreign_pids, repeat
from benchmarks.calls import BODIES, Caller, task_caller
from benchmarks.model import CALL_VARIANTS, Bar, BenchError, Row, Sample, Variant

BATCH = 1_000
LARGE_BATCH = 10_000
SUBMITTERS = 4
SUBMITTED_EACH = 2_500
BUSY_SLICE_S = 0.1
BUSY_CHUNK = 5  # Ray makes some sixty such calls a second: a chunk must fit in a slice


def one_by_one(bench: Bench, variant: Variant) -> Sample:
    """`get(f.remote())`, again and again."""
    return call_one_by_one(bench, task_caller(bench, variant))


def pipelined(bench: Bench, variant: Variant) -> Sample:
    """A thousand submitted, then all of them fetched by one `get`."""
    return call_pipelined(bench, task_caller(bench, variant), BATCH)


def pipelined_large(bench: Bench, variant: Variant) -> Sample:
    return call_pipelined(bench, task_caller(bench, variant), LARGE_BATCH)


def call_one_by_one(bench: Bench, caller: Caller) -> Sample:
    get, submit = bench.api.get, caller.submit

    def chunk() -> int:
        caller.keep([get(submit()) for _ in range(20)])
        return 20

    calls, elapsed = repeat(bench.seconds, chunk)
    return Sample(calls / elapsed, task_pids=caller.check(calls))


def call_pipelined(bench: Bench, caller: Caller, batch: int) -> Sample:
    get, submit = bench.api.get, caller.submit

    def chunk() -> int:
        caller.keep(get([submit() for _ in range(batch)]))
        return batch

    calls, elapsed = repeat(bench.seconds, chunk)
    return Sample(calls / elapsed, task_pids=caller.check(calls))


_in_worker: dict[str, Bench] = {}


def submit_from_task(side: Any, variant: Variant, count: int) -> list[int]:
    """Runs in a worker: submits `count` tasks, gets them, returns the distinct pids they ran in."""
    bench = _in_worker.setdefault(side, Bench(side, importlib.import_module(side)))
    caller = Caller(variant, bench.remote(BODIES[variant]).remote)
    caller.keep(bench.api.get([caller.submit() for _ in range(count)]))
    return caller.check(count)


def from_tasks(bench: Bench, variant: Variant) -> Sample:
    """Four tasks that hold no CPU each submit 2,500 and get them; the rate over all 10,000."""
    submitter = bench.remote(submit_from_task, num_cpus=0)
    started = time.perf_counter()
    pids = bench.api.get(
        [submitter.remote(bench.side, variant, SUBMITTED_EACH) for _ in range(SUBMITTERS)]
    )
    elapsed = time.perf_counter() - started
    seen = [pid for each in pids for pid in each]
    if len(pids) != SUBMITTERS:
        raise BenchError(f"{SUBMITTERS} submitting tasks gave {len(pids)} results")
    return Sample(SUBMITTERS * SUBMITTED_EACH / elapsed, task_pids=foreign_pids(seen))


class BusyThread:
    """A user's thread that computes in pure Python and never lets go of the GIL by itself."""

    def __init__(self) -> None:
        self.turns = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="busy", daemon=True)

    def __enter__(self) -> BusyThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            for _ in range(100):
                pass
            self.turns += 100

    def rate(self, seconds: float) -> float:
        """Turns a second while the calling thread sleeps."""
        before, started = self.turns, time.perf_counter()
        time.sleep(seconds)
        return (self.turns - before) / (time.perf_counter() - started)


def beside_busy_thread(bench: Bench, variant: Variant) -> Sample:
    """Tasks one by one while another thread is busy, and the share of its own rate which that
    thread keeps.

    Short slices alone and with calls take turns, A B B A …, so that whatever else loads the machine
    loads both alike; the share is the median over the pairs.
    """
    get, caller = bench.api.get, task_caller(bench, variant)
    calls, elapsed = 0, 0.0
    shares = []

    def chunk() -> int:
        caller.keep([get(caller.submit()) for _ in range(BUSY_CHUNK)])
        return BUSY_CHUNK

    with BusyThread() as busy:

        def beside() -> float:
            nonlocal calls, elapsed
            turns = busy.turns
            some, seconds = repeat(BUSY_SLICE_S, chunk)
            calls += some
            elapsed += seconds
            return (busy.turns - turns) / seconds

        busy.rate(BUSY_SLICE_S)
        for pair in range(max(6, round(bench.seconds / BUSY_SLICE_S))):
            if pair % 2:
                with_calls = beside()
                alone = busy.rate(BUSY_SLICE_S)
            else:
                alone = busy.rate(BUSY_SLICE_S)
                with_calls = beside()
            shares.append(with_calls / alone)
    return Sample(
        calls / elapsed,
        {"thread_share": statistics.median(shares)},
        caller.check(calls),
    )


ROWS = [
    Row(
        key="tasks_one_by_one",
        title="tasks one by one",
        unit="/s",
        program=one_by_one,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 10),),
        ceiling="round_trip",
    ),
    Row(
        key="tasks_pipelined",
        title="tasks pipelined, by the thousand",
        unit="/s",
        program=pipelined,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 15),),
        ceiling="frames",
    ),
    Row(
        key="tasks_pipelined_10k",
        title="tasks pipelined, 10,000 at once",
        unit="/s",
        program=pipelined_large,
        ceiling="frames",
    ),
    Row(
        key="tasks_from_tasks",
        title="four tasks each submitting 2,500",
        unit="/s",
        program=from_tasks,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 12),),
        ceiling="frames",
    ),
    Row(
        key="tasks_busy_thread",
        title="tasks one by one beside a busy thread",
        unit="/s",
        program=beside_busy_thread,
        variants=CALL_VARIANTS,
        bars=(
            Bar("ratio", 5),
            Bar("at_least", 0.9, metric="thread_share", label="the busy thread keeps of its rate"),
        ),
        ceiling="round_trip",
    ),
]
