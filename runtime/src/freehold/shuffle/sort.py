"""Sorts files of Sort Benchmark records into files, by one shuffle.

In the order of the stages: `generate_files` writes an input, `sort_files` samples its keys, maps
(read a part of a file, sort it, cut it at the boundaries), reduces (merge a column of blocks into
one output file), `validate_files` summarises the output where it lies and joins the summaries.

The work of each task is a plain function of this module or of `ordering` (`map_part`,
`reduce_blocks`, …), so that a benchmark can run it in bare processes. What is left here is which
tasks there are. The output's partitions, read in order of their names, are the sorted records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import freehold as fh
from freehold.shuffle.files import (
    FilePart,
    RecordFileError,
    map_records,
    remove_unfinished,
    split_parts,
    write_records,
)
from freehold.shuffle.generate import RecordRange, record_chunks
from freehold.shuffle.ordering import (
    merge_sorted,
    partition_sorted,
    sampled_boundaries,
    uniform_boundaries,
)
from freehold.shuffle.records import CHECKSUM_MODULUS, RECORD_BYTES, Records, checksum, key_prefixes
from freehold.shuffle.simple import OnProgress, ShuffleOptions, StageProgress, simple_shuffle
from freehold.shuffle.validate import Summary, join_summaries, summarize

MAP_PART_BYTES = 16_000_000
"""A map's usual share of the input: its sorted copy stays below glibc's 32 MB, above which memory
is unmapped when freed and every task pays its first touch again (a fifth of a map's time)."""

BLOCK_BYTES = 1_000_000
"""Blocks are not made smaller than this for the sake of `MAP_PART_BYTES`."""

SAMPLES_PER_PARTITION = 1000
"""Keys sampled a partition: the largest is then within about 10 % of the mean (3 / sqrt(1000))."""


def generate_files(
    directory: str | Path,
    wanted: RecordRange,
    num_files: int,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Write records as files ``input-00000`` …, in parallel.

    Args:
        directory: an existing directory that every node can write to.
        wanted: which records.
        num_files: how many files.
        on_progress: told of the stage "generate".

    Returns:
        The count and checksum of the records; their order is not judged.

    Raises:
        FreeholdError: a task failed.

    Example:
        >>> import os, tempfile
        >>> from freehold.shuffle import RecordRange, generate_files
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     generate_files(directory, RecordRange(first=0, count=1000), num_files=2).records
        ...     sorted(os.listdir(directory))
        1000
        ['input-00000', 'input-00001']
    """
    edges = [wanted.first + wanted.count * i // num_files for i in range(num_files + 1)]
    folder = Path(directory)
    tasks = [
        (
            str(folder / f"input-{i:05d}"),
            RecordRange(edges[i], edges[i + 1] - edges[i], wanted.kind, wanted.keys),
        )
        for i in range(num_files)
    ]
    return join_counts(run_stage("generate", generate_part, tasks, on_progress))


def sort_files(
    inputs: Sequence[FilePart],
    output: str | Path,
    num_partitions: int,
    *,
    uniform_keys: bool = False,
    options: ShuffleOptions | None = None,
) -> list[FilePart]:
    """Sort files of records into num_partitions files ``part-00000`` … of ascending key ranges.

    Args:
        inputs: from `record_files` or `whole_file`.
        output: an existing directory that every node can write to.
        num_partitions: how many output files. Map tasks are as many as `map_count` says.
        uniform_keys: the keys are known to be spread evenly (gensort's binary ones): cut the key
            space evenly instead of sampling it.
        options: how to run the tasks; its `on_progress` is told of "sample", "map", "reduce".

    Returns:
        The files written, in order of their keys.

    Raises:
        RecordFileError: an input is too short, or the output has another number of records.
        FreeholdError: a task failed.

    Example:
        >>> import tempfile
        >>> from freehold.shuffle import RecordRange, generate_files, record_files, sort_files
        >>> with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
        ...     _ = generate_files(source, RecordRange(first=0, count=1000), num_files=2)
        ...     written = sort_files(record_files(source), target, 4, uniform_keys=True)
        ...     [part.count for part in written]
        [273, 256, 221, 250]
    """
    options = options or ShuffleOptions()
    folder = Path(output)
    expected = sum(part.count for part in inputs)
    parts = split_parts(inputs, map_count(expected, num_partitions))
    if uniform_keys or num_partitions == 1:
        boundaries = uniform_boundaries(num_partitions)
    else:
        boundaries = _sample_boundaries(parts, num_partitions, options.on_progress)

    def map_one(part: FilePart) -> list[Records]:
        return map_part(part, boundaries)

    def reduce_one(partition: int, *blocks: Records) -> int:
        return reduce_blocks(str(folder / partition_name(partition)), blocks)

    outputs = simple_shuffle(parts, map_one, reduce_one, num_partitions, options)
    written: list[int] = fh.get(outputs)
    remove_unfinished(folder)
    if sum(written) != expected:
        raise RecordFileError(
            f"{sum(written):,} records were written to {folder} but {expected:,} were read; "
            "do not trust this output, and please report it"
        )
    return [
        FilePart(str(folder / partition_name(partition)), 0, count)
        for partition, count in enumerate(written)
    ]


def validate_files(
    parts: Sequence[FilePart], on_progress: OnProgress | None = None, *, stage: str = "validate"
) -> Summary:
    """Summarise files of records, each in a task of its own, as one sequence in the given order.

    Give the result to `validate.check`. For files in no order (an input), the count and checksum
    of the result are what matters.

    Args:
        parts: from `sort_files`, `record_files` or `whole_file`.
        on_progress: told of the stage.
        stage: its name.

    Raises:
        RecordFileError: a file is shorter than its part.
        FreeholdError: a task failed.

    Example:
        >>> import tempfile
        >>> from freehold.shuffle import RecordRange, check, generate_files
        >>> from freehold.shuffle import record_files, sort_files, validate_files
        >>> with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
        ...     made = generate_files(source, RecordRange(first=0, count=1000), num_files=2)
        ...     parts = sort_files(record_files(source), target, num_partitions=2)
        ...     print(check(validate_files(parts), expected=made))
        valid: 1,000 records, checksum 1ea6370b955, 0 duplicate keys
    """
    tasks = [(part,) for part in parts]
    return join_summaries(run_stage(stage, validate_part, tasks, on_progress))


def map_count(num_records: int, num_partitions: int) -> int:
    """How many map tasks a sort has, if its input files are no more.

    As many as partitions, or more so that none reads over 16 MB, as long as a block (what one map
    has for one partition) keeps 1 MB; fewer for an input of less than 1 MB a map.

    >>> map_count(10_000_000, 16), map_count(10_000_000, 100), map_count(100_000, 100)
    (63, 100, 10)
    """
    size_bytes = num_records * RECORD_BYTES
    part_bytes = max(MAP_PART_BYTES, num_partitions * BLOCK_BYTES)
    enough = min(num_partitions, -(-size_bytes // BLOCK_BYTES))
    return max(1, enough, -(-size_bytes // part_bytes))


def generate_part(path: str, wanted: RecordRange) -> Summary:
    """Write one file of records and return its count and checksum: the work of a generate task."""
    total = 0

    def chunks() -> Iterable[Records]:
        nonlocal total
        for chunk in record_chunks(wanted):
            total += checksum(chunk)
            yield chunk

    return Summary(records=write_records(path, chunks()), checksum=total % CHECKSUM_MODULUS)


def sample_part(part: FilePart, num_samples: int) -> NDArray[np.uint64]:
    """Key prefixes of about num_samples records, one from each equal stretch of a part of a file.

    Which one is random, so that a period in the data is not mistaken for its distribution, but the
    same whenever the task is executed.
    """
    count = min(part.count, num_samples)
    edges = np.linspace(0, part.count, count + 1).astype(np.int64)
    random = np.random.default_rng([part.first, part.count])
    return key_prefixes(map_records(part)[random.integers(edges[:-1], edges[1:])])


def map_part(part: FilePart, boundaries: NDArray[np.uint64]) -> list[Records]:
    """The sorted blocks of a part of a file: the work of a map task."""
    return partition_sorted(map_records(part), boundaries)


def reduce_blocks(path: str, blocks: Sequence[Records]) -> int:
    """Write one partition from its sorted blocks, return its count: the work of a reduce task."""
    return write_records(path, merge_sorted(blocks))


def validate_part(part: FilePart) -> Summary:
    """Summarise a part of a file: the work of a validate task."""
    return summarize(map_records(part))


def partition_name(partition: int) -> str:
    """The file name of an output partition; names sort as their keys do."""
    return f"part-{partition:05d}"


def join_counts(summaries: Iterable[Summary]) -> Summary:
    """The summary of generated files, whose order was not looked at: count and checksum only."""
    records = total = 0
    for summary in summaries:
        records, total = records + summary.records, total + summary.checksum
    return Summary(records=records, checksum=total % CHECKSUM_MODULUS)


def _sample_boundaries(
    parts: Sequence[FilePart], num_partitions: int, on_progress: OnProgress | None
) -> NDArray[np.uint64]:
    """Boundaries from a sample in proportion to the parts' sizes."""
    total = max(1, sum(part.count for part in parts))
    wanted = SAMPLES_PER_PARTITION * num_partitions
    tasks = [(part, -(-wanted * part.count // total)) for part in parts if part.count]
    samples = run_stage("sample", sample_part, tasks, on_progress)
    sample = np.concatenate(samples) if samples else np.empty(0, np.uint64)
    return sampled_boundaries(sample, num_partitions)


def run_stage(
    stage: str,
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    on_progress: OnProgress | None,
) -> list[Any]:
    """Run a function over argument tuples as tasks; their results in order."""
    remote = fh.remote(function)
    refs = [remote.remote(*arguments) for arguments in tasks]
    progress = StageProgress(stage, len(refs), on_progress, refs)
    try:
        progress.wait_all()
    except BaseException:
        progress.cancel_rest()
        raise
    results: list[Any] = fh.get(refs)
    return results
