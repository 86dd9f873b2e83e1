"""Snapshots of working directories, named by the hash of what is in them.

The hash is of relative paths, modes and bytes in a fixed order, and of nothing else: the same
content has the same snapshot, wherever and whenever it was written. The snapshot is a copy, so that
tasks see one state of the directory whatever happens to it later. It belongs to the cluster's
folder and goes with it.

All workers of the content share one snapshot, as in Ray. Its files are read-only, so that no task
changes what the next one reads; its folders are not, since programs of Ray's users write their own
files beside the others. Root may write to the files all the same. Rejected: a copy a worker, which
costs up to `WORKING_DIR_BYTES` of disk and seconds for each of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

WORKING_DIR_BYTES = 512 << 20
"""Largest directory that is copied: above it, a mistake (a data folder, a virtual environment)."""
WORKING_DIR_FILES = 100_000
"""Most files of a directory, for the same reason."""

_CHUNK_BYTES = 1 << 20
_SAME_TIME_NS = 50_000_000
"""Several ticks of the kernel's clock for files, between which it does not tell times apart."""


class Entry(NamedTuple):
    """A file, symbolic link or (empty or not) folder, by its path from the top."""

    path: str
    mode: int
    size: int
    inode: int = 0
    changed_ns: int = 0
    """When content or inode changed last (ctime, which no program can set)."""


def is_excluded(path: str, excludes: tuple[str, ...]) -> bool:
    """Whether a pattern names this path: without a slash any name, with one the path itself."""
    name = path.rpartition("/")[2]
    for pattern in excludes:
        plain = pattern.rstrip("/")
        if "/" in plain:
            if fnmatchcase(path, plain.lstrip("/")):
                return True
        elif fnmatchcase(name, plain):
            return True
    return False


def scan(top: str, excludes: tuple[str, ...] = ()) -> list[Entry]:
    """Everything in a directory, in the order of the paths' bytes.

    Raises:
        ValueError: it is not a directory, or too large.
    """
    if not Path(top).is_dir():
        raise ValueError(f"runtime_env working_dir {top!r} is not a directory (any more)")
    entries = []
    total = 0
    for entry in _walk(top, "", excludes):
        entries.append(entry)
        total += entry.size
        if total > WORKING_DIR_BYTES or len(entries) > WORKING_DIR_FILES:
            raise ValueError(
                f"runtime_env working_dir {top!r} has more than {WORKING_DIR_BYTES >> 20} MiB or "
                f"{WORKING_DIR_FILES:,} files; name what tasks do not need in excludes, and give "
                f"data by reference or by path"
            )
    entries.sort(key=lambda entry: os.fsencode(entry.path))
    return entries


def _walk(top: str, folder: str, excludes: tuple[str, ...]) -> Iterator[Entry]:
    with os.scandir(os.path.join(top, folder)) as found:
        for item in found:
            path = f"{folder}/{item.name}" if folder else item.name
            if is_excluded(path, excludes):
                continue
            status = item.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield Entry(path, status.st_mode, 0, status.st_ino, status.st_ctime_ns)
                yield from _walk(top, path, excludes)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                yield Entry(path, status.st_mode, status.st_size, status.st_ino, status.st_ctime_ns)


def content_hash(top: str, entries: list[Entry]) -> str:
    """The hash of a directory's content, as 32 hex digits."""
    total = blake2b(digest_size=16)
    for path, mode, *_ in entries:
        name = os.fsencode(path)
        kind = stat.S_IFMT(mode)
        # A link's own permission bits mean nothing and differ between systems.
        bits = 0 if stat.S_ISLNK(mode) else stat.S_IMODE(mode)
        total.update(b"%d %o %o " % (len(name), kind, bits) + name)
        if stat.S_ISLNK(mode):
            total.update(os.fsencode(Path(top, path).readlink()) + b"\0")
        elif stat.S_ISREG(mode):
            total.update(_file_hash(os.path.join(top, path)))
    return total.hexdigest()


def _file_hash(path: str) -> bytes:
    content = blake2b(digest_size=32)
    with open(path, "rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            content.update(chunk)
    return content.digest()


def signature(entries: list[Entry], scanned_ns: int) -> bytes | None:
    """What differs when the directory's content does, without reading it.

    Args:
        scanned_ns: the wall clock before the scan.

    Returns:
        None if something changed so shortly before that a further change could bear the same time.
    """
    if any(entry.changed_ns > scanned_ns - _SAME_TIME_NS for entry in entries):
        return None
    return blake2b(repr(entries).encode("utf-8", "surrogateescape"), digest_size=16).digest()


def stage(
    top: str, excludes: tuple[str, ...], target: str, entries: list[Entry] | None = None
) -> str:
    """Copy a directory to `target/<hash of its content>` unless that is there, and return that.

    Args:
        entries: of a scan just made.

    Raises:
        ValueError: it is not a directory, or too large.
        OSError: it cannot be read, or the copy not be written.
    """
    import shutil
    import tempfile

    if entries is None:
        entries = scan(top, excludes)
    final = Path(target, content_hash(top, entries))
    if final.is_dir():
        return str(final)
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="new-", dir=target))
    folders = [entry for entry in entries if stat.S_ISDIR(entry.mode)]
    try:
        for folder in folders:
            (made / folder.path).mkdir()
        for path, mode, *_ in entries:
            if not stat.S_ISDIR(mode):
                shutil.copy2(Path(top, path), made / path, follow_symlinks=False)
            if stat.S_ISREG(mode):
                (made / path).chmod(stat.S_IMODE(mode) & ~0o222)
        for folder in reversed(folders):  # last, because one may be read-only
            (made / folder.path).chmod(stat.S_IMODE(folder.mode))
        made.rename(final)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not final.is_dir():  # else another process was faster with the same content
            raise
    return str(final)
