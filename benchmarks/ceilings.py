"""The fastest any implementation could be here: bare messages between two processes over a unix
socket.

Place in the flow: `run.py` measures a ceiling beside every round of a row that has one. A row that
beats its ceiling does not do what it says, so the benchmark reports itself as wrong. Two ceilings:
a blocking round trip (rows one by one) and no-op messages, encoded and decoded one by one, sent in
frames of 64 (pipelined rows).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time

import msgspec

from benchmarks.host import ROOT
from benchmarks.model import PAYLOAD_BYTES, BenchError, Ceiling, Variant

FRAME_MESSAGES = 64
FRAMES_IN_FLIGHT = 4
_LENGTH = struct.Struct("<I")
_READY = b"R"


class CeilingPeer:
    """The other process: echoes round trips and answers frames."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ceilings", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        theirs.close()
        # Its start is no part of any exchange.
        if _receive_exactly(self._socket, len(_READY)) != _READY:
            raise BenchError("the other process of the ceiling did not start")

    def rate(self, ceiling: Ceiling, variant: Variant, seconds: float) -> float:
        """Calls a second that the bare exchange reaches, with the sizes of the variant."""
        request = bytes(PAYLOAD_BYTES if variant == "argument" else 8)
        reply_bytes = PAYLOAD_BYTES if variant == "result" else 8
        if ceiling == "round_trip":
            return self._round_trips(request, reply_bytes, seconds)
        return self._frames(request, reply_bytes, seconds)

    def close(self) -> None:
        self._socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _round_trips(self, request: bytes, reply_bytes: int, seconds: float) -> float:
        message = _LENGTH.pack(len(request)) + _LENGTH.pack(reply_bytes) + request
        self._send_mode(b"R", len(message), reply_bytes)
        calls, started = 0, time.perf_counter()
        while True:
            for _ in range(100):
                self._socket.sendall(message)
                _receive_exactly(self._socket, reply_bytes)
            calls += 100
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                break
        self._socket.sendall(bytes(len(message)))  # a request of zeros ends the exchange
        _receive_exactly(self._socket, reply_bytes)
        return calls / elapsed

    def _frames(self, request: bytes, reply_bytes: int, seconds: float) -> float:
        self._send_mode(b"F", 0, reply_bytes)
        encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder()
        calls, in_flight, number, started = 0, 0, 0, time.perf_counter()
        elapsed = 0.0
        while elapsed < seconds or in_flight:
            while elapsed < seconds and in_flight < FRAMES_IN_FLIGHT:
                parts = []
                for _ in range(FRAME_MESSAGES):
                    parts.append(encoder.encode((1, number, request)))
                    number += 1
                _send_frame(self._socket, parts)
                in_flight += 1
            for part in _receive_frame(self._socket):
                calls += len(decoder.decode(part)) > 0
            in_flight -= 1
            elapsed = time.perf_counter() - started
        _send_frame(self._socket, [])
        return calls / elapsed

    def _send_mode(self, mode: bytes, request_bytes: int, reply_bytes: int) -> None:
        self._socket.sendall(mode + _LENGTH.pack(request_bytes) + _LENGTH.pack(reply_bytes))


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size)
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError("the other process of the ceiling ended")
        data += more
    return data


def _send_frame(connection: socket.socket, parts: list[bytes]) -> None:
    body = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    connection.sendall(_LENGTH.pack(len(body)) + body)


def _receive_frame(connection: socket.socket) -> list[bytes]:
    (size,) = _LENGTH.unpack(_receive_exactly(connection, _LENGTH.size))
    body = _receive_exactly(connection, size) if size else b""
    parts, offset = [], 0
    while offset < size:
        (length,) = _LENGTH.unpack_from(body, offset)
        offset += _LENGTH.size
        parts.append(body[offset : offset + length])
        offset += length
    return parts


def _serve(connection: socket.socket) -> None:
    """The peer's loop: one exchange after another until the socket closes."""
    connection.sendall(_READY)
    while head := connection.recv(1):
        request_bytes, reply_bytes = struct.unpack("<II", _receive_exactly(connection, 8))
        reply = bytes(reply_bytes)
        if head == b"R":
            while any(_receive_exactly(connection, request_bytes)[:8]):
                connection.sendall(reply)
            connection.sendall(reply)
            continue
        encoder, decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder()
        while parts := _receive_frame(connection):
            answers = [encoder.encode((2, decoder.decode(part)[1], reply)) for part in parts]
            _send_frame(connection, answers)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
