"""The rest of the `Core` interface: actors, and questions about the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from freehold._core import messages as m
from freehold._core.ids import ACTOR_HANDLE_INDEX, Address, child_task_id, object_id
from freehold._core.interface import ActorRequest, TaskOptions
from freehold._core.limits import INLINE_OUTPUT_BYTES
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import PENDING
from freehold._core.ownership.table import ACTOR_HANDLE
from freehold._io.serialization import dumps_function
from freehold._processes.owner.context import Context
from freehold._processes.owner.core import _PLAIN, OwnerCore, _references
from freehold._processes.owner.explaining import explain_here
from freehold._processes.owner.failures import check_given, stale
from freehold._processes.owner.packing import pack
from freehold.errors import ActorAlreadyExistsError, ActorHandleNotFoundError

_RETRIED = 1 << 63
"""Above every index of a child: what actors of a task's later attempts are derived from."""


class ClusterCore(OwnerCore):
    """An owner core that implements all of `_core.interface.Core`."""

    is_driver = False
    namespace = ""
    job_id = ""
    session_dir = ""
    """The cluster's folder on this machine."""
    job = m.Environment("", {})
    """What all environments of this process's job have in common."""

    def be_of(self, environment: m.Environment) -> None:
        """Be part of the job that an environment is of."""
        if environment.job:
            self.job = msgspec.structs.replace(
                environment, env="", env_vars={}, working_dir="", package=""
            )
            self.job_id = environment.job
            self.namespace = environment.namespace

    # ---- actors ------------------------------------------------------------------------------

    def create_actor(
        self, request: ActorRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[ObjectRef[Any], m.ActorInfo | None]:
        """See `Core.create_actor`."""
        blob, _ = dumps_function(request.cls, is_alone=True)
        name = request.options.class_name
        given = pack(args, kwargs, f"{name}.__init__", self.put) if args or kwargs else _PLAIN
        if request.options.detached and given.top_level:
            raise ValueError(
                f"the constructor's arguments of {name} must be values of {INLINE_OUTPUT_BYTES} "
                "bytes at most in all, as a detached actor outlives what its maker owns: load more "
                "in the constructor, or pass it to a method"
            )
        context = self.current.get() or self.context_here()
        check_given(given, self.owner.table, self.cluster)
        with self.reactor.lock:
            self.check_alive()
            maker = context if not context.thread else self.maker_of(context)
            index = maker.next_child()
            parent = maker.task_id
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
                request.where,
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
            options = request.options
            raise ActorAlreadyExistsError(actor_name=options.name, namespace=options.namespace)
        assert answer.info is not None
        if answer.info.actor == row.task_id():
            return handle, None
        return self._handle_of(answer.info), answer.info

    def _handle_of(self, info: m.ActorInfo) -> ObjectRef[Any]:
        """A counted handle of an actor that somebody made."""
        with self.reactor.lock:
            refs = m.Refs([info.owner], object_id(info.actor, ACTOR_HANDLE_INDEX) + bytes(2))
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
            if actor._row.table is not self.owner.table:
                raise stale(actor._row, self.cluster)
            if not given.is_plain:
                check_given(given, self.owner.table, self.cluster)
            maker = context if not context.thread else self.maker_of(context)
            place = (maker.task_id, maker.next_child())
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

    def list_actors(
        self, namespace: str | None, timeout_s: float | None = None
    ) -> list[m.ActorInfo]:
        """See `Core.list_actors`."""
        answer: m.ActorList = self.requests.ask(
            lambda number: m.ListActors(number, namespace), timeout_s
        )
        return answer.actors

    def kill_actor(self, actor: ObjectRef[Any], no_restart: bool) -> None:
        """See `Core.kill_actor`."""
        with self.reactor.lock:
            self.check_alive()
            if actor._row.table is not self.owner.table:
                raise ActorHandleNotFoundError(actor_id=actor.task_id().hex())
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

    def nodes(self, timeout_s: float | None = None) -> list[m.NodeInfo]:
        """See `Core.nodes`."""
        answer: m.ClusterReply = self.requests.ask(m.ClusterQuery, timeout_s)
        return answer.nodes

    def ask_node(
        self, node_manager: Address, make: Callable[[int], m.Message], timeout_s: float
    ) -> Any:
        """Send `make(number)` to any node manager and wait for the answer; for tests."""
        with self.reactor.lock:
            self.check_alive()
            number, waiter = self.requests.start()
            self.owner.outbox.send(node_manager, make(number), True)
            self.carry_out()
        return self.requests.finish(number, waiter, timeout_s)

    def context(self) -> Context | None:
        """See `Core.context`."""
        return self.current.get() or self.root

    def prepare_env(self, env_vars: dict[str, str], working_dir: str) -> str:
        """See `Core.prepare_env`."""
        from freehold._processes.owner.environments import prepare

        return prepare(self, env_vars, working_dir)

    def explain(self, ref: ObjectRef[Any]) -> str:
        """See `Core.explain`."""
        self._check_known((ref,))
        with self.reactor.lock:
            lines, wanted = explain_here(self.owner, ref)
        if wanted is not None:
            shape, where = wanted
            answer: m.Explained = self.requests.ask(lambda key: m.Explain(key, shape, where))
            lines += answer.lines
        return "\n".join(lines)

    def task_events(self, timeout_s: float = 10.0) -> list[tuple[int, str, str, str, str]]:
        """See `Core.task_events`."""
        answer: m.TaskEvents = self.requests.ask(m.TaskEventsWanted, timeout_s)
        with self.reactor.lock:
            pending = [
                (
                    0,
                    "submitted",
                    task.name,
                    task.row.task_id().hex(),
                    "",
                )
                for task in self.owner.leasing.unfinished()
            ]
        return sorted([*answer.events, *pending])
