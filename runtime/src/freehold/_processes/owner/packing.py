"""Pickling a call's arguments: what travels inline, what by reference, what through the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core.limits import INLINE_OUTPUT_BYTES
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef
from freehold._io.serializability import blame_arguments
from freehold._io.serialization import dumps
from freehold.errors import SerializationError

Put = Callable[[Any], ObjectRef[Any]]
TopLevel = list[tuple[int | str, ObjectRef[Any]]]


def pack(args: tuple[Any, ...], kwargs: dict[str, Any], name: str, put: Put) -> Given:
    """Pickle a call's arguments, references at the top level aside.

    Raises:
        SerializationError: one cannot be pickled; it says which, and what in it.
    """
    top_level: TopLevel | None = None
    for position, value in enumerate(args):
        if type(value) is ObjectRef:
            top_level = top_level or []
            top_level.append((position, value))
    for key, value in kwargs.items():
        if type(value) is ObjectRef:
            top_level = top_level or []
            top_level.append((key, value))
    if top_level is not None:
        at = {place for place, _ in top_level}
        args = tuple(None if i in at else value for i, value in enumerate(args))
        kwargs = {key: None if key in at else value for key, value in kwargs.items()}
    try:
        blob, nested = dumps([args, kwargs] if kwargs else args)
    except SerializationError as error:
        raise blame_arguments(args, kwargs, f"task {name}", error) from None
    if len(blob) > INLINE_OUTPUT_BYTES:
        return _pack_large(args, kwargs, top_level or [], put)
    payload = blob if isinstance(blob, bytes) else blob.join()
    if top_level is None and nested is None:
        return Given(payload)
    return Given(payload, top_level, nested or None)


def _pack_large(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    top_level: TopLevel,
    put: Put,
) -> Given:
    """Put large arguments into the store, so that messages stay small and retries are free."""
    positional = list(args)
    for position, value in enumerate(args):
        if value is not None and len(dumps(value)[0]) > INLINE_OUTPUT_BYTES // 4:
            top_level.append((position, put(value)))
            positional[position] = None
    named = dict(kwargs)
    for key, value in kwargs.items():
        if value is not None and len(dumps(value)[0]) > INLINE_OUTPUT_BYTES // 4:
            top_level.append((key, put(value)))
            named[key] = None
    small = tuple(positional)
    blob, nested = dumps([small, named] if named else small)
    payload = blob if isinstance(blob, bytes) else blob.join()
    return Given(payload, top_level, nested or None)
