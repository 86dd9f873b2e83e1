"""The owner core: one process's part in the cluster, in drivers and workers alike.

It implements `_core.interface.Core` around the pure `Owner` machine. The path of a task: the user's
thread pickles the arguments, takes the lock, has the machine make a row and pick a lease, and sends
the message itself if the worker idles; `get` makes the same thread lead the reactor, read the reply,
apply it to the row and return the value. No other thread or process takes part.

Everything that touches the machine holds `reactor.lock`; nothing under it runs user code.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.ids import Address, Location, root_task_id
from freehold._core.interface import ActorRequest, FunctionEntry, TaskOptions
from freehold._core.limits import INLINE_OUTPUT_BYTES, PENDING_PROGRESS_S
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.generator import ObjectRefGenerator
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, LOST, PENDING, READY, Row
from freehold._io.reactor import Reactor, Timer, Waiter
from freehold._io.references import reduce_reference
from freehold._io.serialization import Parts, dumps, dumps_function, loads
from freehold._io.shm import Arena
from freehold._io.transport import Connection, Peers
from freehold._processes.owner.context import Context
from freehold._processes.owner.deaths import actor_cause
from freehold._processes.owner.failures import (
    check_fresh,
    check_given,
    error_blob,
    load_error,
    stale,
)
from freehold._processes.owner.futures import Callback, FutureBridge
from freehold._processes.owner.outside import Keeping, cores
from freehold._processes.owner.packing import pack
from freehold._processes.owner.requests import Requests
from freehold._processes.owner.storage import Storage
from freehold.errors import (
    ClusterDiedError,
    ForkedProcessError,
    FreeholdError,
    GetTimeoutError,
    PendingLimitError,
)

if TYPE_CHECKING:
    from concurrent.futures import Future

_PLAIN = Given()
_STATUS = {PENDING: "pending", LOST: "pending", READY: "ready", FAILED: "failed"}
_DROPS_PER_DRAIN = 512
_SUBMITS_PER_POLL = 64
_ROOM_CHECK_S = 0.02


class OwnerCore:
    """A driver's or worker's core.

    Args:
        address: this process.
        cluster: the cluster's id, checked on every connection.
        socket_path: where an address listens.
        arena: this node's.
        root: the context of threads that run no task (a driver's own).
    """

    def __init__(
        self,
        address: Address,
        cluster: str,
        socket_path: Callable[[Address], str],
        arena: Arena,
        root: Context | None,
    ) -> None:
        self.reactor = Reactor()
        self.owner = Owner(address, Address(address.node, 0, address.incarnation))
        self.owner.table.host = self
        self.owner.table.reduce = reduce_reference
        self.owner.table.on_drop = self.reactor.kick
        self.owner.error_blob = error_blob  # type: ignore[method-assign]
        self.owner.actors.error_of = actor_cause
        self.peers = Peers(self.reactor, cluster, socket_path, self._on_messages, self._on_closed)
        self.cluster = cluster
        cores[cluster] = self
        self.pid = os.getpid()
        self.node_id = address.node
        self.worker_id = str(address)
        self.requests = Requests(self)
        self.storage = Storage(self, arena)
        self.current: ContextVar[Context | None] = ContextVar("freehold_task", default=None)
        self.root = root
        self.pinned: list[ObjectRef[Any]] = []
        """References pickled outside a call of ours: held until the job ends."""
        self.is_dead: BaseException | None = None
        self.pending_limit_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        """Bytes of arguments that pending tasks may hold before `.remote()` waits."""
        self.on_blocked: Callable[[bool], None] | None = None
        """A worker's: called without the lock before and after a wait that may be long."""
        self.blocked_after_s: float | None = None
        self._futures = FutureBridge(self)
        self._functions = 0
        self._submits = 0
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self.reactor.on_tick = self._on_tick
        self.kick = self.reactor.kick  # type: ignore[method-assign]
        self.handlers: dict[type, Callable[[Address, Any, float], None]] = self._handlers()

    # ---- messages (under the lock) -------------------------------------------------------------

    def _handlers(self) -> dict[type, Callable[[Address, Any, float], None]]:
        owner, answer = self.owner, self.requests.answer

        def on_answer(_source: Address, message: Any, _now: float) -> None:
            answer(message.request, message)

        return {
            m.Done: owner.on_done,
            m.DoneWith: owner.on_done_with,
            m.Failed: owner.on_failed,
            m.TasksReturned: owner.on_tasks_returned,
            m.Borrow: lambda source, message, now: owner.borrowing.on_borrow(source, message),
            m.Borrowed: lambda source, message, now: owner.borrowing.on_borrowed(source, message),
            m.Return: lambda source, message, now: owner.borrowing.on_return(source, message),
            m.TakenResult: lambda source, message, now: owner.handing.taken(source, message.key),
            m.Resolve: owner.on_resolve,
            m.Resolved: owner.on_resolved,
            m.LeaseGranted: owner.leasing.on_lease_granted,
            m.LeaseSpilledBack: owner.leasing.on_spilled_back,
            m.LeaseInfeasible: owner.leasing.on_infeasible,
            m.LeaseRevoked: self._on_lease_revoked,
            m.ReturnIdle: lambda source, message, now: owner.leasing.on_return_idle(message, now),
            m.ProcessDied: self._on_process_died,
            m.NodeDied: lambda s, msg, now: owner.on_node_died(msg.node, msg.reason, now),
            m.ActorState: self._on_actor_state,
            m.AskViews: lambda source, message, now: self.storage.on_ask_views(message),
            m.EnvFailed: owner.leasing.on_env_failed,
            m.SegmentGranted: on_answer,
            m.SegmentRefused: on_answer,
            m.Pulled: on_answer,
            m.ActorRegistered: on_answer,
            m.ActorFound: on_answer,
            m.ActorList: on_answer,
            m.ClusterReply: on_answer,
            m.Explained: on_answer,
            m.TaskEvents: on_answer,
        }

    def _on_messages(self, connection: Connection, messages: list[m.Message]) -> None:
        source = connection.peer
        assert source is not None
        now = time.monotonic()
        handlers = self.handlers
        on_done = self.owner.on_done
        for message in messages:
            try:
                if type(message) is m.Done:
                    on_done(source, message, now)
                    continue
                handler = handlers.get(type(message))
                if handler is not None:
                    handler(source, message, now)
                elif type(message) is m.Refused:
                    connection.close(message.reason)
            except Exception:  # what one message breaks must not take those behind it along
                traceback.print_exc()
        self.carry_out()

    def carry_out(self) -> None:
        """Do what the machine wants done: send, wake, arm its timer. Under the lock."""
        owner = self.owner
        owner.settle(0.0)
        outbox = owner.outbox
        while outbox.messages:
            pending, outbox.messages = outbox.messages, []
            get = self.peers.get
            for target, message, is_urgent in pending:
                connection = get(target) or self._connect(target)
                if connection is None:
                    continue
                if is_urgent:
                    connection.send_now(message)
                else:
                    connection.send(message)
        if outbox.woken:
            woken, outbox.woken = outbox.woken, []
            for waiter in woken:
                waiter.count_down()
        deadline = owner.next_deadline()
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            self._timer_at = deadline
            self._timer = self.reactor.call_at(deadline, self._on_deadline)

    def _connect(self, target: Address) -> Connection | None:
        if self.is_dead is not None:
            return None
        try:
            return self.peers.connect(target)
        except OSError as error:
            self._on_unreachable(target, str(error))
            return None

    def _on_deadline(self) -> None:
        self._timer = None
        self.owner.on_deadline(time.monotonic())
        self.carry_out()

    def _on_tick(self) -> None:
        table = self.owner.table
        if table.drops or self.storage._ended_views:
            self.storage.drain()
            self.carry_out()

    def _on_closed(self, connection: Connection, reason: str) -> None:
        if connection.peer is not None:
            self._on_unreachable(connection.peer, reason)
            self.carry_out()

    def _on_unreachable(self, peer: Address, reason: str) -> None:
        now = time.monotonic()
        if peer == self.owner.outbox.node_manager:
            why = reason or "the node process ended"
            self.die(ClusterDiedError(cluster=self.cluster, reason=why))
            return
        self.owner.leasing.on_worker_unreachable(peer, now)
        self.owner.actors.on_unreachable(peer, now)

    def _on_lease_revoked(self, source: Address, message: m.LeaseRevoked, now: float) -> None:
        # What the worker said before it ended may still be in its socket: that counts first.
        connection = self.peers.get(message.worker)
        if connection is not None:
            connection.read_to_end()
        self.owner.leasing.on_lease_revoked(message, now)

    def _on_actor_state(self, source: Address, message: m.ActorState, now: float) -> None:
        # What the actor answered before it ended may still be in its socket: that counts first.
        info = message.info
        link = self.owner.actors.links.get(info.actor)
        if link is not None and link.address is not None and link.address != info.address:
            connection = self.peers.get(link.address)
            if connection is not None:
                connection.read_arrived()
        self.owner.actors.on_state(info, now)

    def _on_process_died(self, source: Address, message: m.ProcessDied, now: float) -> None:
        connection = self.peers.get(message.address)
        if connection is not None:
            connection.read_to_end()
        self.owner.on_process_died(message.address, message.cause, now)

    def die(self, error: FreeholdError) -> None:
        """The cluster is gone: every wait ends with `error`. Under the lock."""
        if self.is_dead is None:
            self.is_dead = error
            self.owner.fail_all(error)
            self.requests.abandon()
            self.carry_out()

    def check_alive(self) -> None:
        """Raise what ended this core, if something did."""
        if self.is_dead is not None:
            raise self.is_dead.with_traceback(None)  # or each raise adds to it

    def kick(self) -> None:
        """Wake the leader (replaced by the reactor's own method)."""

    # ---- waiting (without the lock) --------------------------------------------------------------

    def block(self, waiter: Waiter, deadline: float | None = None) -> bool:
        """Wait; in a worker, give the CPU back if it takes long."""
        if self.on_blocked is None or self.blocked_after_s is None:
            return self.reactor.wait(waiter, deadline)
        soon = time.monotonic() + self.blocked_after_s
        if self.reactor.wait(waiter, soon if deadline is None or soon < deadline else deadline):
            return True
        if deadline is not None and deadline <= soon:
            return False
        self.on_blocked(True)
        try:
            return self.reactor.wait(waiter, deadline)
        finally:
            self.on_blocked(False)

    def _await_rows(
        self, pairs: Sequence[tuple[Row, int]], deadline: float | None, count: int = 0
    ) -> bool:
        """Wait until `count` (0: all) of the unresolved rows are resolved."""
        waiter = Waiter(0)
        try:
            with self.reactor.lock:
                self.check_alive()
                now = time.monotonic()
                for row, _ in pairs:
                    if row.table is not self.owner.table:
                        raise stale(row, self.cluster)
                    if row.state == PENDING or row.state == LOST:
                        waiters = row.waiters
                        if waiters and waiters[-1] is waiter:
                            continue  # the same object twice
                        waiter.remaining += 1
                        if waiters and row.state == PENDING and _is_over(waiters[-1]):
                            waiters[-1] = waiter  # cheaper than leaving every row at a wait's end
                        else:
                            self.owner.await_row(row, waiter, now)
                if count:
                    waiter.remaining = min(count, waiter.remaining)
                if waiter.remaining <= 0:
                    waiter.is_done = True
                self.carry_out()
            if waiter.is_done:
                return True
            return self.block(waiter, deadline)
        finally:
            waiter.is_done = True

    # ---- tasks -------------------------------------------------------------------------------

    def context_here(self) -> Context:
        """The context that the calling thread submits in."""
        context = self.current.get() or self.root
        if context is None:
            # A thread that a task started: whose child the next is depends on who comes first.
            context = self.root = Context(root_task_id(self.cluster, str(self.owner.address)))
        return context

    def submit_task(
        self,
        entry: FunctionEntry,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Any:
        """See `Core.submit_task`."""
        if entry.core is not self:
            self._define(entry)
        given = pack(args, kwargs, entry.name, self.put) if args or kwargs else _PLAIN
        context = self.current.get() or self.context_here()
        if self.owner.table.pending_bytes > self.pending_limit_bytes:
            self.await_room()
        lock = self.reactor.lock
        lock.acquire()
        try:
            if self.is_dead is not None:
                raise self.is_dead.with_traceback(None)
            if not given.is_plain:
                check_given(given, self.owner.table, self.cluster)
            index = context.children
            context.children = index + 1
            row = self.owner.submit(entry, options, context.task_id, index, given, time.monotonic())
            if context.notes_submitted:
                context.note(row)
            self._after_submit()
        finally:
            lock.release()
        return _references(row, options.num_returns)

    def await_room(self) -> None:
        """Wait until pending tasks hold less than the limit in bytes of arguments.

        Their number has no limit; their bytes must, or a fast submitter fills the memory.

        Raises:
            PendingLimitError: none of them ended for a minute, or this thread runs an event loop,
                which must not be blocked.
        """
        table = self.owner.table
        limit = self.pending_limit_bytes
        lowest, since = table.pending_bytes, time.monotonic()
        while (pending := table.pending_bytes) > limit:
            self.check_alive()
            now = time.monotonic()
            if pending < lowest:
                lowest, since = pending, now
            waited = now - since
            if waited >= PENDING_PROGRESS_S or _is_on_event_loop():
                raise PendingLimitError(pending_bytes=pending, limit_bytes=limit, waited_s=waited)
            self.block(Waiter(), now + _ROOM_CHECK_S)

    def _after_submit(self) -> None:
        outbox = self.owner.outbox
        if outbox.messages or len(self.owner.table.drops) > _DROPS_PER_DRAIN:
            self.carry_out()
        self._submits += 1
        if self._submits & (_SUBMITS_PER_POLL - 1) == 0:
            # A long run of submits reads replies itself, or the background thread would have to
            # take the interpreter from it for every frame.
            self.reactor.poll()
        elif self.reactor.dirty:
            self.reactor.kick()

    def _define(self, entry: FunctionEntry) -> None:
        # References that the function closes over are held as long as it is, by its entry.
        with Keeping() as kept:
            entry.blob, _ = dumps_function(entry.function, is_alone=True)
        entry.kept = kept.refs
        with self.reactor.lock:
            entry.number = self._functions
            self._functions += 1
            entry.core = self
            entry.run_us = -1.0

    # ---- objects -----------------------------------------------------------------------------

    def put(self, value: Any) -> ObjectRef[Any]:
        """See `Core.put`."""
        blob, nested = dumps(value)
        check_fresh(nested or (), self.owner.table, self.cluster)
        where: bytes | Location
        if len(blob) <= INLINE_OUTPUT_BYTES:
            where = blob if isinstance(blob, bytes) else blob.join()
        else:
            self.check_alive()
            where = self.storage.write(blob, self.owner.address)
        context = self.current.get() or self.context_here()
        owner = self.owner
        with self.reactor.lock:
            if self.is_dead is not None:
                raise self.is_dead.with_traceback(None)
            index = context.puts
            context.puts = index + 1
            row = owner.table.new_put(context.task_id, index, where)
            if nested:
                row.nested = {0: (owner.borrowing.describe(nested), nested)}
            if type(where) is Location:
                owner.recovery.note_stored(row)
            if len(owner.table.drops) > _DROPS_PER_DRAIN:
                self.carry_out()
        return make_reference(row)

    def get(
        self, refs: Sequence[ObjectRef[Any]], timeout: float | None, return_exceptions: bool
    ) -> list[Any]:
        """See `Core.get`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for ref in refs:
            state = ref._row.state
            if state == PENDING or state == LOST:
                pairs = [(r._row, r._index) for r in refs]
                if not self._await_rows(pairs, deadline):
                    raise self._timed_out(refs, timeout)
                break
        table = self.owner.table
        for ref in refs:
            row = ref._row
            value = row.value
            if row.table is not table:
                raise stale(row, self.cluster)
            if row.state == READY and type(value) is bytes and row.nested is None:
                values.append(loads(value))
                continue
            try:
                values.append(self._load(row, ref._index, deadline))
            except GetTimeoutError:
                raise self._timed_out(refs, timeout) from None
            except Exception as error:
                if not return_exceptions:
                    raise
                values.append(error)
        if len(self.owner.table.drops) > _DROPS_PER_DRAIN:
            with self.reactor.lock:
                self.carry_out()
        return values

    def _timed_out(self, refs: Sequence[ObjectRef[Any]], timeout: float | None) -> GetTimeoutError:
        missing = [r.hex() for r in refs if r._row.state in (PENDING, LOST)]
        return GetTimeoutError(
            timeout_s=timeout or 0.0,
            pending=len(missing),
            total=len(refs),
            object_ids=tuple(missing[:3]),
        )

    def _load(self, row: Row, index: int, deadline: float | None) -> Any:
        """The value of a resolved output, wherever it is; raises its error."""
        while True:
            with self.reactor.lock:
                state = row.state
                value = row.output(index) if state == READY else row.value
                nested = row.nested[index][1] if row.nested and index in row.nested else None
                pull = None
                view: Any = value
                if state == READY and type(value) is Location:
                    if value.node == self.node_id:
                        view = self.storage.view(row, index, value)
                    else:
                        pull = self.storage.start_pull(value)
                        self.carry_out()
            if state == FAILED:
                raise load_error(value)
            if state == READY and pull is None:
                return self._revive(row, loads(view, nested))
            if pull is not None:
                pulled = self.storage.finish_pull(*pull)
                with self.reactor.lock:
                    if not pulled.error:
                        view = self.storage.view(row, index, value, pulled.offset)
                    else:
                        self.owner.recovery.unreadable(row, index, value)
                        self.carry_out()
                if not pulled.error:
                    return self._revive(row, loads(view, nested))
            if not self._await_rows([(row, index)], deadline):
                raise GetTimeoutError(timeout_s=0.0, pending=1, total=1)

    @staticmethod
    def _revive(row: Row, value: Any) -> Any:
        """The references of a task that chose how many outputs it has come as a generator."""
        if row.is_dynamic:
            return ObjectRefGenerator(value)
        return value

    def wait(
        self,
        refs: list[ObjectRef[Any]],
        num_returns: int,
        timeout: float | None,
        fetch_local: bool,
    ) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
        """See `Core.wait`."""
        found = _resolved(refs, num_returns)
        if len(found) < num_returns and timeout != 0:
            deadline = None if timeout is None else time.monotonic() + timeout
            pairs = [(ref._row, ref._index) for ref in refs]
            self._await_rows(pairs, deadline, num_returns - len(found))
            found = _resolved(refs, num_returns)
        elif timeout == 0 and len(found) < num_returns:
            with self.reactor.lock:
                self.reactor.poll()
            found = _resolved(refs, num_returns)
        if len(found) == 1:
            at = found[0]
            return [refs[at]], refs[:at] + refs[at + 1 :]
        chosen = set(found)
        ready = [refs[i] for i in found]
        return ready, [ref for i, ref in enumerate(refs) if i not in chosen]

    def status(self, ref: ObjectRef[Any]) -> str:
        """See `Core.status`."""
        return _STATUS[ref._row.state]

    def future(self, ref: ObjectRef[Any]) -> Future[Any]:
        """See `Core.future`."""
        return self._futures.future(ref)

    def as_future(self, ref: ObjectRef[Any]) -> Any:
        """An `asyncio.Future` of the running loop for `ref`."""
        import asyncio

        return asyncio.wrap_future(self.future(ref))

    def add_done_callback(self, ref: ObjectRef[Any], callback: Callable[[], None]) -> None:
        """See `Core.add_done_callback`."""
        with self.reactor.lock:
            row = ref._row
            if row.state in (READY, FAILED):
                callback()
                return
            self.owner.await_row(row, Callback(callback), time.monotonic())
            self.carry_out()
            self.reactor.kick()

    def cancel(self, ref: ObjectRef[Any], force: bool, recursive: bool) -> None:
        """See `Core.cancel`."""
        with self.reactor.lock:
            self.check_alive()
            self.owner.cancel(ref._row, force, recursive, time.monotonic())
            self.carry_out()

    # ---- the rest ------------------------------------------------------------------------------

    def leave_fork(self) -> None:
        """In a forked child: be inert, and touch nothing that is shared with the parent."""
        self.owner.table.on_drop = None
        self.owner.table.drops.clear()
        self.reactor.leave_fork()
        self.peers.leave_fork()
        self.is_dead = ForkedProcessError(pid=os.getpid(), parent_pid=self.pid)

    def shutdown(self) -> None:
        """Close everything that belongs to this process."""
        with self.reactor.lock:
            self.owner.settle(0.0)
            self.storage.close()
            self.carry_out()
            self.reactor.flush()
            self.is_dead = self.is_dead or ClusterDiedError(
                cluster=self.cluster, reason="shutdown() was called"
            )
            self.owner.fail_all(self.is_dead)
            self.requests.abandon()
            self.carry_out()
        self._futures.close()
        self.reactor.stop()
        with self.reactor.lock:
            self.peers.close()
        self.reactor.close()
        self.owner.table.on_drop = None
        self.storage.arena.close()


def _is_on_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _is_over(waiter: Any) -> bool:
    return type(waiter) is Waiter and waiter.is_done


def _references(row: Row, num_returns: int) -> Any:
    if num_returns == 1 or num_returns < 0:
        return make_reference(row)
    if num_returns == 0:
        row.table.drops.append((row, 0))
        return None
    return [make_reference(row, index) for index in range(num_returns)]


def _resolved(refs: list[ObjectRef[Any]], count: int) -> list[int]:
    """Where the first `count` resolved references stand."""
    found: list[int] = []
    for at, ref in enumerate(refs):
        state = ref._row.state
        if state == READY or state == FAILED:
            found.append(at)
            if len(found) >= count:
                break
    return found


__all__ = ["ActorRequest", "OwnerCore", "Parts"]
