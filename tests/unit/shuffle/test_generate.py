"""The generator reproduces gensort 1.5's own output, from any record number."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from freehold.shuffle import (
    KeyDistribution,
    RecordKind,
    RecordRange,
    checksum,
    generate_records,
    record_chunks,
)
from freehold.shuffle.generate import random_number
from freehold.shuffle.records import CHUNK_RECORDS, key_prefixes

FAR = 8589934592
MILLION_MD5 = "11b7c8fb09c3721676093b5739e2d7b5"

BINARY = {
    0: "4a696d4772617952495065080060836b392cd58b8f5e55961855e79b87f02283a466b6aab1f9e0cacf1e26b3292afd1064bb18b56ac07d6f656b1d2f430d57bde7e47d81f36a6dd267948bbc2397bfe28c334e4ad82b8e70166293cfaa0116bfda3bb1ab",  # noqa: E501
    1: "95e0e48262b3edfe0447b57f77b13a3587fbe79042e3c406d68e9fd2c7f3f6390d9d0dce13fb8342e152812e994b4b403a167a2a7c93c3841de1930a0db207f4eb9e04b59ed877d9a1a067a101fa8d8d4c045beea3006fb42050a4e65bb3cc4083ebb2ad",  # noqa: E501
    2: "45979353dbed5329365c78c2e621f4eeffb2a79396596dfd6dea3dd0a47bd875aa00bdafa5abddef83cd977d27a033cab43334952cdacffe64d5feb817b9c1c0078326d8acb7b7eeb4041c8ae03ebbbf7b2daa5c79ff36642356eff9714dd020220b829e",  # noqa: E501
    FAR: "4e35bc6920e838f13ebd9d67e01904deb5c10700984e0f060f72deed9e7eda6e4bed616964723ad65ef54ad8aa8523dfa3a9422a3a2ab3832dd09cb6cb7d8ddff34c91be334622261b9ef593b952d8557860b2b126a1097773e534e0ca89061a57e85a79",  # noqa: E501
}
ASCII = {
    0: "AsfAGHM5om  00000000000000000000000000000000  0000222200002222000022220000222200002222000000001111",  # noqa: E501
    1: "~sHd0jDv6X  00000000000000000000000000000001  77779999444488885555CCCC777755555555BBBB666644446666",  # noqa: E501
    2: "uI^EYm8s=|  00000000000000000000000000000002  CCCCFFFF777799995555FFFF11112222999988884444DDDDFFFF",  # noqa: E501
    FAR: "Rs!i:TPM$,  00000000000000000000000200000000  DDDD999922229999666622220000222200002222000000001111",  # noqa: E501
}


@pytest.mark.parametrize("number", sorted(BINARY))
def test_binary_record_is_gensorts(number: int) -> None:
    assert generate_records(RecordRange(number, 1)).tobytes().hex() == BINARY[number]


@pytest.mark.parametrize("number", sorted(ASCII))
def test_ascii_record_is_gensorts(number: int) -> None:
    record = generate_records(RecordRange(number, 1, RecordKind.ASCII)).tobytes()
    assert record == ASCII[number].encode() + b"\r\n"


@pytest.mark.parametrize(
    ("kind", "count", "expected"),
    [
        (RecordKind.BINARY, 1, 0x9EA593A0),
        (RecordKind.BINARY, 1_000, 0x1EA6370B955),
        (RecordKind.ASCII, 1, 0x3FCAEA0A),
        (RecordKind.ASCII, 1_000, 0x1F5DFB3631A),
        (RecordKind.ASCII, 1_000_000, 0x7A19CFF467438),
    ],
)
def test_checksum_is_gensorts(kind: RecordKind, count: int, expected: int) -> None:
    assert sum(map(checksum, record_chunks(RecordRange(0, count, kind)))) == expected


def test_a_million_binary_records_are_gensorts() -> None:
    digest, total = hashlib.md5(usedforsecurity=False), 0
    for chunk in record_chunks(RecordRange(0, 1_000_000)):
        digest.update(chunk.reshape(-1).data)
        total += checksum(chunk)
    assert digest.hexdigest() == MILLION_MD5
    assert total == 0x7A0E0D4868CD4


@pytest.mark.parametrize("kind", RecordKind)
@pytest.mark.parametrize("keys", KeyDistribution)
def test_any_part_equals_that_part_of_the_whole(kind: RecordKind, keys: KeyDistribution) -> None:
    whole = generate_records(RecordRange(7, CHUNK_RECORDS + 5000, kind, keys))
    for first, count in ((0, 3), (4095, 2), (CHUNK_RECORDS - 1, 12), (CHUNK_RECORDS + 1, 4999)):
        part = generate_records(RecordRange(7 + first, count, kind, keys))
        assert np.array_equal(part, whole[first : first + count])


def test_random_numbers_follow_the_recurrence() -> None:
    a, c = 0x2360ED051FC65DA44385DF649FCCF645, 0x4A696D47726179524950202020202001
    for index in (0, 1, 2, 12345, (1 << 64) - 1, (1 << 127) + 99):
        assert random_number(index + 1) == (a * random_number(index) + c) % (1 << 128)


def test_record_numbers_beyond_64_bits_are_written_whole() -> None:
    first = (1 << 64) - 1
    records = generate_records(RecordRange(first, 2, RecordKind.ASCII))
    assert [row[12:44].tobytes() for row in records] == [b"%032X" % first, b"%032X" % (first + 1)]


def test_skewed_keys_have_the_documented_distribution() -> None:
    prefixes = key_prefixes(generate_records(RecordRange(0, 200_000, keys=KeyDistribution.SKEWED)))
    commonest = Counter(prefixes.tolist()).most_common(17)
    shares = [count / len(prefixes) for _, count in commonest]
    assert all(0.9 / 128 < share < 1.1 / 128 for share in shares[:16])
    assert shares[16] < 0.001
    hot = {prefix for prefix, _ in commonest[:16]}
    others = np.array([p for p in prefixes.tolist() if p not in hot], dtype=np.uint64)
    assert abs(float(np.mean(others < np.uint64(1 << 60))) - 0.5) < 0.01


def test_skewed_ascii_keys_are_printable_and_skewed() -> None:
    wanted = RecordRange(0, 20_000, RecordKind.ASCII, KeyDistribution.SKEWED)
    keys = generate_records(wanted)[:, :10]
    assert keys.min() >= ord(" ")
    assert keys.max() <= ord("~")
    assert np.mean(keys[:, 0] < ord(" ") + 6) > 0.4


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (0, -1), ((1 << 128) - 1, 1)])
def test_impossible_range_is_refused(first: int, count: int) -> None:
    with pytest.raises(ValueError, match="no record range"):
        RecordRange(first, count)


def test_no_records_are_no_records() -> None:
    assert generate_records(RecordRange(5, 0)).shape == (0, 100)
