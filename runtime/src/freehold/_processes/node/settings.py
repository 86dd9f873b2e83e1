"""The settings of a node process, and what it finds out about its machine."""

from __future__ import annotations

import glob
import os
import re

import msgspec

from freehold._core.limits import LEAF_LEAST_S, LEAF_S, LINEAGE_BYTES
from freehold._core.resources import CPU, GPU, MEMORY, to_units
from freehold._core.scheduling.events import SchedulerSettings
from freehold._core.store.events import StoreSettings
from freehold._core.where import NODE_ID_LABEL, NODE_NAME_LABEL
from freehold._processes.node.memory import MemoryReader

_ARENA_SHARE = 0.3
_MIN_ARENA_BYTES = 1 << 20
_MOST_WORKERS = 10_000
_CLUSTER = r"[0-9a-f]{12}"
_CPU_QUOTAS = ("/sys/fs/cgroup/cpu.max",)


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user can choose about a node; `freehold settings` prints all of it."""

    num_cpus: float | None = None
    """CPUs to give to tasks; by default what affinity and cgroup quota let this process use."""

    num_gpus: int | None = None
    """GPUs to give to tasks; by default those whose device files are there."""

    memory: int | None = None
    """Bytes of the resource `memory`; by default what the machine has beyond the object store."""

    resources: dict[str, float] = {}
    """Amounts of custom resources by name, down to fractions of 0.0001."""

    labels: dict[str, str] = {}
    """Labels of the node by name, for `label_selector`: a zone, a kind of machine."""

    node_name: str = ""
    """What people call the node; by default the machine's name. On Kubernetes the pod's."""

    object_store_memory: int | None = None
    """Bytes of the object store; by default 30 % of RAM or of the cgroup's limit, as tasks need
    the rest."""

    tls: bool = True
    """Whether nodes speak TLS to each other. Without it nobody is heard who lacks the cluster's
    secret, but whoever is on the way may read and change what is said: for networks that are
    trusted, and to measure what TLS costs."""

    dir: str = ""
    """Folder for the sockets of running clusters; by default $XDG_RUNTIME_DIR or /tmp."""

    address: str = ""
    """The cluster to join: HOST:PORT of its head, the join string that the head printed, or `auto`
    for the node that runs on this machine. By default every driver starts a cluster of its own."""

    second_address: str = ""
    """Another name of the head, HOST:PORT: a node that joins tries it in turn with `address` where
    that does not answer, as a Kubernetes Service does not for the first second of its life."""

    host: str = ""
    """Name or address under which other machines reach this node; by default that of the interface
    that leads outside. A loopback address is listened on alone, else all interfaces are."""

    control_port: int = 7400
    """Port of the control service, on the head alone; 0 for any."""

    peer_port: int = 0
    """Port where other machines' processes reach those of this node, one for all of them; 0 for
    any. `freehold start` takes 7401 if it is free."""

    health_port: int = 0
    """Port for /healthz, /readyz and /metrics; 0: none. `freehold start` takes 7402 if it is
    free."""

    job: str = ""
    """What the job of a driver is called that attaches to a cluster with others; by default a name
    of its own. `freehold job run` sets it."""

    job_attempt: int = 0
    """Which run of that job this is, if it is one that may be run again."""

    join_timeout_s: float = 60.0
    """Seconds a node tries to reach a head that is away when it starts: heads are started with
    their nodes, and take as long as an image is pulled."""

    cluster: str = ""
    """The cluster's id, 12 hex digits; by default the head makes one, kept in `state_dir`."""

    cluster_name: str = ""
    """What people call the cluster: shown with its metrics."""

    state_dir: str = ""
    """The head's folder for what must survive it; by default $XDG_STATE_HOME/freehold or
    ~/.local/state/freehold."""

    auth_dir: str = ""
    """Folder with `token` and `ca.crt`, as Kubernetes mounts them; by default the head makes them
    in `state_dir`, and others have the join string."""

    ca_dir: str = ""
    """Folder with the CA's `ca.crt` and `ca.key`, for the head alone; by default in `state_dir`."""

    certificate_life_s: float = LEAF_S
    """Seconds that the certificates hold which the head gives to nodes. They are renewed at half of
    it, on streams that are there, so a head may be away for half a day and nobody is shut out."""

    full_timeout_s: float = 30.0
    """Seconds a producer waits for room while nothing at all is freed, before it gets an error."""

    touched_free_bytes: int = 256 << 20
    """Free bytes of the store kept as touched memory, since writing to fresh memory takes twice as
    long."""

    touch_ahead: bool = False
    """Whether fresh memory of the store, up to `touched_free_bytes`, is touched in the background
    while objects are made. Off, because it takes a CPU from a producer that never pauses: ten puts
    of 100 MB one behind the other took 378 ms with it, 355 ms without (2 cores, all new memory).
    With 100 ms between them it pays: 286 ms in all instead of 355, 25 ms a put instead of 36."""

    replica_keep_s: float = 30.0
    """Seconds an unused copy of another node's object is kept; a node at rest holds none."""

    lineage_bytes: int = LINEAGE_BYTES
    """Bytes of finished tasks' arguments that a process keeps to make lost values again; past it a
    value's loss is final. Far above what tasks that share their data by reference ever need."""

    pending_bytes: int | None = None
    """Bytes of arguments that a process's pending tasks may hold before `.remote()` waits; by
    default a quarter of RAM or of the cgroup's limit, as the arguments lie in its memory."""

    idle_worker_s: float = 5.0
    """Seconds an idle worker above `idle_workers` is kept, because bursts come in seconds."""

    idle_workers: int = -1
    """Idle workers kept however long nothing runs; -1: one per CPU."""

    prestart_workers: int = -1
    """Workers started with the node, so that the first task finds one; -1: one per CPU, up to 4.
    With 0 none is forked ahead later either, in the place of an actor's that has ended."""

    starts_at_once: int = -1
    """Workers starting at the same time at the most; -1: one per CPU, at least 2."""

    drain_timeout_s: float = 60.0
    """Seconds a node has to hand over its data and end its work when it is asked to go, by SIGTERM
    too, after which it ends all the same: above most tasks' time, below what a machine about to
    vanish gives."""

    tune_interpreter: bool = True
    """Whether a driver's garbage collector runs less often and its busy threads take shorter turns
    while it is in a cluster; both are put back by `shutdown`."""

    log_to_driver: bool = True
    """Whether the lines that workers write are shown by the driver."""

    log_bytes_per_s: int = 4 << 20
    """Bytes of workers' output a second passed on to a driver: above what a terminal shows."""

    worker: str = "freehold._api.worker:run_worker"
    """`module:function` that a worker runs; tests put another in its place."""

    preload: tuple[str, ...] = ("cloudpickle", "numpy", "freehold")
    """Modules that are imported once, before workers are forked; missing ones are left out."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself; messages begin with the setting's name."""
        for name in ("num_cpus", "num_gpus", "memory"):
            value = getattr(self, name)
            if value is not None:
                to_units(name, value)
        for name, amount in self.resources.items():
            if name in (CPU, GPU, MEMORY):
                raise ValueError(f"resources may not name {name}: use num_cpus, num_gpus, memory")
            try:
                to_units(name, amount)
            except (ValueError, TypeError) as error:
                raise ValueError(f"resources has a wrong amount: {error}") from None
        if self.object_store_memory is not None:
            self._check_store(self.object_store_memory)
        for name in ("full_timeout_s", "idle_worker_s", "replica_keep_s", "join_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be above 0 s")
        for name in ("touched_free_bytes", "log_bytes_per_s", "lineage_bytes", "pending_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be 0 or more")
        for name in ("idle_workers", "prestart_workers", "starts_at_once"):
            count = getattr(self, name)
            least = 1 if name == "starts_at_once" else 0
            if count != -1 and not least <= count <= _MOST_WORKERS:
                raise ValueError(
                    f"{name} is {count} but must be {least} to {_MOST_WORKERS}, or -1 for its "
                    "default"
                )
        if ":" not in self.worker:
            raise ValueError("worker must be module:function")
        self._check_network()

    def _check_network(self) -> None:
        for name in ("control_port", "peer_port", "health_port"):
            port = getattr(self, name)
            if not 0 <= port < 1 << 16:
                raise ValueError(f"{name} is {port} but must be 0 to 65535")
        if not self.certificate_life_s >= LEAF_LEAST_S:
            raise ValueError(
                f"certificate_life_s is {self.certificate_life_s} but must be at least "
                f"{LEAF_LEAST_S:g} s, to be renewed in time"
            )
        if self.cluster and not re.fullmatch(_CLUSTER, self.cluster):
            raise ValueError(f"cluster is {self.cluster!r} but must be 12 hex digits")
        for key in self.labels:
            if not key:
                raise ValueError("labels has an empty key")

    def _check_store(self, size_bytes: int) -> None:
        if size_bytes < _MIN_ARENA_BYTES:
            raise ValueError(
                f"object_store_memory is {size_bytes} but must be at least {_MIN_ARENA_BYTES} bytes"
            )
        if size_bytes > (most := machine_memory()):
            raise ValueError(
                f"object_store_memory is {size_bytes} but must be at most {most} bytes, all the "
                "memory that this machine or its cgroup has"
            )


def arena_bytes(settings: NodeSettings) -> int:
    """The size of the object store, in bytes."""
    if settings.object_store_memory is not None:
        return settings.object_store_memory
    return max(_MIN_ARENA_BYTES, int(machine_memory() * _ARENA_SHARE) >> 20 << 20)


def pending_bytes(settings: NodeSettings) -> int:
    """Bytes of arguments that the pending tasks of one process may hold."""
    if settings.pending_bytes is not None:
        return settings.pending_bytes
    return machine_memory() // 4


def total_resources(settings: NodeSettings) -> dict[str, int]:
    """What the node has, in units of 0.0001."""
    cpus = settings.num_cpus if settings.num_cpus is not None else usable_cpus()
    gpus = settings.num_gpus if settings.num_gpus is not None else found_gpus()
    memory = settings.memory
    if memory is None:
        memory = max(0, machine_memory() - arena_bytes(settings))
    amounts = {CPU: cpus, GPU: gpus, MEMORY: memory, **settings.resources}
    return {name: to_units(name, amount) for name, amount in sorted(amounts.items()) if amount}


def node_labels(settings: NodeSettings, node: str) -> dict[str, str]:
    """The node's labels: those it has by itself, and the user's."""
    own = {NODE_ID_LABEL: node, NODE_NAME_LABEL: settings.node_name or os.uname().nodename}
    return {**own, **settings.labels}


def scheduler_settings(settings: NodeSettings) -> SchedulerSettings:
    """The lease scheduler's part."""
    return SchedulerSettings(
        idle_worker_s=settings.idle_worker_s,
        idle_workers=settings.idle_workers,
        prestart_workers=settings.prestart_workers,
        starts_at_once=settings.starts_at_once,
    )


def store_settings(settings: NodeSettings) -> StoreSettings:
    """The object store's part."""
    return StoreSettings(
        capacity_bytes=arena_bytes(settings),
        full_timeout_s=settings.full_timeout_s,
        touched_free_limit_bytes=settings.touched_free_bytes,
        replica_keep_s=settings.replica_keep_s,
        touch_ahead=settings.touch_ahead,
    )


def session_base(settings: NodeSettings) -> str:
    """The folder that the session root is in."""
    return settings.dir or os.environ.get("XDG_RUNTIME_DIR") or "/tmp"


def state_folder(settings: NodeSettings) -> str:
    """The folder for what must survive the head."""
    if settings.state_dir:
        return os.path.abspath(settings.state_dir)
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "freehold")


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, less what a cgroup's quota cuts off."""
    cpus = len(os.sched_getaffinity(0))
    for path in _CPU_QUOTAS:
        words = _read(path).split()
        if len(words) == 2 and words[0].isdigit():
            cpus = min(cpus, max(1, int(words[0]) // int(words[1])))
    return cpus


def found_gpus() -> int:
    """GPUs whose device files are there, less those that the environment hides."""
    devices = len(glob.glob("/dev/nvidia[0-9]*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not devices:
        return devices
    return min(
        devices, len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    )


def machine_memory() -> int:
    """Bytes of RAM, or of the cgroup's limit if that is less."""
    return MemoryReader().limit_bytes()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


THREAD_POOL_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_pool_variables() -> dict[str, str | None]:
    """What the thread pools' variables are in this environment; None if unset."""
    return {name: os.environ.get(name) for name in THREAD_POOL_VARIABLES}


def environment_with(env_vars: dict[str, str]) -> dict[str, str]:
    """This process's environment with other variables on top."""
    return {**os.environ, **env_vars}
