"""Ranges whose owner died: who may still read them, before their memory is used again.

Place in the flow: nobody counts the readers of a dead owner's ranges any more, but local processes
may hold zero-copy views on them. The store machine asks every local process once (`AskViews`);
each range waits for each process until that one says that it has no view (`ViewsReported` without
it), lets go of it (`ViewReleased`) or exits. It frees nothing itself: it returns what has no reader
left.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold._core.store.events import RangeName

ASK_VIEWS_RANGES = 10_000
"""Ranges asked about in one message: about 200 kB."""


class DyingRanges:
    """The ranges that wait for the views of local processes to end."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[int, int], dict[int, None]] = {}
        # The last query about a range: an answer to an older one says nothing about it any more.
        self._asked_by: dict[tuple[int, int], int] = {}
        self._queries: dict[int, tuple[list[RangeName], dict[int, None]]] = {}
        self._last_query = 0

    def ask(self, ranges: list[RangeName], processes: Iterable[int]) -> int:
        """Make `ranges` wait for `processes` (at least one); returns the number of the query."""
        asked = list(processes)
        self._last_query += 1
        self._queries[self._last_query] = ranges, dict.fromkeys(asked)
        for segment, offset, _ in ranges:
            self.waiting[segment, offset] = dict.fromkeys(asked)
            self._asked_by[segment, offset] = self._last_query
        return self._last_query

    def report(
        self, process: int, query: int, still_viewed: list[RangeName]
    ) -> list[tuple[int, int]]:
        """A process answered; returns the ranges that nobody reads any more."""
        ranges, unanswered = self._queries.get(query, ([], {}))
        if process not in unanswered:
            return []
        del unanswered[process]
        if not unanswered:
            del self._queries[query]
        viewed = {(segment, offset): None for segment, offset, _ in still_viewed}
        names = [(s, o) for s, o, _ in ranges if self._asked_by.get((s, o)) == query]
        return [name for name in names if name not in viewed and self.let_go(process, *name)]

    def let_go(self, process: int, segment: int, offset: int) -> bool:
        """A process has no view on the range; True if it was the last one."""
        waiting = self.waiting.get((segment, offset))
        if waiting is None or process not in waiting:
            return False
        del waiting[process]
        if waiting:
            return False
        self.forget(segment, offset)
        return True

    def leave(self, process: int) -> list[tuple[int, int]]:
        """A process is gone; returns the ranges that nobody reads any more."""
        for query in [q for q, (_, left) in self._queries.items() if process in left]:
            self.report(process, query, self._queries[query][0])
        return [name for name in list(self.waiting) if self.let_go(process, *name)]

    def forget(self, segment: int, offset: int) -> None:
        """The range is gone for another reason."""
        self.waiting.pop((segment, offset), None)
        self._asked_by.pop((segment, offset), None)
