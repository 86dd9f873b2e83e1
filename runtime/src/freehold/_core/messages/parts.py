"""The parts that messages are made of: references, arguments, outputs, actors, nodes."""

from __future__ import annotations

import msgspec

from freehold._core.ids import Address, Location
from freehold._core.resources import Shape
from freehold._core.where import Where


class Message(msgspec.Struct, array_like=True, gc=False):
    """Base of everything that travels; subclasses set their tag."""


class Plain(msgspec.Struct, array_like=True, gc=False):
    """Base of the parts that messages are made of."""


class FrozenPlain(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """Base of the parts that never change."""


class Supervisor(FrozenPlain, frozen=True):
    """Who owns a task that made something: executing `task` again makes it again.

    `key` is the supervisor's own number for the task.
    """

    address: Address
    task: bytes
    key: int


class OwnerInfo(FrozenPlain, frozen=True):
    """Whom to ask about an object: its owner, and who can have it made again.

    `supervisors` are the owner of the task that made the object, then the owner of the task that
    submitted that one, and so on up; the nearest that lives is asked if the owner has died. None
    are named for what no task made, or a task that cannot be executed again (an actor's call).
    """

    address: Address
    supervisors: tuple[Supervisor, ...] = ()


class Refs(FrozenPlain, frozen=True):
    """References that travel beside a value: packed `<16s task, u32 index, u16 owner>` entries.

    A list of 10,000 references is 220 kB and one `iter_unpack`, not 10,000 structs.
    """

    owners: list[OwnerInfo]
    packed: bytes


class Arg(Plain):
    """A top-level argument that was given by reference, already resolved by the caller.

    Either `blob` (the value, inline) or `location` is set, unless `ref` must be asked for.
    """

    at: int | str
    ref: Refs
    blob: bytes | None = None
    location: Location | None = None
    nested: Refs | None = None


class RunOptions(FrozenPlain, frozen=True):
    """What a worker must know of a task's options; left out when all are default."""

    name: str = ""
    timeout_s: float | None = None
    retry_exceptions: bool | bytes = False
    attempts_left: int = 0
    concurrency_group: str = ""


class Output(Plain):
    """One output of a finished task: `blob` inline or `location` in the worker's node."""

    blob: bytes | None = None
    location: Location | None = None
    nested: Refs | None = None


class Adopted(Plain):
    """An object that the finishing worker owned and its caller owns from now on.

    `below` leads from the object up to the task that ended, as in `Wanted`; None if that did not
    have it made.
    """

    id: bytes
    output: Output
    below: tuple[Supervisor, ...] | None = ()


class Wanted(FrozenPlain, frozen=True):
    """An object that executing a task again shall bring back.

    `below` leads from the object up to the task executed, without it: whose tasks made it. Empty if
    the task itself makes the object, by a put or as an output of a child.
    """

    id: bytes
    below: tuple[Supervisor, ...] = ()


class ExitCause(FrozenPlain, frozen=True):
    """How a process ended: `code` or `signal`, why if the runtime did it, and its last lines."""

    code: int | None = None
    signal: int | None = None
    reason: str = ""
    log: list[str] = []
    pid: int = 0
    node: str = ""

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.signal:
            return f"killed by signal {self.signal}"
        return f"exited with code {self.code}"


class ActorOptions(FrozenPlain, frozen=True):
    """What an actor was created with, as far as others than its creator must know."""

    name: str = ""
    namespace: str = ""
    class_name: str = ""
    max_restarts: int = 0
    max_task_retries: int = 0
    max_concurrency: int = 0
    concurrency_groups: dict[str, int] = {}
    is_async: bool = False
    detached: bool = False
    max_pending_calls: int = -1
    handle_meta: bytes = b""


class Environment(FrozenPlain, frozen=True):
    """A runtime environment: what tasks see of variables, files and the job that they are of.

    `env` names it, the hash of all the rest. `working_dir` is a folder on the machine where it was
    prepared; `package` names its content, by which another machine asks for a copy. `paths` are
    entries for `sys.path` beyond the node's own. `job`, `namespace` and `driver` are empty in a
    cluster that one driver started for itself.
    """

    env: str
    env_vars: dict[str, str]
    working_dir: str = ""
    paths: list[str] = []
    package: str = ""
    job: str = ""
    namespace: str = ""
    driver: Address | None = None


class ActorSpec(Plain):
    """Everything needed to make an actor, again if it must be restarted."""

    actor: bytes
    owner: OwnerInfo
    options: ActorOptions
    shape: Shape
    env: str
    class_blob: bytes
    payload: bytes
    args: list[Arg] | None = None
    nested: Refs | None = None
    get_if_exists: bool = False
    placement_shape: Shape | None = None
    where: Where | None = None
    environment: Environment | None = None
    """What `env` names: so that the actor can be made again where nobody else knows it."""


class ActorInfo(Plain):
    """An actor as the control service knows it; `state` as in `ActorState`."""

    actor: bytes
    owner: OwnerInfo
    options: ActorOptions
    state: str
    address: Address | None = None
    restarts: int = 0
    reason: str = ""
    error: bytes = b""
    cause: ExitCause | None = None
    """How its process ended, if that is why it is away or dead."""
    shape: Shape = ()
    """What a node must have for it, while it waits for one; empty otherwise."""
    where: Where | None = None
    moves: int = 0
    """How many of its restarts a drain was the reason of: `max_restarts` does not count them."""


class ShapeDemand(Plain):
    """Work of one shape and placement at one node.

    `queued` counts tasks and actors that nothing runs yet, the owners' backlog too; `running` the
    leases and actors there are; `oldest_s` is how long the first of the queued has waited.
    """

    shape: Shape
    where: Where | None
    queued: int
    running: int
    oldest_s: float = 0.0


class NodeInfo(Plain):
    """A node as membership knows it; amounts in units of 0.0001."""

    node: str
    incarnation: int
    total: dict[str, int]
    available: dict[str, int]
    is_alive: bool = True
    is_head: bool = False
    socket_dir: str = ""
    pid: int = 0
    hostname: str = ""
    queued: dict[str, int] = {}
    store_bytes: int = 0
    store_total_bytes: int = 0
    store_touched_free_bytes: int = 0
    store_pinned_bytes: int = 0
    host: str = ""
    """Where other machines reach its peer plane; empty if it is on this machine alone."""
    port: int = 0
    name: str = ""
    """What its starter called it, for people: on Kubernetes the pod's name."""
    labels: dict[str, str] = {}
    state: str = "alive"
    """"alive", "draining", "drained" or "dead"."""
    reason: str = ""
    """Why it is draining or died."""
    demand: list[ShapeDemand] = []
    """What runs and waits there; other nodes are not told."""


class NodeGroup(FrozenPlain, frozen=True):
    """Nodes that could be added: what the largest of the group has, in units, and how many.

    On Kubernetes these are the worker groups that the operator may scale up.
    """

    name: str
    resources: dict[str, int]
    labels: dict[str, str] = {}
    most: int = 0


class LivingActor(FrozenPlain, frozen=True):
    """An actor's placement on a node that reports itself: `address` once its constructor ran."""

    actor: bytes
    restart: int
    address: Address | None = None
