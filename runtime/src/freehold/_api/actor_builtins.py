"""Methods that every actor has without writing them, under Ray's names and ours.

`__freehold_ready__` answers True when the constructor is done and what was called before it;
`__freehold_call__` runs a function on the instance, `function(instance, …)`;
`__freehold_terminate__` ends the actor when the calls before it are done. Here is what they take;
what they do is the worker's (`_processes.worker.actor`).
"""

from __future__ import annotations

from freehold._api.signature import CallShape

_NOTHING = CallShape()
_A_FUNCTION = CallShape(names=("function",), required=1, has_varargs=True, has_varkeywords=True)

BUILTIN_METHODS: dict[str, CallShape] = {
    "__freehold_call__": _A_FUNCTION,
    "__freehold_ready__": _NOTHING,
    "__freehold_terminate__": _NOTHING,
    "__ray_call__": _A_FUNCTION,
    "__ray_ready__": _NOTHING,
    "__ray_terminate__": _NOTHING,
}
