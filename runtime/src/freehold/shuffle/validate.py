"""Says whether records are sorted and still the same records, as valsort does.

Each partition is summarised where its file lies (`summarize`); the summaries are small and the
driver joins them in the order of the partitions (`join_summaries`), which also compares each
partition's last key with the next one's first. `check` turns the joined summary into a verdict.

A sorted set of keys proves little by itself: the number of records and their checksum, taken when
the input was made or read, show that none was lost, doubled or changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from freehold.shuffle.records import (
    CHECKSUM_MODULUS,
    CHUNK_RECORDS,
    Records,
    checksum,
    key_bytes,
    key_prefixes,
    key_suffixes,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """What is known of a run of records in the order they lie in.

    Args:
        records: how many there are.
        checksum: sum of their CRC-32, modulo 2**128.
        unordered: how many have a smaller key than the record before.
        first_unordered: index of the first such record, from 0, or None.
        duplicate_keys: how many have the same key as the record before.
        first_key: key of the first record, or None if there is none.
        last_key: key of the last record, or None if there is none.

    Example:
        >>> from freehold.shuffle import Summary
        >>> Summary(records=2, first_key=b"a", last_key=b"b").unordered
        0
    """

    records: int = 0
    checksum: int = 0
    unordered: int = 0
    first_unordered: int | None = None
    duplicate_keys: int = 0
    first_key: bytes | None = None
    last_key: bytes | None = None

    def then(self, following: Summary) -> Summary:
        """The summary of these records with others behind them.

        Example:
            >>> from freehold.shuffle import Summary
            >>> one = Summary(records=1, first_key=b"b", last_key=b"b")
            >>> one.then(Summary(records=1, first_key=b"a", last_key=b"a")).first_unordered
            1
        """
        if self.last_key is None or following.first_key is None:
            return self if following.first_key is None else following
        steps_down = following.first_key < self.last_key
        first_unordered = self.first_unordered
        if first_unordered is None:
            if steps_down:
                first_unordered = self.records
            elif following.first_unordered is not None:
                first_unordered = self.records + following.first_unordered
        return Summary(
            records=self.records + following.records,
            checksum=(self.checksum + following.checksum) % CHECKSUM_MODULUS,
            unordered=self.unordered + following.unordered + steps_down,
            first_unordered=first_unordered,
            duplicate_keys=self.duplicate_keys
            + following.duplicate_keys
            + (following.first_key == self.last_key),
            first_key=self.first_key,
            last_key=following.last_key,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A verdict on sorted records.

    Args:
        summary: of all the records.
        problems: what is wrong, each a phrase; empty if nothing is.

    Example:
        >>> from freehold.shuffle import Summary, check
        >>> report = check(Summary(records=2, checksum=7))
        >>> report.valid, str(report)
        (True, 'valid: 2 records, checksum 7, 0 duplicate keys')
    """

    summary: Summary
    problems: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the records are in order and are the expected ones."""
        return not self.problems

    def __str__(self) -> str:
        if self.problems:
            return "INVALID: " + "; ".join(self.problems)
        found = self.summary
        return (
            f"valid: {found.records:,} records, checksum {found.checksum:x}, "
            f"{found.duplicate_keys:,} duplicate keys"
        )


def summarize(records: Records) -> Summary:
    """Summarise records in the order they lie in, a cache-sized chunk at a time.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records, summarize
        >>> found = summarize(generate_records(RecordRange(first=0, count=1000)))
        >>> f"{found.checksum:x}", found.first_unordered
        ('1ea6370b955', 2)
    """
    chunks = (
        _summarize_chunk(records[start : start + CHUNK_RECORDS])
        for start in range(0, len(records), CHUNK_RECORDS)
    )
    return join_summaries(chunks)


def join_summaries(summaries: Iterable[Summary]) -> Summary:
    """The summary of all records, from summaries of consecutive parts, in order.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records, join_summaries, summarize
        >>> records = generate_records(RecordRange(first=0, count=1000))
        >>> join_summaries([summarize(records[:300]), summarize(records[300:])]).records
        1000
    """
    joined = Summary()
    for summary in summaries:
        joined = joined.then(summary)
    return joined


def check(found: Summary, expected: Summary | None = None) -> Report:
    """Judge sorted records.

    Args:
        found: of the output, joined in the order of the partitions.
        expected: of the input, in any order; only its count and checksum are compared. None if the
            input is not known: then only the order is judged.

    Example:
        >>> from freehold.shuffle import Summary, check
        >>> print(check(Summary(records=2), expected=Summary(records=3)))
        INVALID: 2 records where the input had 3
    """
    problems = []
    if found.unordered:
        problems.append(
            f"{found.unordered:,} of {found.records:,} records are out of order, "
            f"the first is record {found.first_unordered:,}"
        )
    if expected is not None and found.records != expected.records:
        problems.append(f"{found.records:,} records where the input had {expected.records:,}")
    if expected is not None and found.checksum != expected.checksum:
        problems.append(f"checksum {found.checksum:x} where the input had {expected.checksum:x}")
    return Report(found, tuple(problems))


def _summarize_chunk(records: Records) -> Summary:
    prefixes = key_prefixes(records)
    smaller = prefixes[1:] < prefixes[:-1]
    equal = prefixes[1:] == prefixes[:-1]
    if equal.any():
        suffixes = key_suffixes(records)
        smaller |= equal & (suffixes[1:] < suffixes[:-1])
        equal &= suffixes[1:] == suffixes[:-1]
    unordered = int(smaller.sum())
    return Summary(
        records=len(records),
        checksum=checksum(records),
        unordered=unordered,
        first_unordered=int(smaller.argmax()) + 1 if unordered else None,
        duplicate_keys=int(equal.sum()),
        first_key=key_bytes(records, 0),
        last_key=key_bytes(records, -1),
    )
