"""A link that is slow and loses frames, for kernels whose `tc` has no netem. A program of its own.

    python -I _relay.py DEVICE DEVICE

It passes frames from either device to the other, each after its delay, or not at all. Each line on
standard input is a JSON object with all fields of `Link` and counts for the frames that come after
it; each is answered by a line. With the end of standard input it ends, so that it never outlives
who started it.

Place in the flow: `Network` puts it between a node's port and the switch. Frames are passed with
the header that the kernel's virtual devices speak (`PACKET_VNET_HDR`), so that checksums and
segmentation that a sender has left to its device stay left to a device.

It deliberately imports nothing of Freehold: it starts within milliseconds.
"""

from __future__ import annotations

import collections
import json
import random
import selectors
import socket
import sys
import time

# linux/if_packet.h and asm-generic/socket.h, which the module `socket` has not.
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
ETH_P_ALL = 0x0003

FRAME_BYTES = 1 << 17
"""Above the largest frame: 64 KiB that the kernel has not yet cut, with headers."""

BUFFER_BYTES = 8 << 20
"""Of a socket: bursts that come while this process does not run."""

WAITING_FRAMES = 4096
"""Frames under way in a direction; more are lost, as by a switch whose memory is full."""


class Direction:
    """Frames from one device to another; they keep their order."""

    def __init__(self, source: socket.socket, target: socket.socket, seed: int) -> None:
        self.source = source
        self._target = target
        self._random = random.Random(seed)
        self._waiting: collections.deque[tuple[float, bytes]] = collections.deque()
        self._free_at = 0.0
        self._last = 0.0

    def take(self, now: float, link: dict[str, float]) -> None:
        """Take what has arrived."""
        while True:
            try:
                frame = self.source.recv(FRAME_BYTES)
            except OSError:
                return  # no more, or the device is down
            if self._random.random() * 100 < link["loss_percent"]:
                continue
            if len(self._waiting) >= WAITING_FRAMES:
                continue
            if link["rate_mbit"]:
                start = max(now, self._free_at)
                self._free_at = start + len(frame) * 8 / (link["rate_mbit"] * 1e6)
            jitter = self._random.uniform(-1, 1) * link["jitter_ms"]
            due = max(now, self._free_at) + max(0.0, link["delay_ms"] + jitter) / 1e3
            self._last = max(self._last, due)
            self._waiting.append((self._last, frame))

    def pass_on(self, now: float) -> float | None:
        """Send what is due; returns when the next is."""
        while self._waiting:
            due, frame = self._waiting[0]
            if due > now:
                return due
            self._waiting.popleft()
            try:
                self._target.send(frame)
            except OSError:
                continue  # no room there, or the device is down: lost
        return None


def open_device(name: str) -> socket.socket:
    """A socket that hears what arrives at a device, and sends there."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    sock.setblocking(False)
    sock.bind((name, ETH_P_ALL))
    return sock


def main(first: str, second: str) -> None:
    """Pass frames until standard input ends."""
    one, other = open_device(first), open_device(second)
    directions = [Direction(one, other, seed=1), Direction(other, one, seed=2)]
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.buffer, selectors.EVENT_READ)
    for direction in directions:
        selector.register(direction.source, selectors.EVENT_READ, direction)
    link: dict[str, float] = {}
    while True:
        due = [at for d in directions if (at := d.pass_on(time.monotonic())) is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in selector.select(timeout):
            if key.data is not None:
                key.data.take(time.monotonic(), link)
                continue
            line = sys.stdin.buffer.readline()
            if not line:
                return
            link = json.loads(line)
            sys.stdout.write("taken\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
