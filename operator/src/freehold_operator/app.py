"""Puts the parts together and runs them until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from freehold_operator import handlers, kinds, kube
from freehold_operator.cache import Cache
from freehold_operator.carry import Tools
from freehold_operator.events import Events
from freehold_operator.head import Heads
from freehold_operator.health import Health
from freehold_operator.kinds import Kind
from freehold_operator.kube import Kube
from freehold_operator.liveness import Liveness
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta, parse_meta
from freehold_operator.reconciler import Reconciler
from freehold_operator.settings import Settings, in_cluster, kubeconfig
from freehold_operator.sync import Sync
from freehold_operator.workqueue import WorkQueue

STOP_S = 1.0
"""Until all connections are closed. Nothing is lost by a harder end: all state is in the API
server."""

_log = logging.getLogger(__name__)

MakeKube = Callable[[Settings, Metrics], Awaitable[Kube]]


async def make_kube(settings: Settings, metrics: Metrics) -> Kube:
    """The client of the API server this operator is to use."""
    where = await kube.configuration(kubeconfig(), in_cluster=in_cluster())
    return kube.ApiKube(where, settings.request_timeout_s, metrics)


class App:
    """The operator.

    Args:
        make: makes the client of the API server.
    """

    def __init__(self, settings: Settings, make: MakeKube = make_kube) -> None:
        self._settings = settings
        self._make = make
        self._metrics = Metrics()
        self._liveness = Liveness(settings.stale_s, self._metrics)
        self._cache = Cache()
        self._stop = asyncio.Event()
        self._reconciler: Reconciler | None = None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT; the exit code."""
        self._take_signals()
        client = await self._make(self._settings, self._metrics)
        queue = WorkQueue(time.time)
        heads = Heads(self._head_changed, self._settings.head_period_ms, time.time)
        tools = Tools(
            kube=client,
            cache=self._cache,
            heads=heads,
            events=Events(client),
            metrics=self._metrics,
            clock=time.time,
            changed=self._changed,
            creates_at_once=self._settings.creates_at_once,
        )
        reconciler = self._reconciler = Reconciler(tools, queue, self._settings)
        sync = Sync(
            (client, self._cache, self._liveness, self._metrics),
            self._settings,
            time.time,
            self._changed,
        )
        health = Health(
            self._liveness, self._metrics, lambda: self._cache.has_listed(kinds.WATCHED)
        )
        async with health.serving(self._settings) as port:
            _log.info("operator started", extra={"fields": {"port": port}})
            parts = [self._watch(), sync.run(), reconciler.run()]
            tasks = [asyncio.create_task(part) for part in parts]
            code = await self._until_stopped(tasks)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(heads.close(), STOP_S)
            await asyncio.wait_for(client.close(), STOP_S)
        return code

    async def _until_stopped(self, tasks: list[asyncio.Task[None]]) -> int:
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            await asyncio.wait({*tasks, stopping}, timeout=STOP_S)
        for task in done - {stopping}:
            error = task.exception() if not task.cancelled() else None
            if error is not None and not self._stop.is_set():
                _log.error("a part of the operator ended: it starts anew", exc_info=error)
                return 1
        # kopf takes a signal itself until it is up, and then ends without an error.
        return 0

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _watch(self) -> None:
        """Let kopf watch. It takes the signals when it starts, so they are taken back."""
        ready = asyncio.Event()
        running = asyncio.create_task(handlers.run(self._settings, self._told, ready))
        waiting = asyncio.create_task(ready.wait())
        try:
            done: set[asyncio.Task[Any]] = set()
            while not done:
                # It may be long before kopf is ready, if the API server is away.
                done, _ = await asyncio.wait(
                    {running, waiting}, timeout=0.2, return_when=asyncio.FIRST_COMPLETED
                )
                self._take_signals()
            await running
        finally:
            waiting.cancel()
            running.cancel()

    def _told(self, kind: Kind, event: str, body: Mapping[str, Any]) -> None:
        """A watch told of an object."""
        meta = parse_meta(body)
        key = (meta.namespace, meta.name)
        now = time.time()
        is_gone = event == "DELETED"
        self._liveness.tell(kind.name, key, meta.resource_version, is_gone=is_gone)
        if is_gone:
            is_news = self._cache.remove(kind, key, meta.uid, now)
        else:
            is_news = self._cache.put(kind, body, now)
        if is_news:
            self._changed(kind, meta)

    def _changed(self, kind: Kind, meta: Meta) -> None:
        if self._reconciler is not None:
            self._reconciler.note(kind, meta)

    def _head_changed(self, key: tuple[str, str]) -> None:
        if self._reconciler is not None:
            self._reconciler.head_changed(key)
