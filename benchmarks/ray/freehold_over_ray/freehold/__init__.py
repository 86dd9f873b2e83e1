"""Ray under Freehold's name, so that Ray runs the very program that Freehold runs:
`freehold.shuffle`.

The Ray side of the benchmark, and its workers, have this folder first on their path.
`freehold.shuffle` uses the public names alone, and those it uses are Ray's too; its modules are
taken from Freehold's own source.
"""

from __future__ import annotations

from pathlib import Path

from ray import (  # type: ignore[import-not-found]  # in its own environment
    cancel,
    get,
    is_initialized,
    put,
    remote,
    wait,
)

__path__.append(str(Path(__file__).resolve().parents[4] / "runtime" / "src" / "freehold"))
__all__ = ["cancel", "get", "is_initialized", "put", "remote", "wait"]
