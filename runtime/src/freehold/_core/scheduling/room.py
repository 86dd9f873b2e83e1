"""A node's own resources: what is free, and which devices.

Place in the flow: the scheduler takes from it when it grants and gives back when a lease or a
process has ended. Amounts are exact integers; only a task that stops waiting may take what is not
there (`take_back_cpu`), so that a free amount can be negative for a while.
"""

from __future__ import annotations

from collections.abc import Mapping

from freehold._core.resources import CPU, GPU, UNIT, Shape


def count_fitting(shape: Shape, available: Mapping[str, int], limit: int) -> int:
    """How many of the shape fit at once, at the most `limit`; devices count as one sum."""
    if not shape:
        return limit
    return max(0, min(limit, *(available.get(name, 0) // units for name, units in shape)))


class Room:
    """Resources of one node in units, with the free units of each of its devices."""

    def __init__(self, total: Mapping[str, int]) -> None:
        self.total = dict(total)
        self.available = dict(total)
        self.gpus = [UNIT] * (total.get(GPU, 0) // UNIT)

    def fits(self, shape: Shape) -> bool:
        """Whether the shape can be taken now, devices counted one by one."""
        available = self.available
        for name, units in shape:
            if available.get(name, 0) < units:
                return False
            if name == GPU and not self._has_devices(units):
                return False
        return True

    def missing(self, shape: Shape) -> list[str]:
        """The resources that keep the shape from fitting now."""
        available = self.available
        return [
            name
            for name, units in shape
            if available.get(name, 0) < units or (name == GPU and not self._has_devices(units))
        ]

    def take(self, shape: Shape) -> list[int]:
        """Take the shape, which fits; the indices of its devices."""
        gpus: list[int] = []
        for name, units in shape:
            self.available[name] -= units
            if name == GPU:
                gpus = self._take_devices(units)
        return gpus

    def give_back(self, shape: Shape, gpus: list[int], *, without_cpu: bool = False) -> None:
        """Give back what `take` took; `without_cpu` if its CPUs were given back already."""
        for name, units in shape:
            if name != CPU or not without_cpu:
                self.available[name] += units
            if name == GPU:
                for index in gpus:
                    self.gpus[index] += min(units, UNIT)

    def give_rest(self, shape: Shape, *, without_cpu: bool = False) -> Shape:
        """Give back all but the devices, which a living process may still use: what remains."""
        devices = tuple(entry for entry in shape if entry[0] == GPU)
        rest = tuple(entry for entry in shape if entry[0] != GPU)
        self.give_back(rest, [], without_cpu=without_cpu)
        return devices

    def give_cpu(self, shape: Shape) -> bool:
        """Give back the shape's CPUs alone; whether it has any."""
        return self._move_cpu(shape, 1)

    def take_back_cpu(self, shape: Shape) -> bool:
        """Take the shape's CPUs whether they are there or not; whether it has any."""
        return self._move_cpu(shape, -1)

    def _move_cpu(self, shape: Shape, sign: int) -> bool:
        for name, units in shape:
            if name == CPU:
                self.available[CPU] += sign * units
                return True
        return False

    def _has_devices(self, units: int) -> bool:
        if units < UNIT:
            return any(free >= units for free in self.gpus)
        return sum(free == UNIT for free in self.gpus) >= units // UNIT

    def _take_devices(self, units: int) -> list[int]:
        share = min(units, UNIT)
        indices = [index for index, free in enumerate(self.gpus) if free >= share]
        taken = indices[: max(1, units // UNIT)]
        for index in taken:
            self.gpus[index] -= share
        return taken
