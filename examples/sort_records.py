"""Sorts records from files to files from Python: what ``freehold sort --demo`` does.

Run it with ``python examples/sort_records.py``. It needs numpy (``pip install '.[data]'``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import freehold as fh
from freehold.shuffle import (
    KeyDistribution,
    RecordRange,
    check,
    generate_files,
    record_files,
    sort_files,
    validate_files,
)


def main() -> None:
    fh.init()
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "input"), Path(name, "output")
        source.mkdir()
        target.mkdir()
        skewed = RecordRange(first=0, count=200_000, keys=KeyDistribution.SKEWED)
        written = generate_files(source, skewed, num_files=4)
        parts = sort_files(record_files(source), target, num_partitions=4)
        for part in parts:
            print(f"{Path(part.path).name}: {part.count:,} records")
        print(check(validate_files(parts), expected=written))
    fh.shutdown()


if __name__ == "__main__":
    main()
