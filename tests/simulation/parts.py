"""What programs of the simulation meet: errors, what they wait with, what numbers children."""

from __future__ import annotations

from typing import Any

from freehold._core.ownership.origins import Origin


class Cancelled(Exception):
    """Thrown into a program that is cancelled."""


class UserError(Exception):
    """What a program raises by itself."""


class ArgumentLost(Exception):
    """A stored argument could not be read."""


class Failure(bytes):
    """What a `get` found instead of a value: the blob of an error."""


class Waiter:
    """Resumes a program when enough rows are resolved."""

    def __init__(self, remaining: int, then: Any) -> None:
        self.remaining = remaining
        self.then = then

    def count_down(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self.then()


class Context:
    """What numbers a task's children and puts."""

    def __init__(self, task_id: bytes, attempt: int = 0) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.children = 0
        self.puts = 0
        self.begin: Any = None
        """Makes its origin; None for what cannot be executed again."""
        self.origin: Origin | None = None

    def maker(self) -> bytes:
        """The id under which it makes something now."""
        if self.origin is None and self.begin is not None:
            self.origin = self.begin()
        return self.task_id

    def next_child(self) -> int:
        self.children += 1
        return self.children - 1
