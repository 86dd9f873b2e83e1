"""Scheduling: the makespan of sleeping tasks against greedy list scheduling, and recursion 200
deep.

Freehold only: the bound is computed here, not measured on another system.
"""

from __future__ import annotations

import heapq
import importlib
import os
import random
import time
from collections.abc import Sequence

from benchmarks.adapter import Bench, foreign_pids
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

SLEEPERS = 400
SLEEP_CPUS = 4
SLEEP_RANGE_S = (0.010, 1.0)
DEPTH = 200


def sleep_for(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def greedy_makespan(durations: Sequence[float], machines: int) -> float:
    """List scheduling (Graham 1966): each task, in order, to the machine that is free first."""
    free_at = [0.0] * machines
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def makespan(bench: Bench, variant: Variant) -> Sample:
    """400 tasks of 10-1,000 ms on 4 CPUs, submitted at once: time taken over the greedy bound."""
    del variant
    chooser = random.Random(20)
    durations = [chooser.uniform(*SLEEP_RANGE_S) for _ in range(SLEEPERS)]
    bench.init(num_cpus=SLEEP_CPUS)
    sleeper = bench.remote(sleep_for)
    started = time.perf_counter()
    pids = bench.api.get([sleeper.remote(duration) for duration in durations])
    elapsed = time.perf_counter() - started
    bound = greedy_makespan(durations, SLEEP_CPUS)
    if elapsed < bound * 0.9:
        raise BenchError(f"took {elapsed:.1f} s, less than {SLEEP_CPUS} CPUs can: {bound:.1f} s")
    return Sample(elapsed / bound, {"makespan_s": elapsed, "greedy_s": bound}, foreign_pids(pids))


def descend(side: str, depth: int) -> int:
    """Runs in a worker: waits for a task of its own, which waits for one of its own, …"""
    if depth == 0:
        return 0
    api = importlib.import_module(side)
    below: int = api.get(api.remote(descend).remote(side, depth - 1))
    return below + 1


def recursion(bench: Bench, variant: Variant) -> Sample:
    """Each of 200 tasks waits in `get` for the next; ends only if a waiting task gives its CPU
    back."""
    del variant
    bench.init(num_cpus=2)
    started = time.perf_counter()
    depth = bench.api.get(bench.remote(descend).remote(bench.side, DEPTH), timeout=120)
    if depth != DEPTH:
        raise BenchError(f"recursion {DEPTH} deep came back with {depth}")
    return Sample(time.perf_counter() - started)


ROWS = [
    Row(
        key="makespan",
        title="400 sleeping tasks on 4 CPUs",
        unit="of greedy",
        program=makespan,
        where="fresh",
        sides=("freehold",),
        bars=(Bar("at_most", 1.1),),
        higher_is_better=False,
        max_rounds=1,  # 50 s each, and 400 tasks average by themselves
    ),
    Row(
        key="recursion",
        title="recursion 200 deep on 2 CPUs",
        unit="s",
        program=recursion,
        where="fresh",
        sides=("freehold",),
        bars=(Bar("at_most", 120, label="ends"),),
        higher_is_better=False,
        max_rounds=3,
    ),
]
