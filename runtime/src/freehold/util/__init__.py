"""Small tools on top of the public API, under Ray's own paths."""

from __future__ import annotations

from freehold.util.actor_pool import ActorPool
from freehold.util.check_serialize import inspect_serializability
from freehold.util.helpers import as_completed, map_unordered
from freehold.util.named_actors import list_named_actors
from freehold.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

__all__ = [
    "ActorPool",
    "as_completed",
    "get_current_placement_group",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "remove_placement_group",
]
