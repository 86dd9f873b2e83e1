"""The control service: actors, nodes and what passes between it and the node managers."""

from __future__ import annotations

from typing import TypeAlias

from freehold._core.ids import Address
from freehold._core.messages.parts import (
    ActorInfo,
    ActorSpec,
    ExitCause,
    FrozenPlain,
    LivingActor,
    Message,
    NodeGroup,
    NodeInfo,
    ShapeDemand,
)

# ---- anyone ↔ control service (through the node manager) ----------------------------------


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
    """`info.state`: "pending", "alive", "moving", "restarting" or "dead"."""

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


class ActorAdopted(Message, tag=166):
    """The sender owned this actor; `owner` does from now on. Idempotent."""

    actor: bytes
    owner: Address


class ClusterQuery(Message, tag=110):
    """Which nodes are there, with what?"""

    request: int


class ClusterReply(Message, tag=111):
    """The answer to `ClusterQuery`."""

    request: int
    nodes: list[NodeInfo]


ControlRequest: TypeAlias = (
    RegisterActor
    | WatchActor
    | FindActor
    | ListActors
    | KillActor
    | ReleaseActor
    | ActorAdopted
    | ClusterQuery
)
ControlAnswer: TypeAlias = ActorRegistered | ActorState | ActorFound | ActorList | ClusterReply


# ---- node manager ↔ control service ------------------------------------------------------


class NodeJoined(Message, tag=120):
    """A node manager reports its node: first on each of its connections to the control service.

    Absolute, and made after the last message of the connection before it was handled: placements
    and processes that are not named are not there (any more). `reports` and `gone` are what no
    control service is known to have heard of those that ended, or began, since.
    """

    info: NodeInfo
    actors: list[LivingActor] = []
    processes: list[int] = []
    drivers: list[int] = []
    reports: list[ActorReport] = []
    gone: list[ProcessGone] = []


class NodeReported(Message, tag=121):
    """What a node has free and what waits there: {shape description: count}."""

    node: str
    available: dict[str, int]
    queued: dict[str, int]
    store_bytes: int = 0
    store_touched_free_bytes: int = 0
    store_pinned_bytes: int = 0
    state: str = "alive"
    reason: str = ""
    actors: int = 0
    drivers: int = 0
    is_idle: bool = False
    """Nothing there is in use: no leases, actors, drivers or primary copies."""
    demand: list[ShapeDemand] = []


class ClusterView(Message, tag=122):
    """Nodes that changed since the last view; at most one frame a node and second.

    `groups`, if they changed, are all nodes that could be added: a shape that fits one of them
    waits.
    """

    nodes: list[NodeInfo]
    groups: list[NodeGroup] | None = None


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


class MoveActor(Message, tag=177):
    """Control service to node manager: this actor of yours is to be restarted elsewhere, when
    `callers` have all their answers."""

    actor: bytes
    restart: int
    callers: list[Address]
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
    """The node cannot make this actor; `is_final` if no other can (its environment failed)."""

    actor: bytes
    restart: int
    reason: str
    is_final: bool = False


class ActorLeft(Message, tag=180):
    """A moving actor has answered every call (said by the worker to its node manager, which passes
    it on): it can be restarted elsewhere. Idempotent."""

    actor: bytes
    restart: int


ActorReport: TypeAlias = ActorStarted | ActorEnded | PlacementFailed | ActorLeft
"""What a node manager says of a placement."""


class CreateActor(Message, tag=128):
    """Node manager to worker: you are this actor now."""

    spec: ActorSpec
    restart: int
    gpus: list[int] = []


class FromProcess(Message, tag=129):
    """A process's request, passed on by its node manager to the control service.

    `number` counts those of one node; 0 where none is said twice. Said again after an outage, it
    has the number that it had.
    """

    source: Address
    message: ControlRequest
    number: int = 0


class ToProcess(Message, tag=130):
    """The control service's answer for a process of the receiving node."""

    target: Address
    message: ControlAnswer


class ProcessGone(Message, tag=131):
    """Node manager to control service: a process ended; its actors' owner is gone with it."""

    address: Address
    cause: ExitCause
    was_driver: bool = False
    heir: Address | None = None
    """Who answers for what it owned, if it left in an orderly way."""


class ShutDown(Message, tag=132):
    """The driver ends the cluster, or the control service ends a node."""

    reason: str = ""


class Heartbeat(Message, tag=140):
    """Node manager to control service: I am here; `number` counts up."""

    number: int


class HeartbeatAnswered(Message, tag=141):
    """The control service has heard this heartbeat, and kept what was said before it.

    `head` is its incarnation, `uptime_s` how long it has served: those who come back to one that
    was started again have `RETURN_S` from then.
    """

    number: int
    head: int
    uptime_s: float


class Fenced(Message, tag=142):
    """Control service to a node: it was declared dead under this incarnation.

    It ends its workers and joins under a new one.
    """

    incarnation: int
    reason: str


class DeadNode(FrozenPlain, frozen=True):
    """A node that was declared dead."""

    node: str
    incarnation: int
    reason: str


class DeadNodes(Message, tag=143):
    """Who was declared dead before the receiver joined: it may not have heard of it."""

    nodes: list[DeadNode]


class DrainNode(Message, tag=145):
    """Control service to a node: hand on what you have; no new leases there.

    With `is_idle_only` it refuses unless it is idle now; else it never does. A `deadline_s` of 0
    is the node's own setting. Saying it twice does no harm.
    """

    request: int
    is_idle_only: bool
    deadline_s: float = 0.0
    reason: str = ""


class DrainAnswered(Message, tag=146):
    """A node's answer to `DrainNode`."""

    request: int
    accepted: bool
    refusal: str = ""


class DriverAttached(Message, tag=147):
    """Node manager to control service: a driver attached; `job` and `attempt` if it runs one."""

    address: Address
    job: str = ""
    attempt: int = 0
