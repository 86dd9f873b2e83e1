"""`init` and `shutdown`: the cluster of this driver.

`init` checks its arguments and hands what they come to, a `DriverRequest`, to
`_processes.driver.service.start_driver`, which starts the node process and gives the core.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from freehold._api import option_checks as checks
from freehold._api import state
from freehold._api.runtime_env import RuntimeEnv, adopt
from freehold._api.suggest import did_you_mean
from freehold.errors import ForkedProcessError, NotSupportedYetError

if TYPE_CHECKING:
    from types import TracebackType

_starting = allocate_lock()
_ends_at_exit = False

_LATER = "leave it out"
_LOGGING = "leave it out: Freehold does not touch the driver's logging"
NOT_YET: dict[str, checks.Check] = {
    "cgroup_path": checks.not_yet(_LATER),
    "configure_logging": checks.not_yet(_LOGGING, True),
    "dashboard_host": checks.not_yet("leave it out: there is no dashboard yet", "127.0.0.1"),
    "dashboard_port": checks.not_yet("leave it out: there is no dashboard yet"),
    "enable_resource_isolation": checks.not_yet(_LATER, False),
    "job_config": checks.not_yet("give runtime_env and namespace to init"),
    "local_mode": checks.not_yet("call f.__wrapped__(…) to run a function here", False),
    "logging_config": checks.not_yet(_LOGGING),
    "logging_format": checks.not_yet(_LOGGING),
    "logging_level": checks.not_yet(_LOGGING, "info", 20),
    "proxy_server_url": checks.not_yet("leave it out: there is no dashboard yet"),
    "system_reserved_cpu": checks.not_yet(_LATER),
    "system_reserved_memory": checks.not_yet(_LATER),
}
"""Ray's arguments that are not built: only their defaults pass."""
ARGUMENTS = (
    "address",
    "ignore_reinit_error",
    "include_dashboard",
    "labels",
    "log_to_driver",
    "namespace",
    "num_cpus",
    "num_gpus",
    "object_store_memory",
    "resources",
    "runtime_env",
)


class DriverRequest(NamedTuple):
    """What `init` asks of `start_driver`.

    Attributes:
        address: the cluster to attach to; "" for what the settings say, "local" for one of its own.
        resources: amounts by name, `CPU`, `GPU` and `memory` (bytes) too; what is left out of those
            is detected.
        object_store_memory: bytes of the arena; None for the default.
        namespace: of named actors; "" for one of its own, which the core makes up.
        log_to_driver: whether the lines that workers write are shown here.
        system_config: settings by name, checked by the settings themselves.
        labels: of the node that is started.
    """

    resources: dict[str, float]
    object_store_memory: int | None
    namespace: str
    log_to_driver: bool
    system_config: dict[str, Any]
    labels: dict[str, str]
    address: str = ""


class InitContext(Mapping[str, Any]):
    """What `init` gives: facts of the cluster, and a `with` block that ends it.

    Example:
        >>> with freehold.init(num_cpus=1) as context:
        ...     sorted(context)
        ['dashboard_url', 'freehold_version', 'job_id', 'namespace', 'node_id', 'python_version']
        >>> freehold.is_initialized()
        False
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)

    def __getitem__(self, name: str) -> Any:
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_facts"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def address_info(self) -> dict[str, Any]:
        """The facts as a dict, under Ray's name."""
        return dict(self._facts)

    def disconnect(self) -> None:
        """End the cluster; Ray's name for `shutdown`."""
        shutdown()

    def __enter__(self) -> InitContext:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutdown()

    def __repr__(self) -> str:
        return f"InitContext({self._facts!r})"


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    log_to_driver: bool | None = None,
    runtime_env: RuntimeEnv | dict[str, Any] | None = None,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    _memory: float | None = None,
    _system_config: Mapping[str, Any] | None = None,
    **not_yet: Any,
) -> InitContext:
    """Start a cluster on this machine, for this process; it ends with it, or with `shutdown`. Or,
    with an address, attach to one that runs.

    Not needed: the first remote call does the same without arguments.

    Args:
        address: of a running cluster: "auto" for the node that `freehold start` has started on this
            machine, HOST:PORT of its head, or the join string that the head printed. Without a node
            of that cluster here one with no CPUs is started, and ends with this process. None: what
            FREEHOLD_ADDRESS says, else a cluster of its own; "local": a cluster of its own.
        num_cpus: CPUs to give to tasks; by default what this process may use.
        num_gpus: GPUs to give to tasks; by default those found.
        resources: amounts of custom resources by name.
        labels: of the node, for `label_selector`.
        object_store_memory: bytes of the shared-memory store.
        namespace: where this job's actors have their names; by default one of its own.
        log_to_driver: whether to show here what workers write; by default yes.
        runtime_env: `env_vars` and `working_dir` of all tasks and actors.
        ignore_reinit_error: if there is a cluster already, return its context and do not raise.
        include_dashboard: not built yet.
        _memory: bytes of the resource `memory`.
        _system_config: settings by name; `freehold settings` lists them.
        not_yet: Ray's other arguments, of which only the defaults are taken.

    Returns:
        Facts of the cluster, as a mapping; `with freehold.init(): …` shuts it down at the end.

    Raises:
        RuntimeError: this process has a cluster already.
        TypeError, ValueError, SettingsError: a wrong argument.
        NotSupportedYetError: an argument that is not built yet.
        ClusterUnreachableError, AuthenticationError, JoinRefusedError: no such cluster lets it in.

    Example:
        >>> context = freehold.init(num_cpus=1, namespace="example")
        >>> context["namespace"]
        'example'
        >>> freehold.shutdown()
    """
    if isinstance(address, str) and address.startswith("ray://"):
        raise NotSupportedYetError(
            feature="a client without a node (ray://)", instead="give HOST:PORT of the head"
        )
    _check_others(include_dashboard, not_yet)
    checks.flag("ignore_reinit_error", ignore_reinit_error)
    amounts = _amounts(num_cpus, num_gpus, resources, _memory)
    env = None if runtime_env is None else checks.runtime_env("runtime_env", runtime_env)
    if object_store_memory is not None:
        checks.integer(1)("object_store_memory", object_store_memory)
    request = DriverRequest(
        resources=amounts,
        object_store_memory=object_store_memory,
        namespace="" if namespace is None else checks.text("namespace", namespace),
        log_to_driver=log_to_driver is None or checks.flag("log_to_driver", log_to_driver),
        system_config=dict(_system_config or {}),
        labels=checks.node_labels("labels", labels or {}),
        address="" if address is None else checks.text("address", address),
    )
    with _starting:
        if state.is_forked():
            state.require().nodes()  # raises ForkedProcessError
        if state.core is None:
            _start(request, env)
        elif not ignore_reinit_error:
            raise RuntimeError(
                "freehold is initialized already, by init() or by the first remote call; call "
                "shutdown() first, or pass ignore_reinit_error=True to go on with what there is"
            )
    return _context()


def _start(request: DriverRequest, env: RuntimeEnv | None) -> None:
    global _ends_at_exit
    from freehold._processes.driver.service import start_driver

    core = start_driver(request)
    state.set_core(core)
    if not _ends_at_exit:
        import atexit

        _ends_at_exit = True
        atexit.register(_end_at_exit)
    if env or core.job_id != core.cluster:
        try:
            state.inherit(adopt(core, env or RuntimeEnv()))
        except BaseException:
            _stop()
            raise


def auto_init() -> None:
    """Start a cluster with the defaults, unless another thread just did."""
    init(ignore_reinit_error=True)


def shutdown(*, wait_for_processes: bool = False, _exiting_interpreter: bool = False) -> None:
    """End the cluster: its processes are gone when this returns, its references are worthless.

    Without a cluster it does nothing. At the end of the program it is called by itself.

    Args:
        wait_for_processes: Ray's, for programs that set it: it waits for them either way.

    Raises:
        RuntimeError: called in a task or an actor; a cluster is ended by its driver.

    Example:
        >>> context = freehold.init(num_cpus=1)
        >>> freehold.shutdown()
        >>> freehold.is_initialized()
        False
    """
    core = state.core
    if core is None:
        return
    if not state.is_forked() and not core.is_driver:
        raise RuntimeError(
            "shutdown() ends the driver's cluster, and this is a worker; return from the task, or "
            "call freehold.actor.exit_actor() in an actor"
        )
    with _starting:
        _stop()


def _stop() -> None:
    core = state.core
    if core is None:
        return
    try:
        core.shutdown()
    except ForkedProcessError:
        return  # the cluster is the parent's
    finally:
        if not state.is_forked():
            state.set_core(None)


def _end_at_exit() -> None:
    if state.core is not None and not state.is_forked() and state.core.is_driver:
        _stop()


def is_initialized() -> bool:
    """Whether this process is part of a cluster: as its driver, or as a worker of it.

    Example:
        >>> ref = freehold.put(1)
        >>> freehold.is_initialized()
        True
    """
    return state.core is not None and not state.is_forked()


def _check_others(include_dashboard: Any, others: dict[str, Any]) -> None:
    if include_dashboard:
        raise NotSupportedYetError(
            feature="include_dashboard=True", instead="use freehold.explain(ref) and .timeline()"
        )
    for name, value in others.items():
        check = NOT_YET.get(name)
        if check is not None:
            if value is not None:
                check(name, value)
        elif name.startswith("_"):
            checks.not_yet("use _system_config={…}, or leave it out")(name, value)
        else:
            known = (*ARGUMENTS, *NOT_YET)
            raise TypeError(f"init has no argument {name!r}{did_you_mean(name, known)}")


def _amounts(
    num_cpus: Any, num_gpus: Any, resources: Mapping[str, float] | None, memory: Any
) -> dict[str, float]:
    amounts = checks.resources("resources", resources) if resources is not None else {}
    for key, name, value in (
        ("CPU", "num_cpus", num_cpus),
        ("GPU", "num_gpus", num_gpus),
        ("memory", "_memory", memory),
    ):
        if value is not None:
            amounts[key] = checks.amount(name, value)
    if num_gpus is not None and num_gpus != int(num_gpus):
        raise ValueError(f"num_gpus of init must be a whole number, not {num_gpus!r}")
    return amounts


def _context() -> InitContext:
    import sys

    from freehold._api.version import __version__

    core = state.require()
    return InitContext(
        {
            "node_id": core.node_id,
            "job_id": core.job_id,
            "namespace": core.namespace,
            "dashboard_url": None,
            "python_version": ".".join(map(str, sys.version_info[:3])),
            "freehold_version": __version__,
        }
    )
