"""Resource shapes: what a task needs and what a node has, in whole ten-thousandths.

Amounts are integers of 0.0001 so that fractions add up exactly: ten tasks of 0.1 CPU fill one CPU,
never 0.9999…. A shape is a sorted tuple of (name, amount) pairs and so can key a dictionary and
travel as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

UNIT = 10_000
"""Units in one whole resource: fractions down to 0.0001 can be asked for."""

MOST_UNITS = 1 << 62
"""What fits into a message's integer, sums of two included."""

Shape = tuple[tuple[str, int], ...]
"""Sorted (name, units) pairs, zero amounts left out; `()` needs nothing."""

CPU = "CPU"
GPU = "GPU"
MEMORY = "memory"


def to_units(name: str, amount: float) -> int:
    """`amount` of `name` in units.

    Raises:
        ValueError: the amount is negative, not a number, finer than 0.0001, or too large.
    """
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise ValueError(f"{name} must be a number, not {amount!r}")
    if amount != amount or amount < 0 or amount == float("inf"):
        raise ValueError(f"{name} must be a finite number of 0 or more, not {amount!r}")
    units = round(amount * UNIT)
    if units > MOST_UNITS:
        raise ValueError(
            f"{name}={amount!r} is more than {MOST_UNITS // UNIT}, the most there can be"
        )
    if abs(units - amount * UNIT) > 1e-3:
        raise ValueError(f"{name}={amount!r} is finer than 0.0001; round it")
    return units


def make_shape(amounts: Mapping[str, float]) -> Shape:
    """The shape of `{"CPU": 1, "GPU": 0.5, …}`; zero amounts are left out."""
    pairs = ((name, to_units(name, amount)) for name, amount in sorted(amounts.items()))
    return tuple((name, units) for name, units in pairs if units)


def to_floats(amounts: Mapping[str, int] | Shape) -> dict[str, float]:
    """Units back to the numbers a user reads."""
    pairs = amounts.items() if isinstance(amounts, Mapping) else amounts
    return {name: units / UNIT for name, units in pairs}


def fits(shape: Shape, available: Mapping[str, int]) -> bool:
    """Whether every amount of `shape` is there."""
    return all(available.get(name, 0) >= units for name, units in shape)


def lacking(shape: Shape, available: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """What keeps `shape` from fitting: {name: (needed, available)} in units."""
    return {
        name: (units, available.get(name, 0))
        for name, units in shape
        if available.get(name, 0) < units
    }


def describe(shape: Shape) -> str:
    """A shape as a user wrote it: `CPU: 1, accelerator: 0.5`."""
    return ", ".join(f"{name}: {units / UNIT:g}" for name, units in shape) or "no resources"
