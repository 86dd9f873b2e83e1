"""The fastest a transfer between two processes could be: a loop of `recv_into`, and nothing else.

Place in the flow: the transfer rows measure it beside each round, over the same kind of connection
(loopback TCP, with TLS or without) and into memory of the same warmth: a mapping of a memory file,
touched before or merely allocated. The sender is a process of its own that sends from warm memory.
"""

from __future__ import annotations

import mmap
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.host import ROOT
from benchmarks.model import BenchError

_MOST_AT_ONCE = 1 << 20
_PAGE = 4096


class BareSender:
    """The other process: sends as many bytes as are asked for, again and again."""

    def __init__(self, size_bytes: int, *, is_tls: bool) -> None:
        self._size = size_bytes
        with socket.socket() as listener, tempfile.TemporaryDirectory() as folder:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            context = _contexts(folder) if is_tls else None
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.bare_transfer",
                    str(listener.getsockname()[1]),
                    str(size_bytes),
                    folder if is_tls else "",
                ],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket: Any = sock
            if context is not None:
                self._socket = context.wrap_socket(sock, server_side=True)
            if self._socket.recv(1) != b"R":
                raise BenchError("the bare sender did not start")

    def rate(self, *, is_warm: bool) -> float:
        """Bytes a second into a mapping whose pages were touched before, or never."""
        fd = os.memfd_create("bench-target")
        try:
            os.posix_fallocate(fd, 0, self._size)
            with mmap.mmap(fd, self._size) as target:
                if is_warm:
                    for page in range(0, self._size, _PAGE):
                        target[page] = 1
                with memoryview(target) as view:
                    return self._receive(view)
        finally:
            os.close(fd)

    def _receive(self, view: memoryview) -> float:
        self._socket.sendall(b"G")
        started, received = time.perf_counter(), 0
        while received < self._size:
            end = min(self._size, received + _MOST_AT_ONCE)
            received += self._socket.recv_into(view[received:end])
        elapsed = time.perf_counter() - started
        if view[self._size - 1] != 7:
            raise BenchError("the bare loop received other bytes than were sent")
        return self._size / elapsed

    def close(self) -> None:
        self._socket.close()
        self._process.wait(10)


def _contexts(folder: str) -> ssl.SSLContext:
    """A certificate for whoever waits, written where the sender finds it to believe it."""
    from freehold._io.throwaway_authority import ThrowawayAuthority

    credentials = ThrowawayAuthority("bench").credentials("0" * 32)
    path = os.path.join(folder, "certificate")
    with open(path, "w", encoding="ascii") as file:
        file.write(credentials.key_pem + credentials.certificate_pem)
    with open(os.path.join(folder, "ca"), "w", encoding="ascii") as file:
        file.write(credentials.ca_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(path)
    return context


def _send(port: int, size_bytes: int, folder: str) -> None:
    sock: Any = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(folder, "ca"))
        sock = context.wrap_socket(sock)
    source = _source(size_bytes)
    sock.sendall(b"R")
    with memoryview(source) as view:
        while sock.recv(1):
            sock.sendall(view)


def _source(size_bytes: int) -> mmap.mmap:
    fd = os.memfd_create("bench-source")
    os.posix_fallocate(fd, 0, size_bytes)
    source = mmap.mmap(fd, size_bytes)
    os.close(fd)
    piece = b"\7" * (1 << 20)
    for start in range(0, size_bytes, len(piece)):
        source[start : start + len(piece)] = piece[: size_bytes - start]
    return source


if __name__ == "__main__":
    _send(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
