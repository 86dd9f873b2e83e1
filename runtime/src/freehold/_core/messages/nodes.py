"""What drivers and workers say to their node manager about leases, and what they hear."""

from __future__ import annotations

from freehold._core.ids import Address
from freehold._core.messages.network import NetworkStart
from freehold._core.messages.parts import Environment, ExitCause, Message, NodeInfo
from freehold._core.resources import Shape
from freehold._core.where import Where

# ---- process ↔ node manager ------------------------------------------------------------------


class Register(Message, tag=40):
    """A driver or worker reports for duty; a worker names the start it answers."""

    pid: int
    start: int = 0
    is_driver: bool = False
    namespace: str = ""
    job: str = ""
    attempt: int = 0
    """The job's attempt that this driver is, if it was started as one."""


class Registered(Message, tag=41):
    """Welcome: who you are. A driver gets the arena's descriptor with this frame."""

    address: Address
    cluster: str
    arena_bytes: int
    settings: dict[str, float | int | str | bool]
    total: dict[str, int]
    root: bytes = b""
    nodes: list[NodeInfo] = []
    network: NetworkStart | None = None
    """None where the cluster is on one machine."""
    dead: list[tuple[str, int]] = []
    """(node, incarnation) that were declared dead: their connections are refused."""
    heirs: list[tuple[Address, Address]] = []
    """Processes that ended before, and who answers for what they owned."""


class LeaseDemand(Message, tag=42):
    """How many leases of a shape the owner has ever wanted (absolute), and its backlog.

    The node manager grants while it has granted fewer than `wanted`. Lowering `wanted` to what was
    granted takes the rest back. Saying it twice does no harm. `is_near`: the tasks' arguments are
    on the node asked, so that it had better serve even if others are used less.
    """

    key: int
    shape: Shape
    env: str
    wanted: int
    backlog: int
    spilled: bool = False
    where: Where | None = None
    is_near: bool = False


class LeaseGranted(Message, tag=43):
    """A worker is yours until you return it; `granted` counts this grant in."""

    key: int
    lease: int
    worker: Address
    granted: int
    gpus: list[int] = []
    pid: int = 0


class LeaseSpilledBack(Message, tag=44):
    """Ask `node` for `count` of these instead: it fits there now, or only there."""

    key: int
    count: int
    node: str


class LeaseInfeasible(Message, tag=45):
    """No node of the cluster can ever fit this shape; `reason` names what is lacking where."""

    key: int
    reason: str


class ReturnLease(Message, tag=46):
    """The owner is done with a lease; `kill` if the worker must not be used again."""

    lease: int
    kill: bool = False
    reason: str = ""


class LeaseRevoked(Message, tag=47):
    """A granted lease is no more, its worker having ended (confirmed) as `cause` says."""

    lease: int
    worker: Address
    cause: ExitCause


class ReturnIdle(Message, tag=48):
    """Others wait: give back leases of any shape that have nothing to run."""

    count: int


class Blocked(Message, tag=49):
    """The sender's task waits: its CPUs may serve others."""

    is_blocked: bool


class ProcessDied(Message, tag=50):
    """A process of the cluster ended, confirmed by its node manager (or by its node's death)."""

    address: Address
    cause: ExitCause
    heir: Address | None = None
    """Who answers for what it owned, if it left in an orderly way."""


class NodeDied(Message, tag=51):
    """The control service declared a node dead: nothing of that incarnation will be heard."""

    node: str
    incarnation: int
    reason: str


class LogLines(Message, tag=52):
    """Lines that a worker wrote, on their way to the driver."""

    process: Address
    pid: int
    name: str
    lines: list[str]
    is_error: bool = False
    driver: Address | None = None
    """Whose job wrote them; None in a cluster with one driver."""


class OwningChanged(Message, tag=53):
    """Whether the sender owns objects others may need: such a worker is not reaped."""

    is_owning: bool


class ExitProcess(Message, tag=54):
    """Please end, in an orderly way; from a worker: it is about to, and waits to be told so.

    A worker that runs tasks says so when it starts none any more (`TasksReturned.is_leaving` to
    whoever has the lease); its node manager answers with the same when no lease is left that could
    use it. It never gets another one, and an actor that it was to become waits for another worker.
    """

    reason: str
    force: bool = False


class Explain(Message, tag=55):
    """Why does this shape not run? Answered per node."""

    request: int
    shape: Shape
    where: Where | None = None


class Explained(Message, tag=56):
    """The answer to `Explain`: a line for each node."""

    request: int
    lines: list[str]


class PrepareEnv(Message, tag=57):
    """A runtime environment that leases will name by its hash; also the answer to `EnvWanted`."""

    environment: Environment


class EnvFailed(Message, tag=58):
    """A runtime environment could not be set up on a node; leases that wait for it fail."""

    env: str
    reason: str


class TaskEventsWanted(Message, tag=59):
    """Send me the task events of all processes of this node (or, to a process, yours)."""

    request: int


class TaskEvents(Message, tag=60):
    """A process's ring of task events: (time_ns, kind, task name, task or key, detail)."""

    request: int
    process: Address
    pid: int
    events: list[tuple[int, str, str, str, str]]
    is_last: bool = False


class FlushLines(Message, tag=61):
    """A driver is about to leave: send it the lines there are, then an `Explained` without any.

    Its node manager asks those of the other nodes the same.
    """

    request: int


class EnvWanted(Message, tag=170):
    """Node manager to that of a lease's owner: what is this environment? Answered by `PrepareEnv`,
    or `EnvFailed` if it is not known there."""

    env: str


class PackageWanted(Message, tag=171):
    """Node manager to node manager: send me a copy of this working directory."""

    package: str


class PackagePart(Message, tag=172):
    """The next bytes of a packed working directory; the last part says so, or has an error."""

    package: str
    offset: int
    data: bytes
    is_last: bool = False
    error: str = ""


# ---- node manager ↔ node manager -------------------------------------------------------------


class AskHead(Message, tag=66):
    """The sender hears nothing of the head: has the receiver?"""

    request: int


class HeadHeard(Message, tag=67):
    """The answer to `AskHead`: how long ago the sender heard from the head, −1 for never.

    `head` is the incarnation it heard last, `uptime_s` how long that one has served by now.
    """

    request: int
    ago_s: float
    head: int
    uptime_s: float
