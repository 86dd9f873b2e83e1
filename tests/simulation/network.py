"""The simulated clock and network: one queue of things that will happen, and FIFO connections.

Every message is encoded and decoded on its way, as on a socket, so that no two processes ever share
a struct. A connection delivers in order, each message after a random delay; when it breaks, what
was sent last is lost on both sides and each side is told after the rest has arrived.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Union

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import all_messages

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Union[all_messages()]).decode  # type: ignore[valid-type]  # noqa: UP007

CONTROL = Address("control", 0)
"""Where the control service answers."""


class Clock:
    """Simulated time: runs what was planned, in order of time and then of planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, time: float, what: Callable[[], None]) -> None:
        """Have `what()` called at `time`."""
        heapq.heappush(self._planned, (max(time, self.now), next(self._number), what))

    def after(self, delay: float, what: Callable[[], None]) -> None:
        """Have `what()` called `delay` seconds from now."""
        self.at(self.now + delay, what)

    def step(self, until: float) -> bool:
        """Do the next thing if it is due by `until`."""
        if not self._planned or self._planned[0][0] > until:
            return False
        self.now, _, what = heapq.heappop(self._planned)
        self.events += 1
        what()
        return True


@dataclass
class _Way:
    """One direction of a connection: what is under way, as bytes, or None for its end."""

    queue: deque[bytes | None] = field(default_factory=deque)
    last_at: float = 0.0
    slowness: float = 1.0
    is_broken: bool = False
    """The sender does not know yet that nothing arrives any more."""


class Network:
    """All connections between living processes."""

    def __init__(self, clock: Clock, rng: random.Random, max_delay_s: float) -> None:
        self.clock = clock
        self._rng = rng
        self._max_delay_s = max_delay_s
        self._ways: dict[tuple[Address, Address], _Way] = {}
        self.receivers: dict[Address, Any] = {}
        """Living processes; each has `receive(source, message)` and `disconnected(peer)`."""
        self.resets: set[frozenset[Address]] = set()
        self.lost = 0

    def send(self, source: Address, target: Address, message: Any) -> None:
        """Say `message`; it arrives after all that was said before on the same connection."""
        data = _encode(message)
        if target not in self.receivers:
            # Nobody listens there (any more): connecting fails, a moment later.
            self._plan(source, target, None, towards=source)
            return
        way = self._ways.get((source, target))
        if way is not None and way.is_broken:
            self.lost += 1
            return
        self._plan(source, target, data, towards=target)

    def _plan(self, source: Address, target: Address, data: bytes | None, towards: Address) -> None:
        pair = (source, target) if towards == target else (target, source)
        way = self._ways.get(pair)
        if way is None:
            # Some are slow all their life, so that what is said the long way round comes first.
            way = self._ways[pair] = _Way(slowness=self._rng.choice([0.2, 1.0, 1.0, 8.0]))
        way.queue.append(data)
        delay = self._rng.random() ** 3 * self._max_delay_s * way.slowness
        way.last_at = max(way.last_at, self.clock.now + delay)
        self.clock.at(way.last_at, lambda: self._deliver(pair))

    def _deliver(self, pair: tuple[Address, Address]) -> None:
        way = self._ways.get(pair)
        if way is None or not way.queue:
            return
        data = way.queue.popleft()
        source, target = pair
        receiver = self.receivers.get(target)
        if receiver is None:
            return
        if data is None:
            back = self._ways.get((target, source))
            if back is not None:
                back.is_broken = False  # a new connection may be made now
            receiver.disconnected(source)
        else:
            receiver.receive(source, _decode(data))

    def drain(self, source: Address, target: Address) -> None:
        """Deliver now what is still under way from `source` (a dead process) to `target`."""
        way = self._ways.get((source, target))
        while way is not None and way.queue:
            self._deliver((source, target))

    def reset(self, one: Address, other: Address) -> None:
        """Break a connection: a suffix of what is under way is lost, both ways."""
        self.resets.add(frozenset((one, other)))
        for pair in ((one, other), (other, one)):
            self._cut(pair)
            if pair[1] in self.receivers:
                self._plan(pair[0], pair[1], None, towards=pair[1])
        for pair in ((one, other), (other, one)):
            self._ways.setdefault(pair, _Way()).is_broken = True

    def _cut(self, pair: tuple[Address, Address]) -> None:
        way = self._ways.setdefault(pair, _Way())
        for _ in range(self._rng.randint(0, len(way.queue))):
            way.queue.pop()
            self.lost += 1

    def remove(self, address: Address, is_clean: bool = False) -> None:
        """A process ended: unless cleanly, what it sent last may be lost; its peers see the end."""
        self.receivers.pop(address, None)
        for pair in list(self._ways):
            if pair[1] == address:
                del self._ways[pair]
            elif pair[0] == address:
                if not is_clean:
                    self._cut(pair)
                if pair[1] in self.receivers:
                    self._plan(address, pair[1], None, towards=pair[1])

    def pairs(self) -> list[tuple[Address, Address]]:
        """Connections in use between processes (not with node managers or the control service)."""
        found = {
            (min(pair), max(pair))
            for pair in self._ways
            if pair[0] != pair[1]
            and pair[0].process
            and pair[1].process
            and all(a in self.receivers for a in pair)
        }
        return sorted(found)
