"""Leases: asking node managers for workers, and what happens when one comes, goes or dies.

An owner asks its own node first; a node manager grants, queues, spills back to another node or says
that no node will ever do. `wanted` is absolute, so that a demand may be said again. A lease is kept
for a moment after its last task and given back at once when others wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.ids import Address
from freehold._core.limits import CANCEL_GRACE_S, LEASE_IDLE_S
from freehold._core.messages import (
    EnvFailed,
    ExitCause,
    LeaseBegan,
    LeaseDemand,
    LeaseGranted,
    LeaseInfeasible,
    LeaseRevoked,
    LeaseSpilledBack,
    Recall,
    ReturnIdle,
    ReturnLease,
)
from freehold._core.ownership.queues import Lease, ShapeQueue
from freehold._core.ownership.row import Task
from freehold._core.resources import Shape
from freehold._core.where import Where
from freehold.errors import (
    NodeDiedError,
    RuntimeEnvSetupError,
    TaskTimeoutError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

FORCE_S = 0.5
"""How long a worker has to end itself, and to pass a forced cancellation on, before it is
killed."""

SWEEP_S = 0.1
"""How often idle leases and busy ones beside idle ones are looked at, while there are leases."""


BACKLOG_PERIOD_S = 0.5
"""Least time between two messages that only say how many tasks wait."""


class Leasing:
    """The queues of one owner and the leases that serve them."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.queues: dict[tuple[Shape, str, Where | None], ShapeQueue] = {}
        self.by_key: list[ShapeQueue] = []
        self.leases: dict[Address, Lease] = {}
        self.sweep_at: float | None = None
        self._functions: dict[Address, set[int]] = {}
        self._others_wait_until = 0.0

    def queue_for(self, shape: Shape, env: str, where: Where | None, now: float) -> ShapeQueue:
        """The queue of a shape, made when first needed."""
        queue = self.queues.get((shape, env, where))
        if queue is None:
            queue = ShapeQueue(len(self.by_key), shape, env, where, now)
            self.by_key.append(queue)
            self.queues[shape, env, where] = queue
        return queue

    def ask(self, queue: ShapeQueue, now: float) -> None:
        """Bring what was asked for in line with what waits."""
        want = queue.requests_wanted()
        asked = queue.outstanding
        have = sum(max(0, wanted - granted) for wanted, granted in asked.values()) if asked else 0
        if want > have and (have == 0 or want >= 2 * have):
            node = self._first_node(queue)
            counts = asked.setdefault(node, [0, 0])
            counts[0] += want - have
            queue.has_asked = True
            self._demand(queue, node, counts[0], now)
        elif want == 0 and queue.has_asked:
            queue.has_asked = False
            for node, counts in asked.items():
                if counts[0] > counts[1]:
                    counts[0] = counts[1]
                    self._demand(queue, node, counts[0], now)
        if self.sweep_at is None and (queue.leases or queue.pending):
            self._sweep_later(now)

    def _first_node(self, queue: ShapeQueue) -> str:
        """Whom to ask for leases: the node that has the arguments of the next task, or our own."""
        near = queue.pending[0].near if queue.has_near and queue.pending else ""
        if near and not self._owner.borrowing.is_dead(Address(near, 0)):
            return near
        return self._owner.outbox.node_manager.node

    def _sweep_later(self, now: float) -> None:
        self.sweep_at = now + SWEEP_S
        self._owner.outbox.has_deadline = True

    def _demand(
        self, queue: ShapeQueue, node: str, wanted: int, now: float, *, is_spilled: bool = False
    ) -> None:
        local = self._owner.outbox.node_manager
        target = local if node == local.node else Address(node, 0)
        backlog = 0
        if target is local:  # it is counted once in a cluster
            backlog = queue.told_backlog = len(queue.pending)
            queue.told_backlog_at = now
        message = LeaseDemand(
            queue.key,
            queue.shape,
            queue.env,
            wanted,
            backlog,
            spilled=is_spilled,
            where=queue.where,
            is_near=not is_spilled and target is not local,
        )
        self._owner.outbox.send(target, message, True)

    def on_lease_granted(self, source: Address, message: LeaseGranted, now: float) -> None:
        """A worker is ours."""
        if self._owner.borrowing.is_dead(source):
            return  # it was on its way when its node died
        queue = self.by_key[message.key]
        counts = queue.outstanding.setdefault(source.node, [0, 0])
        counts[1] += 1
        counts[0] = max(counts)
        lease = Lease(message.lease, source.node, message.worker, queue, now)
        lease.gpus = message.gpus
        lease.pid = message.pid
        lease.functions = self._functions.setdefault(message.worker, set())
        self.leases[message.worker] = lease
        queue.add_lease(lease)
        self._owner.outbox.send(message.worker, LeaseBegan(queue.shape))
        queue.pump(self._owner.sends)
        self._owner.send_all()
        self.ask(queue, now)
        if self.sweep_at is None:
            self._sweep_later(now)

    def on_spilled_back(self, source: Address, message: LeaseSpilledBack, now: float) -> None:
        """Another node fits better: ask it instead."""
        queue = self.by_key[message.key]
        here = queue.outstanding.setdefault(source.node, [0, 0])
        here[1] += message.count
        here[0] = max(here)
        if self._owner.borrowing.is_dead(Address(message.node, 0, source.incarnation)):
            self.ask(queue, now)  # the asked one will know, too, before it answers again
            return
        there = queue.outstanding.setdefault(message.node, [0, 0])
        there[0] += message.count
        self._demand(queue, message.node, there[0], now, is_spilled=True)

    def on_infeasible(self, source: Address, message: LeaseInfeasible, now: float) -> None:
        """No node can ever run this shape: its tasks fail."""
        if message.key >= len(self.by_key):
            return  # not ours: a key that this process never asked with
        queue = self.by_key[message.key]
        counts = queue.outstanding.setdefault(source.node, [0, 0])
        counts[1] = counts[0]
        pending = list(queue.pending)
        queue.pending.clear()
        for task in pending:
            said = f"task {task.name}: {message.reason}"
            self._owner.fail(task.row, TaskUnschedulableError(said, task_name=task.name), now)

    def on_lease_revoked(self, message: LeaseRevoked, now: float) -> None:
        """A leased worker has ended."""
        lease = self.leases.get(message.worker)
        self._functions.pop(message.worker, None)
        if lease is None or lease.id != message.lease:
            return
        self._end_lease(lease, message.cause, now)

    def _end_lease(self, lease: Lease, cause: ExitCause, now: float) -> None:
        """Retry what was in flight. Only the oldest can have begun; it is charged for the crash."""
        self.leases.pop(lease.worker, None)
        queue = lease.queue
        tasks = queue.remove_lease(lease)
        for task in reversed(tasks[1:]):
            task.lease = None
            task.message.attempt += 1
            if task.is_cancelled:
                self._owner.retry(task, None, now)
            else:
                queue.pending.appendleft(task)
        del tasks[1:]
        if tasks and lease.verdict is not None:
            self._owner.fail(tasks[0].row, lease.verdict, now)
        elif tasks:
            self._owner.supervision.on_crashed(tasks[0], now)
            self._owner.retry(tasks[0], _crash(tasks[0], lease, cause), now)
        queue.pump(self._owner.sends)
        self._owner.send_all()
        self.ask(queue, now)

    def on_worker_unreachable(self, worker: Address, now: float) -> None:
        """The connection to a leased worker broke: have it ended, and hear so, before retrying."""
        lease = self.leases.get(worker)
        if lease is not None and not lease.is_broken:
            lease.is_broken = True
            self._tell_lease_node(lease, ReturnLease(lease.id, True, "its connection broke"))

    def on_worker_died(self, worker: Address, cause: ExitCause, now: float) -> None:
        """A process ended: if it was leased and nobody said so yet (we had asked for its end, and a
        lease given back is not revoked), the lease ends now."""
        self._functions.pop(worker, None)
        lease = self.leases.get(worker)
        if lease is not None:
            self._end_lease(lease, cause, now)

    def on_return_idle(self, message: ReturnIdle, now: float) -> None:
        """Others wait for what we hold: give back what is idle, and soon what becomes idle."""
        self._others_wait_until = now + 1.0
        self._return_idle(now, 0.0)

    def _return_idle(self, now: float, idle_s: float) -> None:
        for queue in self.by_key:
            for lease in queue.idle_leases(now, idle_s):
                self.return_lease(lease)

    def return_all_idle(self, now: float) -> bool:
        """This process leaves: give back every lease that has nothing to run; whether there was
        one. With its end their workers would be killed, as if tasks of ours ran there."""
        before = len(self.leases)
        self._return_idle(now, 0.0)
        return len(self.leases) < before

    def return_lease(self, lease: Lease) -> None:
        """Give a lease back that has nothing in flight."""
        lease.queue.remove_lease(lease)
        self.leases.pop(lease.worker, None)
        self._tell_lease_node(lease, ReturnLease(lease.id))

    def _tell_lease_node(self, lease: Lease, message: ReturnLease) -> None:
        local = self._owner.outbox.node_manager
        target = local if lease.node == local.node else Address(lease.node, 0)
        self._owner.outbox.send(target, message, True)

    def on_env_failed(self, source: Address, message: EnvFailed, now: float) -> None:
        """A runtime environment cannot be set up: the tasks that need it fail."""
        for queue in self.by_key:
            if queue.env == message.env:
                counts = queue.outstanding.setdefault(source.node, [0, 0])
                counts[1] = counts[0]  # all that was asked for is answered
                pending = list(queue.pending)
                queue.pending.clear()
                for task in pending:
                    error = RuntimeEnvSetupError(reason=message.reason)
                    self._owner.fail(task.row, error, now)

    def after_task(self, lease: Lease, now: float) -> None:
        """A task of the lease ended: send the next, or give the lease back if others wait."""
        queue = lease.queue
        if queue.pending:
            queue.pump(self._owner.sends)
            if self._owner.sends:
                self._owner.send_all()
        if queue.has_asked and not queue.pending:
            self.ask(queue, now)  # who waits for leases is not asked to give any back
        if not lease.inflight and now < self._others_wait_until:
            self.return_lease(lease)

    def on_deadline(self, now: float) -> None:
        """Give back idle leases, recall work for idle ones, ask for more where nothing moves."""
        if self.sweep_at is None or now < self.sweep_at:
            return
        self.sweep_at = None
        self._return_idle(now, 0.0 if now < self._others_wait_until else LEASE_IDLE_S)
        for queue in self.by_key:
            recall = queue.recall_from(now)
            if recall is not None:
                self._owner.outbox.send(recall[0].worker, Recall(recall[1]), True)
            if queue.pending:
                queue.grow_cap(now)
                self.ask(queue, now)
            if len(queue.pending) != queue.told_backlog:
                self._tell_backlog(queue, now)
            for lease in queue.leases:
                self._look_at_first(lease, now)
            if queue.leases or queue.pending or queue.told_backlog:
                self.sweep_at = now + SWEEP_S

    def _tell_backlog(self, queue: ShapeQueue, now: float) -> None:
        """Bring the owner's own node up to date: what is in line there is what is scaled by.

        The first task and the last are told of soon, what is between them now and then.
        """
        is_edge = not queue.pending or not queue.told_backlog
        if not is_edge and now < queue.told_backlog_at + BACKLOG_PERIOD_S:
            return
        node = self._owner.outbox.node_manager.node
        counts = queue.outstanding.setdefault(node, [0, 0])
        self._demand(queue, node, counts[0], now)

    def _look_at_first(self, lease: Lease, now: float) -> None:
        """Have a worker killed that neither answers a forced cancellation nor a timeout.

        It ends itself in both cases, unless it is in C code that holds the interpreter's lock.
        """
        task = next(iter(lease.inflight.values()), None)
        if task is not lease.first:
            lease.first, lease.first_since = task, now
        if task is None or lease.is_broken:
            return
        options = task.message.options
        timeout_s = options.timeout_s if options is not None else None
        if lease.kill_at is not None and task.is_cancelled:
            if now >= lease.kill_at:
                self._kill(lease, "its task was cancelled by force")
        elif timeout_s is not None and now - lease.first_since > timeout_s + 2 * CANCEL_GRACE_S:
            lease.verdict = TaskTimeoutError(
                task_name=options.name if options is not None else "",
                task_id=task.row.task_id().hex(),
                timeout_s=timeout_s,
                attempt=task.message.attempt,
            )
            self._kill(lease, f"its task ran longer than timeout_s={timeout_s:g}")

    def _kill(self, lease: Lease, reason: str) -> None:
        lease.is_broken = True
        self._tell_lease_node(lease, ReturnLease(lease.id, True, reason))

    def force(self, lease: Lease, now: float) -> None:
        """A task of the lease was cancelled by force."""
        lease.kill_at = now + FORCE_S
        if self.sweep_at is None:
            self._sweep_later(now)

    def on_node_died(self, node: str, cause: ExitCause, now: float) -> None:
        """A node is gone with its workers."""
        for lease in [lease for lease in self.leases.values() if lease.node == node]:
            self._end_lease(lease, cause, now)
        for queue in self.by_key:
            if queue.outstanding.pop(node, None) is not None:
                self.ask(queue, now)

    def unfinished(self) -> list[Task]:
        """Every task that waits or was sent."""
        tasks: list[Task] = []
        for queue in self.by_key:
            tasks += [task for lease in queue.leases for task in lease.inflight.values()]
            tasks += queue.pending
        return tasks

    def take_all(self) -> list[Task]:
        """The cluster is gone: every task that has not ended, and no lease any more."""
        tasks = self.unfinished()
        for queue in self.by_key:
            queue.pending.clear()
            queue.leases.clear()
        self.leases.clear()
        self.sweep_at = None
        return tasks


def _crash(task: Task, lease: Lease, cause: ExitCause) -> WorkerCrashedError | NodeDiedError:
    name = task.entry.name if task.entry is not None else ""
    if cause.reason.startswith("node "):
        return NodeDiedError(node=lease.node, reason=cause.reason)
    return WorkerCrashedError(
        task_name=name,
        task_id=task.row.task_id().hex(),
        node=lease.node,
        pid=lease.pid,
        exit_code=cause.code,
        signal=None if cause.signal is None else f"signal {cause.signal}",
        last_log_lines=tuple(cause.log),
    )
