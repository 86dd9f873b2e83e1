"""The sort of files to files, over the eager fake of the public interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.shuffle.eager_api import EagerApi

from freehold.shuffle import (
    KeyDistribution,
    RecordFileError,
    RecordKind,
    RecordRange,
    ShuffleOptions,
    ShuffleProgress,
    check,
    generate_files,
    generate_records,
    record_files,
    sort_files,
    validate_files,
    whole_file,
)
from freehold.shuffle import sort as sort_module
from freehold.shuffle.files import write_records
from freehold.shuffle.records import key_prefixes


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    target.mkdir()
    return source, target


@pytest.mark.parametrize("kind", RecordKind)
@pytest.mark.parametrize("keys", KeyDistribution)
@pytest.mark.parametrize(("files", "partitions"), [(1, 1), (3, 4), (5, 16)])
def test_files_come_out_sorted_and_whole(
    api: EagerApi,
    folders: tuple[Path, Path],
    kind: RecordKind,
    keys: KeyDistribution,
    files: int,
    partitions: int,
) -> None:
    source, target = folders
    written = generate_files(source, RecordRange(10, 3001, kind, keys), files)
    parts = sort_files(record_files(source), target, partitions)
    assert parts == record_files(target)
    assert len(parts) == partitions
    report = check(validate_files(parts), expected=written)
    assert report.problems == ()
    assert report.summary.records == 3001


def test_known_uniform_keys_are_not_sampled(api: EagerApi, folders: tuple[Path, Path]) -> None:
    source, target = folders
    generate_files(source, RecordRange(0, 1000), 2)
    seen: list[ShuffleProgress] = []
    options = ShuffleOptions(on_progress=seen.append)
    sort_files(record_files(source), target, 4, uniform_keys=True, options=options)
    assert [p.stage for p in seen if p.done == p.total] == ["map", "reduce"]


def test_sampling_balances_skewed_partitions(api: EagerApi, folders: tuple[Path, Path]) -> None:
    source, target = folders
    generate_files(source, RecordRange(0, 40_000, keys=KeyDistribution.SKEWED), 4)
    sizes = [part.count for part in sort_files(record_files(source), target, 8)]
    assert max(sizes) < 1.3 * 40_000 / 8


def test_no_records_give_empty_partitions(api: EagerApi, folders: tuple[Path, Path]) -> None:
    source, target = folders
    written = generate_files(source, RecordRange(0, 0), 2)
    parts = sort_files(record_files(source), target, 3)
    assert [part.count for part in parts] == [0, 0, 0]
    assert check(validate_files(parts), expected=written).valid


def test_records_that_get_lost_are_an_error(
    api: EagerApi, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = folders
    generate_files(source, RecordRange(0, 100), 1)
    monkeypatch.setattr(sort_module, "reduce_blocks", lambda path, blocks: 0)
    with pytest.raises(RecordFileError, match="0 records were written"):
        sort_files(record_files(source), target, 2)


def test_a_changed_output_file_is_invalid(api: EagerApi, folders: tuple[Path, Path]) -> None:
    source, target = folders
    written = generate_files(source, RecordRange(0, 1000), 2)
    parts = sort_files(record_files(source), target, 2)
    second = Path(parts[1].path)
    content = bytearray(second.read_bytes())
    content[55] ^= 1
    second.write_bytes(content)
    assert str(check(validate_files(parts), expected=written)).startswith("INVALID: checksum")
    assert "out of order" in str(check(validate_files(parts[::-1]), expected=written))


def test_sampling_is_not_fooled_by_a_period(tmp_path: Path) -> None:
    """Every 50th record has a low key; a sample of every 50th would see these only, or none."""
    records = np.zeros((50_000, 100), np.uint8)
    records[:, 0] = 200
    records[::50, 0] = 1
    write_records(tmp_path / "in", [records])
    part = whole_file(tmp_path / "in")
    sample = sort_module.sample_part(part, 1000)
    assert len(sample) == 1000
    assert 0 < np.mean(sample < np.uint64(2 << 56)) < 0.06
    assert np.array_equal(sample, sort_module.sample_part(part, 1000))


def test_a_small_part_is_sampled_whole(tmp_path: Path) -> None:
    records = generate_records(RecordRange(0, 7))
    write_records(tmp_path / "in", [records])
    sample = sort_module.sample_part(whole_file(tmp_path / "in"), 1000)
    assert np.array_equal(sample, key_prefixes(records))
