"""The rest of the `Core` interface: actors, and questions about the cluster."""

from __future__ import annotations

import time
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import child_task_id
from freehold._core.interface import ActorRequest, TaskOptions
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import PENDING
from freehold._core.ownership.table import ACTOR_HANDLE
from freehold._core.resources import Shape
from freehold._io.serialization import dumps_function
from freehold._processes.owner.context import Context
from freehold._processes.owner.core import _PLAIN, OwnerCore, _references
from freehold._processes.owner.failures import check_given
from freehold._processes.owner.packing import pack

_RETRIED = 1 << 63
"""Above every index of a child: what actors of a task's later attempts are derived from."""


class ClusterCore(OwnerCore):
    """An owner core that implements all of `_core.interface.Core`."""

    is_driver = False
    namespace = ""
    job_id = ""
    session_dir = ""
    """The cluster's folder on this machine."""

    # ---- actors ------------------------------------------------------------------------------

    def create_actor(
        self, request: ActorRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ObjectRef[Any], m.ActorInfo | None]:
        """See `Core.create_actor`."""
        blob, _ = dumps_function(request.cls, is_alone=True)
        name = request.options.class_name
        given = pack(args, kwargs, f"{name}.__init__", self.put) if args or kwargs else _PLAIN
        context = self.current.get() or self.context_here()
        check_given(given, self.owner.table, self.cluster)
        with self.reactor.lock:
            self.check_alive()
            index = context.children
            context.children = index + 1
            parent = context.task_id
            if context.attempt:
                # Calls of a dead attempt's actor must not meet this one's: it is another actor.
                parent = child_task_id(parent, _RETRIED + context.attempt)
            row = self.owner.table.new_actor(parent, index)
            self.owner.table.expose(row, 0)
            number, waiter = self.requests.start()
            spec = (
                request.shape,
                request.placement_shape,
                request.env,
                blob,
                request.get_if_exists,
            )
            self.owner.actors.create(row, request.options, spec, given, number)
            self.carry_out()
        handle: ObjectRef[Any] = make_reference(row)
        if not request.options.name:
            # Nothing to learn from the answer that the actor's state will not tell.
            with self.reactor.lock:
                self.requests.forget(number)
            return handle, None
        answer: m.ActorRegistered = self.requests.finish(number, waiter)
        if answer.error:
            raise ValueError(answer.error)
        assert answer.info is not None
        if answer.info.actor == row.task_id():
            return handle, None
        return self._handle_of(answer.info), answer.info

    def _handle_of(self, info: m.ActorInfo) -> ObjectRef[Any]:
        """A counted handle of an actor that somebody made."""
        with self.reactor.lock:
            refs = m.Refs([info.owner], info.actor + bytes(6))
            handle = self.owner.borrowing.meet(refs, self.owner.outbox.node_manager, False)[0]
            row = handle._row
            if row.state == PENDING:
                row.state, row.value = 1, ACTOR_HANDLE
            link = self.owner.actors.link_to(row)
            if not link.is_watched:
                link.is_watched = True
                self.owner.outbox.ask_node(m.WatchActor(info.actor))
            self.carry_out()
        return handle

    def call_actor(
        self,
        actor: ObjectRef[Any],
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> Any:
        """See `Core.call_actor`."""
        given = pack(args, kwargs, method, self.put) if args or kwargs else _PLAIN
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
            place = (context.task_id, index)
            row = self.owner.actors.call(
                actor._row, method, options, place, given, time.monotonic()
            )
            if context.notes_submitted:
                context.note(row)
            self._after_submit()
        finally:
            lock.release()
        return _references(row, options.num_returns)

    def limit_calls(self, actor: ObjectRef[Any], max_pending_calls: int) -> None:
        """At most so many calls of that actor by this process at once."""
        with self.reactor.lock:
            self.owner.actors.link_to(actor._row).max_pending_calls = max_pending_calls

    def find_actor(self, name: str, namespace: str) -> tuple[ObjectRef[Any], m.ActorInfo]:
        """See `Core.find_actor`."""
        answer: m.ActorFound = self.requests.ask(
            lambda number: m.FindActor(number, name, namespace or self.namespace)
        )
        if answer.info is None:
            raise ValueError(
                f"no living actor is named {name!r} in namespace "
                f"{namespace or self.namespace!r}; look at freehold.util.list_named_actors()"
            )
        return self._handle_of(answer.info), answer.info

    def list_actors(self, namespace: str | None) -> list[m.ActorInfo]:
        """See `Core.list_actors`."""
        answer: m.ActorList = self.requests.ask(lambda number: m.ListActors(number, namespace))
        return answer.actors

    def kill_actor(self, actor: ObjectRef[Any], no_restart: bool) -> None:
        """See `Core.kill_actor`."""
        with self.reactor.lock:
            self.check_alive()
            reason = "killed by freehold.kill()"
            self.owner.outbox.ask_node(m.KillActor(actor.task_id(), no_restart, reason))
            # What has arrived was answered before the kill.
            link = self.owner.actors.links.get(actor.task_id())
            connection = self.peers.get(link.address) if link and link.address else None
            if connection is not None:
                connection.read_arrived()
            self.owner.actors.on_killed(actor._row, reason, no_restart, time.monotonic())
            self.carry_out()

    def exit_actor(self) -> None:
        """See `Core.exit_actor`; a worker's core does it."""
        raise TypeError("exit_actor() can only be called inside an actor's method")

    def own_actor(self) -> tuple[ObjectRef[Any], m.ActorInfo]:
        """See `Core.own_actor`; a worker's core knows."""
        raise RuntimeError("there is no current actor: this process is a driver")

    # ---- the cluster ---------------------------------------------------------------------------

    def nodes(self) -> list[m.NodeInfo]:
        """See `Core.nodes`."""
        answer: m.ClusterReply = self.requests.ask(m.ClusterQuery)
        return answer.nodes

    def context(self) -> Context | None:
        """See `Core.context`."""
        return self.current.get() or self.root

    def prepare_env(self, env_vars: dict[str, str], working_dir: str) -> str:
        """See `Core.prepare_env`."""
        from freehold._processes.owner.environments import prepare

        return prepare(self, env_vars, working_dir)

    def explain(self, ref: ObjectRef[Any]) -> str:
        """See `Core.explain`."""
        row = ref._row
        with self.reactor.lock:
            task = row.task
            state = row.state
            queue = task.queue if task is not None else None
            link = task.actor if task is not None else None
            lines = [f"object {ref.hex()} is {self.status(ref)}"]
            if state == PENDING and row.info is not None:
                lines.append(f"its owner {row.info.address} has not resolved it yet")
            if task is not None and state == PENDING:
                if task.missing:
                    lines.append(f"its task waits for {task.missing} arguments")
                elif task.lease is not None:
                    behind = list(task.lease.inflight).index(row.key)
                    where = f"worker {task.lease.worker} (pid {task.lease.pid})"
                    what = f"waits there behind {behind}" if behind else "runs there"
                    lines.append(f"its task was sent to {where} and {what}")
                elif link is not None:
                    lines.append(f"its actor {link.actor.hex()} is {link.state}")
                elif queue is not None:
                    lines.append(f"its task waits for a lease with {len(queue.pending)} in line")
        if state == PENDING and queue is not None and task is not None and task.lease is None:
            shape: Shape = queue.shape
            answer: m.Explained = self.requests.ask(lambda number: m.Explain(number, shape))
            lines += answer.lines
        return "\n".join(lines)

    def task_events(self) -> list[tuple[int, str, str, str, str]]:
        """See `Core.task_events`."""
        answer: m.TaskEvents = self.requests.ask(m.TaskEventsWanted, timeout_s=10.0)
        with self.reactor.lock:
            pending = [
                (
                    0,
                    "submitted",
                    task.entry.name if task.entry else "",
                    task.row.task_id().hex(),
                    "",
                )
                for task in self.owner.leasing.unfinished()
            ]
        return sorted([*answer.events, *pending])
