"""Which objects wait for a pass: each at most once, none twice at a time, failed ones after a
delay.

A key that is added while its pass runs is passed over once more when that ends: the pass may have
looked before the change. A delay of one key never holds up another.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable

import msgspec

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 60.0


class Key(msgspec.Struct, frozen=True, order=True):
    """A custom resource by kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class WorkQueue:
    """The queue; all calls from one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ready: deque[Key] = deque()
        self._waiting: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: list[tuple[float, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: Key) -> None:
        """Let a key be passed over as soon as possible."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.append(key)
            self._news.set()

    def add_at(self, key: Key, when: float) -> None:
        """Let a key be passed over at a time, unless it is sooner anyway."""
        if when <= self._clock():
            self.add(key)
        elif self._due.get(key, float("inf")) > when:
            self._due[key] = when
            heapq.heappush(self._timers, (when, key))
            self._news.set()

    def take_ready(self) -> Key | None:
        """The next key if there is one now; `done` or `failed` must follow."""
        self._fire_timers()
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._running.add(key)
        return key

    async def take(self) -> Key:
        """The next key, waited for; `done` or `failed` must follow."""
        while True:
            key = self.take_ready()
            if key is not None:
                return key
            next_s = self._fire_timers()
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), next_s)
            except TimeoutError:
                pass

    def _fire_timers(self) -> float | None:
        """Add what is due; seconds until the next is."""
        now = self._clock()
        while self._timers:
            when, key = self._timers[0]
            if self._due.get(key) != when:
                heapq.heappop(self._timers)  # set to an earlier time meanwhile
            elif when <= now:
                heapq.heappop(self._timers)
                del self._due[key]
                self.add(key)
            else:
                return when - now
        return None

    def done(self, key: Key) -> None:
        """A pass went well."""
        self._failures.pop(key, None)
        self._end(key)

    def failed(self, key: Key, at_least_s: float = 0.0) -> float:
        """A pass failed; it is tried again after the delay returned."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        delay_s = max(at_least_s, min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(count, 16)))
        self._again.discard(key)  # news do not shorten a delay: the server asked for it
        self._end(key)
        self.add_at(key, self._clock() + delay_s)
        return delay_s

    def _end(self, key: Key) -> None:
        self._running.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        # Another taker may have slept while this one held the key.
        self._news.set()

    def forgive(self, key: Key) -> None:
        """A key's pass got further than the last: its next delay is the first again."""
        self._failures.pop(key, None)

    def forget(self, key: Key) -> None:
        """A key's object is gone: nothing more is due for it."""
        self._due.pop(key, None)
        self._failures.pop(key, None)
