"""Sorts records over machines that share no file system: made, sorted and checked where they lie.

In the order of the stages: each map makes its share of the records in a file on its own machine's
scratch disk, sorts it and cuts it at the boundaries; each reduce merges its column of blocks into a
file on *its* machine, and looks at that as valsort would. Only summaries come back. So the records
cross the network once, between map and reduce, and no machine ever needs room for all of them.

The summaries of what was made travel as one more partition, whose reduce adds them up: what was
written is compared with what was sorted though nobody saw both.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import secrets
import socket
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import freehold as fh
from freehold.shuffle.files import FilePart, whole_file
from freehold.shuffle.generate import KeyDistribution, RecordKind, RecordRange, record_chunks
from freehold.shuffle.ordering import sampled_boundaries, uniform_boundaries
from freehold.shuffle.records import key_prefixes
from freehold.shuffle.simple import ShuffleOptions, simple_shuffle
from freehold.shuffle.sort import (
    SAMPLES_PER_PARTITION,
    generate_part,
    join_counts,
    map_count,
    map_part,
    partition_name,
    reduce_blocks,
    run_stage,
    validate_part,
)
from freehold.shuffle.validate import Summary, join_summaries

SCRATCH = "/scratch"
"""Where the pods of a `FuturesCluster` have a volume of their own for files that come and go."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scattered:
    """What `sort_scattered` found.

    Args:
        generated: count and checksum of the records that were made.
        sorted: the summary of the output, in the order of its partitions.
        partitions_by_host: how many partitions of the output were written on which machine.

    Example:
        >>> from freehold.shuffle import Scattered, Summary
        >>> made = Summary(records=5, checksum=9)
        >>> Scattered(made, made, {"a": 1}).partitions_by_host
        {'a': 1}
    """

    generated: Summary
    sorted: Summary
    partitions_by_host: dict[str, int]


def sort_scattered(
    wanted: RecordRange,
    num_partitions: int,
    *,
    scratch: str | Path | None = None,
    keep: bool = False,
    options: ShuffleOptions | None = None,
) -> Scattered:
    """Make records, sort them and look at the result, all of it where the tasks run.

    Args:
        wanted: which records.
        num_partitions: how many output files.
        scratch: a directory that each machine has for itself; by default `/scratch` where that can
            be written to, else the machine's temporary directory.
        keep: leave the output's files where they were written, as `freehold-sort-…-part-00000` ….
        options: how to run the tasks; its `on_progress` is told of "sample", "map", "reduce".

    Returns:
        Two summaries to be compared with `check`, and which machine has how much.

    Raises:
        FreeholdError: a task failed.

    Example:
        >>> from freehold.shuffle import RecordRange, check, sort_scattered
        >>> found = sort_scattered(RecordRange(first=0, count=10_000), num_partitions=4)
        >>> print(check(found.sorted, expected=found.generated))
        valid: 10,000 records, checksum 1392d240ca76, 0 duplicate keys
    """
    options = options or ShuffleOptions()
    ranges = _cut(wanted, map_count(wanted.count, num_partitions))
    boundaries = _boundaries(wanted, ranges, num_partitions, options)
    run = f"freehold-sort-{secrets.token_hex(4)}"

    def map_one(part: RecordRange) -> list[Any]:
        path = _file(scratch, run, f"input-{part.first}-{secrets.token_hex(4)}")
        try:
            made = generate_part(str(path), part)
            return [*map_part(whole_file(path), boundaries), made]
        finally:
            path.unlink(missing_ok=True)

    def reduce_one(partition: int, *blocks: Any) -> Any:
        if partition == num_partitions:
            return join_counts(blocks)
        path = _file(scratch, run, partition_name(partition))
        count = reduce_blocks(str(path), blocks)
        summary = validate_part(FilePart(str(path), 0, count))
        if not keep:
            path.unlink(missing_ok=True)
        return summary, socket.gethostname()

    outputs = simple_shuffle(ranges, map_one, reduce_one, num_partitions + 1, options)
    *partitions, generated = fh.get(outputs)
    hosts = Counter(host for _, host in partitions)
    summary = join_summaries([summary for summary, _ in partitions])
    return Scattered(generated, summary, dict(sorted(hosts.items())))


def _cut(wanted: RecordRange, pieces: int) -> list[RecordRange]:
    edges = [wanted.first + wanted.count * i // pieces for i in range(pieces + 1)]
    return [
        RecordRange(low, high - low, wanted.kind, wanted.keys)
        for low, high in itertools.pairwise(edges)
    ]


def _boundaries(
    wanted: RecordRange,
    ranges: Sequence[RecordRange],
    num_partitions: int,
    options: ShuffleOptions,
) -> NDArray[np.uint64]:
    is_even = wanted.kind is RecordKind.BINARY and wanted.keys is KeyDistribution.UNIFORM
    if is_even or num_partitions == 1:
        return uniform_boundaries(num_partitions)
    # Keys do not depend on each other: the first few of a range are as good as any.
    few = -(-SAMPLES_PER_PARTITION * num_partitions // len(ranges))
    tasks = [
        (RecordRange(part.first, min(few, part.count), part.kind, part.keys),) for part in ranges
    ]
    samples = run_stage("sample", sample_range, tasks, options.on_progress)
    return sampled_boundaries(np.concatenate(samples), num_partitions)


def sample_range(part: RecordRange) -> NDArray[np.uint64]:
    """The key prefixes of records that are made and forgotten: the work of a sample task."""
    prefixes = [key_prefixes(chunk) for chunk in record_chunks(part)]
    return np.concatenate(prefixes) if prefixes else np.empty(0, np.uint64)


def _file(scratch: str | Path | None, run: str, name: str) -> Path:
    """A file on this machine. All of a sort's lie beside each other: a folder of their own would
    have to be taken away while another task is about to write there."""
    if scratch is None:
        scratch = SCRATCH if os.access(SCRATCH, os.W_OK) else tempfile.gettempdir()
    directory = Path(scratch)
    directory.mkdir(parents=True, exist_ok=True)
    return directory / f"{run}-{name}"
