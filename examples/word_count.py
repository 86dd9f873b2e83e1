"""Counts words with a shuffle of your own: a map that spreads them, a reduce that adds them up.

Run it with ``python examples/word_count.py``. It needs numpy (``pip install '.[data]'``).
"""

from __future__ import annotations

import zlib
from collections import Counter

import freehold as fh
from freehold.shuffle import simple_shuffle

NUM_PARTITIONS = 3
PAGES = [
    "the driver submits tasks and the driver owns the references",
    "a worker executes tasks and a worker may own references too",
    "the store keeps the large objects and the owner keeps the small objects",
]


def count_words(page: str) -> list[Counter[str]]:
    """One counter a partition; a word always belongs to the same one."""
    blocks: list[Counter[str]] = [Counter() for _ in range(NUM_PARTITIONS)]
    for word in page.split():
        blocks[zlib.crc32(word.encode()) % NUM_PARTITIONS][word] += 1
    return blocks


def add_up(partition: int, *blocks: Counter[str]) -> Counter[str]:
    """All pages' counts of this partition's words."""
    return sum(blocks, Counter())


def main() -> None:
    fh.init()
    counts: Counter[str] = Counter()
    for partition in fh.get(simple_shuffle(PAGES, count_words, add_up, NUM_PARTITIONS)):
        counts |= partition
    for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]:
        print(f"{count:3} {word}")
    fh.shutdown()


if __name__ == "__main__":
    main()
