"""A simulated node manager and control service: the real machines with the thinnest of shells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.drains import SimDrain
from tests.simulation.network import CONTROL

from freehold._core import messages as m
from freehold._core.actors import events as act
from freehold._core.actors.directory import ActorDirectory
from freehold._core.drain import events as drain
from freehold._core.ids import Address, Location
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.machine import LeaseScheduler

if TYPE_CHECKING:
    from tests.simulation.world import World

CPU = 10_000


class Store:
    """What lies in one node's arena: each range written once, released once."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.ranges: dict[tuple[int, int], tuple[Address, list[bytes]]] = {}
        self.released: set[tuple[int, int]] = set()
        self.writers: dict[tuple[int, int], Address] = {}
        self.dead: set[Address] = set()
        """Owners known to have ended; `SimNode` shares it."""
        self._next = 1

    def write(self, owner: Address, blobs: list[bytes], writer: Address) -> Location:
        """Store values side by side, as a packed segment has them."""
        segment, self._next = self._next, self._next + 1
        if owner in self.dead:
            self.released.add((segment, 0))
            return Location(self.node, segment, 0, 64 * len(blobs))
        self.ranges[segment, 0] = (owner, blobs)
        self.writers[segment, 0] = writer
        return Location(self.node, segment, 0, 64 * len(blobs))

    def read(self, where: Location) -> bytes | None:
        """The value at a place; None if it is not there."""
        held = self.ranges.get((where.segment, 0))
        return None if held is None else held[1][where.offset // 64]


class SimNode:
    """One node: its scheduler, its store, its workers."""

    def __init__(self, world: World, name: str, cpus: int) -> None:
        self.world = world
        self.name = name
        self.address = Address(name, 0)
        settings = ev.SchedulerSettings(idle_worker_s=1e6, starts_at_once=4)
        self.scheduler = LeaseScheduler(name, {"CPU": cpus * CPU}, settings)
        self.store = Store(name)
        self.heirs: dict[Address, Address] = {}
        """Who answers for what a process owned that ended."""
        self.named: dict[Address, Address] = {}
        """Who will for those that are about to."""
        self.state = ("alive", "")
        self.specs: dict[tuple[bytes, int], m.ActorSpec] = {}
        self.dead = self.store.dead
        self.dead_nodes: set[str] = set()
        self.drain = SimDrain(self)
        self._next_process = 1
        self._alarm: float | None = None

    def new_address(self) -> Address:
        """The number of a process about to start."""
        number, self._next_process = self._next_process, self._next_process + 1
        return Address(self.name, number)

    def start(self) -> None:
        """The node is up."""
        total = {"CPU": self.scheduler.room.total["CPU"]}
        self.world.network.send(
            self.address, CONTROL, m.NodeJoined(m.NodeInfo(self.name, 0, total, dict(total)))
        )
        self.handle(ev.NodeStarted())

    # ---- the network's side --------------------

    def receive(self, source: Address, message: Any) -> None:
        """A message of a process, of another node manager or of the control service."""
        if isinstance(message, m.LeaseDemand):
            self.handle(
                ev.DemandChanged(
                    source, message.key, message.shape, message.env, message.wanted,
                    message.backlog, message.spilled,
                )
            )  # fmt: skip
        elif source in self.dead or (source.node in self.dead_nodes and source.process):
            return  # it came a longer way than word of its sender's end
        elif self.drain.receive(source, message):
            return
        elif isinstance(message, m.ReturnLease):
            self.handle(ev.LeaseReturned(source, message.lease, message.kill, message.reason))
        elif isinstance(message, m.Blocked):
            self.handle(ev.TaskBlocked(source.process, message.is_blocked))
        elif isinstance(message, m.OwningChanged):
            self.handle(ev.OwningChanged(source.process, message.is_owning))
        elif isinstance(message, m.HeirNamed):
            self.named[source] = message.heir
        elif isinstance(message, m.ExitProcess):
            self.handle(ev.WorkerLeaving(source.process, message.reason))
        elif isinstance(message, m.RangeReleased):
            self._release(source, message)
        elif isinstance(message, m.RangeSealed | m.RangeAdopted):
            self._seal(message)
        elif isinstance(message, m.PlaceActor):
            self.specs[message.spec.actor, message.restart] = message.spec
            self.handle(
                ev.ActorPlacementRequested(
                    message.spec.actor, message.restart, message.spec.shape, message.spec.env
                )
            )
        elif isinstance(message, m.UnplaceActor):
            self.handle(
                ev.ActorUnplaced(message.actor, message.restart, message.grace_s, message.reason)
            )
        elif isinstance(message, m.ToProcess):
            self._to(message.target, message.message)
        elif isinstance(message, m.ActorStarted | m.ActorEnded | m.ActorLeft):
            self._to(CONTROL, message)
        elif isinstance(message, m.ClusterView):
            self.handle(ev.ViewChanged(message.nodes))
            self.drain.handle(drain.ViewSeen(message.nodes))
        elif isinstance(message, m.ProcessDied):
            self.process_died(message)
        elif isinstance(message, m.NodeDied):
            for process in self.world.living(self.name):
                self._to(process.address, message)
            self.dead_nodes.add(message.node)
            self._free_owned(lambda owner: owner.node == message.node)
            self.handle(ev.NodeLost(message.node, message.incarnation))
            self.drain.handle(drain.NodeLost(message.node))
        else:
            self._to(CONTROL, m.FromProcess(source, message))

    def disconnected(self, peer: Address) -> None:
        """Ends of processes are told by `process_exited`."""

    @property
    def is_up(self) -> bool:
        """Whether the node has not ended."""
        return self.world.network.receivers.get(self.address) is self

    def report_draining(self, reason: str) -> None:
        """Tell the control service."""
        self.state = ("draining", reason)
        self._carry_out(ev.ReportNode(dict(self.scheduler.room.available), {}))

    def send(self, target: Address, message: Any) -> None:
        """Say something to a process or another node manager."""
        self._to(target, message)

    def _to(self, target: Address, message: Any) -> None:
        self.world.network.send(self.address, target, message)

    # ---- the store --------------------

    def _release(self, source: Address, message: m.RangeReleased) -> None:
        place = (message.segment, message.offset)
        if place in self.store.released:
            owner_is_dead = self.store.ranges.get(place) is None and self.dead
            assert owner_is_dead, f"{source} released {place} of {self.name} a second time"
        assert place in self.store.ranges or place in self.store.released, f"{place} never written"
        self.store.ranges.pop(place, None)
        self.store.released.add(place)

    def _seal(self, message: m.RangeSealed | m.RangeAdopted) -> None:
        held = self.store.ranges.get((message.segment, message.offset))
        if held is not None:
            if message.owner in self.dead:
                del self.store.ranges[message.segment, message.offset]
                self.store.released.add((message.segment, message.offset))
            else:
                self.store.ranges[message.segment, message.offset] = (message.owner, held[1])

    def _free_owned(self, is_gone: Any) -> None:
        for place, (owner, _) in list(self.store.ranges.items()):
            if is_gone(owner):
                self.dead.add(owner)
                del self.store.ranges[place]
                self.store.released.add(place)

    # ---- processes --------------------

    def process_exited(self, address: Address, cause: m.ExitCause) -> None:
        """A process of this node ended, and the node manager has seen it."""
        is_intended = cause.code == 0
        self.world.network.drain(address, self.address)
        self.handle(ev.WorkerExited(address.process, cause, is_intended))
        heir = self.named.get(address)
        self._to(CONTROL, m.ProcessGone(address, cause, False, heir))
        self.process_died(m.ProcessDied(address, cause, heir))

    def process_died(self, message: m.ProcessDied) -> None:
        """Tell everybody here.

        What a process of this node said before it ended has come; what one of another node said
        takes a way of its own and may come later than this.
        """
        self.dead.add(message.address)
        if message.heir is not None:
            self.heirs[message.address] = message.heir
        for process in self.world.living(self.name):
            self._to(process.address, message)
        self._free_owned(lambda owner: owner == message.address)
        self.handle(ev.OwnerGone(message.address))
        self.drain.handle(drain.ProcessEnded(message.address))

    # ---- the scheduler --------------------

    def handle(self, event: ev.SchedulingEvent) -> None:
        """Give the machine an event and carry out what it asks for."""
        world = self.world
        if self.address not in world.network.receivers:
            return
        for effect in self.scheduler.handle(event, now=world.clock.now):
            self._carry_out(effect)
        self.scheduler.check_invariants()
        deadline = self.scheduler.next_deadline()
        if deadline is not None and (self._alarm is None or deadline < self._alarm):
            self._alarm = deadline
            world.clock.at(deadline, self._on_alarm)

    def _on_alarm(self) -> None:
        if self._alarm is not None and self._alarm <= self.world.clock.now:
            self._alarm = None
            self.handle(ev.DeadlineReached())

    def _carry_out(self, effect: ev.SchedulingEffect) -> None:
        world = self.world
        if isinstance(effect, ev.StartWorker):
            delay = 0.002 + world.rng.random() * 0.01
            world.clock.after(delay, lambda: world.start_worker(self, effect.start))
        elif isinstance(effect, ev.GrantLease):
            worker = Address(self.name, effect.process)
            granted = m.LeaseGranted(effect.key, effect.lease, worker, effect.granted, effect.gpus)
            self._to(effect.owner, granted)
        elif isinstance(effect, ev.SpillBack):
            self._to(effect.owner, m.LeaseSpilledBack(effect.key, effect.count, effect.node))
        elif isinstance(effect, ev.ReportInfeasible):
            self._to(effect.owner, m.LeaseInfeasible(effect.key, effect.reason))
        elif isinstance(effect, ev.RevokeLease):
            worker = Address(self.name, effect.process)
            self._to(effect.owner, m.LeaseRevoked(effect.lease, worker, effect.cause))
        elif isinstance(effect, ev.AskReturnIdle):
            self._to(effect.owner, m.ReturnIdle(effect.count))
        elif isinstance(effect, ev.KillWorker):
            world.kill(Address(self.name, effect.process), effect.reason)
        elif isinstance(effect, ev.AskExit):
            self._to(Address(self.name, effect.process), m.ExitProcess(effect.reason))
        elif isinstance(effect, ev.AssignActor):
            spec = self.specs[effect.actor, effect.restart]
            worker = Address(self.name, effect.process)
            self._to(worker, m.CreateActor(spec, effect.restart))
        elif isinstance(effect, ev.RejectActor):
            self._to(
                CONTROL,
                m.PlacementFailed(effect.actor, effect.restart, effect.reason),
            )
        elif isinstance(effect, ev.ReportActorEnded):
            self._to(
                CONTROL,
                m.ActorEnded(effect.actor, effect.restart, effect.cause, effect.is_intended),
            )
        elif isinstance(effect, ev.ReportNode):
            told = m.NodeReported(self.name, effect.available, effect.queued)
            told.state, told.reason = self.state
            self._to(CONTROL, told)
        elif isinstance(effect, ev.NameKeeper):
            keeper = Address(self.name, effect.process) if effect.process else None
            self._to(effect.source, m.KeeperGiven(effect.request, keeper))


class SimControl:
    """The control service: the real actor directory, and a plain view of the nodes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.directory = ActorDirectory()
        self.nodes: dict[str, m.NodeInfo] = {}
        self._alarm: float | None = None

    def receive(self, source: Address, message: Any) -> None:
        """A message of a node manager."""
        if isinstance(message, m.NodeJoined):
            self.nodes[message.info.node] = message.info
            self._view()
        elif isinstance(message, m.NodeReported):
            info = self.nodes[message.node]
            info.available = message.available
            info.queued = message.queued
            info.state, info.reason = message.state, message.reason
            self._view()
        elif isinstance(message, m.PlacementFailed):
            self.handle(
                act.PlacementRejected(
                    source.node, message.actor, message.restart, message.reason, False
                )
            )
        elif isinstance(message, m.ProcessGone):
            for node in self.world.living_nodes():
                if node.address != source:
                    died = m.ProcessDied(message.address, message.cause, message.heir)
                    self.world.network.send(CONTROL, node.address, died)
            self.handle(message)
        else:
            self.handle(message)

    def disconnected(self, peer: Address) -> None:
        """A node manager is gone: its node is dead."""
        info = self.nodes.get(peer.node)
        if peer.process == 0 and info is not None and info.is_alive:
            info.is_alive = False
            died = m.NodeDied(peer.node, 0, "its connection closed")
            for node in self.world.living_nodes():
                self.world.network.send(CONTROL, node.address, died)
            self.handle(died)
            self._view()

    def _view(self) -> None:
        nodes = list(self.nodes.values())
        for node in self.world.living_nodes():
            self.world.network.send(CONTROL, node.address, m.ClusterView(nodes))
        self.handle(act.ViewChanged(nodes))

    def handle(self, event: Any) -> None:
        """Give the directory an event and carry out what it asks for."""
        world = self.world
        for effect in self.directory.handle(event, now=world.clock.now):
            if isinstance(effect, act.PlaceActorOn):
                placed = m.PlaceActor(effect.spec, effect.restart)
                world.network.send(CONTROL, Address(effect.node, 0), placed)
            elif isinstance(effect, act.MoveActorFrom):
                moved = m.MoveActor(effect.actor, effect.restart, effect.callers, effect.reason)
                world.network.send(CONTROL, Address(effect.node, 0), moved)
            elif isinstance(effect, act.Unplace):
                unplaced = m.UnplaceActor(
                    effect.actor, effect.restart, effect.grace_s, effect.reason
                )
                world.network.send(CONTROL, Address(effect.node, 0), unplaced)
            else:
                told = m.ToProcess(effect.address, effect.message)
                world.network.send(CONTROL, Address(effect.address.node, 0), told)
        deadline = self.directory.next_deadline()
        if deadline is not None and (self._alarm is None or deadline < self._alarm):
            self._alarm = deadline
            world.clock.at(deadline, self._on_alarm)

    def _on_alarm(self) -> None:
        if self._alarm is not None and self._alarm <= self.world.clock.now:
            self._alarm = None
            self.handle(act.DeadlineReached())
