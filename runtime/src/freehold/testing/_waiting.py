"""Waiting for what must come true: the one way in which a test lets time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(
    predicate: Callable[[], Any], timeout_s: float = 10.0, interval_s: float = 0.01
) -> Any:
    """Wait until `predicate()` is true and return what it gave.

    Args:
        predicate: called again and again; an AssertionError of it counts as not yet.
        timeout_s: seconds after which to give up.
        interval_s: seconds between calls.

    Raises:
        AssertionError: it did not come true in time.

    Example:
        >>> from freehold.testing import eventually
        >>> eventually(lambda: 42, timeout_s=1.0)
        42
    """
    deadline = time.monotonic() + timeout_s
    while True:
        failure: AssertionError | None = None
        try:
            value = predicate()
            if value:
                return value
        except AssertionError as error:
            failure = error
        if time.monotonic() >= deadline:
            name = getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"{name} did not come true within {timeout_s} s") from failure
        time.sleep(interval_s)
