"""A simulated node's drain: the real machine, with the thinnest of shells, and its other side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.drain import events as ev
from freehold._core.drain.machine import Drain
from freehold._core.ids import Address, Location
from freehold._core.scheduling import events as sched

if TYPE_CHECKING:
    from tests.simulation.nodes import SimNode


class SimDrain:
    """What `_processes.node.drain.DrainDesk` does."""

    def __init__(self, node: SimNode) -> None:
        self._node = node
        self.machine = Drain(node.name)
        self.keeper: Address | None = None
        self._copies: dict[Location, Location] = {}
        self._requests: dict[int, Location] = {}
        self._alarm: float | None = None

    def start(self, timeout_s: float) -> None:
        """Somebody wants the node to end."""
        self.handle(ev.DrainRequested(timeout_s, "a drain", ends=True))

    def handle(self, event: ev.DrainEvent) -> None:
        """Give the machine an event and carry out what it asks for."""
        clock = self._node.world.clock
        for effect in self.machine.handle(event, now=clock.now):
            self._carry_out(effect)
        self.machine.check_invariants()
        deadline = self.machine.next_deadline()
        if deadline is not None and (self._alarm is None or deadline < self._alarm):
            self._alarm = deadline
            clock.at(deadline, self._on_alarm)

    def _on_alarm(self) -> None:
        if self._alarm is not None and self._alarm <= self._node.world.clock.now:
            self._alarm = None
            if self._node.is_up:
                self.handle(ev.DeadlineReached())

    def receive(self, source: Address, message: Any) -> bool:
        """A message that has to do with drains; False if it has not."""
        node = self._node
        if isinstance(message, m.KeeperWanted):
            node.handle(sched.KeeperRequested(source, message.request))
        elif isinstance(message, m.KeeperGiven):
            self.handle(ev.KeeperNamed(message.request, message.keeper))
        elif isinstance(message, m.PullPrimary):
            delay = node.world.rng.random() * 0.05
            node.world.clock.after(delay, lambda: self._copy(source, message))
        elif isinstance(message, m.PrimaryPulled):
            old = self._requests[message.request]
            self.handle(ev.CopyEnded(old, message.location, message.error))
        elif isinstance(message, m.PrimaryMoved):
            if node.world.network.receivers.get(message.owner) is not None:
                node.send(message.owner, message)
        elif isinstance(message, m.PrimaryNoted):
            for old in message.known:
                self.handle(ev.OwnerAnswered(old, True))
            for old in message.unknown:
                self.handle(ev.OwnerAnswered(old, False))
        elif isinstance(message, m.MoveActor):
            placement = node.scheduler.placements.get((message.actor, message.restart))
            if placement is not None and placement.process:
                worker = Address(node.name, placement.process)
                node.send(worker, m.LeaveActor(message.callers, message.reason))
        else:
            return False
        return True

    def worker_started(self, worker: Address) -> None:
        """One came up though the node drains."""
        if self.machine.reason:
            self._node.send(worker, m.LeaveNode(self.machine.reason, self.keeper))

    def _copy(self, source: Address, message: m.PullPrimary) -> None:
        node, old = self._node, message.location
        if not node.is_up:
            return
        new = self._copies.get(old)
        if new is None:
            held = node.world.nodes[old.node].store.ranges.get((old.segment, 0))
            if held is None:
                node.send(source, m.PrimaryPulled(message.request, None, "it is gone"))
                return
            new = self._copies[old] = node.store.write(message.owner, held[1], message.owner)
        node.send(source, m.PrimaryPulled(message.request, new))

    def _carry_out(self, effect: ev.DrainEffect) -> None:
        node = self._node
        if isinstance(effect, ev.BeginDrain):
            node.report_draining(effect.reason)
            node.handle(sched.DrainStarted(effect.reason))
            self._have_workers_leave()
        elif isinstance(effect, ev.AskKeeper):
            node.send(Address(effect.node, 0), m.KeeperWanted(effect.request))
        elif isinstance(effect, ev.TellKeeper):
            self.keeper = effect.keeper
            self._have_workers_leave()
        elif isinstance(effect, ev.Look):
            node.world.clock.after(0.0, self._look)
        elif isinstance(effect, ev.CopyRange):
            number = len(self._requests) + 1
            self._requests[number] = effect.old
            wanted = m.PullPrimary(number, effect.old, effect.owner)
            node.send(Address(effect.target, 0), wanted)
        elif isinstance(effect, ev.TellOwner):
            moved = m.PrimaryMoved(effect.owner, effect.moves)
            node.send(Address(effect.owner.node, 0), moved)
        elif isinstance(effect, ev.DropCopy):
            new = effect.new
            node.send(Address(new.node, 0), m.RangeReleased(new.segment, new.offset, new.size))
        elif isinstance(effect, ev.EndNode):
            node.world.drained(node, effect.left)

    def _have_workers_leave(self) -> None:
        for process in self._node.world.living(self._node.name):
            if process.is_worker:
                leave = m.LeaveNode(self.machine.reason, self.keeper)
                self._node.send(process.address, leave)

    def _look(self) -> None:
        node = self._node
        living = node.world.living(node.name)
        workers = sum(process.is_worker for process in living) + len(node.scheduler.pool.starts)
        ranges = [
            (Location(node.name, place[0], 0, 64 * len(blobs)), owner)
            for place, (owner, blobs) in node.store.ranges.items()
        ]
        self.handle(ev.Looked(workers, len(living) - sum(p.is_worker for p in living), ranges))
