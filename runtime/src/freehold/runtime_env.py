"""Environments of tasks and actors, under Ray's own path."""

from __future__ import annotations

from freehold._api.runtime_env import RuntimeEnv

__all__ = ["RuntimeEnv"]
