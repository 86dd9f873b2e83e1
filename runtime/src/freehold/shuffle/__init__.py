"""Shuffle as a library: moving every input's records to the partition they belong to.

`simple_shuffle` is the first strategy (Exoshuffle's section 3.1); `sort_files` uses it to sort
Sort Benchmark records from files to files, which `check` validates as valsort does. Everything
here runs on `freehold`'s public names alone: what a shuffle needs and they lack is a defect of the
interface. Needs numpy (``pip install '.[data]'``).
"""

from __future__ import annotations

from freehold.shuffle.files import FilePart, RecordFileError, record_files, split_parts, whole_file
from freehold.shuffle.generate import (
    KeyDistribution,
    RecordKind,
    RecordRange,
    generate_records,
    record_chunks,
)
from freehold.shuffle.ordering import (
    merge_sorted,
    partition_sorted,
    sampled_boundaries,
    sort_records,
    uniform_boundaries,
)
from freehold.shuffle.records import RECORD_BYTES, as_records, checksum
from freehold.shuffle.scattered import Scattered, sort_scattered
from freehold.shuffle.simple import ShuffleOptions, ShuffleProgress, simple_shuffle
from freehold.shuffle.sort import generate_files, sort_files, validate_files
from freehold.shuffle.validate import Report, Summary, check, join_summaries, summarize

__all__ = [
    "RECORD_BYTES",
    "FilePart",
    "KeyDistribution",
    "RecordFileError",
    "RecordKind",
    "RecordRange",
    "Report",
    "Scattered",
    "ShuffleOptions",
    "ShuffleProgress",
    "Summary",
    "as_records",
    "check",
    "checksum",
    "generate_files",
    "generate_records",
    "join_summaries",
    "merge_sorted",
    "partition_sorted",
    "record_chunks",
    "record_files",
    "sampled_boundaries",
    "simple_shuffle",
    "sort_files",
    "sort_records",
    "sort_scattered",
    "split_parts",
    "summarize",
    "uniform_boundaries",
    "validate_files",
    "whole_file",
]
