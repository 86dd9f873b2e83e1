"""The numpy work of the sort in two bare processes: what `freehold.shuffle` is measured against.

    python -m benchmarks.bare_sort generate DIRECTORY RECORDS      prints count and checksum
    python -m benchmarks.bare_sort sort INPUT OUTPUT PARTITIONS    prints the seconds taken
    python -m benchmarks.bare_sort validate DIRECTORY              prints count, checksum, order

Place in the flow: `rows/sort.py` runs it in the interpreter of Freehold, whose functions for one
part and one partition it calls. Two forked processes share the maps, put the blocks in one shared
mapping (the other process reduces half of them), meet, and share the reduces. No task, no
reference, no store.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from freehold.shuffle.files import FilePart, record_files, split_parts
from freehold.shuffle.generate import RecordRange
from freehold.shuffle.ordering import uniform_boundaries
from freehold.shuffle.records import RECORD_BYTES
from freehold.shuffle.sort import (
    generate_part,
    map_count,
    map_part,
    partition_name,
    reduce_blocks,
    validate_part,
)
from freehold.shuffle.validate import join_summaries

PROCESSES = 2
INPUT_FILES = 4


def generate(directory: str, records: int) -> dict[str, Any]:
    """Write `records` records as a few files."""
    edges = [records * i // INPUT_FILES for i in range(INPUT_FILES + 1)]
    tasks = [
        (f"{directory}/input-{i:05d}", RecordRange(edges[i], edges[i + 1] - edges[i]))
        for i in range(INPUT_FILES)
    ]
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        written = pool.starmap(generate_part, tasks)
    return {
        "records": sum(summary.records for summary in written),
        "checksum": f"{sum(summary.checksum for summary in written) % 2**128:x}",
    }


def validate(directory: str) -> dict[str, Any]:
    """Count, checksum and order of the files of a folder, read in order of their names."""
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        summary = join_summaries(pool.map(validate_part, record_files(directory)))
    return {
        "records": summary.records,
        "checksum": f"{summary.checksum:x}",
        "unordered": summary.unordered,
    }


def sort(inputs: Sequence[FilePart], output: Path, partitions: int) -> float:
    """Sort in two processes; the seconds from their start to the end of the last."""
    parts = split_parts(inputs, map_count(sum(part.count for part in inputs), partitions))
    boundaries = uniform_boundaries(partitions)
    counts = np.frombuffer(
        mmap.mmap(-1, max(8, len(parts) * partitions * 8)), dtype=np.int64
    ).reshape(-1)[: len(parts) * partitions]
    counts = counts.reshape(len(parts), partitions)
    starts = np.cumsum([0, *(part.count for part in parts)])
    arena = np.frombuffer(mmap.mmap(-1, int(starts[-1]) * RECORD_BYTES), dtype=np.uint8)
    records = arena.reshape(-1, RECORD_BYTES)

    def run(process: int, barrier: Barrier) -> None:
        for i in range(process, len(parts), PROCESSES):
            position = int(starts[i])
            for r, block in enumerate(map_part(parts[i], boundaries)):
                records[position : position + len(block)] = block
                counts[i, r] = len(block)
                position += len(block)
        barrier.wait()
        for r in range(process, partitions, PROCESSES):
            blocks = []
            for i in range(len(parts)):
                first = int(starts[i] + counts[i, :r].sum())
                blocks.append(records[first : first + int(counts[i, r])])
            reduce_blocks(str(output / partition_name(r)), blocks)

    return _in_processes(run)


def _in_processes(run: Callable[[int, Barrier], None]) -> float:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    started = time.perf_counter()
    processes = [context.Process(target=run, args=(i, barrier)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    elapsed = time.perf_counter() - started
    if any(process.exitcode for process in processes):
        raise SystemExit("a bare process failed")
    return elapsed


def main(arguments: Sequence[str]) -> None:
    if arguments[0] == "generate":
        answer: dict[str, Any] = generate(arguments[1], int(arguments[2]))
    elif arguments[0] == "sort":
        inputs = record_files(arguments[1])
        answer = {"seconds": sort(inputs, Path(arguments[2]), int(arguments[3]))}
    else:
        answer = validate(arguments[1])
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
