"""The main job: `freehold.shuffle` sorts 1 GB of Sort Benchmark records, from files to files on
tmpfs.

The same program runs on both sides (under Ray by `benchmarks/ray/freehold_over_ray`), and the same
numpy work in two bare processes (`bare_sort.py`) beside each round. Every output is validated, off
the clock.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.adapter import Bench
from benchmarks.host import Host
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

RECORDS = 10_000_000
QUICK_RECORDS = 1_000_000
WARM_UP_RECORDS = 20_000


def prepare(host: Host) -> Path:
    """The folder of the input, made once a run; its count and checksum lie beside it."""
    folder = host.scratch / "sort-input"
    if not folder.exists():
        folder.mkdir()
        records = QUICK_RECORDS if host.quick else RECORDS
        written = bare(host, "generate", str(folder), str(records))
        (host.scratch / "sort-expected.json").write_text(json.dumps(written))
    return folder


def bare(host: Host, *arguments: str) -> dict[str, Any]:
    """Run one command of `bare_sort` in the interpreter of Freehold."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bare_sort", *arguments],
        env=host.environment(host.mark),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"bare_sort {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def baseline(partitions: int) -> Callable[[Host], Sample]:
    """The same numpy work in two bare processes, seconds."""

    def measure(host: Host) -> Sample:
        folder = prepare(host)
        output = empty(host.scratch / "sort-bare")
        seconds = float(bare(host, "sort", str(folder), str(output), str(partitions))["seconds"])
        validate(host, output)
        return Sample(seconds)

    return measure


def sort(partitions: int) -> Callable[[Bench, Variant], Sample]:
    """`sort_files` on this side, seconds, after a small sort that starts the workers."""

    def measure(bench: Bench, variant: Variant) -> Sample:
        del variant
        bench.init(num_cpus=2)
        from freehold.shuffle import FilePart, record_files, sort_files

        scratch = Path(bench.scratch)
        inputs = record_files(scratch / "sort-input")
        small = [FilePart(inputs[0].path, 0, WARM_UP_RECORDS)]
        sort_files(small, empty(scratch / "sort-warm"), 4, uniform_keys=True)
        output = empty(scratch / f"sort-{bench.side}")
        started = time.perf_counter()
        written = sort_files(inputs, output, partitions, uniform_keys=True)
        elapsed = time.perf_counter() - started
        if len(written) != partitions:
            raise BenchError(f"{len(written)} files were written, not {partitions}")
        total = sum(part.count for part in inputs)
        return Sample(elapsed, {"mb_s": total * 100 / 1e6 / elapsed})

    return measure


def validate_output(host: Host, side: str) -> None:
    """What a side wrote is the input, sorted; then it is deleted."""
    validate(host, host.scratch / f"sort-{side}")


def validate(host: Host, output: Path) -> None:
    """A folder has the input, sorted; then it is deleted."""
    expected = json.loads((host.scratch / "sort-expected.json").read_text())
    found = bare(host, "validate", str(output))
    if found != {**expected, "unordered": 0}:
        raise BenchError(f"{output.name}: expected {expected} in order, found {found}")
    shutil.rmtree(output)


def empty(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _row(partitions: int, limit: float) -> Row:
    return Row(
        key=f"sort_{partitions}",
        title=f"sort of 1 GB, {partitions} partitions",
        unit="s",
        program=sort(partitions),
        baseline=baseline(partitions),
        check=validate_output,
        where="fresh",
        bars=(Bar("baseline", limit), Bar("ratio", 1.0, label="faster than Ray")),
        higher_is_better=False,
        timeout_s=600,
    )


ROWS = [_row(16, 1.4), _row(100, 2.0)]
