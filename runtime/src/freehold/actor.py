"""Actors under Ray's own path: the classes behind `@freehold.remote`, and `exit_actor`."""

from __future__ import annotations

from freehold._api.actor_class import ActorClass
from freehold._api.actor_handle import ActorHandle, ActorMethod
from freehold._api.actors import exit_actor

__all__ = ["ActorClass", "ActorHandle", "ActorMethod", "exit_actor"]
