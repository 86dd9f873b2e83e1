"""A core without processes: runs every task where it is submitted, at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from freehold._api.generator import ObjectRefGenerator
from freehold._core.ids import Address, child_task_id, object_id
from freehold._core.interface import DYNAMIC, ActorRequest, FunctionEntry, TaskOptions
from freehold._core.messages import ActorInfo, ActorOptions, NodeInfo, OwnerInfo
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._io.references import reduce_reference
from freehold._io.serialization import dumps, loads
from freehold.errors import ActorDiedError, GetTimeoutError

PENDING = object()


class FakeTable:
    """What `ObjectRef` needs of a table."""

    on_drop = None

    def __init__(self, core: FakeCore) -> None:
        self.host = core
        self.drops: list[Any] = []

    @staticmethod
    def reduce(ref: ObjectRef[Any]) -> Any:
        return reduce_reference(ref)


class FakeRow:
    """A task with its outputs."""

    def __init__(self, core: FakeCore, number: int) -> None:
        self.table = core.table
        self._task = child_task_id(b"\0" * 16, number)
        self.values: list[Any] = []
        self.error: BaseException | None = None

    def object_id(self, index: int) -> bytes:
        return object_id(self._task, index)

    def task_id(self) -> bytes:
        return self._task


class FakeContext:
    """Where the fake worker is."""

    task_id = b"t" * 16
    task_name = "task"
    function_name = "function"
    attempt = 1
    actor_id = b"a" * 16
    gpu_ids = [1, 3]
    assigned = (("CPU", 5_000),)
    was_reconstructed = True


class FakeCore:
    """Implements `Core`; `calls` has what it was asked, in order."""

    def __init__(self, is_driver: bool = True, session_dir: Path | None = None) -> None:
        self.is_driver = is_driver
        self.namespace = "here"
        self.cluster = "fake-cluster"
        self.job_id = "job"
        self.node_id = "f" * 32
        self.worker_id = "worker"
        self.session_dir = str(session_dir)
        self.table = FakeTable(self)
        self.calls: list[tuple[Any, ...]] = []
        self.envs: list[tuple[dict[str, str], str]] = []
        self.here: Any = None
        self.actors: dict[bytes, Any] = {}
        self.infos: dict[bytes, ActorInfo] = {}
        self.refs: dict[bytes, ObjectRef[Any]] = {}
        self.events: list[tuple[int, str, str, str, str]] = []
        self.is_down = False
        self._numbers = 0

    # ---- tasks ---------------------------------------------------------------------------------

    def _row(self) -> FakeRow:
        self._numbers += 1
        return FakeRow(self, self._numbers)

    def pending(self) -> ObjectRef[Any]:
        row = self._row()
        row.values = [PENDING]
        return make_reference(row)  # type: ignore[arg-type]

    def _run(self, run: Callable[..., Any], given: Any, options: TaskOptions) -> Any:
        args, kwargs = given
        row = self._row()
        count = options.num_returns
        try:
            value = run(
                *[self._value(arg) for arg in args],
                **{name: self._value(arg) for name, arg in kwargs.items()},
            )
            if count == DYNAMIC:
                value = ObjectRefGenerator([self.put(item) for item in value])
            row.values = list(value) if count > 1 else [value]
        except Exception as error:  # the task's
            row.error = error
        if count == 0:
            return None
        if count in (1, DYNAMIC):
            return make_reference(row)  # type: ignore[arg-type]
        return [make_reference(row, index) for index in range(count)]  # type: ignore[arg-type]

    def _value(self, value: Any) -> Any:
        return self.get([value], None, False)[0] if isinstance(value, ObjectRef) else value

    def submit_task(
        self, entry: FunctionEntry, args: Any, kwargs: Any, options: TaskOptions
    ) -> Any:
        self.calls.append(("submit", entry, args, kwargs, options))
        return self._run(entry.function, (args, kwargs), options)

    # ---- actors --------------------------------------------------------------------------------

    def create_actor(
        self, request: ActorRequest, args: Any, kwargs: Any
    ) -> tuple[ObjectRef[Any], ActorInfo | None]:
        self.calls.append(("create", request, args, kwargs))
        options = request.options
        for actor, info in self.infos.items():
            if options.name and info.options.name == options.name:
                if request.get_if_exists:
                    return self.refs[actor], info
                raise ValueError(f"name {options.name} is taken")
        ref: ObjectRef[Any] = make_reference(self._row())  # type: ignore[arg-type]
        actor = ref.task_id()
        self.actors[actor] = request.cls(*args, **kwargs)
        self.infos[actor] = ActorInfo(actor, OwnerInfo(Address("n", 1)), options, "alive")
        self.refs[actor] = ref
        return ref, None

    def call_actor(
        self, actor: ObjectRef[Any], method: str, args: Any, kwargs: Any, options: TaskOptions
    ) -> Any:
        self.calls.append(("call", method, args, kwargs, options))
        instance = self.actors.get(actor.task_id())
        if instance is None:
            raise ActorDiedError(actor_id=actor.task_id().hex())
        if method.endswith("_ready__"):
            function: Any = lambda: True  # noqa: E731
        elif method.endswith("_call__"):
            function = lambda f, *a: f(instance, *a)  # noqa: E731
        elif method.endswith("_terminate__"):
            function = self.exit_actor
        else:
            function = getattr(instance, method)
        return self._run(function, (args, kwargs), options)

    def find_actor(self, name: str, namespace: str) -> tuple[ObjectRef[Any], ActorInfo]:
        for actor, info in self.infos.items():
            if (info.options.name, info.options.namespace) == (name, namespace):
                return self.refs[actor], info
        raise ValueError(f"no actor is named {name!r} in {namespace!r}")

    def own_actor(self) -> tuple[ObjectRef[Any], ActorInfo]:
        actor, info = next(iter(self.infos.items()))
        return self.refs[actor], info

    def list_actors(self, namespace: str | None, timeout_s: float | None = None) -> list[ActorInfo]:
        found = self.infos.values()
        return [i for i in found if namespace is None or i.options.namespace == namespace]

    def kill_actor(self, actor: ObjectRef[Any], no_restart: bool) -> None:
        self.calls.append(("kill", actor, no_restart))
        self.actors.pop(actor.task_id(), None)

    def exit_actor(self) -> None:
        self.calls.append(("exit",))

    # ---- objects -------------------------------------------------------------------------------

    def put(self, value: Any) -> ObjectRef[Any]:
        row = self._row()
        blob, nested = dumps(value)
        row.values = [loads(blob if isinstance(blob, bytes) else blob.join(), nested)]
        return make_reference(row)  # type: ignore[arg-type]

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, return_exceptions: bool
    ) -> list[Any]:
        self.calls.append(("get", len(refs), timeout))
        found = []
        for ref in refs:
            row: Any = ref._row
            if row.error is not None:
                if not return_exceptions:
                    raise row.error
                found.append(row.error)
                continue
            value = row.values[ref._index]
            if value is PENDING:
                raise GetTimeoutError(timeout_s=timeout or 0.0)
            found.append(value)
        return found

    def wait(
        self, refs: list[ObjectRef[Any]], num_returns: int, timeout: float | None, fetch_local: bool
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        self.calls.append(("wait", num_returns, timeout, fetch_local))
        ready = [ref for ref in refs if self.status(ref) != "pending"][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def status(self, ref: ObjectRef[Any]) -> str:
        row: Any = ref._row
        if row.error is not None:
            return "failed"
        return "pending" if row.values[ref._index] is PENDING else "ready"

    def future(self, ref: ObjectRef[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.get([ref], None, False)[0])
        except Exception as error:
            future.set_exception(error)
        return future

    def add_done_callback(self, ref: ObjectRef[Any], callback: Callable[[], None]) -> None:
        callback()

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        self.calls.append(("cancel", ref, force, recursive))

    def explain(self, ref: ObjectRef[Any]) -> str:
        return f"object {ref.hex()} is {self.status(ref)}"

    # ---- the cluster ---------------------------------------------------------------------------

    def nodes(self, timeout_s: float | None = None) -> list[NodeInfo]:
        total = {"CPU": 20_000, "spice": 5_000}
        free = {"CPU": 10_000, "spice": 0}
        alive = NodeInfo("f" * 32, 1, total, free, is_head=True, hostname="box", pid=7)
        dead = NodeInfo("d" * 32, 1, {"CPU": 90_000}, {"CPU": 90_000}, is_alive=False)
        return [alive, dead]

    def context(self) -> Any:
        return self.here

    def prepare_env(self, env_vars: dict[str, str], working_dir: str) -> str:
        self.envs.append((dict(env_vars), working_dir))
        return f"env{len(self.envs)}"

    def task_events(self, timeout_s: float = 10.0) -> list[tuple[int, str, str, str, str]]:
        return self.events

    def shutdown(self) -> None:
        self.is_down = True

    # ---- what tests ask ------------------------------------------------------------------------

    def last(self, kind: str) -> tuple[Any, ...]:
        return next(call for call in reversed(self.calls) if call[0] == kind)

    def task_options(self) -> TaskOptions:
        options: TaskOptions = self.last("submit")[-1]
        return options

    def actor_request(self) -> ActorRequest:
        request: ActorRequest = self.last("create")[1]
        return request

    def actor_options(self) -> ActorOptions:
        return self.actor_request().options
