"""What the public API asks of a core, and the resolved options it passes down.

One interface, so that the core may live in this process (`_processes.owner`), behind a gateway, or
in a simulator. The API layer validates what the user wrote (`freehold._api`) and builds these
structs once per remote function, so that a call pays for none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from freehold._core.messages import ActorInfo, NodeInfo
from freehold._core.options import DYNAMIC, ActorRequest, FunctionEntry, TaskOptions
from freehold._core.resources import Shape

if TYPE_CHECKING:
    from concurrent.futures import Future

    from freehold._core.ownership.reference import ObjectRef


class TaskContext(Protocol):
    """Where the calling thread is: which task, which actor, on what."""

    task_name: str
    function_name: str
    attempt: int
    actor_id: bytes
    gpu_ids: list[int]
    assigned: Shape
    was_reconstructed: bool

    @property
    def task_id(self) -> bytes:
        """The task's id."""


class Core(Protocol):
    """Everything the public API needs. All methods may be called from any thread."""

    is_driver: bool
    namespace: str
    job_id: str
    node_id: str
    worker_id: str
    session_dir: str

    def submit_task(
        self,
        entry: FunctionEntry,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> ObjectRef[Any] | list[ObjectRef[Any]] | None:
        """Submit; one reference for `num_returns` 1 (or dynamic), None for 0, else a list."""

    def create_actor(
        self, request: ActorRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ObjectRef[Any], ActorInfo | None]:
        """Make an actor: its counted handle reference; `ActorInfo` if it existed already.

        Raises:
            ActorAlreadyExistsError: the name is taken.
        """

    def call_actor(
        self,
        actor: ObjectRef[Any],
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> ObjectRef[Any] | list[ObjectRef[Any]] | None:
        """Call a method; ordered with this process's other calls of the same handle."""

    def find_actor(self, name: str, namespace: str) -> tuple[ObjectRef[Any], ActorInfo]:
        """The living actor of that name.

        Raises:
            ValueError: there is none.
        """

    def own_actor(self) -> tuple[ObjectRef[Any], ActorInfo]:
        """The actor that the calling process is.

        Raises:
            RuntimeError: it is none.
        """

    def list_actors(self, namespace: str | None, timeout_s: float | None = None) -> list[ActorInfo]:
        """Actors of a namespace or of all; as the next two within `timeout_s`, or it raises."""

    def kill_actor(self, actor: ObjectRef[Any], no_restart: bool) -> None: ...

    def exit_actor(self) -> None:
        """End the calling actor after this call; raises what unwinds the method."""

    def put(self, value: Any) -> ObjectRef[Any]: ...

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, return_exceptions: bool
    ) -> list[Any]: ...

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None, fetch_local: bool
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]: ...

    def status(self, ref: ObjectRef[Any]) -> str:
        """ "pending", "ready" or "failed", without the value."""

    def future(self, ref: ObjectRef[Any]) -> Future[Any]: ...

    def add_done_callback(self, ref: ObjectRef[Any], callback: Callable[[], None]) -> None:
        """Call `callback()` (once, from any thread, must not block) when `ref` is resolved."""

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None: ...

    def explain(self, ref: ObjectRef[Any]) -> str: ...

    def nodes(self, timeout_s: float | None = None) -> list[NodeInfo]: ...

    def context(self) -> TaskContext | None: ...

    def prepare_env(self, env_vars: dict[str, str], working_dir: str) -> str:
        """Make a runtime environment known to the cluster; its hash, for `TaskOptions.env`."""

    def task_events(self, timeout_s: float = 10.0) -> list[tuple[int, str, str, str, str]]:
        """The task events of all processes, oldest first."""

    def shutdown(self) -> None: ...


__all__ = ["DYNAMIC", "ActorRequest", "Core", "FunctionEntry", "TaskContext", "TaskOptions"]
