"""Finds what in a value cannot be pickled, after it could not be.

`serialization` calls `blame` on its error path; users call `inspect_serializability` (Ray's
``ray.util.inspect_serializability``). Both walk the value the way cloudpickle does: into
containers, the state that an object's own ``__reduce_ex__`` gives, and the captured variables,
globals and defaults of a function; and descend into the first part that cannot be pickled by
itself, until no part of it is to blame but itself.

It tries, and so is slow on large values; it never changes a value, and never sends or pins a
reference.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import cloudpickle

from freehold._io.references import active
from freehold.errors import SerializationError

MAX_DEPTH = 32
MAX_PARTS = 10_000  # of one container: the search must end, also in a list of a billion

Part = tuple[str, Any]


class FailureTuple:
    """One thing that cannot be pickled.

    Attributes:
        obj: the thing itself.
        name: its variable name, attribute or index.
        parent: what it was found in.
    """

    __slots__ = ("name", "obj", "parent")

    def __init__(self, obj: Any, name: str, parent: Any) -> None:
        self.obj = obj
        self.name = name
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailTuple({self.name} [obj={self.obj!r}, parent={self.parent!r}])"


@contextmanager
def _throwaway_references() -> Iterator[None]:
    """Let references be pickled as if inside a call, and forget them: a search must pin nothing."""
    outer = active.collected
    active.collected = []
    try:
        yield
    finally:
        active.collected = outer


def _failure(value: Any) -> Exception | None:
    try:
        cloudpickle.dumps(value, 5, buffer_callback=_drop)
    except Exception as error:  # noqa: BLE001 - whatever a value's own __reduce__ raises
        return error
    return None


def _drop(_: Any) -> None:
    """Leave a buffer out of the pickle: buffers are never to blame."""


def _parts(value: Any) -> list[Part]:
    """The parts of a value that are pickled with it, each with the text that leads to it."""
    if isinstance(value, dict):
        found = [(f".keys()[{n}]", key) for n, key in enumerate(value)]
        return found + [(f"[{key!r:.60}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{n}]", item) for n, item in enumerate(value)]
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, types.MethodType):
        return [(".__self__", value.__self__), (".__func__", value.__func__)]
    if isinstance(value, type):
        return [(f".{name}", held) for name, held in vars(value).items() if name[:2] != "__"]
    if isinstance(value, staticmethod | classmethod):
        return [("", value.__func__)]
    return _parts_of_instance(value)


def _parts_of_function(function: types.FunctionType) -> list[Part]:
    try:
        held = inspect.getclosurevars(function)
    except ValueError:  # a captured variable that has no value yet
        return []
    found = [(f"[captured {name}]", value) for name, value in held.nonlocals.items()]
    found += [(f"[global {name}]", value) for name, value in held.globals.items()]
    found += [(f"[default {n}]", value) for n, value in enumerate(function.__defaults__ or ())]
    found += [
        (f"[default {name}]", value) for name, value in (function.__kwdefaults__ or {}).items()
    ]
    return found + [(f".{name}", value) for name, value in vars(function).items()]


def _parts_of_instance(value: Any) -> list[Part]:
    try:
        reduced = value.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - it is to blame itself
        return []
    if not isinstance(reduced, tuple):
        return []
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    found: list[Part] = []
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    for one in states:
        if isinstance(one, dict):
            found += [(f".{name}", held) for name, held in one.items()]
        elif one is not None:
            found.append((".__getstate__()", one))
    found += [(f".__reduce__()[1][{n}]", held) for n, held in enumerate(arguments)]
    found += [(f"[{n}]", held) for n, held in enumerate(items or ())]
    return found + [(f"[{key!r:.60}]", held) for key, held in pairs or ()]


def _find(value: Any, path: str) -> tuple[str, Any, Exception | None]:
    """Descend to the innermost part that cannot be pickled: its path, itself, and what pickling it
    raised.
    """
    reason: Exception | None = None
    seen = {id(value)}
    for _ in range(MAX_DEPTH):
        for step, part in _parts(value)[:MAX_PARTS]:
            if id(part) in seen:
                continue
            failure = _failure(part)
            if failure is not None:
                seen.add(id(part))
                value, path, reason = part, path + step, failure
                break
        else:
            break
    return path, value, reason


def _type_name(value: Any) -> str:
    cls = type(value)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def blame(value: Any, root: str, role: str, error: Exception) -> SerializationError:
    """The error to raise for a value that raised ``error`` when it was pickled.

    Args:
        value: what could not be pickled.
        root: how the path to the culprit starts.
        role: what the value is to the user, ``"result of task f"``.
        error: what pickling raised.

    Example:
        >>> import threading
        >>> print(blame({"lock": threading.Lock()}, "value", "argument 0 of f", TypeError()).path)
        value['lock']
    """
    with _throwaway_references():
        try:
            path, culprit, reason = _find(value, root)
        except Exception:  # noqa: BLE001 - a property or __repr__ of the user's: blame the whole
            path, culprit, reason = root, value, None
    text = f"{type(error).__name__}: {error}" if reason is None else str(reason)
    return SerializationError(role=role, path=path, type_name=_type_name(culprit), reason=text)


def blame_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], callee: str, error: Exception
) -> SerializationError:
    """The error for a call whose arguments could not be pickled together: finds which one it was.

    Args:
        args: the positional arguments; the first is ``argument 0``.
        kwargs: the keyword arguments.
        callee: ``"task f"`` or ``"method Counter.add"``.
        error: what pickling them raised; a `SerializationError` of all together is replaced.
    """
    if isinstance(error, SerializationError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    named = [(str(n), value) for n, value in enumerate(args)]
    named += [(repr(name), value) for name, value in kwargs.items()]
    with _throwaway_references():
        for name, value in named:
            if (failure := _failure(value)) is not None:
                return blame(value, "value", f"argument {name} of {callee}", failure)
    return blame((args, kwargs), "arguments", f"arguments of {callee}", error)


def inspect_serializability(
    obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Say whether a value can be passed to a task, and print what in it cannot.

    Args:
        obj: the value, function or class.
        name: its name in the print-out; by default its own.
        depth: how many levels to descend.
        print_file: where to print, by default standard output.

    Returns:
        Whether it can be pickled, and the innermost things found that cannot.

    Example:
        >>> import io, threading
        >>> value = {"a": threading.Lock()}
        >>> ok, failures = inspect_serializability(value, "d", print_file=io.StringIO())
        >>> ok, [failure.name for failure in failures]
        (False, ["['a']"])
    """
    out = print_file or sys.stdout
    name = name or getattr(obj, "__qualname__", None) or type(obj).__qualname__
    failures: dict[int, FailureTuple] = {}
    with _throwaway_references():
        error = _failure(obj)
        if error is None:
            out.write(f"{name} can be pickled\n")
            return True, set()
        out.write(f"{name} cannot be pickled: {error}\n")
        _inspect(obj, FailureTuple(obj, name, None), depth, 1, failures, out)
    return False, set(failures.values())


def _inspect(
    value: Any,
    self_failure: FailureTuple,
    depth: int,
    level: int,
    failures: dict[int, FailureTuple],
    out: TextIO,
) -> None:
    """Print the failing parts of a value; it is itself a failure if it has none or the depth is
    used up.
    """
    found = False
    for step, part in _parts(value)[:MAX_PARTS] if level <= depth else ():
        if id(part) in failures or (failure := _failure(part)) is None:
            continue
        found = True
        out.write(f"{'  ' * level}{step} (a {_type_name(part)}): {failure}\n")
        _inspect(part, FailureTuple(part, step, value), depth, level + 1, failures, out)
    if not found:
        failures[id(value)] = self_failure
