"""`ObjectRefGenerator` for the public API; the core makes them."""

from __future__ import annotations

from freehold._core.ownership.generator import ObjectRefGenerator

__all__ = ["ObjectRefGenerator"]
