"""First-fit-decreasing of demand onto groups: how many workers of each group the queue needs.

Shapes are taken largest first. Each fills what stands already (by priority, then by what would be
left unused), and only then opens workers, of the group of the highest priority and least waste that
fits and may still grow. What stands goes first because tasks run there: were they packed anew onto
a better group, that group would grow for work that never moves.

Resources are whole numbers of 1/10,000, as tasks ask for them, so that ten times 0.1 is 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

UNIT = 10_000
UNBOUNDED = 1 << 40
"""How many slots of a shape that asks for nothing fit into a worker."""


class Shape(msgspec.Struct, frozen=True):
    """`slots` tasks that are alike: each needs these resources on a node with these labels."""

    resources: dict[str, float]
    slots: int
    labels: dict[str, str] = {}


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """A group as far as packing is concerned.

    Attributes:
        standing: workers that are there or on their way.
        limit: workers it may have; below `standing`, none are opened.
    """

    name: str
    resources: dict[str, float]
    labels: dict[str, str] = {}
    priority: int = 0
    standing: int = 0
    limit: int = 0


class Packing(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        used: workers with something on them, by group.
        unplaced: slots no room was left for, though a group fits them.
        infeasible: slots no group fits.
    """

    used: dict[str, int]
    unplaced: int = 0
    infeasible: int = 0


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether labels are selected: a value, `!value`, `in(a,b)` or `!in(a,b)` for each key."""
    for key, wanted in selector.items():
        is_negated = wanted.startswith("!")
        wanted = wanted.removeprefix("!")
        if wanted.startswith("in(") and wanted.endswith(")"):
            values = {value.strip() for value in wanted[3:-1].split(",")}
        else:
            values = {wanted}
        if (labels.get(key) in values) == is_negated:
            return False
    return True


def _units(resources: Mapping[str, float]) -> dict[str, int]:
    return {name: round(value * UNIT) for name, value in resources.items() if value > 0}


def _fit(free: Mapping[str, int], need: Mapping[str, int]) -> int:
    """How many slots fit."""
    return min((free.get(name, 0) // amount for name, amount in need.items()), default=UNBOUNDED)


def _take(free: dict[str, int], need: Mapping[str, int], slots: int) -> None:
    for name, amount in need.items():
        free[name] -= amount * slots


def waste(capacity: Mapping[str, int], need: Mapping[str, int], slots: int) -> float:
    """What a fresh worker filled with up to `slots` of a shape leaves unused, over all resources.

    A GPU that is not asked for counts as a whole one wasted, which keeps CPU work off GPU workers.
    """
    filled = min(_fit(capacity, need), slots)
    return sum(
        1 - need.get(name, 0) * filled / amount for name, amount in capacity.items() if amount > 0
    )


class _Group:
    """A group while it is being filled."""

    def __init__(self, given: Bin) -> None:
        self.given = given
        self.capacity = _units(given.resources)
        # Standing workers that are still empty are all alike: they are counted, not listed.
        self.empty = given.standing
        self.openable = max(0, given.limit - given.standing)
        self.partial: list[dict[str, int]] = []
        self.used = 0

    def can_ever_take(self, shape: Shape, need: Mapping[str, int]) -> bool:
        return matches(shape.labels, self.given.labels) and _fit(self.capacity, need) > 0

    def fill_partial(self, need: Mapping[str, int], slots: int) -> int:
        for free in self.partial:
            if slots == 0:
                break
            taken = min(_fit(free, need), slots)
            _take(free, need, taken)
            slots -= taken
        return slots

    def _start(self, need: Mapping[str, int], slots: int, available: int) -> tuple[int, int]:
        """Put slots onto fresh workers; what is left of them, and how many workers it took."""
        each = min(_fit(self.capacity, need), UNBOUNDED)
        full, rest = divmod(slots, each)
        count = min(available, full + (1 if rest else 0))
        for index in range(count):
            free = dict(self.capacity)
            taken = each if index < full else rest
            _take(free, need, taken)
            self.partial.append(free)
            slots -= taken
        self.used += count
        return slots, count

    def fill_standing(self, need: Mapping[str, int], slots: int) -> int:
        slots, count = self._start(need, slots, self.empty)
        self.empty -= count
        return slots

    def open(self, need: Mapping[str, int], slots: int) -> int:
        slots, count = self._start(need, slots, self.openable)
        self.openable -= count
        return slots


def _size(shape: Shape, largest: Mapping[str, int]) -> tuple[float, str]:
    need = _units(shape.resources)
    dominant = max((need[n] / largest[n] for n in need if largest.get(n)), default=0.0)
    return dominant, repr(sorted(need.items()))


def pack(shapes: Iterable[Shape], bins: Sequence[Bin], fixed: Sequence[Bin] = ()) -> Packing:
    """Pack demand onto groups.

    Args:
        shapes: the demand.
        bins: groups, whose `standing` is filled first and which may grow up to `limit`.
        fixed: what takes work and is in no group, such as a head that runs tasks; filled first of
            all.
    """
    groups = [_Group(one) for one in bins]
    others = [_Group(one) for one in fixed]
    largest: dict[str, int] = {}
    for group in (*groups, *others):
        for name, amount in group.capacity.items():
            largest[name] = max(largest.get(name, 0), amount)
    unplaced = infeasible = 0
    for shape in sorted(shapes, key=lambda s: _size(s, largest), reverse=True):
        need, slots = _units(shape.resources), shape.slots
        fitting = [g for g in groups if g.can_ever_take(shape, need)]
        fitting.sort(
            key=lambda g: (-g.given.priority, waste(g.capacity, need, slots), g.given.name)
        )
        everywhere = [g for g in others if g.can_ever_take(shape, need)] + fitting
        if not everywhere:
            infeasible += slots
            continue
        for group in everywhere:
            slots = group.fill_partial(need, slots)
        for group in everywhere:
            slots = group.fill_standing(need, slots)
        for group in fitting:
            slots = group.open(need, slots)
        unplaced += slots
    return Packing(
        used={g.given.name: g.used for g in groups}, unplaced=unplaced, infeasible=infeasible
    )
