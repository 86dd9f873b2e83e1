"""The logs that a kubelet serves: the API server asks it for them as it would a real one.

A test says what a pod's container writes; who reads it through the API gets it as it comes, with
the kubelet's timestamps, and may be cut off.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.api.client import Client
from tests.api.pki import Certificates

WAIT_S = 0.05


class PodLogs:
    """A kubelet's port for logs, of one node.

    Attributes:
        asked: (pod, parameters) of every request.
    """

    def __init__(self, certificates: Certificates) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._lines: dict[str, list[tuple[str, str]]] = {}
        self._ended: set[str] = set()
        self._cuts = 0
        self._lock = threading.Condition()
        self._is_closed = False
        logs = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                logs._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.certificate, certificates.key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def serve_as(self, client: Client, node: str) -> None:
        """Have the API server ask here for the logs of a node's pods."""
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        client.patch("Node", node, {"status": status}, subresource="status")

    def write(self, pod: str, *lines: str, previous: bool = False) -> None:
        """Let a pod's container, or the one before it, write lines."""
        with self._lock:
            for line in lines:
                stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                self._lines.setdefault(_key(pod, previous), []).append((stamp, line))
            self._lock.notify_all()

    def end(self, pod: str) -> None:
        """Let a pod's container write no more."""
        with self._lock:
            self._ended.add(pod)
            self._lock.notify_all()

    def cut(self) -> None:
        """Break off all that read now, in the middle of a line."""
        with self._lock:
            self._cuts += 1
            self._lock.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._is_closed = True
            self._lock.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        _, _, _, pod, _ = url.path.split("/")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.asked.append((pod, query))
        key = _key(pod, query.get("previous") == "true")
        if key not in self._lines:
            handler.send_error(400, "the container has not started")
            return
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        with contextlib.suppress(OSError):
            self._send(handler, key, pod, query)

    def _send(
        self, handler: BaseHTTPRequestHandler, key: str, pod: str, query: dict[str, str]
    ) -> None:
        since = query.get("sinceTime", "").removesuffix("Z")
        is_stamped = query.get("timestamps") == "true"
        first = max(0, len(self._lines[key]) - int(query.get("tailLines", "1000000")))
        sent, cuts = first, self._cuts
        while True:
            with self._lock:
                lines = self._lines[key][sent:]
                is_over = pod in self._ended or query.get("follow") != "true"
                if not lines and not is_over and not self._is_closed and cuts == self._cuts:
                    self._lock.wait(WAIT_S)
                    continue
            if cuts != self._cuts or self._is_closed:
                _chunk(handler, b"half a li")
                handler.connection.close()
                return
            for stamp, line in lines:
                # Of whole seconds, as a kubelet does.
                if stamp[:19] >= since[:19]:
                    _chunk(
                        handler,
                        f"{stamp} {line}\n".encode() if is_stamped else f"{line}\n".encode(),
                    )
            sent += len(lines)
            if not lines:
                _chunk(handler, b"")
                return


def _key(pod: str, is_previous: bool) -> str:
    return f"{pod} before" if is_previous else pod


def _chunk(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    handler.wfile.flush()
