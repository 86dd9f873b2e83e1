"""Questions to the node manager and, through it, the control service; each blocks for its
answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core.messages import Message
from freehold._io.reactor import Waiter
from freehold.errors import ClusterDiedError, FreeholdError

if TYPE_CHECKING:
    from freehold._processes.owner.base import CoreBase


class Requests:
    """Numbered questions under way."""

    def __init__(self, core: CoreBase) -> None:
        self._core = core
        self._next = 1
        self._open: dict[int, tuple[Any, list[Message | FreeholdError]]] = {}

    def start(self) -> tuple[int, Waiter]:
        """A new number and its waiter; under the lock."""
        waiter = Waiter()
        return self.start_for(waiter, []), waiter

    def start_for(self, waiter: Any, answers: list[Message | FreeholdError]) -> int:
        """A number whose answer goes to `answers`; then `waiter.count_down()` is called, or
        `finish()` if none will come; under the lock.
        """
        number = self._next
        self._next += 1
        self._open[number] = (waiter, answers)
        return number

    def ask(self, make: Callable[[int], Message], timeout_s: float | None = None) -> Any:
        """Send `make(number)` to the node manager and wait for the answer; without the lock.

        Raises:
            ClusterDiedError: the node manager went away, or did not answer in time.
            FreeholdSystemError: the question cannot be sent.
        """
        core = self._core
        with core.reactor.lock:
            core.check_alive()
            number, waiter = self.start()
            core.owner.outbox.ask_node(make(number))
            core.carry_out()
        return self.finish(number, waiter, timeout_s)

    def finish(
        self,
        number: int,
        waiter: Waiter,
        timeout_s: float | None = None,
        patience_s: float | None = None,
        when_slow: tuple[float, Callable[[], None]] | None = None,
    ) -> Any:
        """Wait for the answer to a question that was sent; without the lock.

        Args:
            timeout_s: until it is an error that there is none.
            patience_s: until a worker gives its CPU back meanwhile; None is the usual.
            when_slow: what to do, once, when there is no answer after so many seconds.
        """
        core = self._core
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            if when_slow is not None:
                slow_s, do = when_slow
                if not core.block(waiter, time.monotonic() + slow_s, patience_s):
                    do()
                    patience_s = 0.0  # it has been given back once
            core.block(waiter, deadline, patience_s)
        except BaseException:  # a signal handler's: the answer may have come all the same
            with core.reactor.lock:
                self.give_up(number)
                core.carry_out()
            raise
        _, answers = self._open.pop(number)
        if not answers:
            core.check_alive()
            raise ClusterDiedError(reason=f"no answer to a request within {timeout_s} s")
        answer = answers[0]
        if isinstance(answer, FreeholdError):
            raise answer
        return answer

    def answer(self, number: int, message: Message) -> None:
        """An answer arrived; under the lock."""
        entry = self._open.get(number)
        if entry is not None:
            entry[1].append(message)
            entry[0].count_down()
        else:
            self._core.storage.give_back(message)

    def fail(self, number: int, error: FreeholdError) -> bool:
        """A question could not be sent; False if nobody asked it. Under the lock."""
        entry = self._open.get(number)
        if entry is None:
            return False
        entry[1].append(error)
        entry[0].finish()
        return True

    def give_up(self, number: int) -> None:
        """Nobody waits for this answer any more; what it brings, or brought, is given back. Under
        the lock."""
        for answer in self._open.pop(number)[1]:
            if isinstance(answer, Message):
                self._core.storage.give_back(answer)

    def forget(self, number: int) -> None:
        """Nobody waits for this answer; under the lock."""
        self._open.pop(number, None)

    def abandon(self) -> None:
        """No answer will come any more; under the lock."""
        for waiter, _ in list(self._open.values()):
            waiter.finish()
