"""A proxy in front of the API server that passes bytes, goes silent, or breaks connections.

TLS goes through untouched, so it sees no requests and needs no certificate; a client takes the
proxy's URL as the server's address. Refusing single requests is `http_proxy`'s.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

CALL_TIMEOUT_S = 15.0
CHUNK_BYTES = 65536


class LoopThread:
    """An event loop in a thread; entering starts it, leaving ends it."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__)
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(CALL_TIMEOUT_S)
            self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class _Connection:
    """A client's connection and the one to the server behind it."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class TcpProxy(LoopThread):
    """Passes bytes to a port of loopback, until it is told to hold them or to break.

    Example:
        with TcpProxy(server.port) as proxy:
            kubeconfig = server.kubeconfig_for(proxy.url, tmp_path / "kubeconfig")
            proxy.silence()
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_silent_for_new = False

    @property
    def url(self) -> str:
        """What a client is to use as the server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections there are now, silent ones too."""
        return len(self._connections)

    def silence(self, *, new_too: bool = False) -> None:
        """Hold all bytes of the connections that are open, both ways, and break none.

        A connection made later passes bytes, as it does where one link of several went quiet;
        with `new_too` it is held as well.
        """
        self._run(self._set_flow(is_flowing=False, new_too=new_too))

    def resume(self) -> None:
        """Let held bytes go on, none lost."""
        self._run(self._set_flow(is_flowing=True, new_too=False))

    def drop_connections(self) -> int:
        """Break every open connection; how many that were. New ones are taken."""
        return self._run(self._drop())

    async def _set_flow(self, *, is_flowing: bool, new_too: bool) -> None:
        self._is_silent_for_new = new_too
        for connection in self._connections:
            if is_flowing:
                connection.flowing.set()
            else:
                connection.flowing.clear()

    async def _drop(self) -> int:
        dropped = list(self._connections)
        for connection in dropped:
            connection.abort()
        return len(dropped)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        await self._drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the test is over
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection("127.0.0.1", self._target_port)
        connection = _Connection((writer, server[1]))
        if not self._is_silent_for_new:
            connection.flowing.set()
        self._connections.add(connection)
        try:
            ways = [(reader, server[1]), (server[0], writer)]
            pumps = [asyncio.ensure_future(self._pump(*way, connection.flowing)) for way in ways]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._connections.discard(connection)
            connection.abort()

    @staticmethod
    async def _pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
    ) -> None:
        try:
            while chunk := await reader.read(CHUNK_BYTES):
                await flowing.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # broken by either end
