"""`ActorPool`: work for a fixed set of actors, each given the next item when it is idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import freehold

Call = Callable[[Any, Any], Any]


class ActorPool:
    """A pool of actors of one kind, to work on many items.

    Args:
        actors: handles; each gets one call at a time.

    Example:
        >>> @freehold.remote
        ... class Doubler:
        ...     def double(self, x):
        ...         return 2 * x
        >>> pool = freehold.util.ActorPool([Doubler.remote(), Doubler.remote()])
        >>> list(pool.map(lambda actor, x: actor.double.remote(x), [1, 2, 3, 4]))
        [2, 4, 6, 8]
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = deque(actors)
        self._waiting: deque[tuple[Call, Any]] = deque()
        # Calls by their place in the order of submission; a finished one leaves both.
        self._running: dict[int, tuple[Any, Any]] = {}
        self._places: dict[Any, int] = {}
        self._next_submitted = 0
        self._next_returned = 0

    def map(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """The results for `values`, in their order. Results of earlier submits are thrown away.

        Args:
            fn: called with an actor and a value; returns the reference of the call it makes.
            values: one call each.

        Raises:
            Exception: what a call raised; the pool goes on with the next.
        """
        self._drop_results()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next)

    def map_unordered(self, fn: Call, values: Iterable[Any]) -> Iterator[Any]:
        """The results for `values`, in the order they are there; else as `map`."""
        self._drop_results()
        for value in values:
            self.submit(fn, value)
        return self._results(self.get_next_unordered)

    def _results(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _drop_results(self) -> None:
        while self.has_next():
            try:
                self.get_next()
            except Exception:  # noqa: BLE001 - an earlier call's error, whose result nobody took
                continue

    def submit(self, fn: Call, value: Any) -> None:
        """Call `fn(actor, value)` with an idle actor, or as soon as there is one."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.popleft()
        try:
            ref = fn(actor, value)
        except BaseException:
            self._idle.appendleft(actor)
            raise
        place = self._next_submitted
        self._next_submitted += 1
        self._running[place] = actor, ref
        self._places[ref] = place

    def has_next(self) -> bool:
        """Whether a result is left to take."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission.

        Args:
            timeout: seconds to wait at the most.
            ignore_if_timedout: when the time passed, return None and never give that result.

        Raises:
            StopIteration: there is none.
            TimeoutError: the time passed; the result can be asked for again.
        """
        if not self.has_next():
            raise StopIteration("the pool has no result left")
        while self._next_returned not in self._running:  # taken by get_next_unordered
            self._next_returned += 1
        _, ref = self._running[self._next_returned]
        ready, _ = freehold.wait([ref], timeout=timeout)
        if not ready and not ignore_if_timedout:
            raise TimeoutError(f"the next result of the pool was not ready after {timeout} s")
        self._take(ref)
        return freehold.get(ref) if ready else None

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Any result that is there; else as `get_next`."""
        if not self.has_next():
            raise StopIteration("the pool has no result left")
        ready, pending = freehold.wait(list(self._places), timeout=timeout)
        if ready:
            self._take(ready[0])
            return freehold.get(ready[0])
        if not ignore_if_timedout:
            raise TimeoutError(f"no result of the pool was ready after {timeout} s")
        self._take(pending[0])
        return None

    def _take(self, ref: Any) -> None:
        """Forget a call and give its actor to the next one waiting."""
        place = self._places.pop(ref)
        actor, _ = self._running.pop(place)
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def has_free(self) -> bool:
        """Whether an actor is idle, and nothing waits for one."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any:
        """Take an idle actor out of the pool; None if there is none."""
        return self._idle.popleft() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Put an actor into the pool.

        Raises:
            ValueError: it is in the pool.
        """
        if actor in self._idle or any(actor == busy for busy, _ in self._running.values()):
            raise ValueError(f"{actor!r} is in the pool already")
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())
