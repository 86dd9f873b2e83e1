"""Sizes and counts as people write them: ``1GB``, ``500 MiB``, ``10M``, ``10,000,000``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    _IntType = click.ParamType[int]
else:
    _IntType = click.ParamType  # generic only since click 8.4

_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_PATTERN = re.compile(r"([0-9][0-9,_]*(?:\.[0-9]+)?) *([kmgt]?i?)(b?)", re.IGNORECASE)


class Amount(_IntType):
    """A whole number with an optional decimal (k, M, G, T) or binary (Ki, Mi, …) suffix.

    Args:
        name: what the help calls it.
        unit: ``"B"`` if a trailing B is allowed, else ``""``.
    """

    def __init__(self, name: str, unit: str = "") -> None:
        self.name = name
        self._unit = unit

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """The number meant.

        >>> Amount("size", "B").convert("1.5 GB", None, None)
        1500000000
        """
        if isinstance(value, int):
            return value
        match = _PATTERN.fullmatch(str(value).strip())
        scales = _DECIMAL | _BINARY
        if match is None or match[2].lower() not in scales or (match[3] and not self._unit):
            example = "1GB, 500MB or 2GiB" if self._unit else "1000000, 10,000,000 or 10M"
            self.fail(f"{value!r} is no {self.name}; write it like {example}", param, ctx)
        digits = match[1].replace(",", "").replace("_", "")
        scale = scales[match[2].lower()]
        return round(float(digits) * scale) if "." in digits else int(digits) * scale


def in_bytes(size_bytes: float) -> str:
    """A size for people, in decimal units.

    >>> in_bytes(1_000_000_000)
    '1.00 GB'
    """
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.2f} {unit}"
    return f"{size_bytes:.0f} B"
