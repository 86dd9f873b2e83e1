"""Memory: a million tasks in flight, a thousand returns a task, and what is left at rest and after
work.

Freehold only. RssAnon is anonymous memory (without the shared arena), USS what ends with the
process.
"""

from __future__ import annotations

import collections
import gc
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks import proc
from benchmarks.adapter import Bench, foreign_pids
from benchmarks.calls import Target, run_plain
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

MILLION = 1_000_000
OUTPUTS = 1_000
OUTPUT_TASKS = 30
OUTPUT_BYTES = 1_000
TASKS_DONE, PUTS_DONE, ACTORS_DONE = 100_000, 10_000, 100
SETTLE_S = 20.0


def million_tasks(bench: Bench, variant: Variant) -> Sample:
    """A million no-op tasks submitted before the first is fetched: driver bytes a task, node
    growth."""
    del variant
    bench.init(num_cpus=2)
    run, get = bench.remote(run_plain), bench.api.get
    get([run.remote() for _ in range(1_000)])
    node = proc.node_process(os.getpid()).pid
    gc.collect()
    driver_before, node_before = proc.anonymous_bytes(os.getpid()), proc.anonymous_bytes(node)
    driver_peak = node_peak = 0

    def look() -> None:
        nonlocal driver_peak, node_peak
        driver_peak = max(driver_peak, proc.anonymous_bytes(os.getpid()))
        node_peak = max(node_peak, proc.anonymous_bytes(node))

    refs: list[Any] = []
    started = time.perf_counter()
    for _ in range(MILLION // 50_000):
        refs.extend(run.remote() for _ in range(50_000))
        look()
    bench.api.wait(refs, num_returns=MILLION)
    look()
    pids: set[int] = set()
    done = 0
    for first in range(0, MILLION, 10_000):
        results = get(refs[first : first + 10_000])
        done += len(results)
        pids.update(results)
    elapsed = time.perf_counter() - started
    look()
    if done != MILLION:
        raise BenchError(f"{done} of {MILLION} tasks gave a result")
    return Sample(
        MILLION / elapsed,
        {
            "driver_bytes_a_task": (driver_peak - driver_before) / MILLION,
            "node_growth": node_peak / node_before,
        },
        foreign_pids(list(pids)),
    )


def make_outputs(count: int) -> list[bytes]:
    """Runs in a worker: `count` outputs of 1 kB that differ from each other."""
    return [i.to_bytes(8, "little") * (OUTPUT_BYTES // 8) for i in range(count)]


def many_returns(bench: Bench, variant: Variant) -> Sample:
    """`num_returns=1000` of 1 kB: driver bytes an output, its reference and the list's slot
    included."""
    del variant
    bench.init(num_cpus=2)
    run = bench.remote(make_outputs, num_returns=OUTPUTS)
    bench.api.wait(run.remote(OUTPUTS), num_returns=OUTPUTS)
    gc.collect()
    before = proc.anonymous_bytes(os.getpid())
    groups = [run.remote(OUTPUTS) for _ in range(OUTPUT_TASKS)]
    for group in groups:
        bench.api.wait(group, num_returns=OUTPUTS)
    gc.collect()
    after = proc.anonymous_bytes(os.getpid())
    for i in (0, 1, OUTPUTS - 1):
        if bench.api.get(groups[-1][i])[:8] != i.to_bytes(8, "little"):
            raise BenchError(f"output {i} has another output's value")
    return Sample((after - before) / (OUTPUTS * OUTPUT_TASKS))


def at_rest(bench: Bench, variant: Variant) -> Sample:
    """Memory, descriptors and the store's use: after a first task, and after a day's work in
    small."""
    del variant
    bench.init(num_cpus=2)
    _work(bench, tasks=1_000, puts=100, actors=2)
    driver = os.getpid()
    node = proc.node_process(driver).pid
    _settle(lambda: store_bytes_in_use(bench) == 0)
    node_before, worker_before = proc.anonymous_bytes(node), _largest_worker(driver)
    before = _descriptors(node, driver)
    descriptors = before.total()
    pids = _work(bench, tasks=TASKS_DONE, puts=PUTS_DONE, actors=ACTORS_DONE)
    _settle(lambda: store_bytes_in_use(bench) == 0)
    _settle(lambda: _descriptors(node, driver).total() <= descriptors)
    _settle(lambda: proc.anonymous_bytes(node) <= node_before * 1.1)
    _settle(lambda: _largest_worker(driver) <= worker_before * 1.1)
    after = _descriptors(node, driver)
    return Sample(
        node_before / 1e6,
        {
            "worker_mb": worker_before / 1e6,
            "node_after": proc.anonymous_bytes(node) / node_before,
            "worker_after": _largest_worker(driver) / worker_before,
            "store_bytes": float(store_bytes_in_use(bench)),
            "store_touched_mb": proc.arena_bytes(driver) / 1e6,
            "descriptor_growth": float(after.total() - descriptors),
        },
        pids,
        notes=" ".join(f"{kind}:+{count}" for kind, count in (after - before).items()),
    )


def store_bytes_in_use(bench: Bench) -> int:
    """Bytes of the store that values hold, as the resources of the cluster tell it."""
    name = "object_store_memory"
    whole, free = bench.api.cluster_resources(), bench.api.available_resources()
    if name not in whole:
        raise BenchError(f"cluster_resources() has no {name}: it has {sorted(whole)}")
    return int(whole[name] - free.get(name, 0))


def _work(bench: Bench, *, tasks: int, puts: int, actors: int) -> list[int]:
    """Run actors, puts and tasks, check them, and let go of everything; the pids of the tasks.

    Actors first: they end with the workers they took, and workers of many tasks are to be measured.
    """
    api = bench.api
    run, target = bench.remote(run_plain), bench.remote(Target)
    for first in range(0, actors, 10):
        handles = [target.remote() for _ in range(min(10, actors - first))]
        if len(set(api.get([handle.run_plain.remote() for handle in handles]))) != len(handles):
            raise BenchError("two actors live in one process")
        del handles
    if api.get([api.put(i) for i in range(puts)]) != list(range(puts)):
        raise BenchError("get returned another object's value")
    large = [api.put(bytes([i]) * 1_000_000) for i in range(10)]
    if [api.get(ref)[:1] for ref in large] != [bytes([i]) for i in range(10)]:
        raise BenchError("get returned another object's value")
    del large
    pids: set[int] = set()
    for first in range(0, tasks, 10_000):
        pids.update(api.get([run.remote() for _ in range(min(10_000, tasks - first))]))
    gc.collect()
    return foreign_pids(list(pids))


def _settle(done: Callable[[], bool]) -> None:
    """Give it time to come true; whether it did is what the row measures next."""
    proc.seconds_until(done, SETTLE_S)


def _descriptors(*pids: int) -> collections.Counter[str]:
    """How many descriptors of each kind these processes have: socket, pipe, a path, …"""
    found = [target for pid in pids for target in proc.descriptors(pid)]
    return collections.Counter(
        target if target.startswith("/") else target.partition("[")[0] for target in found
    )


def _largest_worker(driver: int) -> int:
    """The largest USS of a forked worker that lives now."""
    sizes = []
    for worker in proc.workers(driver):
        try:
            sizes.append(proc.unique_bytes(worker.pid))
        except (ProcessLookupError, FileNotFoundError):
            continue  # it ended between the two looks
    if not sizes:
        raise BenchError("there is no forked worker to measure")
    return max(sizes)


ROWS = [
    Row(
        key="million_tasks",
        title="1,000,000 tasks, all refs alive",
        unit="/s",
        program=million_tasks,
        where="fresh",
        sides=("freehold",),
        bars=(
            Bar("at_most", 1536, metric="driver_bytes_a_task", label="driver bytes a task"),
            Bar("at_most", 1.1, metric="node_growth", label="node process RssAnon, peak of before"),
        ),
        max_rounds=1,
        timeout_s=600,
    ),
    Row(
        key="many_returns",
        title="num_returns=1000 of 1 kB",
        unit="B each",
        program=many_returns,
        where="fresh",
        sides=("freehold",),
        bars=(Bar("at_most", 300, label="driver bytes an output"),),
        higher_is_better=False,
    ),
    Row(
        key="at_rest",
        title="memory at rest",
        unit="MB",
        program=at_rest,
        where="fresh",
        sides=("freehold",),
        bars=(
            Bar("at_most", 90, label="node process RssAnon"),
            Bar("at_most", 25, metric="worker_mb", label="a forked worker's USS, MB"),
            Bar("at_most", 1.1, metric="node_after", label="node process, after of before"),
            Bar("at_most", 1.1, metric="worker_after", label="worker, after of before"),
            Bar("at_most", 0, metric="store_bytes", label="bytes in use in the store, after"),
            Bar("at_most", 0, metric="descriptor_growth", label="descriptors more than before"),
        ),
        higher_is_better=False,
        max_rounds=3,
        timeout_s=300,
    ),
]
