"""The version of Freehold, as pyproject.toml says it; a test compares them."""

from __future__ import annotations

__version__ = "0.1.0"
