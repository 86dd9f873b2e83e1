"""The owner core: one process's part in the cluster, in drivers and workers alike.

It implements `_core.interface.Core` around the pure `Owner` machine. The path of a task: the user's
thread pickles the arguments, takes the lock, has the machine make a row and pick a lease, and sends
the message itself if the worker idles; `get` makes the same thread lead the reactor, read the
reply, apply it to the row and return the value. No other thread or process takes part.

Everything that touches the machine holds `reactor.lock`; nothing under it runs user code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, Location, root_task_id
from freehold._core.interface import FunctionEntry, TaskOptions
from freehold._core.limits import INLINE_OUTPUT_BYTES, PENDING_PROGRESS_S
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.generator import ObjectRefGenerator
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, LOST, PENDING, READY, Row
from freehold._io.reactor import Waiter
from freehold._io.serialization import dumps, dumps_function, loads
from freehold._io.shm import Arena
from freehold._processes.owner.base import CoreBase
from freehold._processes.owner.context import Context
from freehold._processes.owner.failures import (
    check_fresh,
    check_given,
    load_error,
    stale,
    unreadable,
)
from freehold._processes.owner.futures import Callback, FutureBridge
from freehold._processes.owner.outside import Keeping, cores, current_cluster
from freehold._processes.owner.packing import pack
from freehold._processes.owner.pulling import PullAhead
from freehold.errors import (
    ClusterDiedError,
    ForkedProcessError,
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


class OwnerCore(CoreBase):
    """A driver's or worker's core: tasks and objects."""

    def __init__(
        self,
        address: Address,
        cluster: str,
        socket_path: Callable[[Address], str],
        arena: Arena,
        root: Context | None,
    ) -> None:
        super().__init__(address, cluster, socket_path, arena, root)
        cores[cluster] = self
        self._futures = FutureBridge(self)
        self.is_closed = False
        """`shutdown` is done: its references are of no use any more."""
        self._functions = 0
        self._submits = 0

    # ---- tasks -------------------------------------------------------------------------------

    def context_here(self) -> Context:
        """The context that the calling thread submits in."""
        context = self.current.get() or self.root
        if context is None:
            # A thread that a task started: whose child the next is depends on who comes first.
            context = self.root = Context(root_task_id(self.cluster, str(self.owner.address)))
        return context

    def maker_of(self, context: Context) -> Context:
        """Whose child the next thing is that a task makes; under the lock.

        The task's own, if it is made by the thread that runs the task: executed again, it makes the
        same in the same order, and whoever owns the task is its supervisor. What other threads make
        in the task's name (`asyncio.to_thread` hands the name on) comes in no certain order, so it
        is numbered apart.
        """
        if context.thread != get_ident():
            if self.root is None:
                self.root = Context(root_task_id(self.cluster, str(self.owner.address)))
            return self.root
        if context.origin is None and context.caller is not None:
            context.origin = self.owner.origins.begin(
                context.task_id, context.parent, context.caller, context.key
            )
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
            maker = context if not context.thread else self.maker_of(context)
            task, number = maker.task_id, maker.next_child()
            row = self.owner.submit(entry, options, task, number, given, time.monotonic())
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
            is_on_loop = _is_on_event_loop()
            if waited >= PENDING_PROGRESS_S or is_on_loop:
                raise PendingLimitError(
                    pending_bytes=pending,
                    limit_bytes=limit,
                    waited_s=waited,
                    is_on_event_loop=is_on_loop,
                )
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
            blob, _ = dumps_function(entry.function, is_alone=True)
        with self.reactor.lock:
            if entry.core is self:
                return  # another thread was first, and tasks with its number may be waiting
            entry.blob = blob
            entry.kept = kept.refs
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
            maker = context if not context.thread else self.maker_of(context)
            index = maker.puts
            maker.puts = index + 1
            row = owner.put(maker.task_id, index, where, nested or [])
            if owner.outbox.messages or len(owner.table.drops) > _DROPS_PER_DRAIN:
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
            if state == PENDING or state == LOST:  # noqa: SIM109 - no tuple on the hot path
                pairs = [(r._row, r._index) for r in refs]
                if not self._await_rows(pairs, deadline):
                    raise self._timed_out(refs, timeout)
                break
        table = self.owner.table
        ahead = None
        try:
            for ref in refs:
                row = ref._row
                value = row.value
                if row.table is not table:
                    raise stale(row, self.cluster)
                try:
                    if row.state == READY and type(value) is bytes and row.nested is None:
                        try:
                            values.append(loads(value))
                        except Exception as error:
                            raise unreadable(row, ref._index, error) from error
                        continue
                    if ahead is None:
                        ahead = PullAhead(self, len(refs), lambda at: self._place(refs[at]))
                    values.append(self._load(row, ref._index, deadline, ahead, len(values)))
                except GetTimeoutError:
                    raise self._timed_out(refs, timeout) from None
                except Exception as error:
                    if not return_exceptions:
                        raise
                    values.append(error)
        finally:
            if ahead is not None:
                ahead.give_back()
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

    def _place(self, ref: ObjectRef[Any]) -> Location | None:
        """Where a value is stored that is there now; under the lock."""
        row = ref._row
        if row.table is not self.owner.table or row.state != READY:
            return None
        value = row.output(ref._index)
        return value if type(value) is Location else None

    def _load(self, row: Row, index: int, deadline: float | None, ahead: PullAhead, at: int) -> Any:
        """The value of a resolved output, the `at`-th of those read, wherever it is; raises its
        error."""
        while True:
            with self.reactor.lock:
                state = row.state
                value = row.output(index) if state == READY else row.value
                nested = row.nested[index][1] if row.nested and index in row.nested else None
                is_elsewhere = False
                view: Any = value
                if state == READY and type(value) is Location:
                    self.check_alive()  # the store went with the cluster
                    if value.node == self.node_id:
                        view = self.storage.view(row, index, value)
                    else:
                        is_elsewhere = True
            if state == FAILED:
                raise load_error(value)
            if state == READY and not is_elsewhere:
                return self._revive(row, index, view, nested)
            if is_elsewhere:
                pulled = ahead.pull(at, value)
                with self.reactor.lock:
                    if not pulled.error:
                        view = self.storage.view(row, index, value, pulled.offset)
                    else:
                        self.owner.recovery.unreadable(row, index, value)
                        self.carry_out()
                if not pulled.error:
                    return self._revive(row, index, view, nested)
            ahead.give_back()
            if not self._await_rows([(row, index)], deadline):
                raise GetTimeoutError(timeout_s=0.0, pending=1, total=1)

    @staticmethod
    def _revive(row: Row, index: int, view: Any, nested: list[ObjectRef[Any]] | None) -> Any:
        """The value of these bytes; a generator of the references of a task that chose how many
        outputs it has.
        """
        try:
            value = loads(view, nested)
        except Exception as error:
            raise unreadable(row, index, error) from error
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
        found = self._resolved(refs, num_returns, fetch_local)
        if len(found) < num_returns and timeout != 0:
            deadline = None if timeout is None else time.monotonic() + timeout
            pairs = [(ref._row, ref._index) for ref in refs]
            in_time = True
            while in_time and len(found) < num_returns:
                # Not the whole number at once: what is ready and elsewhere starts on its way here
                # while the rest is waited for. A quarter each time is few looks for many.
                missing = num_returns - len(found)
                some = -(-missing // 4) if fetch_local else missing
                in_time = self._await_rows(pairs, deadline, some)
                found = self._resolved(refs, num_returns, fetch_local)
        elif timeout == 0 and len(found) < num_returns:
            self._check_known(refs)
            with self.reactor.lock:
                self.reactor.poll()
            found = self._resolved(refs, num_returns, fetch_local)
        if len(found) == 1:
            at = found[0]
            return [refs[at]], refs[:at] + refs[at + 1 :]
        chosen = set(found)
        ready = [refs[i] for i in found]
        return ready, [ref for i, ref in enumerate(refs) if i not in chosen]

    def _resolved(self, refs: list[ObjectRef[Any]], count: int, fetch_local: bool) -> list[int]:
        """Where the first `count` resolved references stand; with `fetch_local`, of those here."""
        table = self.owner.table
        found: list[int] = []
        for at, ref in enumerate(refs):
            row = ref._row
            state = row.state
            if state == READY or state == FAILED:  # noqa: SIM109 - no tuple on the hot path
                if row.table is not table:
                    raise stale(row, self.cluster)
                if (
                    fetch_local
                    and state == READY
                    and type(row.value) is not bytes
                    and not self.fetches.is_here(row, ref._index)
                ):
                    continue
                found.append(at)
                if len(found) >= count:
                    break
        return found

    def _check_known(self, refs: Sequence[ObjectRef[Any]]) -> None:
        """Refuse references of another cluster, and any once this process has left its own.

        Raises:
            StaleReferenceError: one is of a cluster that is gone.
        """
        table = self.owner.table
        for ref in refs:
            if ref._row.table is not table or self.is_closed:
                raise stale(ref._row, current_cluster())

    def status(self, ref: ObjectRef[Any]) -> str:
        """See `Core.status`."""
        self._check_known((ref,))
        return _STATUS[ref._row.state]

    def future(self, ref: ObjectRef[Any]) -> Future[Any]:
        """See `Core.future`."""
        if self.pid != os.getpid():
            self.check_alive()  # a fork has no thread to resolve it
        self._check_known((ref,))
        return self._futures.future(ref)

    def as_future(self, ref: ObjectRef[Any]) -> Any:
        """An `asyncio.Future` of the running loop for `ref`."""
        import asyncio

        future = asyncio.wrap_future(self.future(ref))
        if self.on_await is not None and not future.done():
            self.on_await(future)
        return future

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
        self._check_known((ref,))
        with self.reactor.lock:
            self.check_alive()
            row = ref._row
            if force and row.task is not None and row.task.actor is not None:
                raise ValueError(
                    f"cancel(…, force=True) would end the actor that runs {row.task.name}, and "
                    "every other call with it; cancel it without force, or kill the actor"
                )
            self.owner.cancel(row, force, recursive, time.monotonic())
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
        self.is_closed = True
        self.owner.table.on_drop = None
        self.storage.arena.close()


def _is_on_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def _references(row: Row, num_returns: int) -> Any:
    if num_returns == 1 or num_returns < 0:
        return make_reference(row)
    if num_returns == 0:
        row.table.drops.append((row, 0))
        return None
    return [make_reference(row, index) for index in range(num_returns)]
