"""Kubernetes' quantities and times as numbers, and back. Exact where Kubernetes is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_SUFFIXES: Mapping[str, Decimal] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}

# 1e3 and 1E3 are numbers; 5E has a suffix.
_QUANTITY = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)(?P<suffix>[A-Za-z]*)")


def parse_quantity(value: str | float) -> Decimal:
    """`"500m"` is 0.5, `"2Gi"` is 2147483648.

    Raises:
        ValueError: it is no quantity.
    """
    found = _QUANTITY.fullmatch(str(value).strip())
    if found is None or found["suffix"] not in _SUFFIXES:
        raise ValueError(f"{value!r} is no quantity: write it as 500m, 2 or 4Gi")
    return Decimal(found["number"]) * _SUFFIXES[found["suffix"]]


def plain_number(value: Decimal) -> int | float:
    """An int where it is one, so that settings and JSON say 4 and not 4.0."""
    return int(value) if value == value.to_integral_value() else float(value)


def parse_time(value: Any) -> float | None:
    """Seconds since the epoch of a Kubernetes timestamp; None if there is none."""
    if not isinstance(value, str) or not value:
        return None
    return datetime.fromisoformat(value).timestamp()


def format_time(seconds: float) -> str:
    """A timestamp as Kubernetes writes it, in whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
