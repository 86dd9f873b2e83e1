"""Options and code as the core knows them: validated, resolved, built once per remote function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from freehold._core.messages import ActorOptions
from freehold._core.resources import Shape
from freehold._core.where import Where

if TYPE_CHECKING:
    from freehold._core.ownership.reference import ObjectRef

DYNAMIC = -1
"""`num_returns` of a task that decides by itself how many outputs it has."""


class TaskOptions(msgspec.Struct, frozen=True, gc=False):
    """Options of a task or a method call, validated and resolved.

    `num_returns` is `DYNAMIC` for `"dynamic"`. `retry_exceptions` is False, True, or the pickled
    tuple of exception classes. `env` is the hash of the prepared runtime environment or "".
    `max_retries` −1 means without end.
    """

    shape: Shape = ()
    env: str = ""
    name: str = ""
    num_returns: int = 1
    max_retries: int = 3
    retry_exceptions: bool | bytes = False
    timeout_s: float | None = None
    concurrency_group: str = ""
    priority: int = 0
    where: Where | None = None


class FunctionEntry:
    """A remote function as the core knows it: pickled once, when first submitted.

    `number` is the core's; `core` tells for which core it holds (a new `init` needs a new one).
    `run_us` is the measured mean run time, which sets how many are sent ahead.
    """

    __slots__ = ("blob", "core", "function", "kept", "max_calls", "name", "number", "run_us")

    def __init__(self, function: Callable[..., Any], name: str, max_calls: int = 0) -> None:
        self.function = function
        self.name = name
        self.max_calls = max_calls
        self.blob: bytes | None = None
        self.kept: list[ObjectRef[Any]] = []
        """References that the function closes over."""
        self.number = -1
        self.core: object = None
        self.run_us = -1.0


class ActorRequest(msgspec.Struct, frozen=True):
    """A class to make an actor of: `shape` while it lives, `placement_shape` to choose a node."""

    cls: type
    options: ActorOptions
    shape: Shape = ()
    placement_shape: Shape = ()
    env: str = ""
    get_if_exists: bool = False
    where: Where | None = None
