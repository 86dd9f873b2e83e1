"""What waits to be written to one stream: put there by the reactor, taken by the loop's thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from freehold._core.limits import STREAM_FRAMES, STREAM_WRITE_S
from freehold._io.rpc.runtime import Loop, Mailbox


class Pipe:
    """Bounded: who has more to say than `has_room` for keeps it, and goes on at `on_room`.

    A stream whose other end does not read is cut, as if it had broken. Nothing is lost by that:
    what was not confirmed is sent again on the next one.
    """

    def __init__(self, loop: Loop, mailbox: Mailbox) -> None:
        self._loop = loop
        self._mailbox = mailbox
        self._frames: deque[Any] = deque()
        self._is_filled = asyncio.Event()
        # The first is counted by whoever puts, always one thread; the second on the loop's.
        self._put_count = self._written_count = 0
        self._is_wanted = False
        self.on_room: Callable[[], None] = lambda: None
        """Called on the reactor's thread when there is room again, after `has_room` said no."""
        self.is_cut = False
        """Nothing more is written; set on the loop's thread."""

    @property
    def has_frames(self) -> bool:
        """Whether something waits to be written."""
        return self._put_count != self._written_count and not self.is_cut

    @property
    def has_room(self) -> bool:
        """Whether to put more; on the reactor's thread."""
        if self._put_count - self._written_count < STREAM_FRAMES:
            return True
        self._is_wanted = True  # said before looking again: a write may end in between
        return self._put_count - self._written_count < STREAM_FRAMES

    def put(self, frame: Any) -> None:
        """Have a frame written; on the reactor's thread."""
        self._put_count += 1
        self._loop.call(self._append, frame)

    def cut(self) -> None:
        """End the stream; from any thread."""
        self._loop.call(self._end)

    async def write_all(self, write: Callable[[Any], Awaitable[None]]) -> None:
        """Write what is put until the stream is cut; on the loop's thread.

        Raises:
            TimeoutError: the other end does not read.
        """
        while True:
            while not self._frames and not self.is_cut:
                self._is_filled.clear()
                await self._is_filled.wait()
            if self.is_cut:
                return
            await asyncio.wait_for(write(self._frames.popleft()), STREAM_WRITE_S)
            self._written_count += 1
            if self._is_wanted:
                self._is_wanted = False
                self._mailbox.post(self.on_room)

    def _append(self, frame: Any) -> None:
        if not self.is_cut:
            self._frames.append(frame)
            self._is_filled.set()

    def _end(self) -> None:
        self.is_cut = True
        self._frames.clear()
        self._is_filled.set()


async def carry(
    read: Callable[[], Awaitable[Any]],
    write: Callable[[Any], Awaitable[None]],
    pipe: Pipe,
    receive: Callable[[Any], Awaitable[None]],
) -> None:
    """Write what the pipe has and receive what comes, until either ends; on the loop's thread.

    Args:
        read: gives the next frame, or an end that is no message.
        receive: takes a frame; the next is read when it has.

    Raises:
        TimeoutError: the other end does not read.
    """

    async def reading() -> None:
        while hasattr(frame := await read(), "ByteSize"):
            await receive(frame)

    tasks = [asyncio.ensure_future(pipe.write_all(write)), asyncio.ensure_future(reading())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        pipe.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
