"""What a handle must know of its class: the methods, their options and arguments.

It travels as bytes with every pickled handle and with the actor's registration, so that a handle
can be made where the class is unknown. In a process it is decoded once and shared by all handles
of the class.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from freehold._api import options as opts
from freehold._api.actor_builtins import BUILTIN_METHODS
from freehold._api.signature import CallShape
from freehold._core.interface import TaskOptions


class MethodMeta(msgspec.Struct, array_like=True, frozen=True):
    """A method: how it is called. None and "" leave the choice to the actor's defaults."""

    shape: CallShape
    num_returns: int = 1
    concurrency_group: str = ""
    max_task_retries: int | None = None
    retry_exceptions: bool | bytes = False
    timeout_s: float | None = None
    name: str = ""
    is_generator: bool = False


class HandleMeta(msgspec.Struct, array_like=True, frozen=True):
    """A class as its handles see it."""

    class_name: str
    methods: dict[str, MethodMeta]
    max_task_retries: int = 0
    concurrency_groups: list[str] = []
    max_pending_calls: int = -1


class Handled:
    """A decoded `HandleMeta` with its bytes, and the calls' options made from it so far."""

    __slots__ = ("_calls", "encoded", "meta")

    def __init__(self, meta: HandleMeta, encoded: bytes) -> None:
        self.meta = meta
        self.encoded = encoded
        self._calls: dict[str, tuple[CallShape, TaskOptions]] = {}

    def call(self, name: str) -> tuple[CallShape, TaskOptions] | None:
        """The arguments and options of a method's plain call; None if there is no such method."""
        found = self._calls.get(name)
        if found is None:
            method = self.meta.methods.get(name)
            if method is None:
                return None
            found = method.shape, self._options(method)
            self._calls[name] = found
        return found

    def _options(self, method: MethodMeta) -> TaskOptions:
        retries = method.max_task_retries
        return TaskOptions(
            name=method.name,  # "" for the class's and the method's, which both ends know
            num_returns=method.num_returns,
            max_retries=self.meta.max_task_retries if retries is None else retries,
            retry_exceptions=method.retry_exceptions,
            timeout_s=method.timeout_s,
            concurrency_group=method.concurrency_group,
        )


_decoder = msgspec.msgpack.Decoder(HandleMeta)
_encode = msgspec.msgpack.encode


def method_meta(shape: CallShape, options: opts.Options, is_generator: bool) -> MethodMeta:
    """A method's part, from the options of its `@method`."""
    return MethodMeta(
        shape=shape,
        num_returns=opts.returns(options.get("num_returns")),
        concurrency_group=options.get("concurrency_group") or "",
        max_task_retries=options.get("max_task_retries"),
        retry_exceptions=opts.pickled_exceptions(options.get("retry_exceptions")),
        timeout_s=options.get("timeout_s"),
        name=options.get("name") or "",
        is_generator=is_generator and options.get("num_returns") is None,
    )


def handled(meta: HandleMeta) -> Handled:
    """Encode a class's part."""
    return decode(_encode(meta))


@lru_cache(maxsize=1024)
def decode(encoded: bytes) -> Handled:
    """The shared `Handled` of these bytes."""
    return Handled(_decoder.decode(encoded), encoded)


def builtin_methods() -> dict[str, MethodMeta]:
    """The methods that every actor has."""
    return {name: MethodMeta(shape) for name, shape in BUILTIN_METHODS.items()}


def changed(base: TaskOptions, options: dict[str, Any]) -> TaskOptions:
    """A call's options with those of `.options(…)` in their place."""
    changes: dict[str, Any] = {}
    for name in ("timeout_s", "name", "concurrency_group"):
        if options.get(name) is not None:
            changes[name] = options[name]
    if options.get("num_returns") is not None:
        changes["num_returns"] = opts.returns(options["num_returns"])
    if options.get("max_task_retries") is not None:
        changes["max_retries"] = options["max_task_retries"]
    if options.get("retry_exceptions") is not None:
        changes["retry_exceptions"] = opts.pickled_exceptions(options["retry_exceptions"])
    return msgspec.structs.replace(base, **changes)
