"""Exceptions from signal handlers, kept out of the runtime's own code.

A handler that raises (Ctrl-C, an alarm that means a time-out) raises wherever the main thread
happens to be: also between two lines that change a row. Masking signals does not help: another
thread takes the signal and the main thread still runs the handler. So while a core is alive every
Python handler is wrapped: if the innermost Freehold frame of the interrupted stack is not one that
merely waits or calls user code, the handler is put off: a short-lived thread sends the signal again
a moment later, and again until the runtime's frame is left. The user's handler then runs as if the
signal had come that much later.

Rejected: applying messages so that every step can be repeated (each of a hundred transitions would
have to be idempotent at every bytecode); a flag around critical sections (`__del__` has none);
tripping the
signal again from the handler (the interpreter looks before the handler's next line, so handlers
nest until the stack is full).
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

# The libraries over the public API (shuffle, util, testing) may be left anywhere, as user code may.
_PACKAGE = __name__.split(".")[0] + "._"
_interruptible: set[CodeType] = set()

_FIRST_DELAY_S = 0.0001
_LONGEST_DELAY_S = 0.005
"""Between looks at a main thread that is in the runtime's own code, as when it pickles 1 GB."""


def interruptible(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function whose frame may be left by an exception at any point."""
    _interruptible.add(function.__code__)
    return function


def is_interruptible(frame: FrameType | None) -> bool:
    """Whether an exception may be raised where `frame` is."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if type(name) is str and name.startswith(_PACKAGE):
            return frame.f_code in _interruptible
        frame = frame.f_back
    return True


class SignalGate:
    """Wraps the handlers of the main thread while it is open.

    `signal.signal` and `signal.getsignal` go on working as documented: handlers that a program sets
    while the gate is open are wrapped too, and it gets its own back.
    """

    def __init__(self) -> None:
        self._is_open = False
        self._real_signal = signal.signal
        self._real_getsignal = signal.getsignal

    def open(self) -> None:
        """Wrap the present handlers and those set from now on; in the main thread only."""
        if self._is_open or threading.current_thread() is not threading.main_thread():
            return
        self._is_open = True
        for number in signal.valid_signals():
            handler = self._real_getsignal(number)
            if callable(handler) and not isinstance(handler, (_Gated, signal.Handlers)):
                self._real_signal(number, _Gated(handler))
        signal.signal = self._signal  # type: ignore[assignment]
        signal.getsignal = self._getsignal  # type: ignore[assignment]

    def close(self) -> None:
        """Put everything back as it is without us."""
        if not self._is_open:
            return
        self._is_open = False
        if signal.signal == self._signal:
            signal.signal = self._real_signal
            signal.getsignal = self._real_getsignal
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                handler = self._real_getsignal(number)
                if isinstance(handler, _Gated):
                    self._real_signal(number, handler.handler)

    def _signal(self, number: int, handler: Any) -> Any:
        gated = callable(handler) and not isinstance(handler, (_Gated, signal.Handlers))
        return _bare(self._real_signal(number, _Gated(handler) if gated else handler))

    def _getsignal(self, number: int) -> Any:
        return _bare(self._real_getsignal(number))


class _Gated:
    """A handler that runs only where it may raise."""

    __slots__ = ("_delay_s", "_is_put_off", "handler")

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self._is_put_off = False
        self._delay_s = _FIRST_DELAY_S

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if is_interruptible(frame) or sys.is_finalizing():
            self._delay_s = _FIRST_DELAY_S
            return self.handler(number, frame)
        if not self._is_put_off:
            self._is_put_off = True
            # Not `threading.Thread`: its start waits for the thread, and a handler may not.
            _thread.start_new_thread(self._again, (number,))
        return None

    def _again(self, number: int) -> None:
        time.sleep(self._delay_s)
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        self._is_put_off = False
        # A system call of the main thread must end for it, hence a real signal; to whom it belongs
        # may have changed, and the default action would end the process.
        if _real_getsignal(number) is self:
            signal.pthread_kill(threading.main_thread().ident or 0, number)


_real_getsignal = signal.getsignal


def _bare(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Gated) else handler
