"""Lists that put the cache right: all kinds once at the start, then as often as watches may err.

Every few seconds each kind is listed by names and versions alone and compared; what differs twice
in a row, or every few minutes anyway, is listed in full, and the list *replaces* the cache. After a
watch broke and could not be resumed (410), nobody else tells of objects that vanished meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from freehold_operator import kinds
from freehold_operator.cache import Cache, Key, version_number
from freehold_operator.errors import ApiError
from freehold_operator.kinds import Kind
from freehold_operator.kube import Body, Kube
from freehold_operator.liveness import Liveness
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta, parse_meta
from freehold_operator.settings import Settings

SOON_S = 1.0
"""Before a difference is believed: an event may be on its way."""

_log = logging.getLogger(__name__)

Versions = dict[Key, tuple[str, int]]


class Sync:
    """Lists and compares, for ever.

    Args:
        changed: called with each object that turned out different.
    """

    def __init__(
        self,
        tools: tuple[Kube, Cache, Liveness, Metrics],
        settings: Settings,
        clock: Callable[[], float],
        changed: Callable[[Kind, Meta], None],
    ) -> None:
        self._kube, self._cache, self._liveness, self._metrics = tools
        self._settings = settings
        self._clock = clock
        self._changed = changed
        self._full_at: dict[str, float] = {}
        self._suspects: dict[str, set[Key]] = {}

    @property
    def _spaces(self) -> Sequence[str | None]:
        return self._settings.namespaces or (None,)

    async def run(self) -> None:
        """List all kinds until that succeeds, then compare for ever."""
        await self._start()
        while True:
            is_suspicious = any(self._suspects.values())
            await asyncio.sleep(SOON_S if is_suspicious else self._settings.look_s)
            for kind in kinds.WATCHED:
                try:
                    await self._look(kind)
                except ApiError as error:
                    self._liveness.note_failure()
                    _log.warning("list of %s failed: %s", kind.plural, error)

    async def _first(self, kind: Kind) -> None:
        """List a kind until that succeeds."""
        delay_s = 0.5
        while not self._cache.has_listed((kind,)):
            try:
                await self.replace(kind)
            except ApiError as error:
                _log.warning("list of %s failed: %s; again", kind.plural, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, 10.0)

    async def _start(self) -> None:
        await asyncio.gather(*map(self._first, kinds.WATCHED))
        self._liveness.note_success(self._clock())
        for kind in kinds.WATCHED:
            for facts in self._cache.all(kind):
                self._changed(kind, facts.meta)

    async def replace(self, kind: Kind) -> None:
        """List a kind in full and let the list take the cache's place."""
        for space in self._spaces:
            bodies, version = await self._kube.list(kind, space)
            before = {(f.meta.namespace, f.meta.name): f.meta for f in self._cache.all(kind)}
            for key in self._cache.replace(kind, space, bodies, version, self._clock()):
                facts = self._cache.get(kind, *key)
                self._changed(kind, facts.meta if facts is not None else before[key])
        self._cache.mark_listed(kind)
        self._full_at[kind.name] = self._clock()
        self._suspects.pop(kind.name, None)

    async def _look(self, kind: Kind) -> None:
        """Compare names and versions; list in full what differed before and still does."""
        now = self._clock()
        if now - self._full_at.get(kind.name, 0.0) >= self._settings.resync_s:
            await self.replace(kind)
            return
        listed: Versions = {}
        lists: list[tuple[str | None, list[Body], int]] = []
        for space in self._spaces:
            bodies, version = await self._kube.list(kind, space, names_only=True)
            lists.append((space, bodies, version_number(version)))
            for meta in map(parse_meta, bodies):
                key = (meta.namespace, meta.name)
                listed[key] = (meta.uid, version_number(meta.resource_version))
        newest = max((version for _, _, version in lists), default=0)
        self._liveness.compare(kind.name, listed, self._clock())
        different = self._different(kind, listed, newest)
        again = different & self._suspects.get(kind.name, set())
        self._suspects[kind.name] = different
        if again:
            self._metrics.missed.labels(kind.name).inc(len(again))
            shown = ", ".join("/".join(key) for key in sorted(again)[:5])
            _log.warning("the watch of %s missed changes: %s", kind.plural, shown)
            await self.replace(kind)

    def _different(self, kind: Kind, listed: Versions, newest: int) -> set[Key]:
        cached = self._cache.versions(kind)
        found = {
            key
            for key, (uid, version) in listed.items()
            if key not in cached or cached[key][0] != uid or cached[key][1] < version
        }
        return found | {
            key for key, (_, version) in cached.items() if key not in listed and version <= newest
        }
