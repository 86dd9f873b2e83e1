"""Results as they come, under Ray's own path: `as_completed` and `map_unordered`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import freehold


def as_completed(
    refs: Sequence[freehold.ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """The values of references, in the order they are there.

    Args:
        refs: references, each once.
        chunk_size: how many to wait for at a time.
        yield_obj_refs: give the references, and do not fetch the values.
        kwargs: of `freehold.wait`, such as `fetch_local`.

    Example:
        >>> @freehold.remote
        ... def square(x):
        ...     return x * x
        >>> sorted(freehold.util.as_completed([square.remote(n) for n in range(4)]))
        [0, 1, 4, 9]
    """
    _check_size("chunk_size", chunk_size)
    pending = list(refs)
    while pending:
        count = min(chunk_size, len(pending))
        done, pending = freehold.wait(pending, num_returns=count, **kwargs)
        yield from done if yield_obj_refs else freehold.get(done)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """The results of a remote function for each of many items, in the order they are there.

    Args:
        fn: a remote function or an actor's method, called with one item.
        items: they are taken as calls are made, so there may be no end of them.
        backpressure_size: calls not yet fetched at the most; None for no limit.
        chunk_size: how many to wait for at a time.
        yield_obj_refs: give the references, and do not fetch the values.
        kwargs: of `freehold.wait`, such as `fetch_local`.

    Example:
        >>> @freehold.remote
        ... def square(x):
        ...     return x * x
        >>> sorted(freehold.util.map_unordered(square, range(4)))
        [0, 1, 4, 9]
    """
    _check_size("chunk_size", chunk_size)
    if backpressure_size is not None:
        _check_size("backpressure_size", backpressure_size)
        if backpressure_size < chunk_size:
            raise ValueError(
                f"backpressure_size={backpressure_size} must be at least chunk_size={chunk_size}"
            )
    if not hasattr(fn, "remote"):
        raise TypeError(f"fn must be a remote function or an actor's method, not {fn!r}")
    rest = iter(items)
    pending = [fn.remote(item) for item in islice(rest, backpressure_size)]
    while pending:
        count = min(chunk_size, len(pending))
        done, pending = freehold.wait(pending, num_returns=count, **kwargs)
        pending += [fn.remote(item) for item in islice(rest, len(done))]
        yield from done if yield_obj_refs else freehold.get(done)


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int of 1 or more, not {value!r}")
