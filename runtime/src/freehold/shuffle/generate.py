"""Makes Sort Benchmark records, any range of them, independently of all others.

The definition is gensort's (ordinal.com), whose output these functions reproduce byte for byte; the
tests pin its reference vectors. All randomness comes from a 128-bit linear congruential generator
X(n+1) = a X(n) + c (L'Ecuyer 1999) whose n-th number is reached in O(log n) by squaring the affine
map; so tasks can make the parts of one input in parallel. Numbers are held as two uint64 limbs and
a chunk of them grows by doubling: the second half of what is known is the first half taken 2**k
steps ahead.

`KeyDistribution.SKEWED` is our own (gensort has another): see `_skewed_keys`. This module writes no
files.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from freehold.shuffle.records import CHUNK_RECORDS, RECORD_BYTES, Records

_U64 = NDArray[np.uint64]
_Limbs = tuple[_U64, _U64]

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_INCREMENT = 0x4A696D47726179524950202020202001
_MASK_128 = (1 << 128) - 1
_MASK_64 = (1 << 64) - 1
_LOW_32 = np.uint64(0xFFFFFFFF)
_SHIFT_32 = np.uint64(32)
_GOLDEN_64 = np.uint64(0x9E3779B97F4A7C15)

_GROUPS = 10
_GROUP_CONSTANTS = np.frombuffer(
    bytes(10)
    + bytes.fromhex(
        "F0E8E4E2E1D8D4D2D1CC" "CAC9C6C5C3B8B4B2B1AC" "AAA9A6A5A39C9A999695" "938E8D8B87787472716C"
        "6A696665635C5A595655" "534E4D4B473C3A393635" "332E2D2B271E1D1B170F" "C8C4C2C1989492918CE0"
        "170F332E2D2B271E1D1B"
    ),
    dtype=np.uint8,
)  # fmt: skip
_HEX_DIGITS = np.frombuffer(b"0123456789ABCDEF", dtype=np.uint8)


class RecordKind(enum.Enum):
    """Which of gensort's two kinds of record.

    Example:
        >>> from freehold.shuffle import RecordKind, RecordRange, generate_records
        >>> generate_records(RecordRange(0, 1, kind=RecordKind.ASCII))[0, :10].tobytes()
        b'AsfAGHM5om'
    """

    BINARY = "binary"
    ASCII = "ascii"


class KeyDistribution(enum.Enum):
    """How keys are spread: gensort's uniform keys, or this project's own skewed ones.

    Example:
        >>> from freehold.shuffle import KeyDistribution, RecordRange, generate_records
        >>> skewed = generate_records(RecordRange(0, 1000, keys=KeyDistribution.SKEWED))
        >>> int((skewed[:, 0] < 16).sum())  # keys in the lowest sixteenth of the key space
        475
    """

    UNIFORM = "uniform"
    SKEWED = "skewed"


@dataclasses.dataclass(frozen=True, slots=True)
class RecordRange:
    """A range of the endless sequence of records.

    Args:
        first: number of the first record, from 0.
        count: how many records.
        kind: binary or ASCII.
        keys: uniform (gensort's) or skewed (ours).

    Raises:
        ValueError: a number is negative, or the range ends beyond 2**128.

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records
        >>> later = RecordRange(first=5, count=2)
        >>> bool((generate_records(later) == generate_records(RecordRange(0, 7))[5:]).all())
        True
    """

    first: int
    count: int
    kind: RecordKind = RecordKind.BINARY
    keys: KeyDistribution = KeyDistribution.UNIFORM

    def __post_init__(self) -> None:
        if self.first < 0 or self.count < 0 or self.first + self.count >= 1 << 128:
            raise ValueError(
                f"no record range of {self.count} from {self.first}: both must be at least 0, "
                "their sum below 2**128"
            )


def generate_records(wanted: RecordRange) -> Records:
    """Make a range of records in memory.

    Returns:
        A new array of shape (count, 100).

    Example:
        >>> from freehold.shuffle import RecordRange, generate_records
        >>> generate_records(RecordRange(first=0, count=2))[0, :4].tobytes()
        b'JimG'
    """
    out = np.empty((wanted.count, RECORD_BYTES), np.uint8)
    filled = 0
    for chunk in record_chunks(wanted):
        out[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    return out


def record_chunks(wanted: RecordRange) -> Iterator[Records]:
    """Make a range of records a chunk of at most 1.6 MB at a time, for writing to a file.

    The array yielded is filled anew for the next chunk: copy what is to be kept.

    Example:
        >>> from freehold.shuffle import RecordRange, record_chunks
        >>> [len(chunk) for chunk in record_chunks(RecordRange(first=0, count=20_000))]
        [16384, 3616]
    """
    buffer = np.empty((min(wanted.count, CHUNK_RECORDS), RECORD_BYTES), np.uint8)
    fill = _fill_binary if wanted.kind is RecordKind.BINARY else _fill_ascii
    for start in range(0, wanted.count, CHUNK_RECORDS):
        out = buffer[: min(CHUNK_RECORDS, wanted.count - start)]
        fill(out, wanted.first + start, wanted.keys)
        yield out


def random_number(index: int) -> int:
    """X(index) of the generator, in O(log index) steps.

    >>> hex(random_number(1))
    '0x4a696d47726179524950202020202001'
    """
    value = 0
    for bit in range(index.bit_length()):
        if index >> bit & 1:
            multiplier, increment = _JUMPS[bit]
            value = (value * multiplier + increment) & _MASK_128
    return value


def _jumps() -> list[tuple[int, int]]:
    """Entry k is the affine map that goes 2**k numbers ahead. (The period is 2**128.)"""
    jumps = [(_MULTIPLIER, _INCREMENT)]
    for _ in range(127):
        multiplier, increment = jumps[-1]
        jumps.append(
            (multiplier * multiplier & _MASK_128, (multiplier + 1) * increment & _MASK_128)
        )
    return jumps


_JUMPS = _jumps()


def _random_numbers(first: int, count: int) -> _Limbs:
    """X(first) … X(first + count - 1) as (high limbs, low limbs)."""
    high, low = np.empty(count, np.uint64), np.empty(count, np.uint64)
    seed = random_number(first)
    high[0], low[0] = seed >> 64, seed & _MASK_64
    known, power = 1, 0
    while known < count:
        fresh = min(known, count - known)
        ahead = _step_ahead(high[:fresh], low[:fresh], _JUMPS[power])
        high[known : known + fresh], low[known : known + fresh] = ahead
        known, power = known + fresh, power + 1
    return high, low


def _step_ahead(high: _U64, low: _U64, jump: tuple[int, int]) -> _Limbs:
    """multiplier * X + increment modulo 2**128, from 32-bit products so that no carry is lost."""
    multiplier_low = np.uint64(jump[0] & _MASK_64)
    factor_0, factor_1 = multiplier_low & _LOW_32, multiplier_low >> _SHIFT_32
    low_0, low_1 = low & _LOW_32, low >> _SHIFT_32
    product_01, product_10 = low_0 * factor_1, low_1 * factor_0
    middle = ((low_0 * factor_0) >> _SHIFT_32) + (product_01 & _LOW_32) + (product_10 & _LOW_32)
    new_high = low_1 * factor_1 + (product_01 >> _SHIFT_32) + (product_10 >> _SHIFT_32)
    new_high += middle >> _SHIFT_32
    new_high += high * multiplier_low + low * np.uint64(jump[0] >> 64)
    increment_low = np.uint64(jump[1] & _MASK_64)
    new_low = low * multiplier_low + increment_low
    new_high += np.uint64(jump[1] >> 64) + (new_low < increment_low)
    return new_high, new_low


def _fill_binary(out: Records, first: int, keys: KeyDistribution) -> None:
    """Record n: 100 bytes of the row of all numbers' top 80 bits, from number n on, xored with
    constants."""
    count = len(out)
    high, low = _random_numbers(first + 1, count + _GROUPS - 1)
    stream = np.empty((len(high), 10), np.uint8)
    _put_key_bytes(stream, high, low >> np.uint64(48))
    windows = as_strided(stream, shape=(count, RECORD_BYTES), strides=(10, 1), writeable=False)
    np.bitwise_xor(windows, _GROUP_CONSTANTS, out=out)
    if keys is KeyDistribution.SKEWED:
        _put_key_bytes(out, *_skewed_keys(high[:count], low[:count]))


def _fill_ascii(out: Records, first: int, keys: KeyDistribution) -> None:
    count = len(out)
    high, low = _random_numbers(first + 1, count)
    if keys is KeyDistribution.UNIFORM:
        _put_base_95(out[:, :8], high)
        _put_base_95(out[:, 8:10], low)
    else:
        prefix, suffix = _skewed_keys(high, low)
        # 52 bits fit eight digits; most significant first, so that the skew survives in byte order.
        _put_base_95(out[:, 7::-1], prefix >> np.uint64(12))
        _put_base_95(out[:, 9:7:-1], suffix % np.uint64(95 * 95))
    out[:, 10:12] = ord(" ")
    _put_hex(out[:, 12:44], first, count)
    out[:, 44:46] = ord(" ")
    for group in range(13):
        digit = (low >> np.uint64(48 - 4 * group)) & np.uint64(15)
        start = 46 + 4 * group
        out[:, start : start + 4] = _HEX_DIGITS[digit.astype(np.intp)][:, np.newaxis]
    out[:, 98] = ord("\r")
    out[:, 99] = ord("\n")


def _put_key_bytes(out: NDArray[np.uint8], prefix: _U64, suffix: _U64) -> None:
    """Start each row with 10 big-endian bytes: 64 bits of prefix, the low 16 of suffix."""
    count = len(prefix)
    out[:, :8] = prefix.astype(">u8").view(np.uint8).reshape(count, 8)
    out[:, 8:10] = suffix.astype(">u2").view(np.uint8).reshape(count, 2)


def _put_base_95(out: NDArray[np.uint8], number: _U64) -> None:
    """Printable digits from ' ' on, least significant in the first column."""
    base = np.uint64(95)
    for column in range(out.shape[1]):
        quotient = number // base
        out[:, column] = (number - quotient * base).astype(np.uint8) + np.uint8(ord(" "))
        number = quotient


def _put_hex(out: NDArray[np.uint8], first: int, count: int) -> None:
    """32 upper-case hex digits of first, first + 1, …"""
    low = np.arange(count, dtype=np.uint64) + np.uint64(first & _MASK_64)
    high = np.uint64(first >> 64) + (low < np.uint64(first & _MASK_64)).astype(np.uint64)
    for column in range(32):
        limb = high if column < 16 else low
        digit = (limb >> np.uint64(60 - 4 * (column % 16))) & np.uint64(15)
        out[:, column] = _HEX_DIGITS[digit.astype(np.intp)]


def _skewed_keys(high: _U64, low: _U64) -> _Limbs:
    """Our skewed keys, as (first 8 bytes, last 2 bytes): a power law with a few hot keys.

    Seven records of eight have the prefix ((h >> 32)**2 >> 32)**2 of their random number's high
    limb h: about u**4 for a uniform u, so that a fraction x of the key space from 0 on holds
    x**(1/4) of them (the lowest sixteenth a half). The eighth (bits 45 to 47 of the low limb are 0;
    the lowest bits would not do, their period is short) has one of 16 hot keys, each so common that
    1 record in 128 has it. Only integer arithmetic: the same on every machine.
    """
    half = high >> _SHIFT_32
    half = (half * half) >> _SHIFT_32
    prefix = half * half
    suffix = low >> np.uint64(48)
    hot = (low >> np.uint64(45)) & np.uint64(7) == 0
    prefix[hot] = ((low[hot] >> np.uint64(41)) & np.uint64(15)) * _GOLDEN_64
    suffix[hot] = 0
    return prefix, suffix
