"""Ending a task from outside: cancellation and timeouts.

Only the main thread can be interrupted, and only while it runs user code: a signal handler looks at
the innermost Freehold frame of the interrupted stack and raises only if that is the one that called
the user's function, so that no row and no half-sent reply is ever torn.

The signal is sent until the handler has raised. One that comes just before a system call ends none:
the interpreter only looks at it afterwards, and a task that sleeps for an hour would sleep on.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from freehold._io.reactor import Reactor
from freehold._io.signals import is_interruptible

if TYPE_CHECKING:
    from freehold._processes.owner.context import Context

INTERRUPT = signal.SIGUSR2
"""Freehold's own, so that users keep SIGINT, SIGALRM and SIGUSR1."""


_FIRST_AGAIN_S = 0.005
_LONGEST_AGAIN_S = 0.2
"""Between two signals to a task that has not been interrupted by the one before."""


class Interrupts:
    """The interrupt of the main thread's task."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.running: Context | None = None
        """The task that the main thread runs, None between tasks and in actors' methods."""
        self._target: Context | None = None

    def install(self) -> None:
        """Take over the signal; in the main thread."""
        signal.signal(INTERRUPT, self._on_signal)

    def interrupt(self, context: Context) -> None:
        """Raise KeyboardInterrupt in the task of `context`, if it still runs; under the lock."""
        if self.running is context:
            self._target = context
            self._signal(context, _FIRST_AGAIN_S)

    def _signal(self, context: Context, again_s: float) -> None:
        if self._target is not context or self.running is not context:
            return  # it was interrupted, or has ended
        signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)
        longer_s = min(2 * again_s, _LONGEST_AGAIN_S)
        self._reactor.call_later(again_s, lambda: self._signal(context, longer_s))

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        target = self._target
        if target is None or self.running is not target:
            return
        if is_interruptible(frame):
            self._target = None
            raise KeyboardInterrupt
