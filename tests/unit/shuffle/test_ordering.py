"""Sorting, cutting and merging agree with Python's own stable sort of the keys' bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.shuffle import (
    KeyDistribution,
    RecordRange,
    generate_records,
    merge_sorted,
    partition_sorted,
    sampled_boundaries,
    sort_records,
    uniform_boundaries,
)
from freehold.shuffle.records import CHUNK_RECORDS, Records, key_prefixes


def rows(records: Records) -> list[bytes]:
    return [row.tobytes() for row in records]


def by_key(records: Records) -> list[bytes]:
    return sorted(rows(records), key=lambda row: row[:10])


def merged(blocks: list[Records]) -> list[bytes]:
    return [row for piece in merge_sorted(blocks) for row in rows(piece)]


@st.composite
def awkward_records(draw: Any) -> Records:
    """Few distinct key bytes, so that prefixes tie, suffixes decide and whole keys repeat."""
    keys = draw(
        st.lists(
            st.lists(st.sampled_from([0, 1, 127, 128, 255]), min_size=10, max_size=10)
            | st.sampled_from([[0] * 10, [255] * 10, [0] * 8 + [1, 0], [0] * 9 + [1]]),
            max_size=60,
        )
    )
    records = np.zeros((len(keys), 100), np.uint8)
    for index, key in enumerate(keys):
        records[index, :10] = key
        records[index, 99] = index
    return records


@given(awkward_records())
def test_sort_is_pythons_stable_sort_of_the_key_bytes(records: Records) -> None:
    assert rows(sort_records(records)) == by_key(records)


@given(awkward_records(), st.integers(1, 5), st.integers(1, 4))
def test_partition_then_merge_is_a_sort(records: Records, partitions: int, maps: int) -> None:
    boundaries = sampled_boundaries(key_prefixes(records), partitions)
    parts = [partition_sorted(part, boundaries) for part in np.array_split(records, maps)]
    columns = [[part[r] for part in parts] for r in range(partitions)]
    assert [row for column in columns for row in merged(column)] == by_key(records)


@pytest.mark.parametrize("keys", KeyDistribution)
def test_large_inputs_merge_in_many_pieces(keys: KeyDistribution) -> None:
    records = generate_records(RecordRange(3, 3 * CHUNK_RECORDS + 17, keys=keys))
    runs = [sort_records(part) for part in np.array_split(records, 7)]
    pieces = [len(piece) for piece in merge_sorted(runs)]
    assert len(pieces) == 4
    assert max(pieces) < 1.5 * CHUNK_RECORDS
    assert merged(runs) == by_key(records)


def test_one_key_in_more_records_than_a_piece_holds() -> None:
    records = generate_records(RecordRange(0, 3 * CHUNK_RECORDS))
    records[::2, :10] = 77
    runs = [sort_records(part) for part in np.array_split(records, 2)]
    assert merged(runs) == by_key(records)


def test_blocks_may_be_empty() -> None:
    assert merged([]) == []
    assert merged([generate_records(RecordRange(0, 0))] * 3) == []


def test_sort_reads_read_only_input_and_leaves_it_alone() -> None:
    records = generate_records(RecordRange(0, 100))
    before = records.tobytes()
    records.flags.writeable = False
    sort_records(records)
    assert records.tobytes() == before


def test_blocks_are_contiguous_views_of_one_array() -> None:
    blocks = partition_sorted(generate_records(RecordRange(0, 1000)), uniform_boundaries(8))
    assert len({id(block.base) for block in blocks}) == 1
    assert all(block.flags.c_contiguous for block in blocks)


def test_a_key_equal_to_a_boundary_goes_above_it() -> None:
    records = np.zeros((3, 100), np.uint8)
    records[:, 0] = [0x3F, 0x40, 0xFF]
    below, above = partition_sorted(records, np.array([0x40 << 56], dtype=np.uint64))
    assert (len(below), len(above)) == (1, 2)


@pytest.mark.parametrize("partitions", [2, 16, 100])
def test_sampled_boundaries_balance_skewed_keys(partitions: int) -> None:
    prefixes = key_prefixes(generate_records(RecordRange(0, 200_000, keys=KeyDistribution.SKEWED)))
    boundaries = sampled_boundaries(prefixes[::10], partitions)
    sizes = np.bincount(np.searchsorted(boundaries, prefixes, side="right"), minlength=partitions)
    # A hot key has a 128th of the records and cannot be cut.
    assert sizes.max() < 1.2 * len(prefixes) / partitions + len(prefixes) / 128


def test_uniform_boundaries_would_not_balance_them() -> None:
    records = generate_records(RecordRange(0, 10_000, keys=KeyDistribution.SKEWED))
    sizes = [len(block) for block in partition_sorted(records, uniform_boundaries(16))]
    assert max(sizes) > 4 * 10_000 / 16


@pytest.mark.parametrize("partitions", [0, -1])
def test_no_partition_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        uniform_boundaries(partitions)
    with pytest.raises(ValueError, match="at least 1"):
        sampled_boundaries(np.arange(5, dtype=np.uint64), partitions)


def test_an_empty_sample_still_gives_boundaries() -> None:
    assert len(sampled_boundaries(np.empty(0, np.uint64), 4)) == 3
