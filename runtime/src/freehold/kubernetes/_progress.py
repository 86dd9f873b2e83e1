"""One line on standard error that says how far something is, while it is waited for.

On a terminal the line is written over and taken away at the end. Elsewhere nothing is shown, or, if
asked for, each change on a line of its own.
"""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self, TextIO


class ProgressLine:
    """Shows words and seconds.

    Args:
        title: what stands before.
        stream: where; None for standard error.
        has_lines: whether to write lines where there is no terminal.
    """

    def __init__(
        self, title: str, stream: TextIO | None = None, *, has_lines: bool = False
    ) -> None:
        self._title = title
        self._stream = sys.stderr if stream is None else stream
        self._is_terminal = self._stream.isatty()
        self._has_lines = has_lines
        self._started = time.monotonic()
        self._last = ""

    def show(self, words: str) -> None:
        """Say where it is now."""
        words = " ".join(words.split())
        if self._is_terminal:
            text = f"{self._title} ({time.monotonic() - self._started:.0f} s): {words}"
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[K{text[:width]}")
            self._stream.flush()
        elif self._has_lines and words != self._last:
            self._stream.write(f"{self._title}: {words}\n")
            self._stream.flush()
        self._last = words

    def clear(self) -> None:
        """Take the line away; other output may follow."""
        if self._is_terminal and self._last:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
        if self._is_terminal:
            self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.clear()
