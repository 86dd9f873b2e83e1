"""Ray under Freehold's name, so that Ray runs the very program that Freehold runs:
`freehold.shuffle`.

The Ray side of the benchmark, and its workers, have this folder first on their path.
`freehold.shuffle` uses the public names alone, and those it uses are Ray's too, but for
`wait(separate_failures=True)`. Its modules are taken from Freehold's own source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray  # type: ignore[import-not-found]  # in its own environment

cancel, get, is_initialized = ray.cancel, ray.get, ray.is_initialized
put, remote = ray.put, ray.remote

__path__.append(str(Path(__file__).resolve().parents[4] / "runtime" / "src" / "freehold"))
__all__ = ["cancel", "get", "is_initialized", "put", "remote", "wait"]


def wait(
    ray_waitables: Sequence[Any], *, separate_failures: bool = False, **options: Any
) -> tuple[list[Any], ...]:
    """`ray.wait`; Ray cannot tell failures apart, so they are found, and raised, by `get`.

    That costs Ray nothing here: a sort that fails is not measured, and the list of failures is
    empty in any other.
    """
    ready, pending = ray.wait(ray_waitables, **options)
    return (ready, [], pending) if separate_failures else (ready, pending)
