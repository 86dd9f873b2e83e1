"""A simulated driver or worker: the real `Owner`, and the shell's part of it in a few lines.

What `_processes.owner.core` and `_processes.worker` do with sockets, threads and pickles is done
here with the simulated network and generators: a program yields when it sleeps, waits for rows or
pulls a stored value, and goes on when the world says so.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.simulation.parts import ArgumentLost, Cancelled, Context, Failure, UserError
from tests.simulation.runner import Runner, Steps

from freehold._core import messages as m
from freehold._core.ids import Address, Location, child_task_id, object_id
from freehold._core.interface import FunctionEntry, TaskOptions
from freehold._core.limits import INLINE_OUTPUTS
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.origins import with_outputs
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, LOST, PENDING, READY, Row, unresolve
from freehold._processes.worker.leaving import Leaving
from freehold._processes.worker.moving import Moving

if TYPE_CHECKING:
    from tests.simulation.world import World

Value = tuple[bytes, list[ObjectRef[Any]]]
View = tuple[ObjectRef[Any], Location]


class SimProcess:
    """A process that owns: a driver, and the base of a worker."""

    is_worker = False

    def __init__(self, world: World, address: Address) -> None:
        self.world = world
        self.address = address
        self.owner = Owner(address, Address(address.node, 0))
        self.owner.error_blob = error_blob  # type: ignore[method-assign]
        self.entries = {kind: FunctionEntry(len, kind) for kind in ("body", "leaf")}
        for number, entry in enumerate(self.entries.values()):
            entry.number, entry.blob = number, entry.name.encode()
        self._timer_at: float | None = None
        self._was_owning = False
        self._requests = 0
        owner = self.owner
        self.handlers: dict[type, Any] = {
            m.Done: owner.on_done,
            m.DoneWith: owner.on_done_with,
            m.Failed: owner.on_failed,
            m.TasksReturned: owner.on_tasks_returned,
            m.ArgumentsDropped: self._on_dropped,
            m.Borrow: lambda s, x, now: owner.borrowing.on_borrow(s, x),
            m.Borrowed: lambda s, x, now: owner.borrowing.on_borrowed(s, x),
            m.Return: lambda s, x, now: owner.borrowing.on_return(s, x),
            m.TakenResult: lambda s, x, now: owner.handing.taken(s, x.key),
            m.Orphaned: lambda s, x, now: owner.supervision.on_orphaned(s, x),
            m.OwningEnded: lambda s, x, now: owner.supervision.on_owning_ended(s, x.key),
            m.Recreated: lambda s, x, now: owner.borrowing.on_recreated(s, x.refs),
            m.HandOff: owner.takeover.on_hand_off,
            m.TakenOver: owner.handoff.on_taken_over,
            m.OwnerMoved: owner.heirs.on_owner_moved,
            m.Owning: lambda s, x, now: owner.takeover.on_owning(s, x),
            m.PrimaryMoved: owner.primaries.on_moved,
            m.OwningNoted: lambda s, x, now: owner.specs.on_noted(s, x.key),
            m.Want: lambda s, x, now: owner.origins.on_want(s, x),
            m.SupervisedBy: lambda s, x, now: owner.origins.on_supervised_by(s, x),
            m.Resolve: owner.resolving.on_resolve,
            m.Resolved: owner.resolving.on_resolved,
            m.LeaseGranted: owner.leasing.on_lease_granted,
            m.LeaseSpilledBack: owner.leasing.on_spilled_back,
            m.LeaseInfeasible: owner.leasing.on_infeasible,
            m.LeaseRevoked: self._on_revoked,
            m.ReturnIdle: lambda s, x, now: owner.leasing.on_return_idle(x, now),
            m.ProcessDied: self._on_died,
            m.NodeDied: lambda s, x, now: owner.on_node_died(x.node, x.reason, now),
            m.ActorState: lambda s, x, now: owner.actors.on_state(x.info, now),
            m.ActorRegistered: lambda s, x, now: None,
        }

    # ---- the network's side --------------------

    def receive(self, source: Address, message: Any) -> None:
        """A message arrived."""
        self.handlers[type(message)](source, message, self.world.clock.now)
        self.carry_out()

    def disconnected(self, peer: Address) -> None:
        """The connection to `peer` ended, or could not be made."""
        if peer.process:
            self.owner.on_disconnected(peer, self.world.clock.now)
            self.carry_out()

    def _on_revoked(self, source: Address, message: m.LeaseRevoked, now: float) -> None:
        self.world.network.drain(message.worker, self.address)
        self.owner.leasing.on_lease_revoked(message, now)

    def _on_dropped(self, source: Address, message: m.ArgumentsDropped, now: float) -> None:
        self.owner.eager.on_dropped(source, message, now)
        task = self.owner.eager._running(source, message.key)
        if task is not None and task.dropped:
            self.world.note_dropped(self.address, source, task.message)

    def _on_died(self, source: Address, message: m.ProcessDied, now: float) -> None:
        self.world.network.drain(message.address, self.address)
        self.owner.on_process_died(message.address, message.cause, now, message.heir)

    def carry_out(self) -> None:
        """What `OwnerCore.carry_out` does."""
        owner, world = self.owner, self.world
        owner.settle(world.clock.now)
        while owner.outbox.messages:
            pending, owner.outbox.messages = owner.outbox.messages, []
            for target, message, _ in pending:
                if type(message) in (m.Run, m.Call):
                    dropped_in = world.dropped.get((self.address, message.key))
                    if dropped_in is not None and message.attempt > dropped_in:
                        world.retried_after_drop += 1
                    world.note_sent(self.address, message)
                world.network.send(self.address, target, message)
        woken, owner.outbox.woken = owner.outbox.woken, []
        for waiter in woken:
            waiter.count_down()
        deadline = owner.next_deadline() if owner.outbox.has_deadline else None
        owner.outbox.has_deadline = False
        if deadline is not None and (self._timer_at is None or deadline < self._timer_at):
            self._timer_at = deadline
            world.clock.at(deadline, self._on_timer)
        is_owning = owner.table.owned_in_scope() > 0
        if is_owning != self._was_owning:
            self._was_owning = is_owning
            world.network.send(
                self.address, Address(self.address.node, 0), m.OwningChanged(is_owning)
            )
        world.check(self)

    def _on_timer(self) -> None:
        if self._timer_at is not None and self._timer_at <= self.world.clock.now:
            self._timer_at = None
            if self.is_alive:
                self.owner.on_deadline(self.world.clock.now)
                self.carry_out()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self.world.network.receivers.get(self.address) is self

    # ---- what programs do --------------------

    def run(self, steps: Steps, then: Any) -> None:
        """Drive a program; `then(result or exception)` at its end."""
        Runner(self, steps, then).resume(None)

    def submit(
        self, context: Context, kind: str, options: TaskOptions, given: Given
    ) -> list[ObjectRef[Any]]:
        """Submit a task; a reference for each output."""
        row = self.owner.submit(
            self.entries[kind], options, context.maker(), context.next_child(), given,
            self.world.clock.now,
        )  # fmt: skip
        if options.num_returns == 0:
            self.owner.table.drops.append((row, 0))
        refs = [make_reference(row, index) for index in range(options.num_returns)]
        self.carry_out()
        return refs

    def put(
        self, context: Context, inside: list[ObjectRef[Any]], is_stored: bool
    ) -> ObjectRef[Any]:
        """Put a value that names itself by its id."""
        index, context.puts = context.puts, context.puts + 1
        blob = tag(object_id(context.task_id, (1 << 31) + index))
        where: Any = self.store.write(self.address, [blob], self.address) if is_stored else blob
        row = self.owner.put(context.maker(), index, where, inside)
        self.world.inside[row.object_id(0)] = len(inside)
        return make_reference(row)

    def create_actor(
        self, context: Context, options: m.ActorOptions, given: Given
    ) -> ObjectRef[Any]:
        """Make an actor; its handle."""
        parent = context.task_id
        if context.attempt:
            # An actor is not a value: executing its maker again makes another one.
            parent = child_task_id(parent, (1 << 63) + context.attempt)
        row = self.owner.table.new_actor(parent, context.next_child())
        self.world.actors.add(row.object_id(0))
        self.owner.table.expose(row, 0)
        spec = ((), (), "", b"actor", False, None)
        self._requests += 1
        self.owner.actors.create(row, options, spec, given, self._requests)
        self.carry_out()
        return make_reference(row)

    def call(
        self, context: Context, handle: ObjectRef[Any], options: TaskOptions, given: Given
    ) -> ObjectRef[Any]:
        """Call an actor's one method."""
        place = (context.maker(), context.next_child())
        row = self.owner.actors.call(
            handle._row, "method", options, place, given, self.world.clock.now
        )
        self.carry_out()
        return make_reference(row)

    @property
    def store(self) -> Any:
        """The arena of this process's node."""
        return self.world.nodes[self.address.node].store

    def get(self, ref: ObjectRef[Any]) -> Steps:
        """The value of a reference, or the failure; what `OwnerCore._load` does."""
        row, index = ref._row, ref._index
        while True:
            if row.state in (PENDING, LOST):
                if not (yield ("wait", [row])):
                    return Failure(b"timeout")
            elif row.state == FAILED:
                return Failure(error_blob(row.value))
            else:
                value = row.output(index)
                inside = row.nested[index][1] if row.nested and index in row.nested else []
                if type(value) is not Location:
                    return (value, list(inside))
                found = yield ("pull", value)
                if found is not None:
                    return (found, list(inside))
                self.world.note_unreadable(self, row, value)
                self.owner.recovery.unreadable(row, index, value)
                self.carry_out()

    def on_blocked(self, is_blocked: bool) -> None:
        """A program waits, or goes on."""


class SimWorker(SimProcess):
    """A worker: runs one task or call after another."""

    is_worker = True

    def __init__(self, world: World, address: Address) -> None:
        super().__init__(world, address)
        self.queue: deque[tuple[Address, Any]] = deque()
        self.functions: set[tuple[Address, int]] = set()
        self.running: tuple[Address, Any, Runner] | None = None
        self.is_blocked = False
        self.is_ending = False
        self.calls_left = world.rng.choice([None, None, None, 1, 3])
        """Tasks after which the worker leaves, if any: `max_calls`."""
        self.reactor = self
        self.leaving = Leaving(self, self._end)  # type: ignore[arg-type]
        self.actor: tuple[m.ActorSpec, int] | None = None
        self.moving = Moving(self, self.leaving)  # type: ignore[arg-type]
        self.moving.place = self._place
        self.handlers |= self.moving.handlers()
        self.actor_state: list[Any] = []
        self.actor_calls = 0
        self.handlers |= {
            m.Run: self._on_run,
            m.Call: self._on_run,
            m.CreateActor: self._on_run,
            m.LeaveNode: self._on_leave_node,
            m.LeaseBegan: lambda s, x, now: self.leaving.leased_to(s),
            m.DefineFunction: lambda s, x, now: self.functions.add((s, x.function)),
            m.Recall: lambda s, x, now: self._return_unstarted(x.keys, s),
            m.Cancel: self._on_cancel,
            m.ExitProcess: self._on_exit,
        }

    def call_later(self, delay_s: float, then: Any) -> None:
        """A timer; `self` is also the reactor that `Leaving` sees."""

        def run() -> None:
            if self.is_alive:
                then()
                self.carry_out()

        self.world.clock.after(delay_s, run)

    def _on_run(self, source: Address, message: Any, now: float) -> None:
        if self.leaving.reason:
            if type(message) is m.Run:
                self.leaving.give_back(source, message.key)
            return
        self.queue.append((source, message))
        if self.is_blocked and type(message) is m.Run:
            self._return_unstarted(None)
        self._start_next()

    def _return_unstarted(self, keys: list[int] | None, asked_by: Address | None = None) -> None:
        returned: dict[Address, list[int]] = {} if asked_by is None else {asked_by: []}
        rest: deque[tuple[Address, Any]] = deque()
        for source, message in self.queue:
            if type(message) is m.Run and (keys is None or message.key in keys):
                returned.setdefault(source, []).append(message.key)
            else:
                rest.append((source, message))
        self.queue = rest
        for source, gone in returned.items():
            self.owner.outbox.send(source, m.TasksReturned(gone), True)

    def _on_cancel(self, source: Address, message: m.Cancel, now: float) -> None:
        for item in self.queue:
            if item[0] == source and getattr(item[1], "key", None) == message.key:
                self.queue.remove(item)
                answer = m.Failed(message.key, item[1].attempt, 0, "cancelled", b"cancelled")
                self.owner.outbox.send(source, answer)
                return
        running = self.running
        if running is not None and running[0] == source and running[1].key == message.key:
            runner = running[2]
            self.world.clock.after(0.0, lambda: runner.resume(Cancelled))

    def _on_exit(self, source: Address, message: m.ExitProcess, now: float) -> None:
        if self.leaving.has_announced:
            self.leaving.end_when_not_needed()
        else:
            self._end()

    def _place(self) -> tuple[bytes, int] | None:
        return (self.actor[0].actor, self.actor[1]) if self.actor is not None else None

    def _on_leave_node(self, source: Address, message: m.LeaveNode, now: float) -> None:
        self.leaving.keeper = message.keeper or self.leaving.keeper
        if self.actor is None and not self.leaving.reason:
            self.leaving.leave(message.reason)
            self._return_unstarted(None)
            if self.running is None:
                self._leave()

    def _leave(self) -> None:
        self._return_unstarted(None)
        self.queue.clear()
        self.leaving.announce()

    def _end(self) -> None:
        self.is_ending = True
        if self.running is None:
            self.world.exit_cleanly(self)

    def on_blocked(self, is_blocked: bool) -> None:
        if is_blocked != self.is_blocked:
            self.is_blocked = is_blocked
            if is_blocked and self.actor is None:
                self._return_unstarted(None)
            self.owner.outbox.ask_node(m.Blocked(is_blocked))

    # ---- executing --------------------

    def _start_next(self) -> None:
        if self.running is None and self.queue and not self.is_ending:
            source, message = self.queue.popleft()
            if type(message) is m.CreateActor:
                self.actor = (message.spec, message.restart)
                spec = message.spec
                call = m.Call(
                    -1, message.restart, "__init__", b"", 0, spec.payload, 1, spec.args, spec.nested
                )
                Execution(self, spec.owner.address, call, spec.actor).start()
            else:
                task = child_task_id(message.parent, message.index)
                Execution(self, source, message, task).start()

    def ended(self) -> None:
        """A task or call is over."""
        self.running = None
        if self.is_blocked:
            self.on_blocked(False)
        if self.calls_left is not None and self.actor is None:
            self.calls_left -= 1
            if self.calls_left <= 0:
                self.world.left += 1
                self.leaving.leave("it reached max_calls")
        if self.leaving.reason and self.actor is None:
            self._leave()
        if self.is_ending:
            self.world.exit_cleanly(self)
        else:
            self.world.clock.after(0.0, self._start_if_alive)

    def _start_if_alive(self) -> None:
        if self.is_alive:
            self._start_next()
            self.carry_out()


class Execution:
    """One task in a worker: `_processes.worker.execution.Execution` with values as plain pairs."""

    def __init__(self, worker: SimWorker, source: Address, message: Any, task: bytes) -> None:
        self.worker = worker
        self.source = source
        self.message = message
        self.context = Context(task, message.attempt)
        self.rows: list[tuple[Row, int]] = []
        self.views: list[View] = []
        """Stored arguments in use; taken by the program, which may let go of them as it runs."""
        self.watch: Any = None
        self.started_at = worker.world.clock.now

    def start(self) -> None:
        """Begin; the worker is told at the end."""
        worker, message = self.worker, self.message
        if type(message) is m.Run:
            known = (self.source, message.function) in worker.functions
            assert known, f"{worker.address} was not told function {message.function}"
            task, place = self.context.task_id, (self.source, message.key)
            origins = worker.owner.origins
            self.context.begin = lambda: origins.begin(task, message.parent, *place)
            if place in origins.wants:
                self.context.maker()
        runner = Runner(worker, self._steps(), self._over)
        worker.running = (self.source, message, runner)
        runner.resume(None)

    def _meet(self, refs: m.Refs | None) -> list[ObjectRef[Any]]:
        if refs is None:
            return []
        met = self.worker.owner.borrowing.meet(refs, self.source, is_covered=True)
        self.rows += [(ref._row, ref._index) for ref in met]
        self.worker.carry_out()
        return met

    def _steps(self) -> Steps:
        held: Any = self._meet(self.message.nested)
        values: Any = []
        inside: Any
        ref: Any
        row: Any
        for arg in self.message.args or ():
            inside = self._meet(arg.nested)
            blob = arg.blob
            if arg.location is not None:
                ref = self._meet(arg.ref)[0]
                row = ref._row
                self.worker.owner.resolving.learn_argument(
                    row, arg, inside, self.worker.world.clock.now
                )
                self.worker.carry_out()
                blob = yield ("pull", arg.location)
                if blob is None:
                    blob = yield from self._moved(row, ref._index, arg.location)
                if blob is None:
                    if self.message.key >= 0:  # a constructor may run on when its actor is released
                        self.worker.world.note_unreadable(self.worker, row, arg.location)
                    raise ArgumentLost(ref.binary())
                self.views.append((ref, arg.location))
                ref = row = None
            values.append((blob, inside))
            inside = None
        self.worker.world.check_arguments(self.message.payload, values)
        self.worker.world.note_start(self)
        program = self.worker.world.program_of(self)
        steps = program(self, held, values)
        held = values = None  # the program alone has them from here on
        if self.message.key >= 0:
            owner = self.worker.owner
            owner.table.drain_drops()
            key, attempt = self.message.key, self.message.attempt
            self.watch = owner.eager.begin(self.rows, self.source, key, attempt)
        return (yield from steps)

    def _moved(self, row: Row, index: int, old: Location) -> Steps:
        """A stored argument that has another place by now: its value, if the owner knows it."""
        if row.info is not None and row.state == READY and row.value == old:
            unresolve(row)
        yield ("wait", [row])
        now_at = row.output(index) if row.state == READY else None
        if type(now_at) is not Location or now_at == old:
            return None
        return (yield ("pull", now_at))

    # ---- the end --------------------

    def _over(self, result: Any) -> None:
        worker, message = self.worker, self.message
        run_us = int((worker.world.clock.now - self.started_at) * 1e6)
        answer: Any
        if isinstance(result, ArgumentLost):
            id_ = result.args[0]
            answer = m.Failed(message.key, message.attempt, run_us, "lost", b"lost", lost=id_)
        elif isinstance(result, Cancelled):
            answer = m.Failed(message.key, message.attempt, run_us, "cancelled", b"cancelled")
        elif isinstance(result, UserError):
            is_retriable = bool(message.options and message.options.retry_exceptions)
            answer = m.Failed(message.key, message.attempt, run_us, "user", b"user", is_retriable)
        elif message.key < 0:
            answer = None
        else:
            answer = self._reply(result, run_us)
        del result
        if message.key < 0:
            self._constructed(b"" if answer is None else answer.error)
        else:
            self._finish(answer)
        worker.carry_out()
        worker.ended()
        worker.carry_out()

    def _reply(self, outputs: list[tuple[list[ObjectRef[Any]], bool]], run_us: int) -> Any:
        """`outputs`: for each the references inside, and whether it is stored."""
        message, worker = self.message, self.worker
        task = self.context.task_id
        blobs = [tag(object_id(task, index)) for index in range(len(outputs))]
        for index, (inside, _) in enumerate(outputs):
            worker.world.inside[object_id(task, index)] = len(inside)
        if len(outputs) == 1 and not outputs[0][1] and not outputs[0][0] and not self.rows:
            return m.Done(message.key, message.attempt, run_us, blobs[0])
        answer = m.DoneWith(message.key, message.attempt, run_us)
        describe = worker.owner.handing.describe_result
        if len(outputs) > INLINE_OUTPUTS:
            answer.packed = worker.store.write(self.source, blobs, worker.address)
            answer.ends = array("Q", [64 * i + 64 for i in range(len(blobs))]).tobytes()
            found = {
                index: describe(inside, self.source, answer)
                for index, (inside, _) in enumerate(outputs)
                if inside
            }
            answer.packed_nested = found or None
            return answer
        answer.outputs = []
        for blob, (inside, is_stored) in zip(blobs, outputs, strict=True):
            output = m.Output()
            if is_stored:
                output.location = worker.store.write(self.source, [blob], worker.address)
            else:
                output.blob = blob
            if inside:
                output.nested = describe(inside, self.source, answer)
            answer.outputs.append(output)
        return answer

    def _finish(self, answer: Any) -> None:
        owner = self.worker.owner
        self.views.clear()
        if self.watch is not None:
            owner.eager.end(self.watch)
        owner.table.drain_drops()
        origin = self.context.origin

        def send(kept: list[bytes] | None) -> None:
            final = answer
            if origin is not None:
                final = owner.origins.end(origin, self.source, final)
            if kept is not None:
                if type(final) is m.Done:
                    final = with_outputs(final)
                final.kept = kept
            owner.outbox.send(self.source, final)
            self.worker.leaving.answered()

        self.worker.leaving.answer_waits()
        owner.borrowing.finish(self.rows, self.source, send)

    def _constructed(self, error: bytes) -> None:
        worker = self.worker
        assert worker.actor is not None
        spec, restart = worker.actor
        owner = worker.owner
        owner.table.drain_drops()
        started = m.ActorStarted(spec.actor, restart, worker.address, error)
        owner.borrowing.register_kept(self.rows)
        owner.borrowing.after_rows(self.rows, lambda: owner.outbox.ask_node(started))
        if error:
            worker.world.note_fault()  # every call of the actor fails with it
            worker.is_ending = True


def tag(id_: bytes) -> bytes:
    """The value of an object: it names itself."""
    return b"value:" + id_


def error_blob(error: Any) -> bytes:
    """The blob of an error: as it came, or its class's name."""
    return error if isinstance(error, bytes) else type(error).__name__.encode()
