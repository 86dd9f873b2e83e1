"""References inside values: how they leave a pickle, and how they come back into it.

An `ObjectRef` or actor handle inside a value is not pickled. While `serialization.dumps` runs, its
``__reduce__`` puts it into the *side list* of that dump and leaves only its index behind; the list
travels beside the blob, where the peer plane can count and register references without unpickling
anything. Pickled by anyone else (``pickle.dumps`` in user code), the reference goes through the
hook that its class registered, which pins it.

This module knows no reference class and decides nothing about counts.

Rejected: ``persistent_id`` (a Python call for *every* object of a pickle: a list of 1,000 integers
takes 44 µs instead of 9) and a dictionary of the references already seen (the pickler's own memo
calls ``__reduce__`` once an object).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from freehold.errors import ProtocolError

Reduced = tuple[Any, ...]


class _Active(threading.local):
    """What this thread is pickling or unpickling right now; class attributes are the defaults of a
    new thread.
    """

    collected: list[Any] | None = None
    buffers: list[memoryview] | None = None
    nested: Sequence[Any] | None = None


active = _Active()
_outside_hooks: dict[type, Callable[[Any], Reduced]] = {}


def register_reference_type(cls: type, on_pickled_outside: Callable[[Any], Reduced]) -> None:
    """Name the hook that reduces (and pins) references of ``cls`` pickled outside a Freehold call.

    ``cls.__reduce__`` must return ``reduce_reference(self)``. Registering again replaces the hook;
    subclasses of ``cls`` use it too.
    """
    _outside_hooks[cls] = on_pickled_outside


def reduce_reference(reference: Any) -> Reduced:
    """What a reference class returns from ``__reduce__``: its index, or its hook's answer.

    Raises:
        TypeError: pickled outside a Freehold call, and its class never registered a hook.
    """
    collected = active.collected
    if collected is not None:
        collected.append(reference)
        return nested_reference, (len(collected) - 1,)
    for cls in type(reference).__mro__:
        hook = _outside_hooks.get(cls)
        if hook is not None:
            return hook(reference)
    raise TypeError(f"{type(reference).__qualname__} was not registered as a reference type")


def nested_reference(index: int) -> Any:
    """Stand in the pickle for the reference at ``index`` of the side list.

    `serialization.loads` replaces this function by the list's own ``__getitem__``. It is called
    itself only for a pickle within a pickle (the cause inside a `TaskError`), which finds the list
    of the load, or of the dump that tries it, around it.
    """
    table = active.nested if active.nested is not None else active.collected
    if table is None or not 0 <= index < len(table):
        reason = f"a value names nested reference {index}, which did not come with it"
        raise ProtocolError(reason=reason, peer="the sender of a value")
    return table[index]
