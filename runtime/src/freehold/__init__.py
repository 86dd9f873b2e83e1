"""Freehold: distributed futures for Python. Tasks and actors return references; callers own them.

Names, arguments and defaults are those of Ray Core, so that a program ports by changing its import;
docs/ray_compatibility.md lists what is the same, what is better and what is not there yet.

Importing this costs no more than its own few files: the runtime is loaded by `init`, or by the
first remote call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._api.actors import get_actor, kill
from freehold._api.cluster import (
    available_resources,
    cluster_resources,
    get_gpu_ids,
    nodes,
    timeline,
)
from freehold._api.functions import method, remote
from freehold._api.generator import ObjectRefGenerator
from freehold._api.init import init, is_initialized, shutdown
from freehold._api.objects import cancel, explain, get, put, wait
from freehold._api.runtime_context import get_runtime_context
from freehold._api.version import __version__ as __version__
from freehold._core.ownership.reference import ObjectRef

if TYPE_CHECKING:
    from freehold import actor as actor
    from freehold import errors as errors
    from freehold import exceptions as exceptions
    from freehold import runtime_context as runtime_context
    from freehold import runtime_env as runtime_env
    from freehold import util as util

__all__ = [
    "ObjectRef",
    "ObjectRefGenerator",
    "available_resources",
    "cancel",
    "cluster_resources",
    "explain",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "wait",
]

_SUBMODULES = {
    "actor": "freehold.actor",
    "errors": "freehold.errors",
    "exceptions": "freehold.exceptions",
    "runtime_context": "freehold.runtime_context",
    "runtime_env": "freehold.runtime_env",
    "shuffle": "freehold.shuffle",
    "testing": "freehold.testing",
    "util": "freehold.util",
}
"""Loaded when first asked for, so that `freehold.util.ActorPool` needs no import of its own."""


def __getattr__(name: str) -> Any:
    path = _SUBMODULES.get(name)
    if path is None:
        raise AttributeError(
            f"freehold has no {name!r}; docs/ray_compatibility.md lists what it has of Ray's"
        )
    import importlib

    return importlib.import_module(path)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
