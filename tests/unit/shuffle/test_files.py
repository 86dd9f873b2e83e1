"""Files of records: mapped in parts, written whole or not at all, refused if they are torn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.shuffle import (
    FilePart,
    RecordFileError,
    RecordRange,
    generate_records,
    record_files,
    split_parts,
    whole_file,
)
from freehold.shuffle.files import map_records, remove_unfinished, write_records
from freehold.shuffle.records import Records, as_records


@pytest.fixture
def records() -> Records:
    return generate_records(RecordRange(0, 1000))


def test_any_part_of_a_file_is_mapped(tmp_path: Path, records: Records) -> None:
    path = tmp_path / "in"
    assert write_records(path, [records[:300], records[300:]]) == 1000
    for first, count in ((0, 1000), (0, 0), (999, 1), (123, 456), (41, 82)):
        part = map_records(FilePart(str(path), first, count))
        assert np.array_equal(part, records[first : first + count])


def test_mapped_records_cannot_be_written(tmp_path: Path, records: Records) -> None:
    write_records(tmp_path / "in", [records])
    part = map_records(whole_file(tmp_path / "in"))
    with pytest.raises(ValueError, match="read-only"):
        part[0, 0] = 1


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, records: Records) -> None:
    def pieces() -> Iterator[Records]:
        yield records
        raise RuntimeError("the reduce failed")

    with pytest.raises(RuntimeError, match="the reduce failed"):
        write_records(tmp_path / "out", pieces())
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_only_when_complete(tmp_path: Path, records: Records) -> None:
    def pieces() -> Iterator[Records]:
        yield records
        assert not (tmp_path / "out").exists()
        assert [path.name.startswith(".") for path in tmp_path.iterdir()] == [True]

    write_records(tmp_path / "out", pieces())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path, records: Records) -> None:
    write_records(tmp_path / "part-00000", [records])
    (tmp_path / ".part-00001.0123abcd.unfinished").write_bytes(b"half")
    assert remove_unfinished(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000"]


def test_a_torn_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(bytes(150))
    with pytest.raises(RecordFileError, match=r"torn has 150 bytes.*whole number of 100-byte"):
        whole_file(tmp_path / "torn")
    with pytest.raises(ValueError, match="message has 150 bytes"):
        as_records(bytes(150), source="message")


def test_a_file_that_shrank_is_refused(tmp_path: Path, records: Records) -> None:
    write_records(tmp_path / "in", [records[:10]])
    with pytest.raises(RecordFileError, match="ends at byte 1,000"):
        map_records(FilePart(str(tmp_path / "in"), 5, 6))


def test_a_directory_is_read_in_order_of_name_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden.unfinished"):
        (tmp_path / name).write_bytes(bytes(100))
    assert [Path(part.path).name for part in record_files(tmp_path)] == ["a", "b"]


def test_a_directory_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordFileError, match="holds no file"):
        record_files(tmp_path)
    with pytest.raises(RecordFileError, match="not a directory"):
        record_files(tmp_path / "absent")


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6), st.integers(1, 30))
def test_split_parts_cover_everything_once_and_evenly(counts: list[int], wanted: int) -> None:
    parts = [FilePart(str(i), 10, count) for i, count in enumerate(counts)]
    cut = split_parts(parts, wanted)
    for part in parts:
        position = part.first
        for piece in (piece for piece in cut if piece.path == part.path):
            assert piece.first == position
            position += piece.count
        assert position == part.first + part.count
    assert max(piece.count for piece in cut) <= max(1, -(-sum(counts) // wanted))
    assert len(cut) <= wanted + len(parts)
