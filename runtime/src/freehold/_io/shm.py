"""One node's shared-memory arena: a sealed memfd, its writes, and zero-copy read-only views.

Place in the flow: the node manager creates the arena and commits or decommits extents as its store
machine (`_core/store`) says; creators (drivers, workers, the transfer code) write the extents they
were granted; readers map the whole arena once, read-only, and hand out views. No file exists, so
none can be left behind.

It deliberately decides nothing: which extent is free, who may write where and when bytes may be
used again is the store machine's business. It does not check that an extent was granted.

How bytes get in, measured on the 2-core machine the figures of `data-plane.md` come from (100 MB,
GB/s, medians of 7; the ceiling is `np.copyto` into an array already touched):

    ceiling                                            6.9   1.00
    pwritev into touched pages                         4.6   0.66   (also in 1 MiB pieces)
    memmove, mapping whose page table is filled        7.0   1.01
    memmove, fresh mapping of touched pages            2.5   0.36   (a fault every 4 KiB)
    MADV_POPULATE_WRITE on touched pages, then memmove 4.2   0.62   (first time only)
    pwritev into a hole (never committed)              3.4   0.49
    fallocate, then pwritev                            3.4   0.49   (fallocate alone 12.7)
    fallocate, populate, memmove                       1.9   0.28
    memmove into a hole                                1.8   0.26

So neither way is right for both: `pwritev` alone misses the bar of 0.8 for warm memory, a writable
mapping alone the bar of 0.4 for cold memory. `Arena.write` therefore uses `pwritev` unless it is
told that the extent is warm (the grant says so); then it fills this process's page table for the
extent once, which costs no more than `pwritev` would, and copies at memory speed from then on.
A creator's mapping is writable as DESIGN §4 allows; a reader's never is.

Everybody but the node manager gets a descriptor that was opened for reading alone, and opens one
for writing (`allow_writing`) when it was first granted an extent. A process that only reads can
therefore not change the arena by mistake: no mapping, and no descriptor that it has, lets it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Buffer

PAGE_BYTES = mmap.PAGESIZE
# Below this a pwritev costs a few microseconds more than a memmove at most, and saves the set-up.
WARM_MAPPING_MIN_BYTES = 256 * 1024
_IOV_MAX = min(os.sysconf("SC_IOV_MAX"), 1024)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2
_MADV_DONTNEED = 4
_MADV_POPULATE_WRITE = 23  # Linux 5.14; older kernels answer EINVAL and the copy itself faults
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)  # CDLL calls release the GIL, unlike mmap.madvise
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.memmove.restype = None
_libc.memmove.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _PyBuffer(ctypes.Structure):
    """CPython's `Py_buffer` (part of the stable ABI), to learn the address of read-only bytes."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int)
_get_buffer.restype = ctypes.c_int
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.POINTER(_PyBuffer),)
_release_buffer.restype = None


class ArenaFullError(OSError):
    """The kernel has no memory for an extent (`errno` is ENOSPC): nothing was committed.

    You get it from `Arena.commit` and `Arena.write`. That no *extent* of the arena is free is not
    an error but a wait, and is decided by the store machine.
    """


class _Mapping:
    """A mapping of the whole arena that unmaps itself when the last object that uses it is gone.

    `mmap.mmap` is not used: it keeps a duplicate of the descriptor for as long as a view lives.
    """

    __slots__ = ("__weakref__", "address", "size_bytes")

    def __init__(self, fd: int, size_bytes: int, protection: int) -> None:
        address = _libc.mmap(None, size_bytes, protection, mmap.MAP_SHARED, fd, 0)
        if address == _MAP_FAILED:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot map the arena of {size_bytes} bytes: {os.strerror(code)}")
        self.address: int = address
        self.size_bytes = size_bytes

    def __del__(
        self,
        _munmap: Callable[..., Any] = _libc.munmap,
        _is_finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        # While the interpreter is torn down the order of deaths is arbitrary: an array may outlive
        # the registry of finalizers that keeps this mapping. The kernel unmaps a moment later.
        if not _is_finalizing() and hasattr(self, "address"):
            _munmap(self.address, self.size_bytes)


class Arena:
    """The shared memory of one node, as one process sees it.

    Make one with `Arena.create` (the node manager) or `Arena.attach` (everybody else).

    Example:
        >>> arena = Arena.create(1 << 20)
        >>> arena.commit(0, 4096)
        >>> arena.write(0, [b"hello ", b"world"])
        11
        >>> released = []
        >>> view = arena.view(0, 5, lambda: released.append(0))
        >>> bytes(view)
        b'hello'
        >>> del view
        >>> released
        [0]
        >>> arena.close()
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        """Wrap a descriptor that is known to be good; use `create` or `attach` instead."""
        self._fd = fd
        self._size_bytes = size_bytes
        is_writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        self._writing_fd = fd if is_writable else -1
        self._lock = threading.Lock()
        self._readable: _Mapping | None = None
        self._writable: _Mapping | None = None
        # One byte a page: is it in this process's page table of the writable mapping? The zeros
        # are calloc'ed, so that only what is used becomes resident.
        self._populated = bytearray()

    @classmethod
    def create(cls, size_bytes: int) -> Arena:
        """Make an arena of `size_bytes` (rounded up to pages); no memory is used before `commit`.

        Raises:
            ValueError: `size_bytes` is not positive.
            OSError: the kernel refused the memfd.
        """
        if size_bytes <= 0:
            raise ValueError(f"an arena needs a positive size, got {size_bytes} bytes")
        size_bytes = -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
        fd = os.memfd_create("freehold-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size_bytes)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(fd, size_bytes)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int, size_bytes: int) -> Arena:
        """Use an arena whose descriptor was inherited or received; the arena now owns `fd`.

        Raises:
            ValueError: `fd` is not a sealed memfd of that size; `fd` is left open.
        """
        actual = os.fstat(fd).st_size
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        except OSError as error:
            raise ValueError(
                f"descriptor {fd} is no memfd ({os.strerror(error.errno or 0)}): "
                "pass the arena's own descriptor"
            ) from None
        if seals & _SEALS != _SEALS or actual != size_bytes:
            raise ValueError(
                f"descriptor {fd} is no arena of {size_bytes} bytes: it has {actual} bytes and "
                f"seals {seals:#x}; pass the arena's own descriptor and size"
            )
        os.set_inheritable(fd, False)  # a received descriptor is; `recv_fds` ignores the flag
        return cls(fd, size_bytes)

    @property
    def fd(self) -> int:
        """The descriptor, to be passed on; it stays the arena's."""
        return self._fd

    @property
    def size_bytes(self) -> int:
        """The size of the arena, in bytes; it never changes."""
        return self._size_bytes

    @property
    def is_writable(self) -> bool:
        """Whether this process may write: the arena's creator, or after `allow_writing`."""
        return self._writing_fd >= 0

    def allow_writing(self) -> None:
        """Open a descriptor to write with, if there is none: for whom an extent was granted to.

        The node manager need not pass one: whoever may open its own descriptors' files may have it,
        and the descriptor to read with is there to prevent mistakes.

        Raises:
            ValueError: the arena is closed.
        """
        if self._writing_fd >= 0:
            return
        with self._lock:
            self._check(0, 0)
            if self._writing_fd < 0:
                path = f"/proc/self/fd/{self._fd}"
                self._writing_fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def readonly_fd(self) -> int:
        """A new read-only, close-on-exec descriptor of the same memory; the caller closes it."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def commit(self, offset: int, length: int) -> None:
        """Have the kernel allocate the pages of an extent (bytes; widened to whole pages).

        Raises:
            ArenaFullError: there is no memory for it.
            PermissionError: this process attached read-only.
        """
        self._check(offset, length, needs_writable=True)
        if not length:
            return
        try:
            os.posix_fallocate(self._writing_fd, offset, length)
        except OSError as error:
            raise _named(error, "commit", offset, length) from None

    def touch(self, offset: int, length: int) -> None:
        """Have the kernel allocate and zero an extent's pages; never changes what they hold.

        So it may run beside writers, in a thread (the GIL is released). This process's page table
        does not keep them.

        Raises:
            ArenaFullError: there is no memory for it.
            OSError: the kernel is older than Linux 5.14.
            PermissionError: this process attached read-only.
        """
        self._check(offset, length, needs_writable=True)
        mapping = self._writable or self._map_writable()
        address = mapping.address + offset
        failed = _libc.madvise(address, length, _MADV_POPULATE_WRITE)
        code = ctypes.get_errno()
        _libc.madvise(address, length, _MADV_DONTNEED)
        if failed:
            # What does not fit is told as a bus error would be.
            code = errno.ENOMEM if code == errno.EFAULT else code
            raise _named(OSError(code, os.strerror(code)), "touch", offset, length)

    def decommit(self, offset: int, length: int) -> None:
        """Give an extent's memory back to the kernel; it reads as zeros (and `warm` is over).

        Pages only partly inside keep their memory, their bytes inside are zeroed.

        Raises:
            PermissionError: this process attached read-only.
        """
        self._check(offset, length, needs_writable=True)
        if not length:
            return
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        if _libc.fallocate(self._writing_fd, mode, offset, length):
            code = ctypes.get_errno()
            raise OSError(
                code, f"cannot decommit {length} bytes at offset {offset}: {os.strerror(code)}"
            )
        self._forget(offset, length)

    def write(self, offset: int, buffers: Sequence[Buffer], *, warm: bool = False) -> int:
        """Copy C-contiguous `buffers` one behind the other to `offset`; releases the GIL.

        Arguments:
            offset: where in the arena, in bytes; the extent must have been granted to the caller.
            buffers: bytes-like objects; empty ones are fine.
            warm: whether every page of the extent holds data already (a grant says so). It decides
                how fast it is, never what is written; see the module's docstring.

        Returns:
            The number of bytes written, always all of them.

        Raises:
            ValueError: the bytes do not fit behind `offset`.
            ArenaFullError: the extent was not committed and there is no memory for it.
            PermissionError: this process attached read-only.
        """
        flat: list[bytes | memoryview] = []
        total = 0
        for buffer in buffers:
            if type(buffer) is bytes:
                size = len(buffer)
                piece: bytes | memoryview = buffer
            else:
                view = memoryview(buffer)
                size = view.nbytes
                piece = view.cast("B") if size else b""
            if size:
                flat.append(piece)
                total += size
        self._check(offset, total, needs_writable=True)
        if warm and total >= WARM_MAPPING_MIN_BYTES:
            self._copy(offset, flat, total)
        elif total:
            if not warm:
                self._forget(offset, total)
            self._pwritev(offset, flat, total)
        return total

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes at `offset`; releases the GIL.

        Raises:
            ValueError: the range is not inside the arena.
        """
        self._check(offset, size)
        data = os.pread(self._fd, size, offset)
        if len(data) == size:
            return data
        pieces = [data]  # one system call reads 2 GiB at most
        done = len(data)
        while done < size:
            data = os.pread(self._fd, size - done, offset + done)
            if not data:
                raise OSError(errno.EIO, f"the arena ended at offset {offset + done}")
            pieces.append(data)
            done += len(data)
        return b"".join(pieces)

    def view(self, offset: int, size: int, on_release: Callable[[], None]) -> memoryview:
        """A read-only, zero-copy view of `size` bytes at `offset`.

        Arguments:
            offset, size: the range, in bytes.
            on_release: called once, with nothing, when the view and all that was made from it
                (slices, numpy arrays, Arrow buffers) are collected: on any thread, at any
                bytecode, so let it do no more than `deque.append`. Not called at interpreter exit.

        The memory stays mapped as long as the view lives, also after `close()`.

        Raises:
            ValueError: the range is not inside the arena.
        """
        self._check(offset, size)
        mapping = self._readable
        if mapping is None:
            mapping = self._map_readable()
        # ctypes makes and caches a class per length, ten microseconds and a cycle of garbage each;
        # rounded up to powers of two there are a few dozen, and the slice hides the surplus.
        length = 1 << (size - 1).bit_length() if size > 1 else 1
        exporter = (ctypes.c_ubyte * length).from_address(mapping.address + offset)
        # The finalizer's arguments are also what keeps the mapping alive.
        weakref.finalize(exporter, _released, on_release, mapping).atexit = False
        return memoryview(exporter).cast("B").toreadonly()[:size]

    def target(self, offset: int, size: int) -> memoryview:
        """A writable view of an extent, for a system call to fill; its pages are mapped first.

        Unlike a view for reading it holds nothing: who granted the extent keeps it until told. Let
        it go before the arena is closed.

        Raises:
            ValueError: the range is not inside the arena.
            PermissionError: this process attached read-only.
        """
        self._check(offset, size, needs_writable=True)
        mapping = self._writable or self._map_writable()
        self._populate(mapping, offset, size)
        length = 1 << (size - 1).bit_length() if size > 1 else 1  # as in `view`
        exporter = (ctypes.c_ubyte * length).from_address(mapping.address + offset)
        return memoryview(exporter).cast("B")[:size]

    def trim(self) -> None:
        """Drop this process's page table of the arena: no byte is lost, the next use faults.

        For a process that goes idle, so that shared pages do not count as its own.
        """
        self._populated = bytearray(len(self._populated))
        for mapping in (self._readable, self._writable):
            if mapping is not None:
                _libc.madvise(mapping.address, mapping.size_bytes, _MADV_DONTNEED)

    def close(self) -> None:
        """Close the descriptors; views stay valid. Closing twice is fine."""
        with self._lock:
            fds = {self._fd, self._writing_fd}
            self._fd = self._writing_fd = -1
            self._readable = self._writable = None
            for fd in fds:
                if fd >= 0:
                    os.close(fd)

    def abandon(self) -> None:
        """Let go of the memory while other threads may be in here; views stay valid.

        The descriptors' numbers stay taken, by /dev/null, until `close()`: a write under way in
        another thread must not hit whatever file would get the number next.
        """
        with self._lock:
            self._readable = self._writable = None
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for fd in {self._fd, self._writing_fd}:
                if fd >= 0:
                    os.dup2(nothing, fd, inheritable=False)
            os.close(nothing)

    def _check(self, offset: int, size: int, *, needs_writable: bool = False) -> None:
        if self._fd < 0:
            raise ValueError("the arena is closed: no new reads, writes or views")
        if offset < 0 or size < 0 or offset + size > self._size_bytes:
            raise ValueError(
                f"{size} bytes at offset {offset} are not inside the arena "
                f"of {self._size_bytes} bytes"
            )
        if needs_writable and self._writing_fd < 0:
            raise PermissionError(
                errno.EACCES,
                "this process attached the arena read-only: ask the node manager for an extent, "
                "and call allow_writing() when it is granted",
            )

    def _map_readable(self) -> _Mapping:
        with self._lock:
            if self._readable is None:
                self._readable = _Mapping(self._fd, self._size_bytes, mmap.PROT_READ)
            return self._readable

    def _map_writable(self) -> _Mapping:
        with self._lock:
            if self._writable is None:
                protection = mmap.PROT_READ | mmap.PROT_WRITE
                self._writable = _Mapping(self._writing_fd, self._size_bytes, protection)
                self._populated = bytearray(self._size_bytes // PAGE_BYTES)
            return self._writable

    def _pwritev(self, offset: int, flat: list[bytes | memoryview], total: int) -> None:
        try:
            if len(flat) <= _IOV_MAX:
                done = os.pwritev(self._writing_fd, flat, offset)
                if done == total:
                    return
            else:
                done = os.pwritev(self._writing_fd, flat[:_IOV_MAX], offset)
            index = 0
            while True:  # skip what was written; a call writes 2 GiB at most
                offset += done
                while done and done >= len(flat[index]):
                    done -= len(flat[index])
                    index += 1
                if index == len(flat):
                    return
                if done:
                    flat[index] = memoryview(flat[index])[done:]
                done = os.pwritev(self._writing_fd, flat[index : index + _IOV_MAX], offset)
        except OSError as error:
            raise _named(error, "write", offset, total) from None

    def _copy(self, offset: int, flat: list[bytes | memoryview], total: int) -> None:
        mapping = self._writable
        if mapping is None:
            mapping = self._map_writable()
        self._populate(mapping, offset, total)
        target = mapping.address + offset
        buffer = _PyBuffer()
        reference = ctypes.byref(buffer)
        for piece in flat:
            _get_buffer(piece, reference, 0)
            try:
                _libc.memmove(target, buffer.buf, buffer.len)
            finally:
                _release_buffer(reference)
            target += len(piece)

    def _populate(self, mapping: _Mapping, offset: int, size: int) -> None:
        first, end = offset // PAGE_BYTES, -(-(offset + size) // PAGE_BYTES)
        if self._populated.find(0, first, end) >= 0:
            start, length = first * PAGE_BYTES, (end - first) * PAGE_BYTES
            _libc.madvise(mapping.address + start, length, _MADV_POPULATE_WRITE)
            self._populated[first:end] = b"\1" * (end - first)

    def _forget(self, offset: int, length: int) -> None:
        """The pages are, or were, cold: whatever this process knew of them is out of date."""
        if self._populated:
            first, end = offset // PAGE_BYTES, -(-(offset + length) // PAGE_BYTES)
            self._populated[first:end] = bytes(end - first)


def _released(on_release: Callable[[], None], mapping: _Mapping) -> None:
    on_release()


def _named(error: OSError, action: str, offset: int, length: int) -> OSError:
    """The same error, saying what was tried; out of memory in its one form."""
    if error.errno in (errno.ENOSPC, errno.ENOMEM):
        return ArenaFullError(
            errno.ENOSPC,
            f"cannot {action} {length} bytes at offset {offset} of the arena: the machine has no "
            "shared memory left; free memory or start the node with a smaller object store",
        )
    return OSError(
        error.errno,
        f"cannot {action} {length} bytes at offset {offset}: {os.strerror(error.errno or 0)}",
    )
