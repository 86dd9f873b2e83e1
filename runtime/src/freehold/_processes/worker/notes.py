"""What a worker remembers of the tasks it has run: a ring, in columns.

A tuple a task would be 240 bytes with its numbers and its parent's id, and so half a megabyte of a
worker of six. Columns that are made at once are 40 bytes a task, and a worker that has run many
tasks is no larger than one that has run a few. The numbers are packed by one call.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from struct import Struct
from typing import Any

from freehold._core import messages as m
from freehold._core.limits import TASK_EVENTS

_numbers = Struct("<qqq?")


class TaskNotes:
    """The last `TASK_EVENTS` tasks that have ended.

    Example:
        >>> notes = TaskNotes()
        >>> notes.add("f", m.Run(0, 0, 0, b"parent", 3, b"", 1), m.Done(0, 0, 25, b""))
        >>> [(name, index, run_us) for _, _, name, _, index, run_us in notes]
        [('f', 3, 25)]
    """

    def __init__(self) -> None:
        self._count = 0
        self._names = [""] * TASK_EVENTS
        self._parents = [b""] * TASK_EVENTS
        self._parent = b""
        self._packed = bytearray(_numbers.size * TASK_EVENTS)

    def add(self, name: str, message: m.Run | m.Call, answer: Any) -> None:
        """A task has ended with `answer`."""
        at = self._count % TASK_EVENTS
        self._count += 1
        self._names[at] = name
        parent = message.parent
        if parent == self._parent:
            parent = self._parent  # each message brings its own copy of it
        else:
            self._parent = parent
        self._parents[at] = parent
        has_failed = type(answer) is m.Failed
        _numbers.pack_into(
            self._packed, at * _numbers.size,
            time.time_ns(), message.index, answer.run_us, has_failed,
        )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[int, str, str, bytes, int, int]]:
        """(nanoseconds since the epoch at its end, kind, name, parent, index, µs), oldest first."""
        for number in range(max(0, self._count - TASK_EVENTS), self._count):
            at = number % TASK_EVENTS
            ended_ns, index, run_us, has_failed = _numbers.unpack_from(
                self._packed, at * _numbers.size
            )
            kind = "failed" if has_failed else "finished"
            yield ended_ns, kind, self._names[at], self._parents[at], index, run_us
