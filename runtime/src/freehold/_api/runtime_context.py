"""What a task, an actor or a driver can ask about itself: the public `RuntimeContext`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._api import state
from freehold._api.actor_handle import ActorHandle, rebuild_handle
from freehold._api.runtime_env import RuntimeEnv
from freehold._core.resources import to_floats

if TYPE_CHECKING:
    from freehold._core.interface import Core, TaskContext

GPU = "GPU"


class RuntimeContext:
    """Where the calling code runs; from `freehold.get_runtime_context()`.

    Ids are hex strings. What does not apply, such as the actor's id in a task, is None.

    Example:
        >>> context = freehold.get_runtime_context()
        >>> context.get_task_id() is None
        True
        >>> @freehold.remote
        ... def node():
        ...     return freehold.get_runtime_context().get_node_id()
        >>> freehold.get(node.remote()) in {found["NodeID"] for found in freehold.nodes()}
        True
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def _here(self) -> TaskContext | None:
        # A driver has a context too, for the numbers of its tasks; but it runs none.
        return None if self._core.is_driver else self._core.context()

    def get_job_id(self) -> str:
        """The id of the job: of the driver that all this is for."""
        return self._core.job_id

    def get_node_labels(self) -> dict[str, str]:
        """The labels of the node that this process runs on, those it has by itself too.

        Example:
            >>> sorted(freehold.get_runtime_context().get_node_labels())
            ['freehold.dev/node-id', 'freehold.dev/node-name']
        """
        core = state.require()
        found = [node.labels for node in core.nodes() if node.node == core.node_id]
        return dict(found[0]) if found else {}

    def get_node_id(self) -> str:
        """The id of the node that this process is on."""
        return self._core.node_id

    def get_worker_id(self) -> str:
        """The id of this process."""
        return self._core.worker_id

    def get_task_id(self) -> str | None:
        """The id of the task or method call that runs here."""
        here = self._here()
        return here.task_id.hex() if here and here.task_id else None

    def get_task_name(self) -> str | None:
        """The name of the task: its function's, or what `.options(name=…)` said."""
        here = self._here()
        return here.task_name if here else None

    def get_task_function_name(self) -> str | None:
        """The name of the task's function or method, whatever `.options(name=…)` said."""
        here = self._here()
        return here.function_name if here else None

    def get_attempt_number(self) -> int:
        """Which attempt of the task this is: 0, and one more for each retry."""
        here = self._here()
        return here.attempt if here else 0

    def get_actor_id(self) -> str | None:
        """The id of the actor that runs here."""
        here = self._here()
        return here.actor_id[:16].hex() if here and here.actor_id else None

    def get_actor_name(self) -> str | None:
        """The name of the actor that runs here; "" if it has none."""
        here = self._here()
        if here is None or not here.actor_id:
            return None
        return self._core.own_actor()[1].options.name

    @property
    def current_actor(self) -> ActorHandle:
        """A handle of the actor that runs here, to pass on. It keeps the actor alive.

        Raises:
            RuntimeError: this is no actor.
        """
        here = self._here()
        if here is None or not here.actor_id:
            raise RuntimeError("current_actor is for the methods of actors; this is none")
        ref, info = self._core.own_actor()
        return rebuild_handle(ref, info.options.handle_meta)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor that runs here was started again after its process ended."""
        here = self._here()
        return here is not None and bool(here.actor_id) and here.was_reconstructed

    @property
    def namespace(self) -> str:
        """Where this job's actors have their names."""
        return self._core.namespace

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment that tasks submitted here inherit."""
        env = RuntimeEnv(env_vars=state.inherited.env_vars)
        if state.inherited.working_dir:
            env["working_dir"] = state.inherited.working_dir
        return env

    def get_runtime_env_string(self) -> str:
        """`runtime_env` as JSON."""
        import json

        return json.dumps(self.runtime_env, sort_keys=True)

    def get_assigned_resources(self) -> dict[str, float]:
        """What the task or actor that runs here was given, by resource."""
        here = self._here()
        return to_floats(here.assigned) if here else {}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The indices of the GPUs that may be used here, as strings, under "GPU"."""
        here = self._here()
        return {GPU: [str(index) for index in here.gpu_ids] if here else []}

    def get(self) -> dict[str, Any]:
        """The ids as a dict, under Ray's names."""
        found = {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "namespace": self.namespace,
        }
        for name, value in (("task_id", self.get_task_id()), ("actor_id", self.get_actor_id())):
            if value is not None:
                found[name] = value
        return found


def get_runtime_context() -> RuntimeContext:
    """Facts about where the calling code runs: ids, resources, the actor it is in.

    Example:
        >>> @freehold.remote(num_cpus=0.5)
        ... def resources():
        ...     return freehold.get_runtime_context().get_assigned_resources()
        >>> freehold.get(resources.remote())
        {'CPU': 0.5}
    """
    return RuntimeContext(state.require())
