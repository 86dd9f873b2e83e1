"""Sort Benchmark records: their layout, and the checksum by which a set of them is known.

A record is 100 bytes, of which the first 10 are its key; keys compare as unsigned bytes. Everything
else in this package sees records as C-contiguous numpy arrays of shape ``(n, 100)`` and type
``uint8``, so that a block travels between processes out of band and a file can be viewed without a
copy.

Making records is `generate`'s work, ordering them `ordering`'s; this module reads and writes no
files.
"""

from __future__ import annotations

import mmap
import zlib

import numpy as np
from numpy.typing import NDArray

RECORD_BYTES = 100
KEY_BYTES = 10
CHECKSUM_MODULUS = 1 << 128

CHUNK_RECORDS = 1 << 14
"""Records handled at a time by everything that streams: 1.6 MB, so that a chunk stays in a core's
L2 cache."""

_CRC_CHUNK_RECORDS = 2000
"""Records turned into ``bytes`` objects at a time: few enough that the objects are reused from the
cache."""

_KEYED_RECORD = np.dtype(
    {"names": ["prefix", "suffix"], "formats": [">u8", ">u2"], "offsets": [0, 8], "itemsize": 100}
)

Records = NDArray[np.uint8]
"""An array of shape (n, 100)."""

BytesLike = bytes | bytearray | memoryview | mmap.mmap


def as_records(data: BytesLike, *, source: str = "buffer") -> Records:
    """View bytes as records, without a copy.

    Args:
        data: the bytes, contiguous.
        source: what to call it in an error, e.g. a path.

    Raises:
        ValueError: the number of bytes is not a multiple of 100.

    Example:
        >>> from freehold.shuffle import as_records
        >>> as_records(bytes(300)).shape
        (3, 100)
    """
    flat = np.frombuffer(data, dtype=np.uint8)
    if flat.size % RECORD_BYTES:
        raise ValueError(
            f"{source} has {flat.size:,} bytes, which is no whole number of {RECORD_BYTES}-byte "
            "records; check that the file is complete and holds Sort Benchmark records only"
        )
    return flat.reshape(-1, RECORD_BYTES)


def key_prefixes(records: Records) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number: numbers compare as the bytes do.

    >>> key_prefixes(as_records(b"\\x01" + bytes(99))).tolist() == [1 << 56]
    True
    """
    return _keyed(records)["prefix"].astype(np.uint64)


def key_suffixes(records: Records) -> NDArray[np.uint16]:
    """The last 2 bytes of each key as a number; they decide where prefixes are equal."""
    return _keyed(records)["suffix"].astype(np.uint16)


def key_bytes(records: Records, index: int) -> bytes:
    """The 10 bytes of one record's key."""
    return records[index, :KEY_BYTES].tobytes()


def checksum(records: Records) -> int:
    """The sum of the CRC-32 of every record, modulo 2**128: the same for any order of the same
    records.

    One ``zlib.crc32`` a record, called from C by ``map`` (174 ns a record here). Lookup tables
    vectorised over records were measured at 187 ns: fifty random reads of a table cost more than
    the call they save.

    Example:
        >>> from freehold.shuffle import as_records, checksum
        >>> f"{checksum(as_records(bytes(200))):x}"
        '133118d94'
    """
    total = 0
    rows = np.ascontiguousarray(records).reshape(-1).view(f"V{RECORD_BYTES}")
    for start in range(0, len(rows), _CRC_CHUNK_RECORDS):
        total += sum(map(zlib.crc32, rows[start : start + _CRC_CHUNK_RECORDS].tolist()))
    return total % CHECKSUM_MODULUS


def _keyed(records: Records) -> NDArray[np.void]:
    return np.ascontiguousarray(records).reshape(-1).view(_KEYED_RECORD)
