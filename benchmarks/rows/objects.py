"""Objects: small and large `put`, `put` and `get` of 10,000, a drained `wait`, a value that holds
10,000 refs."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from benchmarks import proc
from benchmarks.adapter import Bench, payload, payload_number, repeat
from benchmarks.calls import task_caller
from benchmarks.model import CALL_VARIANTS, Bar, BenchError, Row, Sample, Variant

MANY = 10_000
DRAINED = 1_000
LARGE_BYTES = 100 * 1000 * 1000
COLD_BYTES = LARGE_BYTES // 10


def put_small(bench: Bench, variant: Variant) -> Sample:
    """`put` of an int (or of 1 KiB); the last thousand references stay alive."""
    put = bench.api.put
    kept: list[Any] = []
    number = 0

    def chunk() -> int:
        nonlocal kept, number
        values = [_value(variant, number + i) for i in range(DRAINED)]
        number += DRAINED
        kept = [put(value) for value in values]
        return DRAINED

    calls, elapsed = repeat(bench.seconds, chunk)
    _check(variant, number - DRAINED, bench.api.get(kept))
    return Sample(calls / elapsed)


def put_and_get(bench: Bench, variant: Variant) -> Sample:
    """10,000 put one by one, then fetched by one `get`; rounds a second."""
    values = [_value(variant, i) for i in range(MANY)]
    started = time.perf_counter()
    put = bench.api.put
    refs = [put(value) for value in values]
    got = bench.api.get(refs)
    elapsed = time.perf_counter() - started
    _check(variant, 0, got)
    return Sample(1 / elapsed)


def wait_drain(bench: Bench, variant: Variant) -> Sample:
    """A thousand tasks submitted, then `wait` for one after another until none is left; rounds a
    second."""
    caller = task_caller(bench, variant)

    def chunk() -> int:
        refs = [caller.submit() for _ in range(DRAINED)]
        pending, drained = list(refs), 0
        while pending:
            ready, pending = bench.api.wait(pending)
            drained += len(ready)
        if drained != DRAINED:
            raise BenchError(f"wait drained {drained} of {DRAINED} references")
        kept.extend(refs)
        return 1

    kept: list[Any] = []
    rounds, elapsed = repeat(bench.seconds, chunk)
    caller.keep(bench.api.get(kept))
    return Sample(rounds / elapsed, task_pids=caller.check(len(kept)))


def make_refs(side: str, count: int) -> list[Any]:
    """Runs in a worker: a value that holds `count` references to objects of its own."""
    api = importlib.import_module(side)
    return [api.put(i) for i in range(count)]


def ref_of_refs(bench: Bench, variant: Variant) -> Sample:
    """`get` of a value that holds 10,000 references which its maker owns; gets a second."""
    del variant
    holder = bench.once(
        "holder of references", lambda: bench.remote(make_refs).remote(bench.side, MANY)
    )
    bench.api.wait([holder], timeout=120)

    def chunk() -> int:
        inner = bench.api.get(holder)
        if len(inner) != MANY:
            raise BenchError(f"{len(inner)} references came back of {MANY}")
        return 1

    calls, elapsed = repeat(bench.seconds, chunk)
    inner = bench.api.get(holder)
    some = [0, 1, MANY // 2, MANY - 1]
    if bench.api.get([inner[i] for i in some]) != some:
        raise BenchError("a reference inside a value led to another value")
    return Sample(calls / elapsed)


def put_warm(bench: Bench, variant: Variant) -> Sample:
    """`put` of 100 MB into memory of the store that was used before, as a share of `np.copyto`."""
    del variant
    source, target = bench.once("large arrays", _large_arrays)
    for _ in range(3):
        bench.api.put(source)
    ref = None

    def chunk() -> int:
        nonlocal ref
        ref = None
        ref = bench.api.put(source)
        return 1

    copy_rate = _copy_rate(source, target)
    calls, elapsed = repeat(bench.seconds, chunk)
    copy_rate = (copy_rate + _copy_rate(source, target)) / 2
    _check_large(bench, ref)
    rate = calls * LARGE_BYTES / elapsed
    return Sample(rate / 1e9, {"share_of_copy": rate / copy_rate, "copy_gb_s": copy_rate / 1e9})


def put_cold(bench: Bench, variant: Variant) -> Sample:
    """The first `put` of 100 MB right after `init`: no page of the store was touched before."""
    del variant
    source, target = _large_arrays()
    copy_rate = _copy_rate(source, target)
    bench.init(num_cpus=2)
    started = time.perf_counter()
    touched = proc.arena_bytes(os.getpid())  # on the clock: nobody gets time to touch pages ahead
    ref = bench.api.put(source)
    elapsed = time.perf_counter() - started
    copy_rate = (copy_rate + _copy_rate(source, target)) / 2
    _check_large(bench, ref)
    if touched > COLD_BYTES:
        raise BenchError(f"the store had {touched} bytes of pages before its first put: not cold")
    rate = LARGE_BYTES / elapsed
    return Sample(
        rate / 1e9,
        {
            "share_of_copy": rate / copy_rate,
            "bare_pwrite_share": _cold_pwrite_rate(source) / copy_rate,
            "copy_gb_s": copy_rate / 1e9,
        },
    )


def _large_arrays() -> tuple[Any, Any]:
    import numpy as np

    source = np.arange(LARGE_BYTES // 8, dtype=np.int64)
    return source, np.ones_like(source)


def _copy_rate(source: Any, target: Any) -> float:
    """Bytes a second of `np.copyto` into an array that was touched before; the best of three."""
    import numpy as np

    best = 0.0
    for _ in range(3):
        started = time.perf_counter()
        np.copyto(target, source)
        best = max(best, LARGE_BYTES / (time.perf_counter() - started))
    return best


def _cold_pwrite_rate(source: Any) -> float:
    """Bytes a second of one `pwrite` into a new memory file: no store can be faster when cold."""
    fd = os.memfd_create("bench-cold")
    try:
        started = time.perf_counter()
        written = os.pwrite(fd, source, 0)
        elapsed = time.perf_counter() - started
    finally:
        os.close(fd)
    return written / elapsed


def _check_large(bench: Bench, ref: Any) -> None:
    got = bench.api.get(ref)
    wrong = got.nbytes != LARGE_BYTES or int(got[-1]) != LARGE_BYTES // 8 - 1
    if wrong or int(got[12_345]) != 12_345:
        raise BenchError("the array that came back is not the one that was put")


def _value(variant: Variant, number: int) -> int | bytes:
    return number if variant == "plain" else payload(number)


def _check(variant: Variant, first: int, values: list[Any]) -> None:
    numbers = values if variant == "plain" else [payload_number(value) for value in values]
    if numbers != list(range(first, first + len(values))):
        raise BenchError("get returned another object's value")


ROWS = [
    Row(
        key="put_small",
        title="put of an int",
        unit="/s",
        program=put_small,
        variants=("plain", "argument"),
        bars=(Bar("ratio", 40),),
    ),
    Row(
        key="put_get_10k",
        title="put and get of 10,000",
        unit="rounds/s",
        program=put_and_get,
        variants=("plain", "argument"),
        bars=(Bar("ratio", 25),),
    ),
    Row(
        key="wait_drain",
        title="wait drain of 1,000",
        unit="rounds/s",
        program=wait_drain,
        variants=CALL_VARIANTS,
        bars=(Bar("ratio", 10),),
    ),
    Row(
        key="ref_of_refs",
        title="get of a value holding 10,000 refs",
        unit="/s",
        program=ref_of_refs,
        bars=(Bar("ratio", 6),),
    ),
    Row(
        key="put_100mb_warm",
        title="put of 100 MB, warm",
        unit="GB/s",
        program=put_warm,
        bars=(Bar("at_least", 0.8, metric="share_of_copy", label="of np.copyto"),),
    ),
    Row(
        key="put_100mb_cold",
        title="put of 100 MB, cold",
        unit="GB/s",
        program=put_cold,
        where="fresh",
        sides=("freehold",),
        bars=(Bar("at_least", 0.4, metric="share_of_copy", label="of np.copyto"),),
    ),
]
