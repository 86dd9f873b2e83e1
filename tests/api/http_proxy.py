"""A proxy in front of the API server that reads requests: counts them, refuses or delays some.

It ends TLS with the server's own certificate and speaks HTTP/1.1; watches stream through it. Going
silent and breaking connections, which need no understanding of what is sent, are `tcp_proxy`'s.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from tests.api.pki import Certificates
from tests.api.tcp_proxy import LoopThread
from yarl import URL

# Between a client and the proxy, or the proxy and the server; never passed on.
HOP_HEADERS = ("transfer-encoding", "connection", "keep-alive", "content-length", "host")
WRITES = ("POST", "PUT", "PATCH", "DELETE")
BODY_BYTES_MAX = 16 << 20
CLOSING_S = 0.3

# How a real server says that a watch asks for a version it no longer has: in a stream that begins
# well.
WATCH_EXPIRED = json.dumps(
    {
        "type": "ERROR",
        "object": {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": 410,
            "reason": "Expired",
            "message": "too old resource version: made up by the tests' proxy",
        },
    }
)


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it.

    Attributes:
        verb: of HTTP.
        path: without the query.
        query: by name; the last value of each.
        body: as it was sent.
        status: of the answer; 0 if there was none.
        is_answered_here: whether a fault answered in the server's place.
    """

    verb: str
    path: str
    query: dict[str, str]
    body: bytes
    status: int = 0
    is_answered_here: bool = False

    @property
    def is_write(self) -> bool:
        """Whether it may change something; a Lease and a review of access do not count."""
        return self.verb in WRITES and "/leases" not in self.path and "reviews" not in self.path

    @property
    def is_watch(self) -> bool:
        """Whether the answer is a stream of changes."""
        return self.query.get("watch") in ("true", "1")


@dataclass
class Fault:
    """What happens to the next requests that match.

    Attributes:
        matches: which requests.
        status: what is answered, with a Kubernetes Status; 0 breaks the connection instead.
        reason: the Status's reason.
        times: how many requests; the fault is over after them.
        after: the server sees the request and its answer is lost, instead of never seeing it.
        delay_s: how long the answer takes; longer than the client's patience is a time-out.
        retry_after_s: the header of a 429.
        body: what is answered instead of a Status; `WATCH_EXPIRED` with status 200 is the 410 of
            a watch.
    """

    matches: Callable[[Request], bool]
    status: int
    reason: str = "InternalError"
    times: int = 1
    after: bool = False
    delay_s: float = 0.0
    retry_after_s: int | None = None
    body: str | None = None


class HttpProxy(LoopThread):
    """Passes requests on, remembers them, and lets faults answer in the server's place.

    Example:
        with HttpProxy(server.url, server.certificates) as proxy:
            proxy.add(Fault(lambda r: r.verb == "POST" and r.path.endswith("/pods"), status=409))
    """

    def __init__(self, target_url: str, certificates: Certificates) -> None:
        self.port = 0
        self._target_url = target_url
        self._certificates = certificates
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._faults: list[Fault] = []

    @property
    def url(self) -> str:
        """What a client is to use as the server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far that were answered or, being watches, begun; in that order."""
        with self._lock:
            return list(self._requests)

    @property
    def writes(self) -> list[Request]:
        """Those of them that may have changed something."""
        return [request for request in self.requests if request.is_write]

    def forget(self) -> None:
        """Forget the requests so far, to count from here."""
        with self._lock:
            self._requests.clear()

    def add(self, fault: Fault) -> None:
        """Let a fault happen to the next requests that match it."""
        with self._lock:
            self._faults.append(fault)

    async def _open(self) -> None:
        files = self._certificates
        upstream = ssl.create_default_context(cafile=str(files.ca))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=upstream, limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=None),
            auto_decompress=False,
        )
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self._handle)
        # Cancelled with its client: a watch that nobody reads is to end at the server too.
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(files.certificate, files.key)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=serving).start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._session.close()
        # Both only begin to close TLS connections; a loop that stops now would leave them open.
        await asyncio.sleep(CLOSING_S)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        body = await incoming.read()
        request = Request(incoming.method, incoming.path, dict(incoming.query), body)
        fault = self._take_fault(request)
        if fault is not None and not fault.after:
            return await self._answer_with(fault, incoming, request)
        headers = {k: v for k, v in incoming.headers.items() if k.lower() not in HOP_HEADERS}
        target = URL(self._target_url + incoming.raw_path, encoded=True)
        async with self._session.request(
            incoming.method, target, data=body or None, headers=headers, allow_redirects=False
        ) as answer:
            if fault is not None:
                await answer.read()
                return await self._answer_with(fault, incoming, request)
            self._note(request, answer.status)
            return await self._pass_on(incoming, answer)

    @staticmethod
    async def _pass_on(incoming: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {k: v for k, v in answer.headers.items() if k.lower() not in HOP_HEADERS}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(incoming)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response

    def _take_fault(self, request: Request) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.matches(request):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                    return fault
        return None

    async def _answer_with(
        self, fault: Fault, incoming: web.Request, request: Request
    ) -> web.StreamResponse:
        await asyncio.sleep(fault.delay_s)
        self._note(request, fault.status, is_answered_here=True)
        if fault.status == 0:
            if incoming.transport is not None:
                incoming.transport.abort()
            return web.Response()
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": fault.status,
            "reason": fault.reason,
            "message": "made up by the tests' proxy",
        }
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        return web.Response(
            status=fault.status,
            text=json.dumps(status) if fault.body is None else fault.body,
            content_type="application/json",
            headers=headers,
        )

    def _note(self, request: Request, status: int, *, is_answered_here: bool = False) -> None:
        noted = dataclasses.replace(request, status=status, is_answered_here=is_answered_here)
        with self._lock:
            self._requests.append(noted)
