"""Sorting, partitioning and merging of records in memory.

Place in the flow: a map task calls `partition_sorted` on its input, a reduce task `merge_sorted` on
the blocks of its partition. Both are plain functions from arrays to arrays, so that a benchmark can
run the same work without Freehold.

What was measured (10-byte keys, ns a record of 100 bytes, one core with AVX-512) and decided:

- `np.sort` of plain uint64 numbers is vectorised in numpy: 7; `np.argsort` of them 24, stable 96,
  `np.lexsort` over both parts of the key 126, `np.argsort` of ``S10`` 163 (and wrong: it ignores
  trailing NULs). So the record's index is packed into the low bits of its key and *numbers* are
  sorted: 9. Keys that agree in all bits that fit are found afterwards and ordered among themselves.
- A map that only splits by key range saves 4 of a sort's 9: what costs is moving records (24 to
  40), which either does once. Sorted blocks let the reduce work in chunks that stay in the cache,
  each a key range cut out of every block, so that it never holds its partition in one piece: no
  second copy in cold memory, no random reads outside the L2 cache.
- Merging sorted runs with a heap or pairwise is no match for sorting each chunk anew: 9.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from freehold.shuffle.records import (
    CHUNK_RECORDS,
    RECORD_BYTES,
    Records,
    key_prefixes,
    key_suffixes,
)

_U64 = NDArray[np.uint64]
_SAMPLE_STEP = 32


def sort_order(prefixes: _U64, records: Records) -> NDArray[np.intp]:
    """The stable order of records by key.

    Args:
        prefixes: `key_prefixes(records)`; a parameter so that a caller who has them need not make
            them twice.
        records: the records, looked at only where prefixes tie.

    >>> from freehold.shuffle.generate import RecordRange, generate_records
    >>> records = generate_records(RecordRange(first=0, count=3))
    >>> sort_order(key_prefixes(records), records).tolist()
    [2, 0, 1]
    """
    count = len(prefixes)
    if count < 2:
        return np.arange(count)
    smallest, largest = int(prefixes.min()), int(prefixes.max())
    index_bits = (count - 1).bit_length()
    # Drop the leading bits all keys share, so that the bits left beside the index tell most keys
    # apart.
    spare = 64 - (largest - smallest).bit_length()
    packed = prefixes - np.uint64(smallest)
    packed <<= np.uint64(min(spare, 63))
    index_mask = np.uint64((1 << index_bits) - 1)
    packed &= ~index_mask
    packed |= np.arange(count, dtype=np.uint64)
    packed.sort()
    order = (packed & index_mask).view(np.intp)
    packed >>= np.uint64(index_bits)
    tied = packed[1:] == packed[:-1]
    if tied.any():
        _order_ties(order, tied, prefixes, records)
    return order


def sort_records(records: Records) -> Records:
    """A sorted copy, stable: records with equal keys keep their order.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records, sort_records
        >>> sort_records(generate_records(RecordRange(first=0, count=3)))[:, 0].tolist()
        [69, 74, 149]
    """
    return _take(records, sort_order(key_prefixes(records), records))


def uniform_boundaries(num_partitions: int) -> _U64:
    """Boundaries that cut the whole key space into equal ranges; right for gensort's binary keys.

    Returns:
        num_partitions - 1 prefixes: partition i holds the keys whose first 8 bytes are at least
        entry i - 1 and below entry i.

    Raises:
        ValueError: num_partitions is less than 1.

    Example:
        >>> from freehold.shuffle import uniform_boundaries
        >>> [hex(value) for value in uniform_boundaries(4)]
        ['0x4000000000000000', '0x8000000000000000', '0xc000000000000000']
    """
    _check_partitions(num_partitions)
    cuts = [(index << 64) // num_partitions for index in range(1, num_partitions)]
    return np.array(cuts, dtype=np.uint64)


def sampled_boundaries(sample: _U64, num_partitions: int) -> _U64:
    """Boundaries at the quantiles of a sample of key prefixes, for keys of unknown distribution.

    Records with the same first 8 bytes always share a partition, so one hot key can still make one
    partition large.

    Args:
        sample: prefixes of records chosen evenly over the input, in any order; empty means no input
            at all.
        num_partitions: how many partitions to cut.

    Raises:
        ValueError: num_partitions is less than 1.

    Example:
        >>> import numpy as np
        >>> from freehold.shuffle import sampled_boundaries
        >>> sampled_boundaries(np.arange(100, dtype=np.uint64), 4).tolist()
        [25, 50, 75]
    """
    _check_partitions(num_partitions)
    if not len(sample):
        return uniform_boundaries(num_partitions)
    ranked = np.sort(sample)
    return ranked[np.arange(1, num_partitions) * len(ranked) // num_partitions]


def partition_sorted(records: Records, boundaries: _U64) -> list[Records]:
    """The map's work: sort records and cut them at the boundaries.

    Returns:
        len(boundaries) + 1 sorted blocks, views of one new array: each contiguous, so that it
        travels without a copy.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records
        >>> from freehold.shuffle import partition_sorted, uniform_boundaries
        >>> records = generate_records(RecordRange(first=0, count=1000))
        >>> [len(block) for block in partition_sorted(records, uniform_boundaries(4))]
        [273, 256, 221, 250]
    """
    prefixes = key_prefixes(records)
    order = sort_order(prefixes, records)
    cuts = np.searchsorted(prefixes, boundaries, sorter=order).tolist()
    ordered = _take(records, order)
    edges = [0, *cuts, len(records)]
    return [ordered[low:high] for low, high in itertools.pairwise(edges)]


def merge_sorted(blocks: Sequence[Records]) -> Iterator[Records]:
    """The reduce's work: merge sorted blocks, a piece at a time; of equal keys those of earlier
    blocks come first.

    A piece is a key range of about 16,000 records cut out of every block (more where one key prefix
    is that common), which stays in the cache while it is gathered, sorted and written.

    Yields:
        sorted pieces in order; each is overwritten by the next, so write or copy it first.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records, merge_sorted, sort_records
        >>> ranges = [RecordRange(first=0, count=3), RecordRange(first=3, count=3)]
        >>> runs = [sort_records(generate_records(wanted)) for wanted in ranges]
        >>> [key for piece in merge_sorted(runs) for key in piece[:, 0].tolist()]
        [69, 74, 92, 114, 136, 149]
    """
    filled = [block for block in blocks if len(block)]
    prefixes = [key_prefixes(block) for block in filled]
    total = sum(map(len, filled))
    edges = _piece_edges(prefixes, total)
    scratch = np.empty((0, RECORD_BYTES), np.uint8)
    target = scratch
    for low, high in itertools.pairwise(edges):
        spans = list(zip(low, high, strict=True))
        count = sum(stop - start for start, stop in spans)
        if not count:
            continue
        if count > len(scratch):
            scratch = np.empty((count + count // 8, RECORD_BYTES), np.uint8)
            target = np.empty_like(scratch)
        gathered, keys = scratch[:count], []
        position = 0
        for (start, stop), block, block_keys in zip(spans, filled, prefixes, strict=True):
            if stop > start:
                gathered[position : position + stop - start] = block[start:stop]
                keys.append(block_keys[start:stop])
                position += stop - start
        order = sort_order(np.concatenate(keys), gathered)
        piece = target[:count]
        np.take(gathered, order, axis=0, out=piece, mode="clip")
        yield piece


def _piece_edges(prefixes: Sequence[_U64], total: int) -> list[list[int]]:
    """Row j: where piece j begins in every block; the last row is where the blocks end."""
    starts, ends = [0] * len(prefixes), [len(keys) for keys in prefixes]
    pieces = -(-total // CHUNK_RECORDS)
    if pieces < 2:
        return [starts, ends]
    sample = np.sort(np.concatenate([keys[::_SAMPLE_STEP] for keys in prefixes]))
    cuts = sample[np.arange(1, pieces) * len(sample) // pieces]
    columns = [np.searchsorted(keys, cuts).tolist() for keys in prefixes]
    return [starts, *map(list, zip(*columns, strict=True)), ends]


def _order_ties(
    order: NDArray[np.intp], tied: NDArray[np.bool_], prefixes: _U64, records: Records
) -> None:
    """Put right, in place, the positions whose keys agree in the bits that were sorted by.

    Runs of ties are in order among themselves, so one sort of all of them by the whole key leaves
    each in its place; it is stable, and within a run they came in order of index.
    """
    member = np.zeros(len(order), np.bool_)
    member[1:] = tied
    member[:-1] |= tied
    positions = np.flatnonzero(member)
    among = order[positions]
    by_key = np.lexsort((key_suffixes(records[among]), prefixes[among]))
    order[positions] = among[by_key]


def _take(records: Records, order: NDArray[np.intp]) -> Records:
    """records[order]: `take` with ``mode="clip"`` moves whole rows, twice as fast as indexing."""
    out = np.empty((len(order), RECORD_BYTES), np.uint8)
    if len(order):
        np.take(records, order, axis=0, out=out, mode="clip")
    return out


def _check_partitions(num_partitions: int) -> None:
    if num_partitions < 1:
        raise ValueError(f"num_partitions is {num_partitions}; give at least 1")
