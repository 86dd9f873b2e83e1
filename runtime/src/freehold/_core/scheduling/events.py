"""What the lease scheduler is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the node manager turns peer messages (`_core.messages`, tags 40 to 53 and 120 to
128), process exits and timers into these events and carries the effects out, in order. A `process`
is the number of a worker of this node; an owner may live anywhere and is an `Address`.

A `start` numbers the start of a worker, a `lease` a grant; the scheduler counts both up from 1 and
uses no number twice. Amounts are units of 0.0001, times seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import ExitCause, NodeGroup, NodeInfo, ShapeDemand
from freehold._core.resources import Shape
from freehold._core.where import Where

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one node's scheduler; the node manager's settings fill them in."""

    idle_worker_s: float = 5.0
    """An idle worker above `idle_workers` is killed after this long: bursts come in seconds."""

    idle_workers: int = -1
    """Idle workers kept however long nothing runs; −1 means one per CPU, at least one."""

    prestart_workers: int = -1
    """Workers started with the node, so that the first task finds one; −1: one per CPU, up to 4.
    With 0 none is forked ahead later either, in the place of an actor's that has ended."""

    starts_at_once: int = -1
    """Workers starting at the same time at the most; −1 means one per CPU, at least 2."""

    report_period_s: float = 0.1
    """Least time between two `ReportNode`; the first after quiet comes at once."""

    passed_over_s: float = 1.0
    """A shape that others were preferred to for this long gets the resources it lacks reserved."""


class _Event(msgspec.Struct, frozen=True, gc=False):
    pass


class _Effect(msgspec.Struct, frozen=True, gc=False):
    pass


# ---- events ------------------------------------------------------------------------------------


class NodeStarted(_Event, frozen=True):
    """The node can start workers now (its zygote is up): the first few are started ahead."""


class DemandChanged(_Event, frozen=True):
    """An owner's `LeaseDemand`.

    `wanted` is absolute: it counts every lease of `key` the owner ever asked this node for, however
    it was answered. What waits is `wanted` − answered, and answered are those granted, *those
    spilled back and those refused* as infeasible or for their environment. Saying it twice does no
    harm; lowering `wanted` takes back what waits. `key` always stands for one shape, environment
    and placement.
    """

    owner: Address
    key: int
    shape: Shape
    env: str
    wanted: int
    backlog: int = 0
    spilled: bool = False
    where: Where | None = None
    is_near: bool = False


class LeaseReturned(_Event, frozen=True):
    """An owner's `ReturnLease`; unknown leases (ended meanwhile) are ignored."""

    owner: Address
    lease: int
    kill: bool = False
    reason: str = ""


class WorkerStarted(_Event, frozen=True):
    """The worker of a `StartWorker` has registered and can be given work."""

    start: int
    process: int
    pid: int


class WorkerStartFailed(_Event, frozen=True):
    """The worker of a `StartWorker` will not come; `is_env` if its runtime environment is why."""

    start: int
    reason: str
    is_env: bool = False


class WorkerExited(_Event, frozen=True):
    """A registered worker *ended* (confirmed); `is_intended` if it had announced that."""

    process: int
    cause: ExitCause
    is_intended: bool = False


class WorkerLeaving(_Event, frozen=True):
    """A worker starts no task any more, and waits for `AskExit` before it ends.

    It says the same to whoever has the lease, who gives that back; so it never ends while an owner
    may be sending it tasks.
    """

    process: int
    reason: str = ""


class TaskBlocked(_Event, frozen=True):
    """A worker's `Blocked`: its CPUs may serve others while it waits."""

    process: int
    is_blocked: bool


class OwningChanged(_Event, frozen=True):
    """Whether an idle worker owns objects that others may need."""

    process: int
    is_owning: bool


class OwnerGone(_Event, frozen=True):
    """An owner ended: it asks for nothing more, and what it asked for may still be on its way.

    With `may_return` it is not known to have ended, but its connection has been down for
    `LEASE_S`. Of this node's own workers `WorkerExited` says it already.
    """

    owner: Address
    may_return: bool = False


class ActorPlacementRequested(_Event, frozen=True):
    """The control service wants an actor here; `shape` is held for the actor's life."""

    actor: bytes
    restart: int
    shape: Shape
    env: str = ""
    where: Where | None = None


class ActorUnplaced(_Event, frozen=True):
    """The control service takes a placement back; with `grace_s` the process may end by itself.

    Always answered by one `ReportActorEnded`, from process 0 if it had led to no process yet,
    unless that or `RejectActor` is on its way already.
    """

    actor: bytes
    restart: int
    grace_s: float = 0.0
    reason: str = ""


class ViewChanged(_Event, frozen=True):
    """Nodes as the control service last knew them: changed ones only; this node's is ignored."""

    nodes: list[NodeInfo]


class GroupsChanged(_Event, frozen=True):
    """Nodes of these kinds could be added, and of no others: what fits one of them waits."""

    groups: list[NodeGroup]


class NodeLost(_Event, frozen=True):
    """A node was declared dead: nothing is spilled to it, its owners are gone."""

    node: str
    incarnation: int


class DrainStarted(_Event, frozen=True):
    """The node drains: nothing is granted any more, what waits is sent to other nodes.

    Each worker says `WorkerLeaving` when it has been told.
    """

    reason: str


class KeeperRequested(_Event, frozen=True):
    """The manager of a node that drains wants a worker here to own what its workers own."""

    source: Address
    request: int


class DeadlineReached(_Event, frozen=True):
    """The time that `next_deadline()` named has come."""


SchedulingEvent: TypeAlias = (
    NodeStarted
    | DemandChanged
    | LeaseReturned
    | WorkerStarted
    | WorkerStartFailed
    | WorkerExited
    | WorkerLeaving
    | TaskBlocked
    | OwningChanged
    | OwnerGone
    | ActorPlacementRequested
    | ActorUnplaced
    | ViewChanged
    | GroupsChanged
    | NodeLost
    | DrainStarted
    | KeeperRequested
    | DeadlineReached
)


# ---- effects -----------------------------------------------------------------------------------


class GrantLease(_Effect, frozen=True):
    """Send `LeaseGranted`: the worker is the owner's. `granted` counts all answered so far."""

    owner: Address
    key: int
    lease: int
    process: int
    pid: int
    granted: int
    gpus: list[int]


class SpillBack(_Effect, frozen=True):
    """Send `LeaseSpilledBack`: `count` of what the owner wanted here it should ask `node` for."""

    owner: Address
    key: int
    count: int
    node: str


class ReportInfeasible(_Effect, frozen=True):
    """Send `LeaseInfeasible`: all that waited of this key was refused (see `DemandChanged`)."""

    owner: Address
    key: int
    reason: str


class ReportEnvFailed(_Effect, frozen=True):
    """Send `EnvFailed`: all that the owner waited for with this environment was refused."""

    owner: Address
    env: str
    reason: str


class StartWorker(_Effect, frozen=True):
    """Fork a worker, then say `WorkerStarted` or `WorkerStartFailed`.

    `gpus` are the devices it may see, set before any user code (`CUDA_VISIBLE_DEVICES`); a worker
    with none must see none.
    """

    start: int
    env: str
    gpus: list[int]


class KillWorker(_Effect, frozen=True):
    """End a worker's process at once, then say `WorkerExited`."""

    process: int
    reason: str


class AskExit(_Effect, frozen=True):
    """Send `ExitProcess`: an actor's process is asked to end by itself (`KillWorker` follows its
    grace), a worker that is leaving may go."""

    process: int
    reason: str


class AskReturnIdle(_Effect, frozen=True):
    """Send `ReturnIdle`: others wait for what this owner holds."""

    owner: Address
    count: int


class RevokeLease(_Effect, frozen=True):
    """Send `LeaseRevoked`: the worker of a lease that was not returned has ended."""

    owner: Address
    lease: int
    process: int
    cause: ExitCause


class AssignActor(_Effect, frozen=True):
    """Send `CreateActor` to the worker: it is this actor from now on."""

    actor: bytes
    restart: int
    process: int
    pid: int
    gpus: list[int]


class RejectActor(_Effect, frozen=True):
    """Send `PlacementFailed`: `is_final` if no other node would do (its environment failed)."""

    actor: bytes
    restart: int
    reason: str
    is_final: bool


class ReportActorEnded(_Effect, frozen=True):
    """Send `ActorEnded`: the process of an assigned actor ended."""

    actor: bytes
    restart: int
    process: int
    cause: ExitCause
    is_intended: bool


class NameKeeper(_Effect, frozen=True):
    """Send `KeeperGiven`: that process, or none if it is 0."""

    source: Address
    request: int
    process: int


class ReportNode(_Effect, frozen=True):
    """Send `NodeReported` (the shell adds `store_bytes`); paced by `report_period_s`."""

    available: dict[str, int]
    queued: dict[str, int]
    demand: list[ShapeDemand] = []
    is_idle: bool = False
    """No lease, and no actor that lives or is to."""
    actors: int = 0


SchedulingEffect: TypeAlias = (
    GrantLease
    | SpillBack
    | ReportInfeasible
    | ReportEnvFailed
    | StartWorker
    | KillWorker
    | AskExit
    | AskReturnIdle
    | RevokeLease
    | AssignActor
    | RejectActor
    | ReportActorEnded
    | NameKeeper
    | ReportNode
)


# ---- snapshot ----------------------------------------------------------------------------------


class SchedulingSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The scheduler at one moment, for metrics, dashboard and tests.

    `workers` = idle + leased + actors + ending; `queued` is {shape description: waiting leases and
    actors}, `demand` what the node's own drivers and workers and its actors want of it all.
    """

    total: dict[str, int]
    available: dict[str, int]
    queued: dict[str, int]
    demand: list[ShapeDemand]
    idle: int
    starting: int
    leased: int
    actors: int
    ending: int
    blocked: int
    owners: int
    granted: int
    spilled: int
    ignored_events: int
