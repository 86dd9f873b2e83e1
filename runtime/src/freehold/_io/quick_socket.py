"""Small sends and receives that keep the interpreter's lock.

`socket.send` and `recv_into` let go of the lock around the system call. For the few microseconds of
a small frame on a socket that never blocks that buys nothing, and beside a thread that computes in
Python each such release may cost a whole switch interval until the lock is won back: a call one by
one has three of them, of which only the wait in epoll is worth it. Calls through `ctypes.PyDLL`
keep the lock: 750 to 940 instead of 520 to 600 calls a second beside a busy thread, and as fast as
`socket`'s own methods without one.

Large frames still go through `socket`, so that others may run while the kernel copies.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket

QUICK_BYTES = 64 << 10
"""Copying that many takes the kernel some 10 µs."""

# Not CDLL, which lets go of the lock. A descriptor may be non-blocking or not: the flag says it.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.send.restype = ctypes.c_ssize_t
_libc.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
_libc.recv.restype = ctypes.c_ssize_t
_libc.recv.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_send = _libc.send
_recv = _libc.recv
_byref = ctypes.byref
_at = ctypes.c_char.from_buffer
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECV_FLAGS = socket.MSG_DONTWAIT


def send(sock: socket.socket, frame: bytes) -> int:
    """Send what the socket takes of `frame` at once; how many bytes that was.

    Raises:
        BlockingIOError: it takes nothing now.
        OSError: the connection is broken.
    """
    size = len(frame)
    if size > QUICK_BYTES:
        return sock.send(frame)
    sent: int = _send(sock.fileno(), frame, size, _SEND_FLAGS)
    if sent < 0:
        _raise()
    return sent


def receive_into(sock: socket.socket, buffer: bytearray, start: int) -> int:
    """Receive what has come into `buffer` from `start` on; how many bytes, 0 at the end.

    Raises:
        BlockingIOError: nothing has come.
        OSError: the connection is broken.
    """
    # The array of one byte keeps the buffer from being resized while it lives: till the return.
    room = len(buffer) - start
    count: int = _recv(sock.fileno(), _byref(_at(buffer, start)), room, _RECV_FLAGS)
    if count < 0:
        _raise()
    return count


def _raise() -> None:
    number = ctypes.get_errno()
    if number == errno.EINTR:
        number = errno.EAGAIN  # cannot be, of a call that does not wait; if so, epoll says it again
    raise OSError(number, os.strerror(number))
