"""The health port: a few paths, GET alone, and nobody can make it wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from freehold._io import health as health_module
from freehold._io.health import HealthServer, Page
from freehold._io.reactor import Reactor
from freehold.testing import eventually


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(health_module, "HEALTH_S", 0.5)
    monkeypatch.setattr(health_module, "HEALTH_CONNECTIONS", 3)
    reactor = Reactor()
    pages = {"/healthz": lambda: Page(200, "ok"), "/readyz": lambda: Page(503, "not yet")}
    server = HealthServer(reactor, "127.0.0.1", 0, pages)
    thread = threading.Thread(target=reactor.run_forever)
    thread.start()
    yield server.port
    with reactor.lock:
        server.close()
    reactor.stop()
    thread.join()
    reactor.close()


def ask(port: int, text: str) -> tuple[str, str]:
    """The status line and the body."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(text.encode())
        received = b""
        while data := sock.recv(4096):
            received += data
    head, _, body = received.decode().partition("\r\n\r\n")
    return head.partition("\r\n")[0], body


def is_broken(sock: socket.socket) -> bool:
    """Whether somebody hung up, while it goes on to talk."""
    try:
        sock.sendall(b"x" * 4096)
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /healthz HTTP/1.1", "200 OK", "ok\n"),
        ("GET /healthz?verbose HTTP/1.0", "200 OK", "ok\n"),
        ("GET /readyz HTTP/1.1", "503 Service Unavailable", "not yet\n"),
        ("POST /healthz HTTP/1.1", "405 Method Not Allowed", "only GET is answered\n"),
        ("GET / HTTP/1.1", "404 Not Found", "there is only /healthz, /readyz\n"),
        ("GET /healthz/../x HTTP/1.1", "404 Not Found", "there is only /healthz, /readyz\n"),
        ("rubbish", "400 Bad Request", "this is not HTTP/1\n"),
    ],
)
def test_paths_and_methods(port: int, request_line: str, status: str, body: str) -> None:
    assert ask(port, f"{request_line}\r\nHost: h\r\n\r\n") == (f"HTTP/1.1 {status}", body)


def test_a_request_in_pieces_is_one(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nHost", b": h\r\n\r\n"):
            sock.sendall(piece)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_who_says_nothing_or_too_much_is_hung_up_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", port), 10) as endless:
        eventually(lambda: is_broken(endless))


def test_many_connections_do_not_keep_a_probe_out(port: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(8)]
    assert ask(port, "GET /healthz HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 200 OK"
    for sock in idle:
        sock.close()
