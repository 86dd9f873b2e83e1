"""The peer plane's messages: what owners, borrowers, workers and node managers say to each other.

Each is a msgspec Struct that travels as a MessagePack array led by an integer tag, several to a
frame (`_io.frames`). Decoding is typed: a frame that does not fit these declarations is refused
before anything in it is unpickled. Fields are only ever added at the end, with a default.

Messages between two processes arrive in the order sent or not at all (a connection that breaks
loses a suffix). What is lost with it is found out by the connection's end; messages that may be
said again carry absolute counters (`LeaseDemand`) or keys under which the receiver recognises them.

Where they are handled: owner ↔ worker in `_core.ownership` and `_processes.worker`, process ↔ node
manager in `_processes.node`, node manager ↔ control service in `_processes.control`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address, Location
from freehold._core.resources import Shape


class Message(msgspec.Struct, array_like=True, gc=False):
    """Base of everything that travels; subclasses set their tag."""


class Plain(msgspec.Struct, array_like=True, gc=False):
    """Base of the parts that messages are made of."""


# ---- parts -----------------------------------------------------------------------------------


class OwnerInfo(Plain, frozen=True):
    """Whom to ask about an object: its owner, and who can bring the owner's objects back."""

    address: Address
    supervisor: Address | None = None


class Refs(Plain, frozen=True):
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


class RunOptions(Plain, frozen=True):
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
    """An object that the finishing worker owned and its caller owns from now on."""

    id: bytes
    output: Output


class ExitCause(Plain, frozen=True):
    """How a process ended: `code` or `signal`, why if the runtime did it, and its last lines."""

    code: int | None = None
    signal: int | None = None
    reason: str = ""
    log: list[str] = []

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        if self.signal:
            return f"killed by signal {self.signal}"
        return f"exited with code {self.code}"


class ActorOptions(Plain, frozen=True):
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


# ---- every connection ------------------------------------------------------------------------


class Hello(Message, tag=1):
    """First on every connection: who is calling, and whom it means to reach."""

    cluster: str
    source: Address
    target: Address
    protocol: int
    pid: int = 0


class Refused(Message, tag=2):
    """Why the acceptor is about to close the connection."""

    reason: str


# ---- owner → worker --------------------------------------------------------------------------


class DefineFunction(Message, tag=10):
    """Code for `Run.function`, sent once per connection before its first use."""

    function: int
    name: str
    blob: bytes
    max_calls: int = 0


class Run(Message, tag=11):
    """Execute a task. `key` is the owner's own number for it and names it in every answer."""

    key: int
    attempt: int
    function: int
    parent: bytes
    index: int
    payload: bytes = b""
    num_returns: int = 1
    args: list[Arg] | None = None
    nested: Refs | None = None
    options: RunOptions | None = None


class Call(Message, tag=12):
    """Call a method of the actor that lives in the receiver."""

    key: int
    attempt: int
    method: str
    parent: bytes
    index: int
    payload: bytes = b""
    num_returns: int = 1
    args: list[Arg] | None = None
    nested: Refs | None = None
    options: RunOptions | None = None


class Recall(Message, tag=13):
    """Give back these tasks if they have not started: another worker is idle."""

    keys: list[int]


class Cancel(Message, tag=14):
    """Cancel a task: drop it if it has not started, else interrupt it (or end the process)."""

    key: int
    force: bool = False
    recursive: bool = True


class TakenResult(Message, tag=15):
    """The caller now holds the references inside this result; the worker may let them go."""

    key: int


class LeaseEnded(Message, tag=16):
    """The owner gave the lease back: what it defined on this connection may be forgotten."""

    lease: int


# ---- worker → owner --------------------------------------------------------------------------


class Done(Message, tag=20):
    """A task ended well with one plain value inline: the common case."""

    key: int
    attempt: int
    run_us: int
    blob: bytes = b""


class DoneWith(Message, tag=21):
    """A task ended well: several outputs, stored ones, or ones that hold references.

    Either `outputs`, or `packed` with `ends` (little-endian u64 end offset of each output within
    the segment). `kept` names references of its arguments that the worker still holds;
    `wants_taken` asks for `TakenResult`; `dynamic` is set if the task chose how many outputs.
    """

    key: int
    attempt: int
    run_us: int
    outputs: list[Output] | None = None
    packed: Location | None = None
    ends: bytes = b""
    packed_nested: dict[int, Refs] | None = None
    kept: list[bytes] | None = None
    adopted: list[Adopted] | None = None
    wants_taken: bool = False
    dynamic: bool = False


class Failed(Message, tag=22):
    """A task ended with an exception. `error` is a blob; `kind` says whose fault it was."""

    key: int
    attempt: int
    run_us: int
    kind: str
    """"user", "cancelled", "timeout", "system" or "exit" (the actor chose to end)."""
    error: bytes
    is_retriable: bool = False
    kept: list[bytes] | None = None
    lost: bytes = b""
    """For kind "lost": the id of the argument that could not be had."""


class TasksReturned(Message, tag=23):
    """These tasks were not started and will not be: recalled, or this worker blocks or ends."""

    keys: list[int]


# ---- borrower ↔ owner ------------------------------------------------------------------------


class Borrow(Message, tag=30):
    """The sender holds references to these objects (packed 20-byte ids) from now on."""

    ids: bytes


class Borrowed(Message, tag=31):
    """The owner counts the receiver as a borrower of these; `gone` ones no longer exist."""

    ids: bytes
    gone: bytes = b""


class Return(Message, tag=32):
    """The sender no longer holds references to these objects."""

    ids: bytes


class Resolve(Message, tag=33):
    """Tell me the value of this object, or where it is, as soon as it is known."""

    id: bytes
    lost_location: Location | None = None


class Resolved(Message, tag=34):
    """The answer: `state` is "ready", "failed" (`blob` is the error) or "gone"."""

    id: bytes
    state: str
    blob: bytes | None = None
    location: Location | None = None
    nested: Refs | None = None


# ---- process ↔ node manager ------------------------------------------------------------------


class Register(Message, tag=40):
    """A driver or worker reports for duty; a worker names the start it answers."""

    pid: int
    start: int = 0
    is_driver: bool = False
    namespace: str = ""


class Registered(Message, tag=41):
    """Welcome: who you are. A driver gets the arena's descriptors with this frame."""

    address: Address
    cluster: str
    arena_bytes: int
    settings: dict[str, float | int | str | bool]
    total: dict[str, int]
    root: bytes = b""
    nodes: list[NodeInfo] = []


class LeaseDemand(Message, tag=42):
    """How many leases of a shape the owner has ever wanted (absolute), and its backlog.

    The node manager grants while it has granted fewer than `wanted`. Lowering `wanted` to what was
    granted takes the rest back. Saying it twice does no harm.
    """

    key: int
    shape: Shape
    env: str
    wanted: int
    backlog: int
    spilled: bool = False
    parent_lease: int = 0


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


class OwningChanged(Message, tag=53):
    """Whether the sender owns objects others may need: such a worker is not reaped."""

    is_owning: bool


class ExitProcess(Message, tag=54):
    """Please end, in an orderly way."""

    reason: str
    force: bool = False


class Explain(Message, tag=55):
    """Why does this shape not run? Answered per node."""

    request: int
    shape: Shape


class Explained(Message, tag=56):
    """The answer to `Explain`: a line for each node."""

    request: int
    lines: list[str]


class PrepareEnv(Message, tag=57):
    """A runtime environment that leases of this driver will name by its hash."""

    env: str
    env_vars: dict[str, str]
    working_dir: str = ""
    paths: list[str] = []


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


# ---- process ↔ node manager: the store ---------------------------------------------------------


class CreateSegment(Message, tag=70):
    """Room for `size` bytes in this node's arena, please; a slab holds many values."""

    request: int
    size: int
    is_slab: bool = False


class SegmentGranted(Message, tag=71):
    """Room was made: write there, then say `RangeSealed`."""

    request: int
    segment: int
    offset: int
    size: int
    is_warm: bool = False


class SegmentRefused(Message, tag=72):
    """There is and will be no room; `report` lists what holds the store."""

    request: int
    report: str


class RangeSealed(Message, tag=73):
    """Written, and never written again; `owner` decides how long it stays."""

    segment: int
    offset: int
    size: int
    owner: Address


class RangeReleased(Message, tag=74):
    """The owner (or the slab's writer, for what it abandoned) lets go of a range."""

    segment: int
    offset: int
    size: int


class SlabClosed(Message, tag=75):
    """Nothing more will be written to the slab past `used` bytes from its start."""

    segment: int
    used: int


class SegmentAborted(Message, tag=76):
    """The writer gave up before sealing."""

    segment: int


class Pull(Message, tag=77):
    """Bring a copy of a range of another node into this node's arena, pinned for the sender."""

    request: int
    location: Location


class Pulled(Message, tag=78):
    """The copy is at `offset`; or `error` says why there is none."""

    request: int
    location: Location
    offset: int = 0
    error: str = ""


class ReplicaUnpinned(Message, tag=79):
    """The sender's last view on a pulled copy is gone."""

    location: Location


class AskViews(Message, tag=80):
    """An owner died: which of these ranges do you still have views on?"""

    query: int
    ranges: list[tuple[int, int, int]]


class ViewsReported(Message, tag=81):
    """The ranges of `AskViews` that the sender still reads."""

    query: int
    ranges: list[tuple[int, int, int]]


class ViewReleased(Message, tag=82):
    """The sender's last view on a reported range is gone."""

    segment: int
    offset: int
    size: int


# ---- node manager ↔ node manager ----------------------------------------------------------------


class ReadRange(Message, tag=90):
    """Send me these bytes of your arena in chunks."""

    request: int
    location: Location
    chunk_bytes: int


class Chunk(Message, tag=91):
    """Bytes of a `ReadRange`; the last one says so, and `error` if it cannot be served."""

    request: int
    offset: int
    data: bytes
    is_last: bool = False
    error: str = ""


# ---- anyone ↔ control service (through the node manager) ------------------------------------------


class RegisterActor(Message, tag=100):
    """Make this actor (or, with `get_if_exists`, tell me of the one with its name)."""

    request: int
    spec: ActorSpec


class ActorRegistered(Message, tag=101):
    """It will be made (`info.actor` is the spec's), exists (another), or `error`."""

    request: int
    info: ActorInfo | None
    error: str = ""


class WatchActor(Message, tag=102):
    """Tell me of this actor's state now and whenever it changes."""

    actor: bytes


class ActorState(Message, tag=103):
    """`info.state`: "pending", "alive", "restarting" or "dead"."""

    info: ActorInfo
    is_infeasible: bool = False


class FindActor(Message, tag=104):
    """Who has this name?"""

    request: int
    name: str
    namespace: str


class ActorFound(Message, tag=105):
    """The actor of that name, if there is one that is not dead."""

    request: int
    info: ActorInfo | None


class ListActors(Message, tag=106):
    """The actors of a namespace, or of all (`None`)."""

    request: int
    namespace: str | None = None


class ActorList(Message, tag=107):
    """The answer to `ListActors`, the living and the last dead."""

    request: int
    actors: list[ActorInfo]


class KillActor(Message, tag=108):
    """End an actor's process at once; with `no_restart` for good."""

    actor: bytes
    no_restart: bool = True
    reason: str = ""


class ReleaseActor(Message, tag=109):
    """The last handle is gone and no call is left: the actor may end."""

    actor: bytes


class ClusterQuery(Message, tag=110):
    """Which nodes are there, with what?"""

    request: int


class ClusterReply(Message, tag=111):
    """The answer to `ClusterQuery`."""

    request: int
    nodes: list[NodeInfo]


# ---- node manager ↔ control service --------------------------------------------------------------


class NodeJoined(Message, tag=120):
    """A node manager reports its node."""

    info: NodeInfo


class NodeReported(Message, tag=121):
    """What a node has free and what waits there: {shape description: count}."""

    node: str
    available: dict[str, int]
    queued: dict[str, int]
    store_bytes: int = 0


class ClusterView(Message, tag=122):
    """Nodes that changed since the last view; at most one frame a node and second."""

    nodes: list[NodeInfo]


class PlaceActor(Message, tag=123):
    """Start this actor on your node, as its `restart`-th restart."""

    spec: ActorSpec
    restart: int


class UnplaceActor(Message, tag=124):
    """Take back a placement that has not led to a process yet, or end its process.

    `grace_s` > 0 asks the process to end by itself first.
    """

    actor: bytes
    restart: int
    grace_s: float = 0.0
    reason: str = ""


class ActorStarted(Message, tag=125):
    """The constructor ran (said by the worker to its node manager, which passes it on)."""

    actor: bytes
    restart: int
    address: Address
    error: bytes = b""


class ActorEnded(Message, tag=126):
    """The actor's process ended."""

    actor: bytes
    restart: int
    cause: ExitCause
    is_intended: bool = False


class PlacementFailed(Message, tag=127):
    """The node cannot make this actor: no room now (`spill` says try again), or its env failed."""

    actor: bytes
    restart: int
    reason: str


class CreateActor(Message, tag=128):
    """Node manager to worker: you are this actor now."""

    spec: ActorSpec
    restart: int
    gpus: list[int] = []


class FromProcess(Message, tag=129):
    """A process's request, passed on by its node manager to the control service."""

    source: Address
    message: ControlRequest


class ToProcess(Message, tag=130):
    """The control service's answer for a process of the receiving node."""

    target: Address
    message: ControlAnswer


class ProcessGone(Message, tag=131):
    """Node manager to control service: a process ended; its actors' owner is gone with it."""

    address: Address
    cause: ExitCause
    was_driver: bool = False


class ShutDown(Message, tag=132):
    """The driver ends the cluster, or the control service ends a node."""

    reason: str = ""


ControlRequest: TypeAlias = (
    RegisterActor | WatchActor | FindActor | ListActors | KillActor | ReleaseActor | ClusterQuery
)
ControlAnswer: TypeAlias = ActorRegistered | ActorState | ActorFound | ActorList | ClusterReply

TO_WORKER = Run | Call
PROTOCOL = 1


def all_messages() -> tuple[type[Message], ...]:
    """Every message there is: what a decoder accepts."""
    return tuple(Message.__subclasses__())
