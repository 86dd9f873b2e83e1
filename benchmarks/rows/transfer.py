"""A value of 1 GiB on its way from one node to another, over loopback TCP, with TLS and without.

Held against a bare loop of `recv_into` over the same kind of connection into memory of the same
warmth, measured in between; without TLS also against Ray, which has none by default.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

from benchmarks.adapter import Bench
from benchmarks.bare_transfer import BareSender
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

SIZE_BYTES = 1 << 30
STORE_BYTES = 3 << 30
PULLS = 4
"""The first writes to memory that was never touched, the others to what it left."""


def make(size_bytes: int) -> Any:
    """Runs on the other node."""
    import numpy as np

    value = np.full(size_bytes, 7, dtype=np.uint8)
    value[:8] = np.frombuffer(os.getpid().to_bytes(8, "little"), dtype=np.uint8)
    return value


def plain(bench: Bench, variant: Variant) -> Sample:
    """Without TLS."""
    return _transfer(bench, tls=False)


def tls(bench: Bench, variant: Variant) -> Sample:
    """With TLS both ways."""
    return _transfer(bench, tls=True)


def _transfer(bench: Bench, *, tls: bool) -> Sample:
    bench.init_two_nodes(STORE_BYTES, tls=tls)
    maker = bench.remote(make).options(resources={"far": 1})
    bare = BareSender(SIZE_BYTES, is_tls=tls) if bench.side == "freehold" else None
    ours: list[float] = []
    bares: list[float] = []
    pids: list[int] = []
    for number in range(PULLS):
        ref = maker.remote(SIZE_BYTES)
        bench.api.wait([ref], timeout=120, fetch_local=False)
        if bare is not None:
            bares.append(bare.rate(is_warm=number > 0))
        started = time.perf_counter()
        value = bench.api.get(ref, timeout=120)
        ours.append(SIZE_BYTES / (time.perf_counter() - started))
        if value.nbytes != SIZE_BYTES or value[-1] != 7 or value[SIZE_BYTES // 2] != 7:
            raise BenchError("the value that came is not the one that was made")
        pids.append(int.from_bytes(value[:8].tobytes(), "little"))
        del value, ref
        _await_room(bench)
    metrics = {"cold_gb_s": ours[0] / 1e9}
    warm = statistics.median(ours[1:])
    if bare is not None:
        bare.close()
        warm_bare = statistics.median(bares[1:])
        metrics |= {
            "share_of_bare": warm / warm_bare,
            "cold_share_of_bare": ours[0] / bares[0],
            "bare_gb_s": warm_bare / 1e9,
        }
    return Sample(warm / 1e9, metrics, pids)


def _await_room(bench: Bench) -> None:
    """Until the copy is gone: each pull is to find the memory that the last one left."""
    if bench.side != "freehold":
        time.sleep(1)
        return
    deadline = time.monotonic() + 20
    while any(node["object_store"]["in_use"] for node in bench.api.nodes()):
        if time.monotonic() > deadline:
            raise BenchError("the stores were not empty 20 s after the last reference was dropped")
        time.sleep(0.05)


ROWS = [
    Row(
        key="transfer_plain",
        title="1 GiB to another node",
        unit="GB/s",
        program=plain,
        where="fresh",
        bars=(
            Bar("ratio", 1.0),
            Bar("at_least", 0.75, metric="share_of_bare", label="of bare recv_into"),
            Bar("at_least", 0.75, metric="cold_share_of_bare", label="of bare, cold"),
        ),
    ),
    Row(
        key="transfer_tls",
        title="1 GiB to another node, TLS",
        unit="GB/s",
        program=tls,
        where="fresh",
        sides=("freehold",),
        bars=(
            Bar("at_least", 0.75, metric="share_of_bare", label="of bare recv_into"),
            Bar("at_least", 0.75, metric="cold_share_of_bare", label="of bare, cold"),
        ),
    ),
]
