"""Exceptions from signal handlers, kept out of the runtime's own code.

A handler that raises (Ctrl-C, an alarm that means a time-out) raises wherever the main thread
happens to be: also between two lines that change a row. Masking signals does not help: another
thread takes the signal and the main thread still runs the handler. So while a core is alive every
Python handler is wrapped: if the innermost Freehold frame of the interrupted stack is not one that
merely waits or calls user code, the handler is put off by tripping the signal again, which costs a
few microseconds each time until the runtime's frame is left. The user's handler then runs as if the
signal had come that much later.

Rejected: applying messages so that every step can be repeated (each of a hundred transitions would
have to be idempotent at every bytecode); a flag around critical sections (`__del__` has none).
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

_PACKAGE = __name__.split(".")[0] + "."
_interruptible: set[CodeType] = set()


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
        signal.getsignal = self._getsignal

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

    __slots__ = ("handler",)

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        if is_interruptible(frame) or sys.is_finalizing():
            return self.handler(number, frame)
        _thread.interrupt_main(number)  # a few bytecodes later we are asked again
        return None


def _bare(handler: Any) -> Any:
    return handler.handler if isinstance(handler, _Gated) else handler
