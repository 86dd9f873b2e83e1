"""The arena: sealing, reading and writing, views that outlive everything, a second process."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from freehold._io import shm
from freehold._io.shm import PAGE_BYTES, WARM_MAPPING_MIN_BYTES, Arena

SIZE = 64 << 20
BIG = WARM_MAPPING_MIN_BYTES + 12_345


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena.create(SIZE)
    yield made
    made.close()


def committed(arena: Arena) -> int:
    return os.fstat(arena.fd).st_blocks * 512


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("freehold-arena")


def test_the_arena_is_sealed_against_resizing_and_has_no_file(arena: Arena) -> None:
    for size in (SIZE - PAGE_BYTES, SIZE + PAGE_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(arena.fd, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(arena.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    assert os.fstat(arena.fd).st_nlink == 0
    assert not os.get_inheritable(arena.fd)


def test_memory_is_used_only_between_commit_and_decommit(arena: Arena) -> None:
    assert committed(arena) == 0
    arena.commit(PAGE_BYTES, 3 * PAGE_BYTES)
    assert committed(arena) == 3 * PAGE_BYTES
    arena.write(PAGE_BYTES, [b"x" * PAGE_BYTES])
    arena.decommit(PAGE_BYTES, 3 * PAGE_BYTES)
    assert committed(arena) == 0
    assert arena.read(PAGE_BYTES, 4) == bytes(4)
    arena.commit(0, 0)
    arena.decommit(0, 0)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("offset", [0, 64, PAGE_BYTES + 192])
def test_what_is_written_is_read(arena: Arena, warm: bool, offset: int) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, BIG, dtype=np.uint8)
    pieces: list[Any] = [
        b"",
        b"head",
        array,
        bytearray(b"tail"),
        np.zeros((0, 3)),
        memoryview(b"end"),
    ]
    expected = b"head" + array.tobytes() + b"tail" + b"end"
    for _ in range(2):
        assert arena.write(offset, pieces, warm=warm) == len(expected)
        assert arena.read(offset, len(expected)) == expected
        assert bytes(arena.view(offset, len(expected), lambda: None)) == expected
    assert arena.read(offset + len(expected), 64) == bytes(64)


def test_a_warm_write_after_a_decommit_is_still_right(arena: Arena) -> None:
    old, new = b"o" * BIG, b"n" * BIG
    arena.write(0, [old], warm=True)
    arena.decommit(0, BIG)
    assert arena.read(0, 4) == bytes(4)
    arena.write(0, [new], warm=True)
    assert arena.read(0, BIG) == new


def test_more_buffers_than_a_system_call_takes_are_written_in_order(arena: Arena) -> None:
    pieces = [bytes([index % 251]) * (index % 7) for index in range(5000)]
    assert arena.write(8, pieces) == len(b"".join(pieces))
    assert arena.read(8, len(b"".join(pieces))) == b"".join(pieces)


def test_short_writes_are_carried_on(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev

    def short(fd: int, buffers: list[memoryview], offset: int) -> int:
        whole = b"".join(buffers)
        return real(fd, [whole[: max(len(whole) // 2, 1)]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    pieces = [b"abc", b"defgh", b"i", b"jklmnopq"]
    assert arena.write(5, pieces) == 17
    monkeypatch.undo()
    assert arena.read(5, 17) == b"abcdefghijklmnopq"


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (SIZE - 1, 2), (SIZE + 1, 0), (0, -1)])
def test_ranges_outside_the_arena_are_refused(arena: Arena, offset: int, size: int) -> None:
    with pytest.raises(ValueError, match="not inside the arena"):
        arena.view(offset, size, lambda: None)
    with pytest.raises(ValueError, match="not inside the arena"):
        arena.read(offset, size)
    if size >= 0:
        with pytest.raises(ValueError, match="not inside the arena"):
            arena.write(offset, [b"x" * size])
        with pytest.raises(ValueError, match="not inside the arena"):
            arena.commit(offset, size)


def test_out_of_memory_has_one_clear_error(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOMEM, "x")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(shm.ArenaFullError, match="no shared memory left") as commit_error:
        arena.commit(0, 1)
    assert commit_error.value.errno == errno.ENOSPC
    with pytest.raises(shm.ArenaFullError, match="cannot write 1 bytes at offset 7"):
        arena.write(7, [b"x"])


def test_a_view_is_released_once_when_the_last_thing_made_from_it_is_gone(arena: Arena) -> None:
    arena.write(64, [np.arange(1000).tobytes()])
    released: deque[str] = deque()
    view = arena.view(64, 8000, lambda: released.append("x"))
    array = np.frombuffer(view, dtype=np.int64)
    arrow = pa.py_buffer(view[800:])
    part = array[10:20]
    del view, array
    gc.collect()
    assert not released
    assert part.tolist() == list(range(10, 20))
    del part
    gc.collect()
    assert not released
    assert np.frombuffer(arrow, dtype=np.int64)[0] == 100
    del arrow
    gc.collect()
    assert list(released) == ["x"]


def test_views_are_read_only(arena: Arena) -> None:
    view = arena.view(0, 64, lambda: None)
    assert view.readonly
    assert (view.format, view.itemsize, view.nbytes) == ("B", 1, 64)
    assert not np.frombuffer(view, dtype=np.uint8).flags.writeable
    with pytest.raises(TypeError):
        view[0] = 1


def test_views_live_on_after_close_and_the_mapping_goes_with_the_last(arena: Arena) -> None:
    other = Arena.create(SIZE)
    before = mappings()
    other.write(0, [b"still here"])
    other.write(PAGE_BYTES, [b"w" * BIG], warm=True)
    released: deque[int] = deque()
    views = [other.view(0, 10, lambda i=i: released.append(i)) for i in range(2)]  # type: ignore[misc]
    assert mappings() == before + 2
    other.close()
    other.close()
    assert mappings() == before + 1, "nobody writes any more"
    assert bytes(views.pop()) == b"still here"
    gc.collect()
    assert (list(released), mappings()) == ([1], before + 1)
    assert bytes(views[0]) == b"still here"
    views.clear()
    gc.collect()
    assert (list(released), mappings()) == ([1, 0], before)
    with pytest.raises(ValueError, match="closed"):
        other.view(0, 1, lambda: None)


def test_all_views_share_one_mapping(arena: Arena) -> None:
    before = mappings()
    views = [arena.view(64 * index, 64, lambda: None) for index in range(100)]
    assert mappings() == before + 1
    assert len(views) == 100


def test_a_view_sees_what_another_descriptor_writes(arena: Arena) -> None:
    view = arena.view(0, 5, lambda: None)
    twin = Arena.attach(os.dup(arena.fd), SIZE)
    twin.write(0, [b"hello"])
    twin.close()
    assert bytes(view) == b"hello"


def test_a_read_only_descriptor_reads_and_cannot_write(arena: Arena) -> None:
    arena.write(0, [b"hello"])
    reader = Arena.attach(arena.readonly_fd(), SIZE)
    try:
        assert arena.is_writable
        assert not reader.is_writable
        assert reader.read(0, 5) == b"hello"
        assert bytes(reader.view(0, 5, lambda: None)) == b"hello"
        for warm in (False, True):
            with pytest.raises(PermissionError, match="read-only"):
                reader.write(0, [b"x" * BIG], warm=warm)
        with pytest.raises(PermissionError, match="read-only"):
            reader.commit(0, 1)
        with pytest.raises(PermissionError, match="read-only"):
            reader.decommit(0, 1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(reader.fd, b"x", 0)
    finally:
        reader.close()


def test_a_reader_that_was_granted_an_extent_writes_through_a_descriptor_of_its_own(
    arena: Arena,
) -> None:
    reader = Arena.attach(arena.readonly_fd(), SIZE)
    before = len(os.listdir("/proc/self/fd"))
    reader.allow_writing()
    reader.allow_writing()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    reader.commit(0, BIG)
    for warm in (False, True):
        reader.write(0, [b"y" * BIG], warm=warm)
        assert arena.read(0, BIG) == b"y" * BIG
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(reader.fd, b"x", 0)
    reader.abandon()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    reader.write(0, [b"z" * 8])  # to nowhere: another thread may be in the middle of it
    assert arena.read(0, 8) == b"y" * 8
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(ValueError, match="is closed"):
        reader.allow_writing()


def test_only_a_sealed_arena_of_the_right_size_can_be_attached(
    arena: Arena, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is no arena of 4096 bytes"):
        Arena.attach(arena.fd, 4096)
    unsealed = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 4096)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 4096)
    try:
        with pytest.raises(ValueError, match="is no arena"):
            Arena.attach(unsealed, 4096)
        with pytest.raises(ValueError, match="is no memfd"):
            Arena.attach(file, 4096)
    finally:
        os.close(unsealed)
        os.close(file)
    with pytest.raises(ValueError, match="positive"):
        Arena.create(0)


def test_trim_loses_nothing(arena: Arena) -> None:
    arena.write(0, [b"a" * BIG], warm=True)
    view = arena.view(0, BIG, lambda: None)
    arena.trim()
    assert bytes(view) == b"a" * BIG
    arena.write(0, [b"b" * BIG], warm=True)
    assert bytes(view) == b"b" * BIG


CHILD = """
import gc, socket, sys
import numpy as np
from freehold._io.shm import Arena

channel = socket.socket(fileno=int(sys.argv[1]))
_, fds, _, _ = socket.recv_fds(channel, 1, 2)
writer = Arena.attach(fds[0], int(sys.argv[2]))
reader = Arena.attach(fds[1], int(sys.argv[2]))
array = np.frombuffer(reader.view(0, 8000, lambda: channel.send(b"r")), dtype=np.int64)
writer.write(8192, [array * 2], warm=False)
channel.send(b"w")
channel.recv(1)
writer.close(); reader.close()
assert int(array.sum()) == int(sys.argv[3]), array.sum()
del array
gc.collect()
keep = np.arange(3)  # a view that is alive at exit must not hurt
"""


def test_a_second_process_writes_and_reads_the_same_memory(arena: Arena) -> None:
    array = np.arange(1000)
    arena.write(0, [array.data])
    mine, theirs = socket.socketpair()
    mine.settimeout(30)
    with mine, theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(theirs.fileno()), str(SIZE), str(array.sum())],
            pass_fds=[theirs.fileno()],
        )
        read_only = arena.readonly_fd()
        socket.send_fds(mine, [b"f"], [arena.fd, read_only])
        os.close(read_only)
        assert mine.recv(1) == b"w"
        assert arena.read(8192, 8000) == (array * 2).tobytes()
        mine.send(b"go")
        assert mine.recv(1) == b"r"
        assert child.wait(timeout=30) == 0


def test_views_alive_at_exit_neither_crash_nor_call_back() -> None:
    code = (
        "from freehold._io.shm import Arena\n"
        "import numpy as np\n"
        "a = Arena.create(1 << 20)\n"
        "class Late:\n"
        "    def __init__(self, array): self.array = array\n"
        "    def __del__(self): assert self.array.sum() == 0\n"
        "x = Late(np.frombuffer(a.view(0, 4096, lambda: print('called')), dtype=np.uint8))\n"
        "x.self = x\n"
        "a.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
