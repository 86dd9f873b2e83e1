"""Copies of working directories on their way between nodes.

A package is a folder `<session>/working_dirs/<hash of its content>`; it travels as a tar archive,
in parts that hold back while the connection is full. Packing and unpacking are done by threads: a
directory may have half a gigabyte, and the reactor has leases to grant. What arrives is unpacked
beside its place and renamed into it, so that a half-made folder is never taken for a whole one.

Who wants a package knows a node that has it, and gives up when that is lost; it does not look for
others, since the owner of the tasks that need it is there.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import IO

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io.session import remove_tree
from freehold._processes.node.hub import Handler, Hub

FOLDER = "working_dirs"
PART_BYTES = 1 << 20
UNSENT_BYTES = 4 << 20
"""Bytes that may wait in a connection before the next part is held back."""

PAUSE_S = 0.005
Done = Callable[[str], None]
"""Told how it went: "" or why it failed."""


class _Fetch:
    def __init__(self, node: str, file: IO[bytes]) -> None:
        self.node = node
        self.file = file
        self.received = 0
        self.waiting: list[Done] = []


class Packages:
    """The packages of one node.

    Args:
        session_path: the folder of the cluster on this machine.
    """

    def __init__(self, hub: Hub, session_path: str) -> None:
        self._hub = hub
        self._folder = os.path.join(session_path, FOLDER)
        self._fetches: dict[str, _Fetch] = {}

    def handlers(self) -> dict[type, Handler]:
        """The messages that are about packages."""
        return {m.PackageWanted: self._on_wanted, m.PackagePart: self._on_part}

    def path(self, package: str) -> str:
        """Where a package is, or will be."""
        return os.path.join(self._folder, package)

    def fetch(self, package: str, node: str, done: Done) -> None:
        """Have a package here; `done` is told, maybe before this returns.

        Args:
            node: which has it.
        """
        if os.path.isdir(self.path(package)):
            done("")
            return
        fetch = self._fetches.get(package)
        if fetch is None:
            fetch = self._fetches[package] = _Fetch(node, _draft())
            if not self._hub.send(Address(node, 0), m.PackageWanted(package)):
                # Not at once: what is waited for may not be noted down yet.
                reason = f"node {node[:8]} cannot be reached"
                self._hub.reactor.call_later(0, lambda: self._finish(package, reason))
        fetch.waiting.append(done)

    def node_lost(self, node: str, reason: str) -> None:
        """What this node was sending will not come."""
        for package, fetch in list(self._fetches.items()):
            if fetch.node == node:
                self._finish(package, reason)

    # ---- receiving -------------------------------------------------------------------------------

    def _on_part(self, source: Address, message: m.PackagePart) -> None:
        fetch = self._fetches.get(message.package)
        if fetch is None or fetch.node != source.node:
            return
        if message.error or message.offset != fetch.received:
            self._finish(message.package, message.error or "its parts came out of order")
            return
        try:
            fetch.file.write(message.data)
        except OSError as error:
            self._finish(message.package, str(error))
            return
        fetch.received += len(message.data)
        if message.is_last:
            self._in_thread(
                lambda: self._unpack(message.package, fetch.file),
                lambda error: self._finish(message.package, error),
            )

    def _unpack(self, package: str, file: IO[bytes]) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        made = tempfile.mkdtemp(prefix="new-", dir=self._folder)
        try:
            file.seek(0)
            with tarfile.open(fileobj=file) as archive:
                archive.extractall(made, filter="tar")
            os.rename(made, self.path(package))
        except BaseException:
            remove_tree(made)
            if not os.path.isdir(self.path(package)):  # else another node here was faster
                raise

    def _finish(self, package: str, error: str) -> None:
        fetch = self._fetches.pop(package, None)
        if fetch is None:
            return
        fetch.file.close()
        if error:
            error = f"the working directory could not be copied from node {fetch.node[:8]}: {error}"
        for done in fetch.waiting:
            done(error)

    # ---- sending ---------------------------------------------------------------------------------

    def _on_wanted(self, source: Address, message: m.PackageWanted) -> None:
        package = message.package
        if os.sep in package or not os.path.isdir(self.path(package)):
            error = f"node {self._hub.node[:8]} does not have it (any more)"
            self._hub.send(source, m.PackagePart(package, 0, b"", True, error))
            return
        file = _draft()

        def send(error: str) -> None:
            if error:
                self._hub.send(source, m.PackagePart(package, 0, b"", True, error))
                file.close()
            else:
                file.seek(0)
                self._send_parts(source, package, file, 0)

        self._in_thread(lambda: self._pack(package, file), send)

    def _pack(self, package: str, file: IO[bytes]) -> None:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(self.path(package), arcname=".")

    def _send_parts(self, target: Address, package: str, file: IO[bytes], offset: int) -> None:
        while True:
            connection = self._hub.peers.get(target)
            if connection is None or connection.is_closed:
                break
            if connection.unsent_bytes > UNSENT_BYTES:
                again = partial(self._send_parts, target, package, file, offset)
                self._hub.reactor.call_later(PAUSE_S, again)
                return
            data = file.read(PART_BYTES)
            connection.send(m.PackagePart(package, offset, data, not data))
            connection.flush()
            offset += len(data)
            if not data:
                break
        file.close()

    def _in_thread(self, work: Callable[[], None], done: Done) -> None:
        """Do something that takes long, then say on the reactor how it went."""

        def run() -> None:
            error = ""
            try:
                work()
            except Exception as failure:  # told to whoever waits  # noqa: BLE001
                error = f"{type(failure).__name__}: {failure}"
            with self._hub.reactor.lock:
                self._hub.reactor.call_later(0, lambda: done(error))

        # A daemon: at the end of the node nothing of it matters, the folder goes as a whole.
        threading.Thread(target=run, name="freehold-package", daemon=True).start()


def _draft() -> IO[bytes]:
    """A file without a name; whoever has it closes it when all is done."""
    return tempfile.TemporaryFile()
