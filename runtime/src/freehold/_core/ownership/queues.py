"""Which task goes to which leased worker: the owner's side of scheduling.

A queue serves one *resource shape* (with its runtime environment). It asks for leases, and runs
tasks on them back to back without asking again. How many tasks are in flight on a lease follows
what they were measured to take: about `WINDOW_US` of work ahead, one task while nothing is known.
So a no-op stream runs at the speed of batches, and a task of a second never waits behind another
while a CPU is free.

Rejected: one task in flight a lease (a round trip each: 15 k/s at best, 250 k/s with 32), a fixed
window (holds long tasks behind long tasks), stealing by workers (needs them to know each other).

Pure: methods return what to send (`Assignment`s are appended to `sends`).
"""

from __future__ import annotations

import itertools
from collections import deque

from freehold._core.ids import Address
from freehold._core.limits import LEASE_IDLE_S, WINDOW_TASKS, WINDOW_US
from freehold._core.ownership.row import Task
from freehold._core.resources import Shape
from freehold._core.where import Where

LEASE_REQUESTS = 64
"""Leases of a shape that are asked for at once at the most."""

UNMEASURED_REQUESTS = 8
"""The same for shapes that need no CPU, until it is known how long their tasks take."""

PATIENCE_S = 0.02
"""Without progress for this long, such a queue asks for twice as many."""

_LEAST_COST_US = WINDOW_US / WINDOW_TASKS
_SMOOTHING = 0.25


class Lease:
    """A worker that is this owner's until it gives it back."""

    __slots__ = (
        "first", "first_since", "functions", "gpus", "id", "idle_since", "inflight", "is_blocked",
        "is_broken", "is_recalling", "kill_at", "load_us", "node", "pid",
        "progress_at", "queue", "told_of", "verdict", "worker",
    )  # fmt: skip

    def __init__(self, id_: int, node: str, worker: Address, queue: ShapeQueue, now: float) -> None:
        self.id = id_
        self.node = node
        self.worker = worker
        self.queue = queue
        self.inflight: dict[int, Task] = {}
        self.load_us = 0.0
        self.is_blocked = False
        self.is_broken = False
        """Its worker cannot be reached any more: nothing is sent there until its end is known."""
        self.is_recalling = False
        self.idle_since = now
        self.progress_at = now
        self.told_of = b""
        """The parent whose supervisors the worker was told last."""
        self.functions: set[int] = set()
        """Numbers of the functions that the worker knows from us."""
        self.gpus: list[int] = []
        self.pid = 0
        self.first: Task | None = None
        """The oldest in flight when last looked at, and since when: it alone can run."""
        self.first_since = now
        self.kill_at: float | None = None
        """When to have the worker killed, if a task cancelled by force still runs."""
        self.verdict: BaseException | None = None
        """What the first task fails with if we had the worker killed over it."""


LOOK_AHEAD = 16
"""Tasks looked through for one whose arguments are where a lease is, and how often the head of the
queue may be overtaken by such in a row."""


class ShapeQueue:
    """The tasks of one shape that wait, and the leases that serve them.

    `wanted` and `granted` are absolute per node asked, as `LeaseDemand` has them.
    """

    __slots__ = (
        "cap", "env", "has_asked", "has_near", "key", "leases", "measured_us", "needs_cpu",
        "outstanding", "overtaken", "pending", "progress_at", "shape", "told_backlog",
        "told_backlog_at", "where",
    )  # fmt: skip

    def __init__(self, key: int, shape: Shape, env: str, where: Where | None, now: float) -> None:
        self.key = key
        self.shape = shape
        self.env = env
        self.where = where
        self.told_backlog = 0
        """How many tasks wait, as this process's own node heard last, and when."""
        self.told_backlog_at = now
        self.pending: deque[Task] = deque()
        self.leases: list[Lease] = []
        """Most recently active last."""
        self.outstanding: dict[str, list[int]] = {}
        """Node → [wanted, granted]."""
        self.needs_cpu = any(name == "CPU" for name, _ in shape)
        self.cap = LEASE_REQUESTS if self.needs_cpu else UNMEASURED_REQUESTS
        self.measured_us = -1.0
        self.progress_at = now
        self.has_near = False
        """Some task had arguments that are worth going to another node for."""
        self.overtaken = 0
        """How often in a row the head was overtaken by a task nearer to a lease."""
        self.has_asked = False
        """More leases may be on their way than were granted."""

    # ---- tasks -------------------------------------------------------------------------------

    def push(self, task: Task, sends: list[tuple[Lease, Task]]) -> None:
        """Take a task that is ready to run; send it if a lease has room and none waits before."""
        if task.near:
            self.has_near = True
        if not self.pending:
            lease = self._lease_for(task)
            if lease is not None:
                self._assign(lease, task, sends)
                return
        self.pending.append(task)

    def pump(self, sends: list[tuple[Lease, Task]]) -> None:
        """Send what fits now, in the order of submission."""
        pending = self.pending
        while pending:
            task = pending[0]
            if task.is_cancelled:
                pending.popleft()
                continue
            lease = self._lease_for(task)
            if lease is None:
                return
            if self.has_near and task.near != lease.node:
                task = self._nearer(lease, task)
                lease = self._lease_for(task) or lease
            self.overtaken = 0 if task is pending[0] else self.overtaken + 1
            if not self.overtaken:
                pending.popleft()
            else:
                pending.remove(task)
            self._assign(lease, task, sends)

    def _nearer(self, lease: Lease, head: Task) -> Task:
        """A task of the next few whose arguments are where the lease is, rather than the head.

        The head is overtaken a bounded number of times: it may be near no lease there will be.
        """
        if self.overtaken >= LOOK_AHEAD:
            return head
        for task in itertools.islice(self.pending, 1, LOOK_AHEAD):
            if task.near == lease.node and not task.is_cancelled:
                return task
        return head

    def _lease_for(self, task: Task) -> Lease | None:
        """The last active lease with room for the task, an idle one if there is one.

        Of idle ones, and of those with room, one on the node that has the task's arguments.
        """
        entry = task.entry
        cost = entry.run_us if entry is not None else -1.0
        if cost < 0 or task.retries_left == 0:
            # Unmeasured; or not to be run twice, and a dead worker cannot tell what it had begun.
            cost = float(WINDOW_US)
        elif cost < _LEAST_COST_US:
            cost = _LEAST_COST_US
        task.cost_us = cost
        best = None
        for lease in reversed(self.leases):
            if lease.is_blocked or lease.is_recalling or lease.is_broken:
                continue
            if not lease.inflight:
                if not task.near or lease.node == task.near:
                    return lease
                if best is None or best.inflight:
                    best = lease
            elif best is None and lease.load_us + cost <= WINDOW_US:
                best = lease
        return best

    def _assign(self, lease: Lease, task: Task, sends: list[tuple[Lease, Task]]) -> None:
        task.lease = lease
        lease.inflight[task.row.key] = task
        lease.load_us += task.cost_us
        sends.append((lease, task))

    def not_sent(self, lease: Lease, task: Task) -> None:
        """An assignment came to nothing: the task lacks an argument, or has failed."""
        if lease.inflight.pop(task.row.key, None) is not None:
            task.lease = None
            lease.load_us = lease.load_us - task.cost_us if lease.inflight else 0.0

    def finished(self, lease: Lease, key: int, run_us: int, now: float) -> Task | None:
        """A task that was in flight ended after `run_us`; None if it is not known (any more)."""
        task = lease.inflight.pop(key, None)
        if task is None:
            return None
        task.lease = None
        entry = task.entry
        if entry is not None:
            mean = entry.run_us
            entry.run_us = run_us if mean < 0 else mean + (run_us - mean) * _SMOOTHING
            self.measured_us = entry.run_us
        lease.progress_at = self.progress_at = now
        lease.is_blocked = False
        if lease.inflight:
            lease.load_us -= task.cost_us
        else:
            lease.load_us = 0.0
            lease.idle_since = now
        return task

    def take_back(self, lease: Lease, keys: list[int]) -> list[Task]:
        """The worker gave back tasks it had not started: they wait at the front again.

        Those cancelled meanwhile do not: the caller, who gets them all, ends them.
        """
        lease.is_recalling = False
        tasks = [task for key in keys if (task := lease.inflight.pop(key, None)) is not None]
        for task in reversed(tasks):
            task.lease = None
            lease.load_us -= task.cost_us
            if not task.is_cancelled:
                self.pending.appendleft(task)
        if not lease.inflight:
            lease.load_us = 0.0
        return tasks

    def recall_from(self, now: float) -> tuple[Lease, list[int]] | None:
        """What an idle lease should get back from a busy one: the younger half of its tasks."""
        if self.pending or not any(not lease.inflight for lease in self.leases):
            return None
        busiest = max(self.leases, key=lambda lease: len(lease.inflight))
        waiting = len(busiest.inflight) - 1
        if (
            waiting < 1
            or busiest.is_recalling
            or busiest.is_broken
            or now - busiest.progress_at < WINDOW_US / 1e6
        ):
            return None
        busiest.is_recalling = True
        keys = list(busiest.inflight)
        return busiest, keys[len(keys) - (waiting + 1) // 2 :]

    # ---- leases ------------------------------------------------------------------------------

    def add_lease(self, lease: Lease) -> None:
        """A grant arrived."""
        self.leases.append(lease)
        self.progress_at = lease.idle_since

    def remove_lease(self, lease: Lease) -> list[Task]:
        """The lease ended; the tasks that were in flight on it, oldest first."""
        if lease in self.leases:
            self.leases.remove(lease)
        tasks = list(lease.inflight.values())
        lease.inflight.clear()
        return tasks

    def idle_leases(self, now: float, idle_s: float = LEASE_IDLE_S) -> list[Lease]:
        """Leases that have had nothing to run for `idle_s`."""
        if self.pending:
            return []
        return [
            x
            for x in self.leases
            if not x.inflight and not x.is_broken and now - x.idle_since >= idle_s
        ]

    def requests_wanted(self) -> int:
        """How many leases should be asked for beyond those granted."""
        waiting = len(self.pending)
        if not waiting:
            return 0
        if self.measured_us >= 0:
            work = waiting * max(self.measured_us, _LEAST_COST_US)
            waiting = min(waiting, max(1, int(work / WINDOW_US)))
            return min(waiting, LEASE_REQUESTS)
        return min(waiting, self.cap)

    def grow_cap(self, now: float) -> bool:
        """Ask for more after a time without progress (tasks may be waiting for each other)."""
        if self.pending and now - self.progress_at >= PATIENCE_S:
            self.progress_at = now
            self.cap = min(2 * self.cap, 4096)
            return True
        return False
