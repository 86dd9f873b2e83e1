"""What waits to be written to one stream: put there by the reactor, taken by the loop's thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from freehold._core.limits import CONTROL_FRAME_BYTES, STREAM_FRAMES
from freehold._io.rpc.runtime import Loop


class Pipe:
    """Bounded: a stream whose other end does not read is cut, as if it had broken.

    Nothing is lost by that: what was not confirmed is sent again on the next stream.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._frames: deque[Any] = deque()
        self._bytes = 0
        self._is_filled = asyncio.Event()
        # The first is counted by whoever puts, always one thread; the second on the loop's.
        self._put_count = self._written_count = 0
        self.is_cut = False
        """Nothing more is written; set on the loop's thread."""

    @property
    def has_frames(self) -> bool:
        """Whether something waits to be written."""
        return self._put_count != self._written_count and not self.is_cut

    def put(self, frame: Any) -> None:
        """Have a frame written; from any thread."""
        self._put_count += 1
        self._loop.call(self._append, frame)

    def cut(self) -> None:
        """End the stream; from any thread."""
        self._loop.call(self._end)

    async def get(self) -> Any:
        """The next frame, None when the stream is to end; on the loop's thread."""
        while not self._frames and not self.is_cut:
            self._is_filled.clear()
            await self._is_filled.wait()
        if self.is_cut:
            return None
        frame = self._frames.popleft()
        self._bytes -= frame.ByteSize()
        return frame

    def wrote(self) -> None:
        """A frame that `get` gave was written; on the loop's thread."""
        self._written_count += 1

    def _append(self, frame: Any) -> None:
        if self.is_cut:
            return
        self._frames.append(frame)
        self._bytes += frame.ByteSize()
        if len(self._frames) > STREAM_FRAMES or self._bytes > 2 * CONTROL_FRAME_BYTES:
            self._end()
        self._is_filled.set()

    def _end(self) -> None:
        self.is_cut = True
        self._frames.clear()
        self._is_filled.set()


async def carry(read: Any, write: Any, pipe: Pipe, receive: Any) -> None:
    """Write what the pipe has and receive what comes, until either ends; on the loop's thread.

    Args:
        read: gives the next frame, or an end that is no message.
        receive: takes a frame; the next is read when it has.
    """

    async def writing() -> None:
        while (frame := await pipe.get()) is not None:
            await write(frame)
            pipe.wrote()

    async def reading() -> None:
        while hasattr(frame := await read(), "ByteSize"):
            await receive(frame)

    tasks = [asyncio.ensure_future(writing()), asyncio.ensure_future(reading())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        pipe.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
