"""Validation finds what valsort finds, and nothing escapes at the seams of chunks and files."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.shuffle import (
    RecordRange,
    Summary,
    check,
    generate_records,
    join_summaries,
    sort_records,
    summarize,
)
from freehold.shuffle.records import CHUNK_RECORDS, Records


def with_keys(keys: list[int]) -> Records:
    records = np.zeros((len(keys), 100), np.uint8)
    records[:, 9] = keys
    records[:, 50] = np.arange(len(keys)) % 251
    return records


def test_a_million_unsorted_records_as_valsort_counts_them() -> None:
    summary = summarize(generate_records(RecordRange(0, 1_000_000)))
    assert (summary.first_unordered, summary.unordered) == (2, 499_452)
    assert f"{summary.checksum:x}" == "7a0e0d4868cd4"


def test_a_million_sorted_records_as_valsort_reports_them() -> None:
    records = generate_records(RecordRange(0, 1_000_000))
    report = check(summarize(sort_records(records)), expected=summarize(records))
    assert str(report) == "valid: 1,000,000 records, checksum 7a0e0d4868cd4, 0 duplicate keys"


@given(st.lists(st.integers(0, 4), max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_summaries_of_parts_join_to_the_summary_of_the_whole(
    keys: list[int], cuts: list[int]
) -> None:
    records = with_keys(keys)
    whole = summarize(records)
    assert join_summaries(map(summarize, np.split(records, sorted(cuts)))) == whole
    steps_down = [i for i in range(1, len(keys)) if keys[i] < keys[i - 1]]
    assert whole.unordered == len(steps_down)
    assert whole.first_unordered == (steps_down[0] if steps_down else None)
    assert whole.duplicate_keys == sum(a == b for a, b in itertools.pairwise(keys))


def test_disorder_between_two_chunks_is_seen() -> None:
    records = sort_records(generate_records(RecordRange(0, 2 * CHUNK_RECORDS)))
    swapped = np.concatenate([records[CHUNK_RECORDS:], records[:CHUNK_RECORDS]])
    summary = summarize(swapped)
    assert (summary.unordered, summary.first_unordered) == (1, CHUNK_RECORDS)


def test_disorder_in_the_last_two_bytes_of_the_key_is_seen() -> None:
    assert summarize(with_keys([2, 1])).unordered == 1


def corrupt_payload(records: Records) -> Records:
    records[500, 60] ^= 1
    return records


def corrupt_key(records: Records) -> Records:
    records[500, 0] ^= 0x80
    return records


def lose_one(records: Records) -> Records:
    return np.delete(records, 500, axis=0)


def double_one(records: Records) -> Records:
    return np.insert(records, 500, records[500], axis=0)


def replace_one_by_its_neighbour(records: Records) -> Records:
    records[500] = records[501]
    return records


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (corrupt_payload, "checksum"),
        (corrupt_key, "out of order"),
        (lose_one, "999 records where the input had 1,000"),
        (double_one, "1,001 records where the input had 1,000"),
        (replace_one_by_its_neighbour, "checksum"),
    ],
)
def test_damage_is_invalid(damage, problem: str) -> None:  # type: ignore[no-untyped-def]
    records = generate_records(RecordRange(0, 1000))
    report = check(summarize(damage(sort_records(records))), expected=summarize(records))
    assert not report.valid
    assert str(report).startswith("INVALID: ")
    assert problem in str(report)


def test_order_alone_is_judged_without_an_input() -> None:
    assert check(summarize(with_keys([1, 1, 2]))).valid
    report = check(summarize(with_keys([1, 2, 1])))
    assert report.problems == ("1 of 3 records are out of order, the first is record 2",)


def test_nothing_is_a_valid_sort_of_nothing() -> None:
    assert check(Summary(), expected=Summary()).valid
