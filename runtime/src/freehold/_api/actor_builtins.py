"""Methods that every actor has without writing them, under Ray's names and ours.

The worker looks here before it looks at the instance: `BUILTIN_METHODS[method][1](instance, *args,
**kwargs)`. `__freehold_ready__` answers when the constructor is done and what was called before it;
`__freehold_call__` runs a function on the instance; `__freehold_terminate__` ends the actor when
the calls before it are done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._api import state
from freehold._api.signature import CallShape


def ready(_instance: Any) -> bool:
    """The constructor is done."""
    return True


def call(instance: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run `function(instance, …)` in the actor."""
    return function(instance, *args, **kwargs)


def terminate(_instance: Any) -> None:
    """End the actor after this call."""
    state.attached("__freehold_terminate__").exit_actor()


_NOTHING = CallShape()
_A_FUNCTION = CallShape(names=("function",), required=1, has_varargs=True, has_varkeywords=True)

BUILTIN_METHODS: dict[str, tuple[CallShape, Callable[..., Any]]] = {
    "__freehold_call__": (_A_FUNCTION, call),
    "__freehold_ready__": (_NOTHING, ready),
    "__freehold_terminate__": (_NOTHING, terminate),
    "__ray_call__": (_A_FUNCTION, call),
    "__ray_ready__": (_NOTHING, ready),
    "__ray_terminate__": (_NOTHING, terminate),
}
