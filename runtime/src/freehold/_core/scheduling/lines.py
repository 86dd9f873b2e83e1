"""What waits for a lease: a line for each shape and environment, demands and actors in it.

Within a line everyone is served in turn: who was granted one lease and wants more goes to the end,
so that an owner that wants a thousand does not make the next one wait for all of them. Between
lines the longest-waiting head goes first, but a shape that does not fit holds up nobody.

So that small shapes cannot keep a big one from ever fitting, a line that was passed over for
`passed_over_s` bars the others from the resources that it lacks, for 1 s, then 2, 4, … Between the
bars the others go on: one of them may be what the holder of those resources waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from freehold._core.ids import Address
from freehold._core.resources import GPU, Shape, describe, fits
from freehold._core.scheduling.events import Instant
from freehold._core.scheduling.room import Room
from freehold._core.where import Where, allows

BAR_S = 1.0
"""Length of a line's first bar."""

BAR_LIMIT_S = 64.0
"""Length of the longest; tasks that take longer than that can still keep a big shape waiting."""


@dataclass(slots=True)
class Demand:
    """What one owner wants of one shape. `waiting` = max(0, wanted − answered − binding)."""

    owner: Address
    key: int
    shape: Shape
    env: str
    where: Where | None = None
    wanted: int = 0
    answered: int = 0
    binding: int = 0
    """Workers being started with devices for it."""
    backlog: int = 0
    is_spilled: bool = False
    is_near: bool = False
    leases: int = 0
    waiting: int = 0
    turn: int = 0

    @property
    def name(self) -> tuple[Address, int]:
        return (self.owner, self.key)


@dataclass(slots=True)
class Placement:
    """An actor that lives here or is to: `waiting` is 1 until it has a worker or one is forked."""

    actor: bytes
    restart: int
    shape: Shape
    env: str
    where: Where | None = None
    process: int = 0
    is_dropped: bool = False
    """Taken back while its worker was being started."""
    was_asked: bool = False
    """Asked to end by itself."""
    waiting: int = 0
    turn: int = 0

    @property
    def name(self) -> tuple[bytes, int]:
        return (self.actor, self.restart)


Waiter: TypeAlias = Demand | Placement


@dataclass(slots=True)
class Line:
    """All who wait for one shape in one environment, the next one first."""

    shape: Shape
    env: str
    where: Where | None
    needs_devices: bool
    is_for_here: bool
    """Whether its labels or affinity let it run on this node at all."""
    since: Instant
    """When someone last began to wait in an empty line."""
    waiters: dict[object, Waiter] = field(default_factory=dict)
    count: int = 0
    passed_since: Instant | None = None
    """When someone was first preferred to it since it was last served."""
    bar_s: float = BAR_S

    @property
    def head(self) -> Waiter:
        return next(iter(self.waiters.values()))


class Lines:
    """All lines that are not empty, and the one that bars the others, if any."""

    def __init__(self, passed_over_s: float, node: str, labels: Mapping[str, str]) -> None:
        self._passed_over_s = passed_over_s
        self._node = node
        self._labels = labels
        self._lines: dict[tuple[Shape, str, Where | None], Line] = {}
        self.now: Instant = 0.0
        """The time of the event being handled; set by the machine."""
        self._last_turn = 0
        self.barring: Line | None = None
        self.bar_until: Instant = 0.0
        self.is_dirty = False

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Line]:
        return iter(self._lines.values())

    def set_waiting(self, waiter: Waiter, count: int) -> None:
        """`count` of the waiter wait from now on; its place in the line is kept."""
        if count == waiter.waiting:
            return
        self.is_dirty = True
        key = (waiter.shape, waiter.env, waiter.where)
        line = self._lines.get(key)
        if line is None:
            needs_devices = any(name == GPU for name, _ in waiter.shape)
            is_for_here = allows(waiter.where, self._node, self._labels)
            line = self._lines[key] = Line(*key, needs_devices, is_for_here, self.now)
        if not waiter.waiting:
            self._to_the_end(line, waiter)
        line.count += count - waiter.waiting
        waiter.waiting = count
        if not count:
            del line.waiters[waiter.name]
            if not line.waiters:
                del self._lines[key]
                if self.barring is line:
                    self.barring = None

    def served(self, line: Line, waiter: Waiter) -> None:
        """One of the waiter was served: the next of it waits for its turn again."""
        line.passed_since = None
        line.bar_s = BAR_S
        if self.barring is line:
            self.barring = None
        self.set_waiting(waiter, waiter.waiting - 1)
        if waiter.waiting:
            del line.waiters[waiter.name]
            self._to_the_end(line, waiter)

    def passed_over(self, skipped: list[Line], turn: int, now: Instant) -> None:
        """Someone whose turn was `turn` is served though these, if they came before, were not."""
        for line in skipped:
            if line.passed_since is None and line.head.turn < turn:
                line.passed_since = now

    def update_bar(self, room: Room, actors_hold: Mapping[str, int], now: Instant) -> None:
        """Begin or end a bar. What living actors hold will not become free: no bar helps there."""
        line = self.barring
        if line is not None and now >= self.bar_until:
            line.passed_since = now
            line.bar_s = min(2 * line.bar_s, BAR_LIMIT_S)
            self.barring = None
        if self.barring is not None:
            return
        for line in self._lines.values():
            since = line.passed_since
            if since is None or now < since + self._passed_over_s:
                continue
            most = {name: n - actors_hold.get(name, 0) for name, n in room.total.items()}
            if fits(line.shape, most) and room.missing(line.shape):
                self.barring = line
                self.bar_until = now + line.bar_s
                return

    def barred(self, room: Room) -> list[str]:
        """The resources that all lines but the barring one must leave alone."""
        return room.missing(self.barring.shape) if self.barring is not None else []

    def queued(self) -> dict[str, int]:
        """How many leases and actors of each shape wait."""
        counts: dict[str, int] = {}
        for line in self._lines.values():
            text = describe(line.shape)
            counts[text] = counts.get(text, 0) + line.count
        return counts

    def oldest(self, shape: Shape, where: Where | None) -> Instant | None:
        """Since when someone waits for the shape, in whatever environment; None if nobody does."""
        since = [x.since for x in self._lines.values() if x.shape == shape and x.where == where]
        return min(since, default=None)

    def _to_the_end(self, line: Line, waiter: Waiter) -> None:
        self._last_turn += 1
        waiter.turn = self._last_turn
        line.waiters[waiter.name] = waiter
