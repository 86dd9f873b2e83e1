"""A small HTTP server for probes and metrics: GET of a few paths, nothing of users.

It runs on the reactor, so an answer also says that the reactor turns. Plain HTTP without a token,
because kubelets and scrapers have none; so it answers from a fixed list of paths, reads no body,
and holds few connections, each for a short time. (Rejected: the standard library's server, whose
threads would answer while the node hangs, and which is 60 modules that nothing else needs.)
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from freehold._core.limits import HEALTH_CONNECTIONS, HEALTH_REQUEST_BYTES, HEALTH_S
from freehold._io import hosts
from freehold._io.reactor import WRITABLE, Reactor

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Page(NamedTuple):
    """What a path answers."""

    status: int
    text: str


class HealthServer:
    """Answers GET of its paths.

    Args:
        pages: by path; each is called under the reactor's lock.

    Raises:
        OSError: the port cannot be listened on.
    """

    def __init__(
        self, reactor: Reactor, bind: str, port: int, pages: Mapping[str, Callable[[], Page]]
    ) -> None:
        self._reactor = reactor
        self._pages = pages
        self._open: dict[_Request, None] = {}
        self._listener = hosts.listen(bind, port)
        self.port: int = self._listener.getsockname()[1]
        reactor.register(self._listener.fileno(), self._on_accept)

    def close(self) -> None:
        """Stop answering."""
        self._reactor.unregister(self._listener.fileno())
        self._listener.close()
        for request in list(self._open):
            request.close()

    def _on_accept(self, _events: int) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it gave up, or there is no descriptor left; the next turn tries again
        if len(self._open) >= HEALTH_CONNECTIONS:
            next(iter(self._open)).close()
        sock.setblocking(False)
        self._open[_Request(self._reactor, sock, self._answer, self._forget)] = None

    def _forget(self, request: _Request) -> None:
        self._open.pop(request, None)

    def _answer(self, line: str) -> bytes:
        method, _, rest = line.partition(" ")
        path, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            page = Page(400, "this is not HTTP/1")
        else:
            page = self._page(method, path.partition("?")[0])
        body = page.text.rstrip("\n").encode() + b"\n"
        head = (
            f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\n"
            "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Cache-Control: no-store\r\n"
            + ("Allow: GET\r\n" if page.status == 405 else "")
            + "Connection: close\r\n\r\n"
        )
        return head.encode() + body

    def _page(self, method: str, path: str) -> Page:
        make = self._pages.get(path)
        if make is None:
            return Page(404, "there is only " + ", ".join(self._pages))
        if method != "GET":
            return Page(405, "only GET is answered")
        return make()


class _Request:
    """One connection: reads a request's head, answers, closes."""

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        answer: Callable[[str], bytes],
        on_closed: Callable[[_Request], None],
    ) -> None:
        self._reactor = reactor
        self._socket = sock
        self._answer = answer
        self._on_closed = on_closed
        self._received = b""
        self._unsent = b""
        self._is_closed = False
        reactor.register(sock.fileno(), self._on_ready)
        self._timer = reactor.call_later(HEALTH_S, self.close)

    def close(self) -> None:
        """Hang up."""
        if not self._is_closed:
            self._is_closed = True
            self._timer.cancel()
            self._reactor.unregister(self._socket.fileno())
            self._socket.close()
            self._on_closed(self)

    def _on_ready(self, _events: int) -> None:
        try:
            if self._unsent:
                self._write()
            else:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _read(self) -> None:
        data = self._socket.recv(4096)
        self._received += data
        if not data or len(self._received) > HEALTH_REQUEST_BYTES:
            self.close()
        elif b"\r\n\r\n" in self._received or b"\n\n" in self._received:
            line = self._received.split(b"\n", 1)[0].rstrip(b"\r")
            self._unsent = self._answer(line.decode("ascii", "replace"))
            self._reactor.modify(self._socket.fileno(), WRITABLE)
            self._write()

    def _write(self) -> None:
        self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if not self._unsent:
            self._socket.shutdown(socket.SHUT_WR)
            self.close()
