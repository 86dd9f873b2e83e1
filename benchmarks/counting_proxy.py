"""A TCP relay that counts what passes: how many bytes a node and its head really exchange.

Place in the flow: the row of the control plane's traffic puts it between the nodes and the head's
port. It sees TLS records and knows no more than their length: keepalive, confirmations and HTTP/2's
own frames are in the count.
"""

from __future__ import annotations

import socket
import threading

_MOST_AT_ONCE = 1 << 16
CONNECT_S = 10.0


class CountingProxy:
    """Relays connections to a port of this machine, until it is closed.

    Args:
        target_port: where they go.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._to_target = self._from_target = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where to connect instead."""
        return int(self._listener.getsockname()[1])

    def counts(self) -> tuple[int, int]:
        """Bytes to the target and from it so far."""
        with self._lock:
            return self._to_target, self._from_target

    def close(self) -> None:
        """Accept nothing more, and cut what there is."""
        with self._lock:
            ending = [self._listener, *self._open]
        for sock in ending:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other end was first
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port), CONNECT_S)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {near, far}
            for source, target, is_to_target in ((near, far, True), (far, near, False)):
                threading.Thread(
                    target=self._relay, args=(source, target, is_to_target), daemon=True
                ).start()

    def _relay(self, source: socket.socket, target: socket.socket, is_to_target: bool) -> None:
        try:
            while data := source.recv(_MOST_AT_ONCE):
                target.sendall(data)
                with self._lock:
                    if is_to_target:
                        self._to_target += len(data)
                    else:
                        self._from_target += len(data)
        except OSError:
            pass  # cut
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other direction was first
        with self._lock:
            self._open.discard(source)
        source.close()
