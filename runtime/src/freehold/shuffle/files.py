"""Files of records: parts of them as arrays without a copy, and new ones that appear whole.

Reads are mappings of the page cache, so that a map task's only copy of its input is the sorted one.
Writes go to a temporary name beside the target and are renamed when complete: a task that dies or
is executed again never leaves half a partition under its name. (Mapping the output instead was not
taken up: a first touch of a page costs more than a write to it.)
"""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from freehold.errors import FreeholdError
from freehold.shuffle.records import RECORD_BYTES, Records, as_records

_UNFINISHED_SUFFIX = ".unfinished"


class RecordFileError(FreeholdError):
    """A file or directory is not what a sort can work with; the message names it and says why.

    You get an `OSError` instead where the operating system refuses to read or write it.

    Example:
        >>> from freehold.shuffle import record_files
        >>> record_files("missing")
        Traceback (most recent call last):
        freehold.shuffle.files.RecordFileError: missing is not a directory; give one that holds
        record files
    """


@dataclasses.dataclass(frozen=True, slots=True)
class FilePart:
    """A range of the records of one file.

    Args:
        path: the file.
        first: index of its first record, from 0.
        count: how many records.

    Example:
        >>> from freehold.shuffle import FilePart
        >>> FilePart("input-00000", first=100, count=50).count
        50
    """

    path: str
    first: int
    count: int


def whole_file(path: str | Path) -> FilePart:
    """All records of a file.

    Raises:
        RecordFileError: its size is no multiple of 100 bytes.
        OSError: it cannot be looked at.

    Example:
        >>> import tempfile
        >>> from freehold.shuffle import whole_file
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes(300))
        ...     file.flush()
        ...     whole_file(file.name).count
        3
    """
    size_bytes = os.stat(path).st_size
    if size_bytes % RECORD_BYTES:
        raise RecordFileError(
            f"{path} has {size_bytes:,} bytes, which is no whole number of {RECORD_BYTES}-byte "
            "records; check that the file is complete and holds Sort Benchmark records only"
        )
    return FilePart(str(path), 0, size_bytes // RECORD_BYTES)


def record_files(directory: str | Path) -> list[FilePart]:
    """The files of a directory, in order of name; hidden ones are left out.

    Raises:
        RecordFileError: there is none, one is no record file, or it is no directory.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from freehold.shuffle import record_files
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     for name, size_bytes in [("b", 200), ("a", 100), (".hidden", 1)]:
        ...         _ = Path(directory, name).write_bytes(bytes(size_bytes))
        ...     [(Path(part.path).name, part.count) for part in record_files(directory)]
        [('a', 1), ('b', 2)]
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise RecordFileError(f"{folder} is not a directory; give one that holds record files")
    found = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not found:
        raise RecordFileError(f"{folder} holds no file; give a directory that holds record files")
    return [whole_file(path) for path in found]


def split_parts(parts: Sequence[FilePart], num_parts: int) -> list[FilePart]:
    """Cut parts further, into about num_parts of about equal size (never fewer than there are).

    Example:
        >>> from freehold.shuffle import FilePart, split_parts
        >>> split_parts([FilePart("a", 0, 10), FilePart("b", 0, 5)], 3)[1]
        FilePart(path='a', first=5, count=5)
    """
    target = max(1, -(-sum(part.count for part in parts) // num_parts))
    cut = []
    for part in parts:
        pieces = max(1, -(-part.count // target))
        edges = [part.count * piece // pieces for piece in range(pieces + 1)]
        cut += [
            FilePart(part.path, part.first + low, high - low)
            for low, high in itertools.pairwise(edges)
        ]
    return cut


def map_records(part: FilePart) -> Records:
    """View a part of a file as read-only records, without reading it.

    The mapping ends with the last view of it. Do not shorten the file meanwhile: the kernel would
    kill the process (SIGBUS).

    Raises:
        RecordFileError: the file is shorter than the part.
        OSError: it cannot be opened.
    """
    if not part.count:
        return np.empty((0, RECORD_BYTES), np.uint8)
    start, length = part.first * RECORD_BYTES, part.count * RECORD_BYTES
    aligned = start - start % mmap.ALLOCATIONGRANULARITY
    descriptor = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes < start + length:
            raise RecordFileError(
                f"{part.path} ends at byte {size_bytes:,} but records up to byte "
                f"{start + length:,} were expected; was it changed while being sorted?"
            )
        mapping = mmap.mmap(
            descriptor, start - aligned + length, prot=mmap.PROT_READ, offset=aligned
        )
    finally:
        os.close(descriptor)
    mapping.madvise(mmap.MADV_WILLNEED)
    return as_records(memoryview(mapping)[start - aligned :], source=part.path)


def write_records(path: str | Path, pieces: Iterable[Records]) -> int:
    """Write pieces one after another as a file that appears, complete, under its name.

    Returns:
        The number of records written.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    target = Path(path)
    # Attempts of one task may overlap (the node of the first was only thought dead).
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_UNFINISHED_SUFFIX}")
    written = 0
    try:
        with open(unfinished, "xb", buffering=0) as file:
            for piece in pieces:
                _write_all(file.fileno(), piece)
                written += len(piece)
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return written


def remove_unfinished(directory: str | Path) -> int:
    """Remove what killed writers left in a directory; only when none is at work any more.

    Returns:
        How many files were removed.
    """
    leftovers = list(Path(directory).glob(f".*{_UNFINISHED_SUFFIX}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


def _write_all(descriptor: int, piece: Records) -> None:
    rest = np.ascontiguousarray(piece).reshape(-1).data
    while rest:
        rest = rest[os.write(descriptor, rest) :]
