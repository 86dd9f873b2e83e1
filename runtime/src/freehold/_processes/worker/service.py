"""The worker process: from the fork to the end.

The zygote forks it, `run_worker` attaches it to its node manager, and from then on owners send it
tasks directly; or the node manager makes it an actor. It ends when told, when its node manager's
connection closes, or when it leaves (`leaving`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from freehold._core import messages as m
from freehold._core.ids import Address, child_task_id
from freehold._core.limits import BLOCKED_AFTER_S, CANCEL_GRACE_S
from freehold._core.ownership.reference import ObjectRef
from freehold._core.resources import Shape
from freehold._io.reactor import Timer
from freehold._io.serialization import loads
from freehold._io.session import SessionFolder
from freehold._io.shm import Arena
from freehold._io.signals import SignalGate
from freehold._io.zygote_protocol import WorkerStart
from freehold._processes.owner.attach import report
from freehold._processes.owner.cluster import ClusterCore
from freehold._processes.owner.forks import watch_forks
from freehold._processes.worker.actor import ActorHost
from freehold._processes.worker.execution import ActorExit, Execution
from freehold._processes.worker.interrupts import Interrupts
from freehold._processes.worker.leaving import Leaving
from freehold._processes.worker.loops import MainLoop, ThreadedLoop
from freehold._processes.worker.moving import Moving
from freehold._processes.worker.notes import TaskNotes
from freehold._processes.worker.waiting import Waiting
from freehold.errors import AsyncioActorExit, FreeholdError, TaskCancelledError, TaskTimeoutError

Attach = Callable[["WorkerCore", str], None]

_LEAVE = m.CreateActor(None, -1)  # type: ignore[arg-type]
"""Put into the queue behind all tasks: the worker leaves. It stands where an actor's creation does
because that is told from a task already, and each task would pay for another question."""

_MUST_END_S = 1.0
"""How long a worker whose task does not stop waits for its node manager's leave to end."""


def run_worker(start: WorkerStart, attach: Attach) -> NoReturn:
    """Be a worker until told to end; in a freshly forked process.

    Args:
        attach: called with the core and the runtime environment's hash before any user code runs.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    service = WorkerService(start)
    attach(service.core, start.env)
    service.run()
    os._exit(service.exit_code)


class WorkerCore(ClusterCore):
    """The owner core of a worker."""

    host: ActorHost | None = None

    running: dict[Any, Any]
    """What the worker runs; while that is nothing it matters what it owns."""
    _is_owning = False

    def _on_tick(self) -> None:
        super()._on_tick()
        if not self.running and (self.owner.table.owned_in_scope() > 0) is not self._is_owning:
            self._is_owning = not self._is_owning
            self.owner.outbox.ask_node(m.OwningChanged(self._is_owning), is_urgent=False)
            self.carry_out()

    def is_tied_to(self, peer: Address) -> bool:
        """See `CoreBase.is_tied_to`; besides, who waits for the answer of what runs here."""
        return super().is_tied_to(peer) or any(source == peer for source, _key in self.running)

    def exit_actor(self) -> None:
        """See `Core.exit_actor`."""
        context = self.current.get()
        if context is None or not context.actor_id:
            raise TypeError("exit_actor() can only be called inside an actor's method")
        raise ActorExit

    def own_actor(self) -> tuple[ObjectRef[Any], m.ActorInfo]:
        """See `Core.own_actor`."""
        host = self.host
        if host is None:
            raise RuntimeError("there is no current actor: this worker runs tasks")
        spec = host.spec
        address = self.owner.address
        info = m.ActorInfo(spec.actor, spec.owner, spec.options, "alive", address, host.restart)
        return self._handle_of(info), info

    def die(self, error: FreeholdError) -> None:
        """Without its node manager a worker is nobody's, and so is what user code started in it."""
        if os.getpgrp() == self.pid:
            os.killpg(self.pid, signal.SIGKILL)
        os._exit(1)


class WorkerService:
    """One worker: its core, its queue, what it knows of functions, and its actor if it is one."""

    def __init__(self, start: WorkerStart) -> None:
        self._start = start
        self.is_ending = False
        self.exit_code = 0
        self.functions: dict[tuple[Address, int], m.DefineFunction | Callable[..., Any]] = {}
        self.names: dict[tuple[Address, int], str] = {}
        self.calls_left: dict[tuple[Address, int], int] = {}
        self.actor: ActorHost | None = None
        self.notes = TaskNotes()
        self.gpus: list[int] = list(start.gpus)
        self.assigned: Shape = ()
        """What the lease is of that this worker runs tasks for."""
        self.waiting = Waiting(self)
        self._running: dict[tuple[Address, int], Execution] = {}
        self._cancelled_early: deque[tuple[Address, int]] = deque(maxlen=64)
        self._must_end = False
        """It leaves without waiting for the task that runs."""
        self.core = self._attach()
        self.interrupts = Interrupts(self.core.reactor)
        self.leaving = Leaving(self.core, self._end)
        self.loop: MainLoop = MainLoop(self)
        self._register_handlers()
        report(self.core, m.Register(os.getpid(), start.start))

    # ---- starting ----------------------------------------------------------------------------

    def _attach(self) -> WorkerCore:
        start = self._start
        folder = SessionFolder(start.sockets, start.node_manager.node)
        core = WorkerCore(
            Address(start.node_manager.node, start.process, start.node_manager.incarnation),
            start.cluster,
            folder.socket_path,
            Arena.attach(start.arena_fd, start.arena_bytes),
            None,
        )
        core.limit(start.lineage_bytes, start.pending_bytes)
        core.running = self._running
        core.on_blocked = self.waiting.on_blocked
        core.on_await = self.waiting.on_await
        core.blocked_after_s = BLOCKED_AFTER_S
        core.job_id = start.cluster  # a cluster has one driver, and so one job
        core.session_dir = start.sockets
        core.namespace = start.namespace
        return core

    def _register_handlers(self) -> None:
        handlers = self.core.handlers
        handlers[m.Registered] = self._on_registered
        handlers[m.Run] = self._on_run
        handlers[m.Call] = self._on_run
        handlers[m.DefineFunction] = self._on_define
        handlers[m.LeaseBegan] = self._on_lease_began
        handlers[m.Recall] = self._on_recall
        handlers[m.Cancel] = self._on_cancel
        handlers[m.CreateActor] = self._on_create_actor
        handlers[m.ExitProcess] = self._on_exit
        handlers[m.LeaveNode] = self._on_leave_node
        self.moving = Moving(self.core, self.leaving)
        self.moving.place = self._place
        handlers |= self.moving.handlers()
        handlers[m.TaskEventsWanted] = self._on_events_wanted

    def _on_registered(self, source: Address, message: m.Registered, now: float) -> None:
        self.core.join_network(message.network)
        self.core.note_dead(message.dead)
        for ended, heir in message.heirs:
            self.core.owner.heirs.note(ended, heir)
            self.core.owner.borrowing.dead.setdefault(ended)

    def run(self) -> None:
        """Serve until told to end."""
        self.interrupts.install()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gate = SignalGate()
        gate.open()
        self.core.reactor.start_background()
        watch_forks(self.core)
        while not self.is_ending:
            loop = self.loop
            loop.run()
            if self.loop is loop:
                break
        gate.close()
        self._leave()

    def _leave(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                pass
        if self.actor is not None:
            self.actor.close()
        with self.core.reactor.lock:
            self.core.carry_out()
            self.core.reactor.flush()
        import atexit

        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()

    # ---- messages (under the lock) -------------------------------------------------------------

    def _on_run(self, source: Address, message: Any, now: float) -> None:
        if self.leaving.reason:
            self.leaving.give_back(source, message.key)
            return
        if self.waiting.count and self.actor is None and type(message) is m.Run:
            # It crossed our return of what had not started; the running task may wait for it.
            self.core.owner.outbox.send(source, m.TasksReturned([message.key]), True)
            return
        self.loop.push((source, message))

    def _on_define(self, source: Address, message: m.DefineFunction, now: float) -> None:
        place = (source, message.function)
        self.functions[place] = message
        self.names[place] = message.name
        if message.max_calls:
            self.calls_left[place] = message.max_calls

    def _on_lease_began(self, source: Address, message: m.LeaseBegan, now: float) -> None:
        self.assigned = message.shape
        self.leaving.leased_to(source)

    def _on_recall(self, source: Address, message: m.Recall, now: float) -> None:
        self.return_unstarted(message.keys, source)

    def return_unstarted(
        self, keys: list[int] | None = None, asked_by: Address | None = None
    ) -> None:
        """Give tasks that have not started, all or those of `keys`, back to their owners."""
        returned = self.loop.take_unstarted(keys)
        if asked_by is not None:
            returned.setdefault(asked_by, [])  # an empty answer ends the recall
        for source, gone in returned.items():
            self.core.owner.outbox.send(source, m.TasksReturned(gone), True)

    def _on_cancel(self, source: Address, message: m.Cancel, now: float) -> None:
        for item in self.loop.queue:
            if item[0] == source and item[1].key == message.key:
                self.loop.queue.remove(item)
                execution = Execution.of(self.core, source, item[1])
                execution.context.is_cancelled = True
                execution.name = self._name_of(source, item[1])
                answer = execution.error_reply(TaskCancelledError())
                self.loop.send(source, answer)
                return
        found = self._running.get((source, message.key))
        if found is None:
            # Just being taken from the queue, or over: `execute` looks when it has registered it.
            self._cancelled_early.append((source, message.key))
            return
        found.context.is_cancelled = True
        if message.recursive:
            for row in found.context.submitted or ():
                self.core.owner.cancel(row, message.force, True, now)
            self.core.carry_out()
        if message.force and self.actor is None:
            self.loop.send(source, found.error_reply(TaskCancelledError()))
            self._end_soon("its task was cancelled by force")
        if self.actor is not None:
            self.actor.cancel(source, message.key)
        else:
            self.interrupts.interrupt(found.context)

    def _on_create_actor(self, source: Address, message: m.CreateActor, now: float) -> None:
        if self.leaving.reason:
            return  # it crossed our announcement, upon which the node manager takes another worker
        self.gpus = message.gpus or self.gpus
        self.loop.push((source, message))

    def _on_exit(self, source: Address, message: m.ExitProcess, now: float) -> None:
        if message.force:
            os._exit(0)
        if self._must_end:
            os._exit(1)
        if self.leaving.has_announced:
            self.leaving.end_when_not_needed()
        else:
            self._end()

    def _place(self) -> tuple[bytes, int] | None:
        actor = self.actor
        return (actor.spec.actor, actor.restart) if actor is not None else None

    def _on_leave_node(self, source: Address, message: m.LeaveNode, now: float) -> None:
        """The node drains: what has not started goes back, what runs is finished."""
        self.leaving.keeper = message.keeper or self.leaving.keeper
        if self.actor is not None or self.leaving.reason:
            return
        self.leaving.leave(message.reason)
        self.return_unstarted()
        # The main thread may just be taking a task from the queue: it says itself when it has none.
        self.loop.push((source, _LEAVE))

    def _end(self) -> None:
        self.is_ending = True
        self.loop.stop()

    def _on_events_wanted(self, source: Address, message: m.TaskEventsWanted, now: float) -> None:
        where = f"node {self.core.node_id[:8]} pid {os.getpid()}"
        events = []
        for at_ns, kind, name, parent, index, run_us in self.notes:
            task = child_task_id(parent, index).hex()
            events.append((at_ns - run_us * 1000, "started", name, task, where))
            events.append((at_ns, kind, name, task, ""))
        for execution in self._running.values():
            age_ns = execution.run_us() * 1000
            task = execution.context.task_id.hex()
            events.append((time.time_ns() - age_ns, "started", execution.name, task, where))
        answer = m.TaskEvents(message.request, self.core.owner.address, os.getpid(), events, True)
        self.core.owner.outbox.send(source, answer, True)

    def _name_of(self, source: Address, message: Any) -> str:
        """What a task that has not begun is called."""
        if message.options is not None and message.options.name:
            return str(message.options.name)
        if self.actor is not None:
            return f"{self.actor.options.class_name}.{message.method}"
        return self.names.get((source, message.function), "")

    # ---- running (without the lock) ----------------------------------------------------------

    def execute(self, source: Address, message: Any) -> None:
        """Run one message from start to reply."""
        if type(message) is m.CreateActor:
            self._become_actor(source, message)
            return
        core = self.core
        execution = Execution.of(core, source, message)
        place = (source, message.key)
        self._running[place] = execution
        if place in self._cancelled_early:
            execution.context.is_cancelled = True
        timer = self._arm_timeout(execution)
        if core.owner.origins.wants:
            execution.begin_wanted()
        answer: Any
        try:
            function = self._prepare(execution)
            if execution.context.is_cancelled:
                raise KeyboardInterrupt  # it came before there was anything to interrupt
            result = execution.call(function)
            if core.is_dead is not None:
                _end_fork(None)
            answer = execution.reply(result)
        except BaseException as error:  # noqa: BLE001 - told on, not swallowed
            if core.pid != os.getpid():
                _end_fork(error)
            answer = self._failed(execution, error)
            error = None  # type: ignore[assignment]
        # A frame that lives on would hold what the reply says is let go.
        result = function = None  # type: ignore[assignment]
        self.interrupts.running = None
        self._running.pop(place, None)
        if self.waiting.count and not self._running:
            self.waiting.on_idle()
        if timer is not None:
            timer.cancel()
        self._answer(execution, answer)

    def _failed(self, execution: Execution, error: BaseException) -> m.Failed:
        try:
            return execution.error_reply(error)
        finally:
            if self.actor is not None:
                self._leave_actor(error)
            elif isinstance(error, SystemExit):
                self.leaving.leave("its task called sys.exit()")

    def _answer(self, execution: Execution, answer: Any) -> None:
        source = execution.source
        if execution.is_plain:
            with self.core.reactor.lock:
                self.loop.send(source, answer)
                self.notes.add(execution.name, execution.message, answer)
        else:
            with self.core.reactor.lock:
                self.leaving.answer_waits()
                self.notes.add(execution.name, execution.message, answer)
            execution.finish(answer, lambda final: self._answer_late(source, final))
        if self.calls_left:
            self._count_call(execution)
        if self.leaving.reason:
            with self.core.reactor.lock:
                self._start_none()

    def _count_call(self, execution: Execution) -> None:
        place = (execution.source, getattr(execution.message, "function", -1))
        left = self.calls_left.get(place)
        if left is not None:
            self.calls_left[place] = left - 1
            if left <= 1:
                self.leaving.leave("it reached max_calls")

    def _answer_late(self, source: Address, answer: Any) -> None:
        """Send an answer whose references are registered with their owners; under the lock."""
        self.loop.send(source, answer)
        self.leaving.answered()

    def _prepare(self, execution: Execution) -> Callable[..., Any]:
        message = execution.message
        if type(message) is m.Call:
            assert self.actor is not None
            method = self.actor.method(execution)
            if type(self.loop) is MainLoop:
                self.interrupts.running = execution.context
            return method
        place = (execution.source, message.function)  # type: ignore[union-attr]
        options = message.options
        context = execution.context
        context.function_name = self.names[place]
        execution.name = options.name if options is not None else context.function_name
        context.task_name = execution.name
        context.assigned = self.assigned
        context.gpu_ids = self.gpus
        context.notes_submitted = True
        function = self.functions[place]
        if type(function) is m.DefineFunction:
            function = loads(function.blob)
            self.functions[place] = function
        self.interrupts.running = execution.context
        return function  # type: ignore[return-value]

    async def execute_async(self, source: Address, message: Any) -> None:
        """The same for a coroutine method."""
        assert self.actor is not None
        execution = Execution.of(self.core, source, message)
        place = (source, message.key)
        self._running[place] = execution
        timer = self._arm_timeout(execution)
        answer: Any
        token = self.core.current.set(execution.context)
        try:
            method = self.actor.method(execution)
            result = await self.actor.call_async(method, execution)
            answer = execution.reply(result)
        except BaseException as error:  # noqa: BLE001 - told on, not swallowed
            answer = self._failed(execution, error)
        finally:
            self.core.current.reset(token)
        result = None
        self._running.pop(place, None)
        if self.waiting.count and not self._running:
            self.waiting.on_idle()
        if timer is not None:
            timer.cancel()
        self._answer(execution, answer)

    # ---- timeouts and ends -------------------------------------------------------------------

    def _arm_timeout(self, execution: Execution) -> Timer | None:
        options = execution.message.options
        if options is None or options.timeout_s is None:
            return None
        reactor = self.core.reactor

        def give_up() -> None:
            if self._running.get((execution.source, execution.message.key)) is execution:
                # The caller lets the arguments go with this answer; a method may still use them.
                self.core.owner.borrowing.register_kept(execution.rows)
                self.core.carry_out()
                self.loop.send(execution.source, execution.error_reply(TaskTimeoutError()))
                reactor.flush()
                if self.actor is None:
                    self._end_soon("its task ran longer than timeout_s")

        def interrupt() -> None:
            if self._running.get((execution.source, execution.message.key)) is not execution:
                return
            execution.context.has_timed_out = True
            # An actor's other calls go on, so its method is left running if it cannot be stopped.
            is_stoppable = type(self.loop) is not ThreadedLoop
            if type(self.loop) is MainLoop:
                self.interrupts.interrupt(execution.context)
            elif self.actor is not None:
                self.actor.cancel(execution.source, execution.message.key)
            reactor.call_later(CANCEL_GRACE_S if is_stoppable else 0.0, give_up)

        with reactor.lock:
            return reactor.call_later(options.timeout_s, interrupt)

    def _start_none(self) -> None:
        """It leaves: give back what waits here; an actor that it was to become is not started."""
        self.return_unstarted(None)
        self.loop.queue.clear()
        self.leaving.announce()
        self.core.carry_out()
        self.core.reactor.flush()

    def _end_soon(self, reason: str) -> None:
        """Leave though a task still runs and will not stop. It was answered; under the lock."""
        self._must_end = True
        self.leaving.leave(reason)
        self._start_none()
        self.core.reactor.call_later(_MUST_END_S, lambda: os._exit(1))

    # ---- being an actor ----------------------------------------------------------------------

    def _become_actor(self, source: Address, message: m.CreateActor) -> None:
        if message is _LEAVE:
            with self.core.reactor.lock:
                self._start_none()
            return
        self.actor = self.core.host = ActorHost(self, message)
        try:
            error = self.actor.construct()
        except (ActorExit, AsyncioActorExit, SystemExit) as leaving:
            self._leave_actor(leaving)
            return
        address = self.core.owner.address
        with self.core.reactor.lock:
            started = m.ActorStarted(message.spec.actor, message.restart, address, error)
            owner = self.core.owner
            # What the instance keeps of its arguments, its owners must count us for by name before
            # the creator hears that it is alive and lets them go.
            rows, self.actor.rows = self.actor.rows, []
            owner.borrowing.register_kept(rows)
            owner.borrowing.after_rows(rows, lambda: owner.outbox.ask_node(started))
            self.core.carry_out()
            if not error:
                queue = self.loop.queue
                self.loop = self.actor.make_loop()
                if self.loop.queue is not queue:
                    self.loop.queue.extend(queue)
        if error:
            self.is_ending = True

    def _leave_actor(self, error: BaseException) -> None:
        """`exit_actor` and `sys.exit()`: end for good. `sys.exit(n)`: end as a crash does."""
        assert self.actor is not None
        if isinstance(error, SystemExit):
            self.exit_code = _exit_code(error)
        elif not isinstance(error, ActorExit | AsyncioActorExit):
            return
        spec = self.actor.spec
        self.is_ending = True
        with self.core.reactor.lock:
            if not self.exit_code:
                cause = m.ExitCause(0, None, "exited intentionally")
                ended = m.ActorEnded(spec.actor, self.actor.restart, cause, True)
                self.core.owner.outbox.ask_node(ended)
                self.core.carry_out()
            self.core.reactor.call_later(0.0, self.loop.stop)

    def group_of(self, method: str) -> str:
        """The concurrency group that a method was declared in."""
        return self.actor.group_of(method) if self.actor is not None else ""


def _end_fork(error: BaseException | None) -> NoReturn:
    """A child that user code forked came back from it: the answer is its parent's to give."""
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    else:
        code = 0 if error is None else 1
        if error is not None:
            traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    """What Python would end with."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 - as Python itself does
    return 1
