"""The actor that a worker has become: its instance, and how its methods are run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.ownership.row import Row
from freehold._io.serialization import loads
from freehold._processes.worker.execution import ActorExit, Execution
from freehold._processes.worker.loops import AsyncLoop, MainLoop, ThreadedLoop
from freehold.errors import AsyncioActorExit

if TYPE_CHECKING:
    from freehold._processes.worker.service import WorkerService

ASYNC_CONCURRENCY = 1000
"""Coroutines of an async actor that run at once unless `max_concurrency` says otherwise."""


class ActorHost:
    """One actor in its process."""

    def __init__(self, service: WorkerService, message: m.CreateActor) -> None:
        self._service = service
        self.spec = message.spec
        self.restart = message.restart
        self.options = message.spec.options
        self.instance: Any = None
        self.rows: list[tuple[Row, int]] = []
        """References that came with the constructor's arguments."""
        self._groups: dict[str, str] = {}
        self._methods: dict[str, Callable[..., Any]] = {}

    # ---- construction ------------------------------------------------------------------------

    def construct(self) -> bytes:
        """Run the constructor; b"" or the blob of what it raised.

        Raises:
            ActorExit, SystemExit: it left.
        """
        spec = self.spec
        call = m.Call(-1, self.restart, "__init__", b"", 0, spec.payload, 1, spec.args, spec.nested)
        execution = Execution.of(self._service.core, spec.owner.address, call)
        execution.name = f"{self.options.class_name}.__init__"
        execution.context.task_id_ = spec.actor
        self._place(execution)
        core = self._service.core
        try:
            cls = loads(spec.class_blob)
            args, kwargs = execution.arguments()
            token = core.current.set(execution.context)
            try:
                self.instance = cls.__new__(cls)
                self.instance.__init__(*args, **kwargs)
            finally:
                core.current.reset(token)
        except (ActorExit, AsyncioActorExit, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - told on, not swallowed
            return execution.error_reply(error).error
        finally:
            execution.held.clear()
        self.rows = execution.rows
        for name in dir(cls):
            group = getattr(getattr(cls, name, None), "__freehold_concurrency_group__", "")
            if group:
                self._groups[name] = group
        return b""

    def _place(self, execution: Execution) -> None:
        context = execution.context
        context.actor_id = self.spec.actor
        context.notes_submitted = True
        context.gpu_ids = self._service.gpus
        context.assigned = self.spec.shape
        context.was_reconstructed = self.restart > 0

    # ---- calls -------------------------------------------------------------------------------

    def method(self, execution: Execution) -> Callable[..., Any]:
        """The bound method that a call names."""
        name = execution.message.method  # type: ignore[union-attr]
        context = execution.context
        context.function_name = f"{self.options.class_name}.{name}"
        options = execution.message.options
        execution.name = (options.name if options is not None else "") or context.function_name
        context.task_name = execution.name
        self._place(execution)
        method = self._methods.get(name)
        if method is None:
            method = self._methods[name] = self._find(name)
        return method

    def _find(self, name: str) -> Callable[..., Any]:
        if name in ("__ray_ready__", "__freehold_ready__"):
            return lambda: True
        if name in ("__ray_call__", "__freehold_call__"):
            return lambda function, *args, **kwargs: function(self.instance, *args, **kwargs)
        if name in ("__ray_terminate__", "__freehold_terminate__"):
            return self._service.core.exit_actor
        found: Callable[..., Any] = getattr(self.instance, name)
        return found

    async def call_async(self, method: Callable[..., Any], execution: Execution) -> Any:
        """Call a method of an async actor; plain methods run on the loop as they are."""
        result = execution.call(method)
        if inspect.isawaitable(result):
            result = await result
        elif inspect.isasyncgen(result):
            result = [value async for value in result]
        return result

    def cancel(self, source: Address, key: int) -> None:
        """Cancel a running coroutine; a running plain method cannot be interrupted."""
        loop = self._service.loop
        if isinstance(loop, AsyncLoop):
            task = loop.running.get((source, key))
            if task is not None:
                loop.loop.call_soon_threadsafe(task.cancel)

    def group_of(self, method: str) -> str:
        """The concurrency group that a method was declared in."""
        return self._groups.get(method, "")

    def make_loop(self) -> MainLoop:
        """The way this actor's calls are run."""
        options = self.options
        sizes = dict(options.concurrency_groups)
        if options.is_async:
            sizes[""] = options.max_concurrency or ASYNC_CONCURRENCY
            return AsyncLoop(self._service, sizes)
        if options.max_concurrency > 1 or sizes:
            sizes[""] = max(1, options.max_concurrency)
            return ThreadedLoop(self._service, sizes)
        return self._service.loop

    def close(self) -> None:
        """The process ends in an orderly way: the instance goes while it still can clean up."""
        self._methods.clear()
        self.instance = None
