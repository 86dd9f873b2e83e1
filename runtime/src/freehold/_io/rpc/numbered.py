"""Numbers the messages of one direction, so that a stream that breaks and comes again loses none.

Place in the flow: each end of a node's stream has an `Outgoing` and an `Incoming`. Both sides keep
what the other has not confirmed; when they meet again, what was not taken is sent again and what
was taken already is dropped by its number. A side that begins anew (a head that was restarted)
counts from 1, and so does the other then.

It sends nothing and knows no grpc.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outgoing(Generic[T]):
    """What this side says: not sent, sent and not confirmed.

    Example:
        >>> outgoing = Outgoing[str]()
        >>> outgoing.push("a"), outgoing.push("b")
        (None, None)
        >>> outgoing.take(1), outgoing.take(9)
        ((1, ['a']), (2, ['b']))
        >>> outgoing.confirm(1)
        >>> outgoing.rewind()
        >>> outgoing.take(9)
        (2, ['b'])
    """

    def __init__(self) -> None:
        self._first = 1
        """The number of the first that is kept."""
        self._kept: deque[T] = deque()
        self._taken = 0
        """How many of the kept were taken to be sent on the stream there is now."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def has_more(self) -> bool:
        """Whether there is something to be sent."""
        return self._taken < len(self._kept)

    def push(self, message: T) -> None:
        """Say something."""
        self._kept.append(message)

    def take(
        self, limit: int, size: Callable[[T], int] = lambda _: 0, budget: int = 0
    ) -> tuple[int, list[T]]:
        """The next to be sent, and the first one's number: so many at the most, and no more once
        their sizes have passed the budget."""
        first = self._first + self._taken
        found: list[T] = []
        spent = 0
        while self.has_more and len(found) < limit and spent <= budget:
            found.append(self._kept[self._taken])
            spent += size(found[-1])
            self._taken += 1
        return first, found

    def confirm(self, number: int) -> None:
        """The other side has taken all up to this number."""
        while self._first <= number and self._kept:
            self._kept.popleft()
            self._first += 1
            self._taken = max(0, self._taken - 1)

    def rewind(self) -> None:
        """There is a new stream: what was not confirmed is to be sent again."""
        self._taken = 0

    def kept(self) -> list[T]:
        """All that was not confirmed, the oldest first."""
        return list(self._kept)


class Incoming:
    """What this side has taken: everything up to `received`."""

    def __init__(self) -> None:
        self.received = 0

    def accept(self, first: int, messages: list[T]) -> list[T]:
        """Those that are new.

        Raises:
            ValueError: there is a gap before them.
        """
        if not messages:
            return []
        if first > self.received + 1:
            raise ValueError(f"message {first} came after {self.received}")
        fresh = messages[self.received + 1 - first :]
        self.received = max(self.received, first + len(messages) - 1)
        return fresh
