"""The ground of an owner core: its machine, its connections, and waiting for what they bring.

Messages of peers are applied to the machine here (`_on_messages`), and what the machine wants is
carried out (`carry_out`): messages sent, waiters woken, its timer armed. Everything that touches
the machine holds `reactor.lock`; nothing under it runs user code. What users ask for is in `core`.
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
from freehold._core.dead_owners import DeadOwners
from freehold._core.ids import Address
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import LOST, PENDING, Row
from freehold._io.network import Network
from freehold._io.reactor import Reactor, Timer, Waiter
from freehold._io.references import reduce_reference
from freehold._io.shm import Arena
from freehold._io.transport import Connection, Peers
from freehold._processes.owner.context import Context
from freehold._processes.owner.deaths import actor_cause
from freehold._processes.owner.failures import (
    error_blob,
    stale,
)
from freehold._processes.owner.fetching import Fetches
from freehold._processes.owner.requests import Requests
from freehold._processes.owner.storage import Storage
from freehold.errors import (
    ClusterDiedError,
    FreeholdError,
    FreeholdSystemError,
)

if TYPE_CHECKING:
    pass


class CoreBase:
    """The part of a driver's or worker's core that knows no user call.

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
        self.peers.on_dropped = self._on_dropped
        self.peers.on_stranger_handed = self._hear_node
        self.peers.is_needed = self.is_tied_to
        self.dead_nodes = DeadOwners()
        self.peers.is_fenced = self.dead_nodes.__contains__
        self.cluster = cluster
        self.pid = os.getpid()
        self.node_id = address.node
        self.worker_id = str(address)
        self.requests = Requests(self)
        self.storage = Storage(self, arena)
        self.fetches = Fetches(self)
        self.current: ContextVar[Context | None] = ContextVar("freehold_task", default=None)
        self.root = root
        self.pinned: list[ObjectRef[Any]] = []
        """References pickled outside a call of ours: held until the job ends."""
        self.is_dead: BaseException | None = None
        self.pending_limit_bytes = 0
        """Bytes of arguments that pending tasks may hold before `.remote()` waits."""
        self.on_blocked: Callable[[bool], None] | None = None
        """A worker's: called without the lock before and after a wait that may be long."""
        self.blocked_after_s: float | None = None
        self.on_await: Callable[[Any], None] | None = None
        """A worker's: called with each asyncio future made for a reference."""
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self.reactor.on_tick = self._on_tick
        self.handlers: dict[type, Callable[[Address, Any, float], None]] = self._handlers()

    def limit(self, lineage_bytes: int, pending_bytes: int) -> None:
        """Apply the settings of these names, which the node process has resolved."""
        self.owner.recovery.lineage_limit = lineage_bytes
        self.pending_limit_bytes = pending_bytes

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
            m.ArgumentsDropped: owner.eager.on_dropped,
            m.Borrow: lambda source, message, now: owner.borrowing.on_borrow(source, message),
            m.Borrowed: lambda source, message, now: owner.borrowing.on_borrowed(source, message),
            m.Return: lambda source, message, now: owner.borrowing.on_return(source, message),
            m.TakenResult: lambda source, message, now: owner.handing.taken(source, message.key),
            m.Orphaned: lambda s, message, now: owner.supervision.on_orphaned(s, message),
            m.OwningEnded: lambda s, msg, now: owner.supervision.on_owning_ended(s, msg.key),
            m.Recreated: lambda s, msg, now: owner.borrowing.on_recreated(s, msg.refs),
            m.HandOff: owner.takeover.on_hand_off,
            m.TakenOver: owner.handoff.on_taken_over,
            m.OwnerMoved: owner.heirs.on_owner_moved,
            m.Owning: lambda source, message, now: owner.takeover.on_owning(source, message),
            m.PrimaryMoved: owner.primaries.on_moved,
            m.OwningNoted: lambda source, msg, now: owner.specs.on_noted(source, msg.key),
            m.Want: lambda source, message, now: owner.origins.on_want(source, message),
            m.SupervisedBy: lambda s, msg, now: owner.origins.on_supervised_by(s, msg),
            m.Resolve: owner.resolving.on_resolve,
            m.Resolved: owner.resolving.on_resolved,
            m.LeaseGranted: owner.leasing.on_lease_granted,
            m.LeaseSpilledBack: owner.leasing.on_spilled_back,
            m.LeaseInfeasible: owner.leasing.on_infeasible,
            m.LeaseRevoked: self._on_lease_revoked,
            m.ReturnIdle: lambda source, message, now: owner.leasing.on_return_idle(message, now),
            m.ProcessDied: self._on_process_died,
            m.NodeDied: self._on_node_died,
            m.PlacesChanged: self._on_places_changed,
            m.CredentialsChanged: lambda s, message, now: self._network().identity.change(
                message.credentials
            ),
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
            m.DrainAnswered: on_answer,
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
            except Exception:  # what one message breaks must not take those behind it along  # noqa: BLE001
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
        if outbox.has_deadline:
            outbox.has_deadline = False
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
        try:
            self.owner.on_deadline(time.monotonic())
        finally:
            self.carry_out()

    def note_dead(self, nodes: list[tuple[str, int]]) -> None:
        """Nodes that were declared dead before this process was there: they are refused."""
        for node, incarnation in nodes:
            self.dead_nodes.add_node(node, incarnation)

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
        self.owner.on_disconnected(peer, now)

    def _on_dropped(self, connection: Connection, message: m.Message, error: Exception) -> None:
        """A message of ours cannot be encoded: whoever waits for what it would bring is told.

        Later in this turn, since the machine may be in the middle of something.
        """
        text = f"a {type(message).__name__} message cannot be sent: {error}"
        self.reactor.call_later(0, lambda: self._tell_dropped(connection, message, text))

    def _tell_dropped(self, connection: Connection, message: m.Message, text: str) -> None:
        error = FreeholdSystemError(text, reason=text)
        if isinstance(message, m.Run | m.Call) and connection.peer is not None:
            failed = m.Failed(message.key, message.attempt, 0, "user", error_blob(error))
            self.owner.on_failed(connection.peer, failed, time.monotonic())
        elif isinstance(message, m.LeaseDemand) and connection.peer is not None:
            refused = m.LeaseInfeasible(message.key, text)
            self.owner.leasing.on_infeasible(connection.peer, refused, time.monotonic())
        elif isinstance(message, m.Done | m.DoneWith | m.Failed):
            answer = (message.key, message.attempt, message.run_us)
            connection.send(m.Failed(*answer, "user", error_blob(error)))
        elif isinstance(message, m.Resolved):
            connection.send(m.Resolved(message.id, "failed", error_blob(error)))
        elif not self.requests.fail(getattr(message, "request", 0), error):
            print(f"freehold: {text}", file=sys.stderr)  # noqa: T201 - as nobody waits for it
        self.carry_out()

    def _on_lease_revoked(self, source: Address, message: m.LeaseRevoked, now: float) -> None:
        # What the worker said before it ended may still be in its socket: that counts first.
        connection = self.peers.get(message.worker)
        if connection is not None:
            connection.read_to_end()
        self.owner.leasing.on_lease_revoked(message, now)

    def _on_node_died(self, source: Address, message: m.NodeDied, now: float) -> None:
        self.dead_nodes.add_node(message.node, message.incarnation)
        self.peers.node_died(message.node, message.incarnation)
        self.owner.on_node_died(message.node, message.reason, now)

    def is_tied_to(self, peer: Address) -> bool:
        """Whether something hangs on the connection to a peer though nothing is said on it."""
        return self.owner.is_tied_to(peer)

    def join_network(self, start: m.NetworkStart | None) -> None:
        """There are other machines in the cluster. Under the lock."""
        if start is not None:
            self.peers.network = Network(self.reactor, self.cluster, self.node_id, start)

    def _on_places_changed(self, source: Address, message: m.PlacesChanged, now: float) -> None:
        self._network().learn(message.places)

    def _network(self) -> Network:
        network = self.peers.network
        assert network is not None, "the node manager speaks of a network it never told of"
        return network

    def _hear_node(self) -> None:
        """A stranger was handed over before the word of the network was read: it is there."""
        connection = self.peers.get(self.owner.outbox.node_manager)
        if connection is not None:
            connection.read_arrived()

    def _on_actor_state(self, source: Address, message: m.ActorState, now: float) -> None:
        # What the actor answered before it ended may still be in its socket: that counts first.
        info = message.info
        link = self.owner.actors.links.get(info.actor)
        if link is not None and link.address is not None and link.address != info.address:
            connection = self.peers.get(link.address)
            if connection is not None:
                connection.read_arrived()
        self.owner.actors.on_state(info, now, message.is_infeasible)

    def _on_process_died(self, source: Address, message: m.ProcessDied, now: float) -> None:
        connection = self.peers.get(message.address)
        if connection is not None:
            connection.read_to_end()
        self.owner.on_process_died(message.address, message.cause, now, message.heir)

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

    # ---- waiting (without the lock) --------------------------------------------------------------

    def block(
        self, waiter: Waiter, deadline: float | None = None, patience_s: float | None = None
    ) -> bool:
        """Wait; in a worker, give the CPU back if it takes longer than its patience."""
        if self.on_blocked is None or self.blocked_after_s is None:
            return self.reactor.wait(waiter, deadline)
        soon = time.monotonic() + (self.blocked_after_s if patience_s is None else patience_s)
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
        """Wait until `count` (0: all) of the unresolved rows are resolved.

        A row whose value is on its way here for `wait` counts as unresolved until it has come.
        """
        waiter = Waiter(0)
        try:
            with self.reactor.lock:
                self.check_alive()
                now = time.monotonic()
                under_way = self.fetches.under_way
                for row, index in pairs:
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
                    elif under_way and (fetch := self.fetches.of(row, index)) is not None:
                        waiter.remaining += 1
                        fetch.waiters.append(waiter)
                if count:
                    waiter.remaining = min(count, waiter.remaining)
                if waiter.remaining <= 0:
                    waiter.is_done = True
                outbox = self.owner.outbox
                if outbox.messages or outbox.woken or outbox.has_deadline:
                    self.carry_out()
            if waiter.is_done:
                return True
            return self.block(waiter, deadline)
        finally:
            waiter.is_done = True


def _is_over(waiter: Any) -> bool:
    return type(waiter) is Waiter and waiter.is_done
