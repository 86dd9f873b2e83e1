"""A first-in, first-out queue between tasks and actors: `asyncio.Queue` in an actor of its own.

Waiting is done in the actor, as a coroutine each, so that a waiting `get` costs no polling; its
timeout is there too, so that an item is never taken for a caller who has given up.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import freehold

if TYPE_CHECKING:
    import asyncio

    from freehold.actor import ActorHandle


class Empty(queue.Empty):
    """Nothing was in the queue, at once or until the timeout.

    Example:
        >>> from freehold.util.queue import Empty, Queue
        >>> try:
        ...     Queue().get(block=False)
        ... except Empty:
        ...     print("empty")
        empty
    """


class Full(queue.Full):
    """There was no room in the queue, at once or until the timeout.

    Example:
        >>> from freehold.util.queue import Full, Queue
        >>> try:
        ...     Queue(maxsize=1).put_nowait_batch([1, 2])
        ... except Full:
        ...     print("full")
        full
    """


class _QueueActor:
    """The queue itself: all methods are coroutines, since its items are of one event loop."""

    def __init__(self, maxsize: int) -> None:
        import asyncio

        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._items.qsize()

    async def put_nowait_batch(self, items: Sequence[Any]) -> None:
        room = self._items.maxsize - self._items.qsize()
        if self._items.maxsize > 0 and len(items) > room:
            raise Full(f"{len(items)} items do not fit: there is room for {max(room, 0)}")
        for item in items:
            self._items.put_nowait(item)

    async def get_nowait_batch(self, count: int) -> list[Any]:
        if count > self._items.qsize():
            raise Empty(f"{count} items were asked for; there are {self._items.qsize()}")
        return [self._items.get_nowait() for _ in range(count)]

    async def put(self, item: Any, timeout: float | None) -> None:
        import asyncio

        try:
            await asyncio.wait_for(self._items.put(item), timeout)
        except TimeoutError:
            raise Full(f"no room after {timeout} s") from None

    async def get(self, timeout: float | None) -> Any:
        import asyncio

        try:
            return await asyncio.wait_for(self._items.get(), timeout)
        except TimeoutError:
            raise Empty(f"no item after {timeout} s") from None


class Queue:
    """A queue that tasks and actors can share: pass it to them like any value.

    Args:
        maxsize: items it holds at the most; 0 for no limit.
        actor_options: options of the actor that it lives in, such as `name`.

    Example:
        >>> from freehold.util.queue import Queue
        >>> queue = Queue(maxsize=100)
        >>> @freehold.remote
        ... def produce(queue, n):
        ...     for i in range(n):
        ...         queue.put(i)
        >>> freehold.get(produce.remote(queue, 3))
        >>> [queue.get(timeout=30) for _ in range(3)], queue.empty()
        ([0, 1, 2], True)
    """

    actor: ActorHandle
    maxsize: int

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        actor_class = freehold.remote(_QueueActor)
        self.actor = actor_class.options(**(actor_options or {})).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """Items in the queue."""
        size: int = freehold.get(self.actor.qsize.remote())
        return size

    def qsize(self) -> int:
        """Items in the queue."""
        return self.size()

    def empty(self) -> bool:
        """Whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Whether there is no room."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, when there is room.

        Args:
            item: anything picklable.
            block: wait for room.
            timeout: seconds to wait at the most.

        Raises:
            Full: there was none.
        """
        freehold.get(self._putting(item, block, timeout))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As `put`, to be awaited."""
        await self._putting(item, block, timeout)

    def _putting(self, item: Any, block: bool, timeout: float | None) -> Any:
        if not block:
            return self.actor.put_nowait_batch.remote([item])
        _check_timeout(timeout)
        return self.actor.put.remote(item, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item out, when there is one.

        Args:
            block: wait for one.
            timeout: seconds to wait at the most.

        Raises:
            Empty: there was none.
        """
        if not block:
            return freehold.get(self.actor.get_nowait_batch.remote(1))[0]
        _check_timeout(timeout)
        return freehold.get(self.actor.get.remote(timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """As `get`, to be awaited."""
        if not block:
            return (await self.actor.get_nowait_batch.remote(1))[0]
        _check_timeout(timeout)
        return await self.actor.get.remote(timeout)

    def put_nowait(self, item: Any) -> None:
        """Put an item in, or raise `Full`."""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """Take the oldest item out, or raise `Empty`."""
        return self.get(block=False)

    def put_nowait_batch(self, items: Sequence[Any]) -> None:
        """Put all items in, in their order, or raise `Full` and put in none."""
        if isinstance(items, str):
            raise TypeError(f"items must be a list, not the string {items!r:.80}")
        freehold.get(self.actor.put_nowait_batch.remote(list(items)))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the oldest `num_items` items out, or raise `Empty` and take out none."""
        if num_items < 0:
            raise ValueError(f"num_items must be 0 or more, not {num_items}")
        items: list[Any] = freehold.get(self.actor.get_nowait_batch.remote(num_items))
        return items

    def shutdown(self, force: bool = False, grace_period_s: int = 5) -> None:
        """End the queue's actor; the items in it are gone.

        Args:
            force: at once.
            grace_period_s: seconds to wait for the calls before this one, when not by force.
        """
        if not force:
            ended = self.actor.__freehold_terminate__.remote()
            done, _ = freehold.wait([ended], timeout=grace_period_s)
            if done:
                return
        freehold.kill(self.actor, no_restart=True)


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"timeout must be 0 or more seconds, or None; not {timeout!r}")
