"""Ending a task from outside: cancellation and timeouts.

Only the main thread can be interrupted, and only while it runs user code: a signal handler looks at
the innermost Freehold frame of the interrupted stack and raises only if that is the one that called
the user's function, so that no row and no half-sent reply is ever torn.
"""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from freehold._io.signals import is_interruptible

if TYPE_CHECKING:
    from freehold._processes.owner.context import Context

INTERRUPT = signal.SIGUSR2
"""Freehold's own, so that users keep SIGINT, SIGALRM and SIGUSR1."""


class Interrupts:
    """The interrupt of the main thread's task."""

    def __init__(self) -> None:
        self.running: Context | None = None
        """The task that the main thread runs, None between tasks and in actors' methods."""
        self._target: Context | None = None

    def install(self) -> None:
        """Take over the signal; in the main thread."""
        signal.signal(INTERRUPT, self._on_signal)

    def interrupt(self, context: Context) -> None:
        """Raise KeyboardInterrupt in the task of `context`, if it still runs; from any thread."""
        if self.running is context:
            self._target = context
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)

    def _on_signal(self, _number: int, frame: FrameType | None) -> None:
        target = self._target
        if target is None or self.running is not target:
            return
        if is_interruptible(frame):
            self._target = None
            raise KeyboardInterrupt
        _thread.interrupt_main(INTERRUPT)  # look again a few bytecodes later
