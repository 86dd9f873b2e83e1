"""What the store may take of the machine's memory, and what it touches ahead of being asked.

Place in the flow: the shell looks at the machine's memory and tells the store machine how much may
still be committed (`BudgetRead`); between two looks the `Budget` counts along. `TouchAhead` names
free pages for a background thread to touch. Neither reads anything or measures time itself.

Below the headroom the store must wait instead of trying: under a cgroup's limit the kernel answers
an allocation that does not fit by killing a process, not with an error.
"""

from __future__ import annotations

from freehold._core.store.allocator import Allocator
from freehold._core.store.events import Instant, StoreSettings, TouchPages

TOUCH_STEP_BYTES = 4 << 20
"""Touched in one go: some milliseconds, after which the thread looks whether to go on."""

TOUCH_FOR_S = 1.0
"""Without a request for memory for this long nothing is touched ahead any more."""


class Budget:
    """Bytes that may still be committed; None while nobody has looked: no limit."""

    __slots__ = ("is_short", "left", "told")

    def __init__(self) -> None:
        self.left: int | None = None
        self.told = ""
        self.is_short = False
        """Whether the first in the queue waits for this, and not for room in the arena."""

    def lacks(self, cold_bytes: int) -> int:
        """By how much it falls short of committing `cold_bytes`."""
        if self.left is None or not cold_bytes:
            return 0
        return max(0, cold_bytes - self.left)

    def spend(self, cold_bytes: int) -> None:
        """So much is being committed."""
        if self.left is not None:
            self.left -= cold_bytes

    def gain(self, freed_bytes: int) -> None:
        """So much was given back to the kernel."""
        if self.left is not None:
            self.left += freed_bytes


class TouchAhead:
    """One step at a time, while memory is being asked for, within what may stay touched."""

    def __init__(self, settings: StoreSettings) -> None:
        self._limit_bytes = settings.touched_free_limit_bytes
        self._is_on = settings.touch_ahead
        self._asked_at: Instant | None = None
        self._step: TouchPages | None = None
        self._is_stale = False

    def asked(self, now: Instant) -> None:
        """Somebody asked for memory."""
        self._asked_at = now

    def next_step(self, allocator: Allocator, budget: Budget, now: Instant) -> TouchPages | None:
        """What to touch now, if anything."""
        if not self._is_on or self._step is not None or self._asked_at is None:
            return None
        room = self._limit_bytes - allocator.touched_free_bytes
        room = min(room, TOUCH_STEP_BYTES)
        if now - self._asked_at >= TOUCH_FOR_S or budget.is_short or budget.lacks(room):
            return None
        offset, length = allocator.next_cold(room) if room > 0 else (0, 0)
        if not length:
            return None
        budget.spend(length)
        self._is_stale = False
        self._step = TouchPages(offset, length)
        return self._step

    def decommitted(self, offset: int, length: int) -> None:
        """These pages are cold again, whatever the step under way has touched of them."""
        step = self._step
        if step is not None and offset < step.offset + step.length:
            self._is_stale |= step.offset < offset + length

    def finished(
        self, allocator: Allocator, offset: int, length: int, is_done: bool
    ) -> list[tuple[int, int]] | None:
        """The step ended; what of it to give back, or None if it is not the one under way."""
        if self._step != TouchPages(offset, length):
            return None
        self._step = None
        if is_done and not self._is_stale:
            allocator.note_touched(offset, length)
            return []
        if not is_done:
            self._asked_at = None  # until somebody asks again
        return allocator.untouched(offset, length)
