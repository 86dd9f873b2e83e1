"""Facts about where code runs, under Ray's own path."""

from __future__ import annotations

from freehold._api.runtime_context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
