"""Actors: calls one by one and pipelined, an async actor, and actors created and called."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.adapter import PID_BITS, Bench, foreign_pids, payload, result_pid
from benchmarks.calls import AsyncTarget, Target, actor_caller
from benchmarks.model import CALL_VARIANTS, Bar, BenchError, Row, Sample, Variant
from benchmarks.rows.tasks import BATCH, call_one_by_one, call_pipelined

CREATED = 8


def _target(bench: Bench) -> Any:
    """One actor for all rounds; it holds no CPU, so that it takes none from the task rows on
    either side."""
    return bench.once("target", lambda: bench.remote(Target, num_cpus=0).remote())


def _async_target(bench: Bench) -> Any:
    return bench.once("async target", lambda: bench.remote(AsyncTarget, num_cpus=0).remote())


def one_by_one(bench: Bench, variant: Variant) -> Sample:
    return call_one_by_one(bench, actor_caller(bench, variant, _target(bench)))


def pipelined(bench: Bench, variant: Variant) -> Sample:
    return call_pipelined(bench, actor_caller(bench, variant, _target(bench)), BATCH)


def async_pipelined(bench: Bench, variant: Variant) -> Sample:
    return call_pipelined(bench, actor_caller(bench, variant, _async_target(bench)), BATCH)


def created(bench: Bench, variant: Variant) -> Sample:
    """Eight actors made, each called once, all answers fetched; then they are let go, off the
    clock."""
    make = bench.remote(Target)
    started = time.perf_counter()
    if variant == "argument":
        handles = [make.remote(payload(number)) for number in range(CREATED)]
        results = bench.api.get([handle.run_number.remote() for handle in handles])
    elif variant == "result":
        handles = [make.remote() for _ in range(CREATED)]
        results = bench.api.get([handle.run_result.remote() for handle in handles])
    else:
        handles = [make.remote() for _ in range(CREATED)]
        results = bench.api.get([handle.run_plain.remote() for handle in handles])
    elapsed = time.perf_counter() - started
    if variant == "result":
        pids = [result_pid(value) for value in results]
    elif variant == "argument":
        if [value >> PID_BITS for value in results] != list(range(CREATED)):
            raise BenchError("an actor answered with another actor's number")
        pids = [value & ((1 << PID_BITS) - 1) for value in results]
    else:
        pids = list(results)
    if len(set(pids)) != CREATED:
        raise BenchError(f"{CREATED} actors live in {len(set(pids))} processes")
    del handles
    return Sample(CREATED / elapsed, task_pids=foreign_pids(pids))


ROWS = [
    Row(
        key="actor_one_by_one",
        title="actor calls one by one",
        unit="/s",
        program=one_by_one,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 6),),
        ceiling="round_trip",
    ),
    Row(
        key="actor_pipelined",
        title="actor calls pipelined",
        unit="/s",
        program=pipelined,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 6),),
        ceiling="frames",
    ),
    Row(
        key="actor_async",
        title="async actor calls pipelined",
        unit="/s",
        program=async_pipelined,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 5),),
        ceiling="frames",
    ),
    Row(
        key="actors_created",
        title="actors created and called",
        unit="/s",
        program=created,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 20),),
    ),
]
