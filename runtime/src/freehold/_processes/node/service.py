"""The node manager: wires the parts of a node process together and carries it from start to end.

Place in the flow: one thread runs the reactor; every message of a local process, another node or
the control service comes through `_receive` and goes to the part whose it is. In the cluster's
first node process the control service lives beside it, reached by a call put off to the next turn.

When the process that started the cluster is gone (its channel closes), the node ends: all workers
are killed, the session's folder is deleted. Should this process be killed instead, its zygotes do
the same.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from freehold._core import messages as m
from freehold._core.dead_owners import DeadOwners
from freehold._core.drain import events as drain
from freehold._core.ids import Address, root_task_id
from freehold._core.limits import HEIRS, LEASE_S
from freehold._core.scheduling import events as sched
from freehold._core.store import events as store
from freehold._io.reactor import Reactor
from freehold._io.session import SessionFolder
from freehold._io.shm import Arena
from freehold._io.transport import Connection, Peers
from freehold._io.zygote import ARENA_FD
from freehold._io.zygote_protocol import WorkerStart
from freehold._io.zygote_spawn import Spawned
from freehold._processes.control.service import ControlService
from freehold._processes.node.children import Children
from freehold._processes.node.drain import DrainDesk
from freehold._processes.node.environments import Environments
from freehold._processes.node.events_gathering import EventsGathering
from freehold._processes.node.head import HeadDesk
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.last_lines import LastLines
from freehold._processes.node.leases import LeaseDesk
from freehold._processes.node.links import LocalLink
from freehold._processes.node.network import NetworkDesk
from freehold._processes.node.outputs import Outputs
from freehold._processes.node.pool import WorkerPool
from freehold._processes.node.processes import ANYONE, LocalProcess
from freehold._processes.node.settings import (
    arena_bytes,
    node_labels,
    pending_bytes,
    total_resources,
)
from freehold._processes.node.start import NodeStart
from freehold._processes.node.storage import StoreDesk
from freehold._processes.node.transfer import Transfer

if TYPE_CHECKING:
    from freehold._io.health import HealthServer
    from freehold._processes.node.control_plane import ControlPlane, HeadPlane

END_S = 3.0
"""Seconds the zygotes may take to end the workers before they are killed themselves."""


class NodeManager:
    """One node of a cluster.

    Args:
        start: what the starter said.
        node: this node's id.
        session: the cluster's folder; made, and locked if this is the first node.
        spawned: the zygote of the driver's own environment, exec'ed already.
    """

    def __init__(
        self,
        start: NodeStart,
        node: str,
        cluster: str,
        session: SessionFolder,
        spawned: Spawned,
        plane: ControlPlane | None = None,
    ) -> None:
        self.start = start
        self.session = session
        self.plane = plane
        self.health: HealthServer | None = None
        self.is_first = start.is_first
        self.head = start.head or (node if self.is_first else "")
        """The node that the control service lives on; "" until a network's has told."""
        self.reactor = Reactor()
        settings = start.settings
        incarnation = plane.incarnation if plane is not None else 0
        self.hub = Hub(self.reactor, node, cluster, settings, incarnation)
        self.hub.peers = Peers(
            self.reactor, cluster, session.socket_path, self._receive, self._closed
        )
        self.network = NetworkDesk(self.hub, start)
        self.total = total_resources(settings)
        self.pending_bytes = pending_bytes(settings)
        self.arena = Arena.create(arena_bytes(settings))
        self._reading_fd = self.arena.readonly_fd()
        """What all other processes get: who only reads cannot write by mistake."""
        self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._end_reason = ""
        self.is_fenced = False
        """It ended because it was cut off or declared dead: it is to be started anew."""
        self.is_terminating = False
        """It was asked to end, and drains before it does."""
        self.on_joined: Callable[[], None] | None = None
        """Called once, when the control service has answered the first `NodeJoined`."""
        self._view: dict[str, m.NodeInfo] = {}
        self.dead_nodes = DeadOwners()
        """Declared dead, each by its last incarnation that was: refused here and by processes."""
        self.hub.peers.is_fenced = self.dead_nodes.__contains__
        self._heirs: dict[Address, Address] = {}
        """Processes that left, and who answers for what they owned; for those that come later."""
        self._build(spawned)

    def _build(self, spawned: Spawned) -> None:
        hub, settings = self.hub, self.start.settings
        owns_folder = self.is_first and self.plane is None
        remove_path = self.session.path if owns_folder else self.session.node_path
        self.environments = Environments(
            hub,
            self.start.sys_path,
            self.session.path,
            remove_path,
            (self._lifeline[0], self._reading_fd),
        )
        self.outputs = Outputs(
            self.reactor, self._send_lines, self.environments.driver_of, settings.log_bytes_per_s
        )
        template = WorkerStart(
            0,
            hub.cluster,
            hub.address,
            self.session.path,
            ARENA_FD,
            self.arena.size_bytes,
            namespace=self.start.namespace,
            lineage_bytes=settings.lineage_bytes,
            pending_bytes=self.pending_bytes,
        )
        self.store = StoreDesk(hub, self.arena)
        self.leases = LeaseDesk(hub, self.total, template, self.store.use)
        self.transfer = Transfer(hub, self.arena, self.store)
        self.store.puller = self.transfer
        self.store.on_change = self.leases.state_changed
        self.pool = WorkerPool(self.reactor, hub.processes, self.environments, self.outputs, self)
        self.leases.pool = self.pool
        self.leases.environments = self.environments
        self.drain = DrainDesk(hub, self.leases, self.store, self.transfer, self._end_drained)
        self.gathering = EventsGathering(hub, self._other_nodes)
        self.last_lines = LastLines(hub, self.outputs, self._other_nodes)
        self.head_desk = HeadDesk(hub, self._incarnation_of, self._standing, self.fenced)
        """Does nothing until somebody connects it to a head on another machine."""
        self.children = Children(self.reactor, self.pool.reaped)
        self.control = self._control_service()
        if self.control is not None:
            to_control = LocalLink(self.reactor, self._at_control)
            hub.to_control = to_control.send
        else:
            hub.to_control = self._send_to_head
        self._handlers: dict[type, Handler] = {
            **self.leases.handlers(),
            **self.store.handlers(),
            **self.drain.handlers(),
            **self.gathering.handlers(),
            **self.last_lines.handlers(),
            **self.environments.handlers(),
            **self.head_desk.handlers(),
            m.LogLines: self._on_log_lines,
            m.ExitProcess: self._on_leaving,
            m.HeirNamed: self._on_heir_named,
            m.ShutDown: self._on_shut_down,
            m.ClusterView: self._on_view,
            m.ToProcess: self._on_to_process,
            m.ProcessDied: self._on_process_died,
            m.NodeDied: self._on_node_died,
            m.DeadNodes: self._on_dead_nodes,
        }
        for kind in _CONTROL_REQUESTS:
            self._handlers[kind] = self._pass_on
        self.environments.add(spawned, self.pool)

    def _control_service(self) -> ControlService | None:
        if not self.is_first:
            return None
        if self.plane is None:
            return ControlService(self.reactor, self.hub.node)
        return cast("HeadPlane", self.plane).serve(self.reactor, self.hub.node)

    # ---- from start to end -----------------------------------------------------------------------

    def begin(self) -> None:
        """Listen, join the cluster, start the first workers."""
        self.hub.peers.listen(self.hub.address)
        if self.plane is not None:
            self.network.open(self.plane.host, self.plane.peer_credentials())
        else:
            self.network.open(self.start.settings.host, self.start.credentials)
        joined = m.NodeJoined(self._info())
        if self.plane is not None:
            self.plane.begin(self, joined)  # its port first: a head that has none ends at once
        if self.control is not None:
            to_node = LocalLink(self.reactor, self.from_control)
            self.control.join(joined, to_node.send)
        elif self.plane is None:
            self.hub.peers.connect(Address(self.head, 0)).send(joined)
        self._view[self.hub.node] = joined.info
        self.leases.handle(sched.NodeStarted())

    def watch_starter(self, channel: int) -> None:
        """End the node when the channel to whoever started it closes."""
        self.reactor.register(channel, lambda _events: self.end("its starter ended"))

    def end(self, reason: str) -> None:
        """Leave the loop; `close` does the rest."""
        self._end_reason = self._end_reason or reason
        self.reactor.stop()

    def terminate(self) -> None:
        """It was asked to end in an orderly way: by SIGTERM, or ^C at its own terminal.

        It drains, without being told by the head, and ends then; asked again it ends at once. A
        head's node does not drain, nor does one that has no place in the cluster yet.
        """
        if self.is_first or self.is_terminating or self.on_joined is not None:
            self.end("it was asked to end (SIGTERM)")
        else:
            self.is_terminating = True
            self.drain.terminate("SIGTERM")

    def _end_drained(self, reason: str) -> bool:
        """It is drained, or its time is over; a head's node stays, since the cluster ends with
        it."""
        if not self.is_first:
            self.end(reason)
        return not self.is_first

    def fenced(self, reason: str) -> None:
        """It is cut off, or was declared dead: what runs here is about to run elsewhere."""
        self.is_fenced = True
        self.pool.kill_all()
        self.end(f"it was fenced: {reason}")

    def close(self) -> str:
        """Kill the workers, let the zygotes end, delete the folder; why the node ended."""
        told = m.ShutDown(self._end_reason)
        for process in self.hub.processes.drivers():
            if process.connection is not None:
                process.connection.send_now(told)
        self.pool.kill_all()
        pids = self.environments.dismiss_all()
        deadline = time.monotonic() + END_S
        self.children.wait_for(pids, deadline)
        if self.plane is not None:
            self.plane.close(self._end_reason)
        if self.health is not None:
            self.health.close()
        if self.control is not None:
            self.control.close()
        self.transfer.close()
        self.network.close()
        self.hub.peers.close()
        self.session.remove(is_first=self.is_first)
        return self._end_reason

    def _info(self) -> m.NodeInfo:
        return m.NodeInfo(
            self.hub.node,
            self.hub.incarnation,
            self.total,
            dict(self.total),
            is_head=self.is_first,
            socket_dir=self.session.path if self.plane is None else "",
            pid=os.getpid(),
            hostname=os.uname().nodename,
            store_total_bytes=self.arena.size_bytes,
            host=self.network.place.host,
            port=self.network.place.port,
            name=self.start.settings.node_name or os.uname().nodename,
            labels=node_labels(self.start.settings, self.hub.node),
        )

    def _standing(self) -> list[m.Message]:
        """This node as it is now, for a control service that knows nothing of it."""
        processes = self.hub.processes
        report = self.leases.last_report()
        info = msgspec.structs.replace(
            self._info(),
            available=report.available,
            queued=report.queued,
            state=report.state,
            reason=report.reason,
        )
        joined = m.NodeJoined(
            info,
            self.leases.living_actors(),
            [process.number for process in processes.registered()],
            [process.number for process in processes.drivers()],
        )
        return [joined, report]

    def _incarnation_of(self, node: str) -> int:
        info = self._view.get(node)
        return info.incarnation if info is not None else 0

    # ---- connections -----------------------------------------------------------------------------

    def _receive(self, connection: Connection, messages: list[m.Message]) -> None:
        for message in messages:
            source = connection.peer
            assert source is not None
            if source.process == ANYONE:
                self._introduce(connection, message)
                continue
            try:
                handler = self._handlers.get(type(message))
                if handler is not None:
                    handler(source, message)
                elif source.process == 0 and self.control is not None and self.plane is None:
                    self._from_node(connection, source, message)
            except Exception:  # what one message breaks must not take those behind it along  # noqa: BLE001
                traceback.print_exc()

    def _introduce(self, connection: Connection, message: m.Message) -> None:
        """The first message of a process that has no number yet."""
        if not isinstance(message, m.Register):
            connection.refuse("register first")
            return
        if message.is_driver:
            process = self.hub.processes.add(0)
            self._attach_driver(process, message, connection)
            return
        found = self.hub.processes.by_start.get(message.start)
        if found is None or found.is_registered:
            connection.refuse(f"start {message.start} was not ordered by this node")
            return
        self.hub.peers.rename(connection, found.address)
        connection.send_now(self._registered(found))
        self.store.handle(store.ProcessJoined(found.number))
        self.pool.registered(found, message.pid, connection)

    def _attach_driver(
        self, process: LocalProcess, message: m.Register, connection: Connection
    ) -> None:
        process.pid = message.pid
        process.connection = connection
        process.is_registered = True
        self.hub.peers.rename(connection, process.address)
        try:
            process.pidfd = os.pidfd_open(message.pid)
        except OSError:
            pass  # ended already: its connection says so
        else:
            self.reactor.register(process.pidfd, lambda _events: self._driver_gone(process))
        self.store.handle(store.ProcessJoined(process.number))
        connection.send_with(self._registered(process), [self._reading_fd])
        self.hub.to_control(m.DriverAttached(process.address, message.job, message.attempt))
        self.leases.state_changed()

    def _registered(self, process: LocalProcess) -> m.Registered:
        address = process.address
        name = f"{address.node}/{address.incarnation}/{address.process}"
        root = root_task_id(self.hub.cluster, name) if process.is_driver else b""
        return m.Registered(
            process.address,
            self.hub.cluster,
            self.arena.size_bytes,
            {
                "log_to_driver": self.start.settings.log_to_driver,
                "tune_interpreter": self.start.settings.tune_interpreter,
                "lineage_bytes": self.start.settings.lineage_bytes,
                "pending_bytes": self.pending_bytes,
            },
            self.total,
            root,
            list(self._view.values()),
            self.network.start(),
            self.dead_nodes.dead_nodes(),
            [] if process.is_driver else list(self._heirs.items()),
        )

    def _closed(self, connection: Connection, reason: str) -> None:
        peer = connection.peer
        if peer is None or peer.process == ANYONE:
            return
        process = self.hub.local(peer)
        if process is not None and process.connection is connection:
            if process.is_driver:
                self._driver_gone(process)
            else:
                self.pool.connection_closed(process)
        elif peer.process == 0:
            self.transfer.node_lost(peer.node, f"the connection to node {peer.node[:8]} ended")
            if self.plane is not None:
                pass  # a connection of the peer plane says nothing about the node
            elif self.control is not None:
                self.control.disconnected(peer.node)
            elif peer.node == self.head:
                self.end(f"the cluster's first node ended ({reason or 'its connection closed'})")
        elif process is None:
            # An owner of another node. If it has ended that is told; if only the connection broke
            # it may come back, and its leases wait for it as long as this.
            self.reactor.call_later(LEASE_S, lambda: self._owner_silent(peer))

    def _owner_silent(self, owner: Address) -> None:
        if self.hub.peers.get(owner) is None:
            self.leases.handle(sched.OwnerGone(owner, may_return=True))

    # ---- ends of processes -----------------------------------------------------------------------

    def _driver_gone(self, process: LocalProcess) -> None:
        if process.number not in self.hub.processes.by_number:
            return
        if process.pidfd >= 0:
            self.reactor.unregister(process.pidfd)
        self.hub.processes.remove(process)
        process.is_registered = False
        if process.connection is not None:
            process.connection.close()
        if process.pid == self.start.starter_pid:
            self.end("its driver ended")
            return
        self._process_ended(process, m.ExitCause(reason="the driver ended"))
        self.leases.state_changed()

    def worker_registered(self, process: LocalProcess) -> None:
        """See `PoolListener`."""
        self.leases.worker_registered(process)
        self.drain.worker_registered(process.number)

    def worker_missing(self, process: LocalProcess, reason: str, is_env: bool) -> None:
        """See `PoolListener`."""
        self.leases.worker_missing(process, reason, is_env)

    def worker_ended(self, process: LocalProcess) -> None:
        """See `PoolListener`."""
        assert process.cause is not None
        self.leases.worker_ended(process)
        self._process_ended(process, process.cause)
        try:
            os.unlink(self.session.socket_path(process.address))
        except OSError:
            pass

    def pool_failed(self, reason: str) -> None:
        """See `PoolListener`."""
        self.end(f"no worker can be started: {reason}")

    def _process_ended(self, process: LocalProcess, cause: m.ExitCause) -> None:
        address = process.address
        self.gathering.process_gone(address)
        self.store.handle(store.ProcessExited(process.number))
        self.hub.to_control(m.ProcessGone(address, cause, process.is_driver, process.heir))
        self._on_process_died(self.hub.address, m.ProcessDied(address, cause, process.heir))

    def _on_process_died(self, source: Address, message: m.ProcessDied) -> None:
        # Its children end before anybody hears of it and has them executed again.
        self.leases.handle(sched.OwnerGone(message.address))
        if message.heir is not None:
            self._heirs[message.address] = message.heir
            if len(self._heirs) > HEIRS:
                del self._heirs[next(iter(self._heirs))]
        self.hub.broadcast(message)
        self.store.handle(store.OwnerDied(message.address))
        self.environments.job_ended(message.address)
        self.environments.dismiss_unused(self.hub.processes.environments())
        self.drain.handle(drain.ProcessEnded(message.address))

    def _on_dead_nodes(self, source: Address, message: m.DeadNodes) -> None:
        """Who died before this node joined, or while it could not be told."""
        for dead in message.nodes:
            if Address(dead.node, 0, dead.incarnation) not in self.dead_nodes:
                self._on_node_died(source, m.NodeDied(dead.node, dead.incarnation, dead.reason))

    def _on_node_died(self, source: Address, message: m.NodeDied) -> None:
        self.dead_nodes.add_node(message.node, message.incarnation)
        if self._incarnation_of(message.node) <= message.incarnation:
            self._view.pop(message.node, None)
        self.network.node_died(message)
        self.head_desk.peers_changed(self._other_nodes())
        self.hub.broadcast(message)
        self.last_lines.node_lost(message.node)
        self.transfer.node_lost(message.node, f"node {message.node[:8]} died: {message.reason}")
        self.environments.packages.node_lost(message.node, f"it died: {message.reason}")
        self.store.handle(store.OwnerNodeDied(message.node, message.incarnation))
        self.leases.handle(sched.NodeLost(message.node, message.incarnation))
        self.drain.handle(drain.NodeLost(message.node))

    def _on_leaving(self, source: Address, message: m.ExitProcess) -> None:
        """A worker announces that it is about to end by itself."""
        process = self.hub.local(source)
        if process is not None:
            process.is_retiring = True
            process.end_reason = message.reason
            self.leases.handle(sched.WorkerLeaving(process.number, message.reason))

    def _on_heir_named(self, source: Address, message: m.HeirNamed) -> None:
        process = self.hub.local(source)
        if process is not None:
            process.heir = message.heir

    def _on_shut_down(self, source: Address, message: m.ShutDown) -> None:
        process = self.hub.local(source)
        if process is None or process.is_driver:
            self.end(message.reason or "shutdown() was called")

    # ---- the control service ---------------------------------------------------------------------

    def _pass_on(self, source: Address, message: Any) -> None:
        if isinstance(message, m.RegisterActor) and message.spec.env:
            message.spec.environment = self.environments.get(message.spec.env)
        self.hub.to_control(m.FromProcess(source, message))

    def _send_to_head(self, message: m.Message) -> None:
        self.hub.send(Address(self.head, 0), message)

    def _at_control(self, message: m.Message) -> None:
        assert self.control is not None
        self.control.handle(self.hub.node, message)

    def from_control(self, message: m.Message) -> None:
        """The control service said something."""
        self._handlers[type(message)](Address(self.head, 0), message)

    def _from_node(self, connection: Connection, source: Address, message: m.Message) -> None:
        """A message of another node for the control service that lives here."""
        assert self.control is not None
        if isinstance(message, m.NodeJoined):
            self.control.join(message, connection.send)
        else:
            self.control.handle(source.node, message)

    def _on_to_process(self, source: Address, message: m.ToProcess) -> None:
        self.hub.send_to(message.target.process, message.message)

    def _on_view(self, source: Address, message: m.ClusterView) -> None:
        if self.on_joined is not None:
            self.on_joined()
            self.on_joined = None
        for info in message.nodes:
            if info.is_alive:
                self._view[info.node] = info
        if message.groups is not None:
            self.leases.handle(sched.GroupsChanged(message.groups))
        self.network.learn(message.nodes)
        self.head_desk.joined()
        self.head_desk.peers_changed(self._other_nodes())
        self.leases.handle(sched.ViewChanged(message.nodes))
        self.drain.handle(drain.ViewSeen(message.nodes))

    def _other_nodes(self) -> list[str]:
        return [node for node in self._view if node != self.hub.node]

    # ---- output ----------------------------------------------------------------------------------

    def _on_log_lines(self, source: Address, message: m.LogLines) -> None:
        self._send_lines(message)

    def _send_lines(self, lines: m.LogLines) -> None:
        if not self.start.settings.log_to_driver:
            return
        driver = lines.driver
        if driver is not None:
            self.hub.send(
                driver if driver.node == self.hub.node else Address(driver.node, 0), lines
            )
            return
        if not self.is_first:
            self._send_to_head(lines)
            return
        for process in self.hub.processes.drivers():
            if process.connection is not None:
                process.connection.send(lines)


_CONTROL_REQUESTS = (
    m.RegisterActor,
    m.WatchActor,
    m.FindActor,
    m.ListActors,
    m.KillActor,
    m.ReleaseActor,
    m.ActorAdopted,
    m.ClusterQuery,
)
