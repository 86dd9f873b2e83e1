"""Ends of processes of which a node may not have heard, because it was away when they were told.

Place in the flow: the control service tells each end to all nodes; one whose connection is down, or
that has not come back to a control service that was started again, gets those of the last minute
when it joins. Saying one twice does no harm.
"""

from __future__ import annotations

from collections import deque

from freehold._core.limits import DEATH_SILENCE_S, RETURN_S
from freehold._core.messages import ProcessDied

KEPT_S = RETURN_S + DEATH_SILENCE_S + 15.0
"""Longer than a node can be away and still be alive."""

KEPT_ENDS = 10_000
"""Ends kept at the most: some 200 bytes each."""


class RecentEnds:
    """The last ends of processes, in the order in which they were told.

    Example:
        >>> ends = RecentEnds()
        >>> ends.since(0.0)
        []
    """

    def __init__(self) -> None:
        self._ends: deque[tuple[float, ProcessDied]] = deque(maxlen=KEPT_ENDS)

    def add(self, died: ProcessDied, now: float) -> None:
        """An end is being told."""
        self._ends.append((now, died))

    def since(self, now: float, node: str = "") -> list[ProcessDied]:
        """Those that a node which joins now may have missed: of other nodes' processes."""
        while self._ends and self._ends[0][0] < now - KEPT_S:
            self._ends.popleft()
        return [died for _, died in self._ends if died.address.node != node]
