"""Who only reads the arena can change it neither through a descriptor nor through a mapping."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, NEAR, start_cluster

import freehold

ARENA = "memfd:freehold-arena"
LARGE = 1 << 20


def modes_of_descriptors() -> list[int]:
    """How each descriptor of an arena in this process was opened."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if ARENA not in os.readlink(f"/proc/self/fd/{fd}"):
                continue
            with open(f"/proc/self/fdinfo/{fd}") as info:
                flags = next(line for line in info if line.startswith("flags"))
        except FileNotFoundError:
            continue  # that of the listing itself
        found.append(int(flags.split()[1], 8) & os.O_ACCMODE)
    return sorted(found)


def mappings() -> list[tuple[int, str]]:
    """Where arenas are mapped in this process, and with what rights."""
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if ARENA in line]
    return [(int(line[0].split("-")[0], 16), line[1]) for line in lines]


def try_to_write() -> list[int]:
    """What the kernel says to writing through each descriptor, and to making a mapping writable."""
    said = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            if ARENA in os.readlink(f"/proc/self/fd/{fd}"):
                os.pwrite(int(fd), b"x", 0)
                said.append(0)
        except FileNotFoundError:
            continue
        except OSError as error:
            said.append(error.errno or 0)
    libc = ctypes.CDLL(None, use_errno=True)
    for address, _ in mappings():
        writable = mmap.PROT_READ | mmap.PROT_WRITE
        failed = libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(4096), writable)
        said.append(ctypes.get_errno() if failed else 0)
    return said


@freehold.remote(num_cpus=0)
class Member:
    """A process of its own, from before anything was stored."""

    def make(self) -> Any:
        return np.arange(LARGE)

    def read(self, array: Any) -> int:
        return int(array.sum())

    def access(self) -> tuple[list[int], list[str]]:
        return modes_of_descriptors(), [rights for _, rights in mappings()]

    def try_to_write(self) -> list[int]:
        return try_to_write()

    def forked(self, array: Any) -> tuple[int, int]:
        """A child reads what its parent sees, and has no more rights."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            said = try_to_write()
            os.write(writing, bytes([int(array[7]), len(said) and min(said)]))
            os._exit(0)
        os.waitpid(child, 0)
        answer = os.read(reading, 2)
        os.close(reading)
        os.close(writing)
        return answer[0], answer[1]


@pytest.fixture(params=[1, 2], ids=["one-node", "two-nodes"])
def fresh(request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster in which nothing was stored yet."""
    with start_cluster(request.param, num_cpus=2):
        yield


@pytest.mark.usefixtures("fresh")
def test_a_process_that_only_reads_cannot_write() -> None:
    near, far = Member.options(resources=NEAR).remote(), Member.options(resources=FAR).remote()
    maker = Member.options(resources=FAR).remote()
    freehold.get([member.access.remote() for member in (near, far, maker)], timeout=30)
    ref = maker.make.remote()
    total = LARGE * (LARGE - 1) // 2
    for reader in (near, far):
        assert freehold.get(reader.read.remote(ref), timeout=30) == total
        assert freehold.get(reader.access.remote(), timeout=30) == ([os.O_RDONLY], ["r--s"])
        said = freehold.get(reader.try_to_write.remote(), timeout=30)
        assert said == [errno.EBADF, errno.EACCES]
        assert freehold.get(reader.forked.remote(ref), timeout=30) == (7, errno.EBADF)
    # The driver, too, has only read so far.
    assert int(freehold.get(ref).sum()) == total
    assert modes_of_descriptors() == [os.O_RDONLY]
    assert [rights for _, rights in mappings()] == ["r--s"]
    assert try_to_write() == [errno.EBADF, errno.EACCES]


@pytest.mark.usefixtures("fresh")
def test_who_creates_gets_one_descriptor_to_write_with_and_keeps_the_one_to_read() -> None:
    freehold.put(1)  # inline: nothing is created in the store
    assert modes_of_descriptors() == [os.O_RDONLY]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(freehold.put, [np.full(LARGE // 16, i) for i in range(32)]))
    assert modes_of_descriptors() == [os.O_RDONLY, os.O_RDWR]
    for i, ref in enumerate(refs):
        value = freehold.get(ref)
        assert not value.flags.writeable
        assert value[0] == i
    del value, ref, refs
    maker = Member.options(resources=FAR).remote()
    for _ in range(3):
        assert int(freehold.get(maker.make.remote(), timeout=30)[-1]) == LARGE - 1
    modes, _ = freehold.get(maker.access.remote(), timeout=30)
    assert modes == [os.O_RDONLY, os.O_RDWR]
    assert modes_of_descriptors() == [os.O_RDONLY, os.O_RDWR]
