"""The owner machine: tasks, objects and actor calls of one driver or worker.

It joins the table (rows), the queues (leases), the actor links and the borrowing protocol: the
shell (`_processes.owner`) and the simulator call one method an event, then carry out what stands in
`outbox`. The life of a task: `submit` → arguments known → `ShapeQueue.push` → sent to a leased
worker → `on_done`/`on_done_with`/`on_failed` → row resolved, waiters woken, next task sent.

It holds values only as blobs and locations and never unpickles.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Any

from freehold._core.ids import Address, Location
from freehold._core.messages import (
    Cancel,
    DefineFunction,
    Done,
    DoneWith,
    ExitCause,
    Failed,
    RangeReleased,
    Refs,
    Run,
    RunOptions,
    SupervisedBy,
    Supervisor,
    TakenResult,
    TasksReturned,
)
from freehold._core.options import FunctionEntry, TaskOptions
from freehold._core.ownership.actors import ActorCalls
from freehold._core.ownership.arguments import Arguments, Given
from freehold._core.ownership.borrowing import Borrowing
from freehold._core.ownership.checks import check_invariants
from freehold._core.ownership.eager import EagerRelease
from freehold._core.ownership.handing import Handing
from freehold._core.ownership.handoff import Handoff
from freehold._core.ownership.heirs import Heirs
from freehold._core.ownership.leasing import Leasing
from freehold._core.ownership.origins import Origins
from freehold._core.ownership.outbox import Outbox
from freehold._core.ownership.primaries import Primaries
from freehold._core.ownership.queues import Lease
from freehold._core.ownership.recovery import Recovery
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.resolving import Resolving
from freehold._core.ownership.row import LOST, PENDING, Packed, Row, Task
from freehold._core.ownership.specs import Specs
from freehold._core.ownership.supervised import Supervised
from freehold._core.ownership.supervision import Supervision
from freehold._core.ownership.table import OwnershipTable
from freehold._core.ownership.takeover import Kept, Takeover
from freehold.errors import TaskCancelledError

_WAITERS_HERE = frozenset((Task, tuple, Supervised, Row))
"""What waits for a row and is not the shell's."""


class Owner:
    """Everything a process owns, and what it does about it.

    Args:
        address: this process.
        node_manager: whom it asks for leases.
    """

    def __init__(self, address: Address, node_manager: Address) -> None:
        self.address = address
        self.outbox = Outbox(node_manager)
        self.table = OwnershipTable(address)
        self.borrowing = Borrowing(self.table, self.outbox, self.wake)
        self.borrowing.give_up = self._give_up
        self.leasing = Leasing(self)
        self.arguments = Arguments(self)
        self.recovery = Recovery(self)
        self.actors = ActorCalls(self)
        self.handing = Handing(self)
        self.resolving = Resolving(self)
        self.origins = Origins(self)
        self.supervision = Supervision(self)
        self.handoff = Handoff(self)
        self.takeover = Takeover(self)
        self.specs = Specs(self)
        self.heirs = Heirs(self)
        self.primaries = Primaries(self)
        self.borrowing.is_elsewhere = self.heirs.on_gone
        self.borrowing.is_wanted = self.handoff.is_giving_to
        self.borrowing.rescue = self.supervision.rescue
        self.borrowing.recreate = self.supervision.need
        self.eager = EagerRelease(self)
        self.tasks_finished = 0
        self.sends: list[tuple[Lease, Task]] = []
        """Assignments that `send_all` turns into messages."""
        self.final_error: BaseException | None = None
        """Set once the cluster is gone."""
        self._is_sending = False
        self._waking: deque[Any] = deque()
        self._is_waking = False

    # ---- submitting --------------------------------------------------------------------------

    def submit(
        self,
        entry: FunctionEntry,
        options: TaskOptions,
        parent: bytes,
        child_index: int,
        given: Given,
        now: float,
    ) -> Row:
        """Own a new task; its row has one reference counted per output."""
        table = self.table
        returns = options.num_returns
        row = table.new_task(parent, child_index, returns if returns > 0 else 1)
        retries = options.max_retries
        message = Run(row.key, 0, entry.number, parent, child_index, given.payload, returns)
        task = Task(row, message, entry, retries, retries != 0)
        if options.retry_exceptions or options.timeout_s is not None or options.name != entry.name:
            task.retry_exceptions = options.retry_exceptions
            message.options = RunOptions(
                options.name, options.timeout_s, options.retry_exceptions, retries
            )
        queue = self.leasing.queues.get((options.shape, options.env, options.where))
        if queue is None:
            queue = self.leasing.queue_for(options.shape, options.env, options.where, now)
        task.queue = queue
        task.spec_bytes = len(given.payload)
        if self.origins.wanting:
            self.origins.on_submitted(parent, task)
        if given.is_plain:
            table.attach(row, task)
        elif self.arguments.attach(task, given, now):
            return row
        elif task.top_level:
            task.near = self.arguments.nearest(task)
        queue.push(task, self.sends)
        if self.sends:
            self.send_all()
        else:
            self.leasing.ask(queue, now)
        return row

    def put(
        self, parent: bytes, put_index: int, value: bytes | Location, inside: list[ObjectRef[Any]]
    ) -> Row:
        """Own a value with the references inside it; its row has one reference counted."""
        row = self.table.new_put(parent, put_index, value)
        if inside:
            row.nested = {0: (self.borrowing.describe(inside), inside)}
        if type(value) is Location:
            self.recovery.note_stored(row)
        if self.origins.wanting:
            self.origins.on_put(parent, row)
        return row

    def ready_to_run(self, task: Task, now: float) -> None:
        """Every argument of a task is known."""
        if self.final_error is not None:
            self.fail(task.row, self.final_error, now)
            return
        if task.actor is not None:
            self.actors.push_ready(task.actor)
            return
        queue = task.queue
        if task.top_level:
            task.near = self.arguments.nearest(task)
        queue.push(task, self.sends)
        self.send_all()
        self.leasing.ask(queue, now)

    def send_all(self) -> None:
        """Turn assignments into messages, with the code a worker does not have yet.

        In the order they were made, also those made on the way: the oldest in flight on a lease
        must be the first that its worker got.
        """
        if self._is_sending:
            return
        self._is_sending = True
        try:
            while self.sends:
                sends, self.sends = self.sends, []
                self._send(sends)
        finally:
            self._is_sending = False

    def _send(self, sends: list[tuple[Lease, Task]]) -> None:
        outbox = self.outbox
        for lease, task in sends:
            if task.top_level is not None and not self.arguments.fill(task):
                lease.queue.not_sent(lease, task)
                self.arguments.on_unfilled(task, 0.0)
                lease.queue.pump(self.sends)  # its place is free again
                continue
            entry = task.entry
            if entry is not None and entry.number not in lease.functions:
                lease.functions.add(entry.number)
                assert entry.blob is not None
                outbox.send(
                    lease.worker,
                    DefineFunction(entry.number, entry.name, entry.blob, entry.max_calls),
                )
            if self.table.makers or self.supervision.by_row:
                self._say_before(lease, task)
            outbox.messages.append((lease.worker, task.message, len(lease.inflight) == 1))

    def _say_before(self, lease: Lease, task: Task) -> None:
        """What a worker must know before a task that a task submitted, or that is supervised."""
        parent = task.message.parent
        maker = self.table.makers.get(parent)
        if maker is not None and lease.told_of != parent:
            lease.told_of = parent
            self.outbox.send(lease.worker, SupervisedBy(parent, maker.info.supervisors))
        record = self.supervision.by_row.get(task.row)
        if record is not None:
            want = self.supervision.want(record, task)
            if want.wanted:
                self.outbox.send(lease.worker, want)

    # ---- what workers say --------------------------------------------------------------------

    def finish(
        self, source: Address, key: int, attempt: int, run_us: int, now: float
    ) -> Task | None:
        """The task that a worker's answer is about, if it is still waited for."""
        lease = self.leasing.leases.get(source)
        if lease is None:
            return self.actors.finish(source, key, attempt)
        task = lease.inflight.get(key)
        if task is None:
            return self.actors.finish(source, key, attempt)
        if task.message.attempt != attempt:
            return None
        queue = lease.queue
        queue.finished(lease, key, run_us, now)
        self.tasks_finished += 1
        if queue.pending or not lease.inflight:
            self.leasing.after_task(lease, now)
        return task

    def on_done(self, source: Address, message: Done, now: float) -> None:
        """The common answer: one plain value inline."""
        task = self.finish(source, message.key, message.attempt, message.run_us, now)
        if task is not None:
            if self.supervision.by_row and self.supervision.has_spec_of(task):
                waiters = self.table.complete_with(task.row, [message.blob], None, keep_task=True)
            else:
                waiters = self.table.complete(task.row, message.blob)
            if waiters is not None:
                self.wake(waiters, now)

    def on_done_with(self, source: Address, message: DoneWith, now: float) -> None:
        """An answer with several, stored, or reference-holding outputs."""
        task = self.finish(source, message.key, message.attempt, message.run_us, now)
        if task is None:
            self._discard(source, message)
            return
        self._count_kept(source, message.kept)
        row = task.row
        row.is_dynamic = message.dynamic
        met: list[ObjectRef[Any]] = []
        adopted_rows: dict[Row, tuple[Supervisor, ...] | None] = {}
        for adopted in message.adopted or ():
            met += self.recovery.adopt(adopted, source)
            if adopted.output.location is not None or self.table.makers:
                adopted_rows[self.table.by_id[adopted.id][0]] = adopted.below
        nested: dict[int, tuple[Refs, list[ObjectRef[Any]]]] = {}
        values: list[Any] | Packed
        outputs: dict[int, Refs | None]
        if message.packed is not None:
            ends = array("Q")
            ends.frombytes(message.ends)
            values = Packed(message.packed, ends)
            outputs = dict(message.packed_nested or {})
        else:
            found = message.outputs or []
            values = [o.blob if o.blob is not None else o.location for o in found]
            outputs = {i: o.nested for i, o in enumerate(found) if o.nested is not None}
        for index, refs in outputs.items():
            if refs is not None:
                inside = self.borrowing.meet(refs, source, is_covered=False)
                nested[index] = (refs, inside)
                met += inside
        if message.wants_taken:
            taken = TakenResult(message.key)
            self.borrowing.after_registration(met, lambda: self.outbox.send(source, taken))
        is_stored = message.packed is not None or any(type(v) is Location for v in values)  # type: ignore[union-attr]
        if is_stored:
            self.recovery.note_stored(row)
        keep = is_stored and task.actor is None and self.recovery.may_keep(task)
        if message.is_owning or adopted_rows or self.supervision.by_row:
            keep = self.supervision.on_finished(task, source, message, adopted_rows, keep)
        waiters = self.table.complete_with(row, values, nested or None, keep)
        if waiters is not None:
            self.wake(waiters, now)

    def _discard(self, source: Address, message: DoneWith) -> None:
        """An answer that nobody waits for any more: let go of what came with it."""
        outputs = [*(message.outputs or ()), *(a.output for a in message.adopted or ())]
        found = [message.packed, *(output.location for output in outputs)]
        self.table.released += [location for location in found if location is not None]
        refs = [*(message.packed_nested or {}).values(), *(output.nested for output in outputs)]
        for inside in refs:
            if inside is not None:
                self.borrowing.meet(inside, source, is_covered=False)  # and drop them
        if message.wants_taken:
            self.outbox.send(source, TakenResult(message.key))

    def on_failed(self, source: Address, message: Failed, now: float) -> None:
        """A task ended with an exception."""
        if message.kind == "exited":
            return  # the call that ended its actor fails with the actor, whose end comes next
        task = self.finish(source, message.key, message.attempt, message.run_us, now)
        if task is None:
            return
        self._count_kept(source, message.kept)
        if message.kind == "lost":
            self.recovery.on_argument_lost(task, message.lost, message.error, now)
        elif message.is_retriable:
            self.retry(task, message.error, now)
        else:
            self.fail(task.row, message.error, now)

    def _count_kept(self, source: Address, kept: list[bytes] | None) -> None:
        if self.borrowing.is_dead(source):
            return
        for id_ in kept or ():
            self.table.borrow(id_, source)
        if kept and self.handoff.given:
            self.handoff.send_on(source, b"".join(kept))

    def on_tasks_returned(self, source: Address, message: TasksReturned, now: float) -> None:
        """Tasks that were not started: they wait again, or go to another lease."""
        lease = self.leasing.leases.get(source)
        if lease is None:
            return
        keys = message.keys
        if message.is_leaving:
            lease.is_broken = True
            keys = list(lease.inflight)  # the worker answered all that had begun before it said so
        was_recall = lease.is_recalling
        for task in lease.queue.take_back(lease, keys):
            if task.is_cancelled:
                self.retry(task, None, now)
        if message.is_leaving:
            self.leasing.return_lease(lease)
        elif not was_recall and lease.inflight:
            lease.is_blocked = True
        lease.queue.pump(self.sends)
        self.send_all()
        self.leasing.ask(lease.queue, now)

    # ---- resolving ---------------------------------------------------------------------------

    def wake(self, waiters: list[Any], now: float) -> None:
        """A row was resolved: tasks that waited for it may run, threads are told by the shell.

        What that resolves in turn is put in line, not called: a chain of a thousand tasks that fail
        with the first one's error must not be a thousand calls deep.
        """
        waking = self._waking
        if len(waiters) == 1 and type(waiters[0]) not in _WAITERS_HERE and not waking:
            self.outbox.woken.append(waiters[0])  # one thread: nearly always
            return
        waking.extend(waiters)
        if self._is_waking:
            return
        self._is_waking = True
        try:
            while waking:
                waiter = waking.popleft()
                if type(waiter) is Task:
                    self.arguments.arrived(waiter, now)
                elif type(waiter) is tuple:
                    if waiter[1].count:  # else the borrower has let go of it, and it may be over
                        self.resolving.resolve(waiter[0], waiter[1], waiter[2], now)
                elif type(waiter) is Supervised:
                    self.supervision.on_ended(waiter, now)
                elif type(waiter) is Row:
                    self.supervision.on_followed(waiter, now)
                else:
                    self.outbox.woken.append(waiter)
        finally:
            self._is_waking = False

    def await_row(self, row: Row, waiter: Any, now: float) -> None:
        """Tell `waiter` when the row is resolved; it is not yet. Brings back a lost value."""
        if row.waiters is None:
            row.waiters = [waiter]
        else:
            row.waiters.append(waiter)
        if row.state == LOST:
            self.recovery.recover(row, now)
        elif row.info is not None:
            self.borrowing.need(row)

    def fail(self, row: Row, error: Any, now: float) -> None:
        """Resolve a row with an error: a blob, or an exception made here."""
        waiters = self.table.fail(row, error)
        if waiters is not None:
            self.wake(waiters, now)

    def retry(self, task: Task, error: Any, now: float) -> None:
        """Execute again if the task has retries left, else fail with `error`."""
        row = task.row
        task.lease = None
        if task.is_cancelled:
            self.fail(row, _cancelled(task), now)
        elif task.retries_left == 0:
            self.fail(row, error, now)
        else:
            if task.retries_left > 0:
                task.retries_left -= 1
            self.resubmit(task, now)

    def resubmit(self, task: Task, now: float, was_sent: bool = True) -> None:
        """Send a task once more, as its next attempt, when its arguments are there.

        If it was not sent after all, it is the same attempt.
        """
        self.table.hold_dropped(task)
        if task.actor is not None and not self.actors.put_back(task, now):
            return
        task.message.attempt += was_sent
        self.borrowing.rename(task.message)
        options = task.message.options
        if options is not None:
            task.message.options = RunOptions(
                options.name, options.timeout_s, options.retry_exceptions, task.retries_left,
                options.concurrency_group,
            )  # fmt: skip
        if self.arguments.await_missing(task, now) == 0:
            self.ready_to_run(task, now)

    def error_blob(self, error: Any) -> bytes:
        """The blob of a failed row's error; the shell replaces this by one that can pickle."""
        return error if isinstance(error, bytes) else b""

    # ---- cancelling --------------------------------------------------------------------------

    def cancel(self, row: Row, force: bool, recursive: bool, now: float) -> None:
        """Cancel the task that makes `row`, if it has not ended."""
        task = row.task
        if row.state != PENDING or task is None:
            return
        task.is_cancelled = True
        where = task.lease.worker if task.lease is not None else None
        if where is None and task.actor is not None and row.key in task.actor.inflight:
            where = task.actor.address
        if where is None:
            if task.actor is not None:
                self.actors.withdraw(task)
            self.fail(row, _cancelled(task), now)
        else:
            task.retries_left = 0
            self.outbox.send(where, Cancel(row.key, force, recursive), True)
            if force and task.lease is not None:
                self.leasing.force(task.lease, now)

    # ---- time, death, and cleaning up ----------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `on_deadline` has something to do."""
        late = (
            self.borrowing.next_deadline(),
            self.actors.next_deadline(),
            self.leasing.sweep_at,
            self.supervision.next_deadline(),
        )
        return min((at for at in late if at is not None), default=None)

    def on_deadline(self, now: float) -> None:
        """Graces and idle times that are over."""
        self.outbox.has_deadline = True  # first, as the shell has no timer of ours now
        self.borrowing.on_deadline(now)
        self.actors.on_deadline(now)
        self.leasing.on_deadline(now)
        self.supervision.on_deadline(now)

    def settle(self, now: float) -> None:
        """Carry on what counts that reached zero ask for; after every event."""
        table = self.table
        if table.drops:
            table.drain_drops()
        while table.released or table.returned or table.ended_actors or table.emptied:
            if table.released:
                self._release_ranges()
            if table.returned:
                self.eager.note(table.returned)
                self.actors.forget(table.returned)
                self.borrowing.flush_returned()
            while table.ended_actors:
                self.actors.on_handle_ended(table.ended_actors.pop())
            while table.emptied:
                holder = table.emptied.pop()
                if type(holder) is Kept:
                    self.takeover.end_if_unused(holder)
                    continue
                side = self.supervision if type(holder) is Supervised else self.origins
                side.end_if_unused(holder)
            table.drain_drops()

    def _release_ranges(self) -> None:
        local = self.outbox.node_manager
        for where in self.table.released:
            target = local if where.node == local.node else Address(where.node, 0)
            self.outbox.send(target, RangeReleased(where.segment, where.offset, where.size))
        self.table.released.clear()

    def fail_all(self, error: BaseException) -> None:
        """The cluster is gone: whatever is pending fails."""
        self.final_error = error
        for task in self.leasing.take_all():
            self.fail(task.row, error, 0.0)
        self.actors.fail_all(error)
        for row, _ in list(self.table.by_id.values()):
            if row.state == PENDING and row.info is not None:
                self.fail(row, error, 0.0)

    def check_invariants(self, rows: list[Row]) -> None:
        """Check the table, and `rows`, every row that the caller knows of."""
        check_invariants(self.table, rows)

    def on_disconnected(self, peer: Address, now: float) -> None:
        """The connection to another process broke, or could not be made. It may live or not."""
        self.leasing.on_worker_unreachable(peer, now)
        self.actors.on_unreachable(peer, now)
        if not self.borrowing.is_dead(peer):
            self.handing.on_disconnected(peer, now)
            self.handoff.on_disconnected(peer)
            self.specs.on_unreachable(peer)
            self.borrowing.on_disconnected(peer, now)

    def is_tied_to(self, peer: Address) -> bool:
        """Whether work of ours is there, so that the end of its connection would say something."""
        return peer in self.leasing.leases or self.actors.is_calling(peer)

    def _give_up(self, peer: Address, now: float) -> None:
        """Nobody tells a process of those that ended before it began: it finds out by trying."""
        self.on_process_died(peer, ExitCause(reason="it could not be reached"), now)

    def on_process_died(
        self, address: Address, cause: ExitCause, now: float, heir: Address | None = None
    ) -> None:
        """A process ended: a borrower of ours, or an owner of what we borrow.

        If it had handed over what it owned, `heir` answers for that. Who borrowed through it may
        still have to hear so, and is waited for as after a crash.
        """
        is_clean = cause.code == 0 and heir is None
        if heir is not None:
            self.heirs.note(address, heir)
        self.leasing.on_worker_died(address, cause, now)
        self.borrowing.on_borrower_died(address, now, is_clean)
        self.handing.forget(address)
        self.handoff.on_died(lambda process: process == address)
        self.origins.forget(address)
        self.supervision.on_died(address, now)
        self.specs.on_died(lambda process: process == address)
        self.recovery.on_owner_died(address, cause, now)

    def on_node_died(self, node: str, reason: str, now: float, incarnation: int = 0) -> None:
        """A node is gone with its workers and what its arena held."""
        cause = ExitCause(reason=f"node {node[:8]} died: {reason}")
        self.borrowing.on_node_died(node, incarnation, now)
        self.handing.forget_node(node)
        self.handoff.on_died(lambda process: process.node == node)
        self.origins.forget_node(node)
        self.leasing.on_node_died(node, cause, now)
        self.supervision.on_node_died(node, now)
        self.specs.on_died(lambda process: process.node == node)
        self.recovery.on_node_died(node, cause, now)


def _cancelled(task: Task) -> TaskCancelledError:
    return TaskCancelledError(task_id=task.row.task_id().hex(), task_name=task.name)
