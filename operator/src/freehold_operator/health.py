"""The operator's one port: /healthz, /readyz and /metrics, GET only, nothing about users' work."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from freehold_operator.liveness import Liveness
from freehold_operator.metrics import CONTENT_TYPE, Metrics
from freehold_operator.settings import Settings


class Health:
    """Answers probes and Prometheus.

    Args:
        has_listed: whether every watched kind was listed once.
    """

    def __init__(
        self, liveness: Liveness, metrics: Metrics, has_listed: Callable[[], bool]
    ) -> None:
        self._liveness = liveness
        self._metrics = metrics
        self._has_listed = has_listed

    async def _healthz(self, request: web.Request) -> web.Response:
        illness = self._liveness.illness()
        return web.Response(text=illness or "ok", status=503 if illness else 200)

    async def _readyz(self, request: web.Request) -> web.Response:
        if not self._has_listed():
            return web.Response(text="not everything was listed yet", status=503)
        if not self._liveness.is_reachable:
            return web.Response(text="the API server does not answer", status=503)
        return web.Response(text="ok")

    async def _show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @contextlib.asynccontextmanager
    async def serving(self, settings: Settings) -> AsyncIterator[int]:
        """Serve meanwhile; gives the port."""
        application = web.Application(client_max_size=1024)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._show_metrics)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            site = web.TCPSite(runner, settings.host or None, settings.port)
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()
