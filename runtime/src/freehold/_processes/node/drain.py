"""The drain of one node, and what it does for others that drain: messages to events, and back.

Place in the flow: `service` hands over who asks for a drain, views, and word of ends; this desk
looks at the store and the processes for the machine, speaks to owners and to other node managers,
and has the workers leave. The other side is here, too: a copy of another node's range is made a
primary copy of this one, in its owner's name, and a worker is named that keeps rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.drain import events as ev
from freehold._core.drain.machine import DRAINED, Drain
from freehold._core.ids import Address, Location
from freehold._core.limits import COPIES_KNOWN
from freehold._core.scheduling import events as sched
from freehold._core.store import events as store
from freehold._io import clock
from freehold._processes.node.hub import Handler, Hub

if TYPE_CHECKING:
    from freehold._processes.node.leases import LeaseDesk
    from freehold._processes.node.storage import StoreDesk
    from freehold._processes.node.transfer import Transfer


class DrainDesk:
    """The shell around `Drain`.

    Args:
        end: ends the node process, unless it must stay; whether it ends.
    """

    def __init__(
        self,
        hub: Hub,
        leases: LeaseDesk,
        stored: StoreDesk,
        transfer: Transfer,
        end: Callable[[str], bool],
    ) -> None:
        self._hub = hub
        self._leases = leases
        self._store = stored
        self._transfer = transfer
        self._end = end
        self.machine = Drain(hub.node)
        self._alarm = clock.MachineAlarm(hub.reactor, lambda: self.handle(ev.DeadlineReached()))
        self._refusal = ""
        """Why the drain that was just asked for is refused, if it is."""
        self._keeper: Address | None = None
        self._pulls: dict[int, tuple[Address, m.PullPrimary]] = {}
        """Copies for others that wait for room or for bytes, by our own number."""
        self._last_pull = 0
        self._copies: dict[Location, Location] = {}
        """Copies made for others, should they ask again."""
        self._asked: dict[int, Location] = {}
        """Our own ranges that another node copies, by our number for it."""
        self._last_asked = 0
        stored.on_own = self._on_room
        leases.on_keeper = self._name_keeper
        self._doers: dict[type, Any] = {
            ev.RefuseDrain: self._refuse,
            ev.BeginDrain: self._begin,
            ev.AskKeeper: self._ask_keeper,
            ev.TellKeeper: self._tell_keeper,
            ev.Look: lambda effect: hub.reactor.call_later(0, self._look),
            ev.CopyRange: self._copy,
            ev.TellOwner: self._tell_owner,
            ev.DropCopy: self._drop_copy,
            ev.ReportDrained: lambda effect: self._leases.report_state(DRAINED, self.reason),
            ev.EndNode: self._end_node,
        }

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this desk's."""
        return {
            m.DrainNode: self._on_drain,
            m.KeeperWanted: self._on_keeper_wanted,
            m.KeeperGiven: self._on_keeper_given,
            m.PullPrimary: self._on_pull_primary,
            m.PrimaryPulled: self._on_primary_pulled,
            m.PrimaryMoved: self._on_primary_moved,
            m.PrimaryNoted: self._on_primary_noted,
        }

    def handle(self, event: ev.DrainEvent) -> None:
        """Hand an event to the machine and do what it says."""
        for effect in self.machine.handle(event, now=clock.now()):
            self._doers[type(effect)](effect)
        self._alarm.arm(self.machine.next_deadline())

    @property
    def reason(self) -> str:
        """Why the node drains; empty if it does not."""
        return self.machine.reason

    def terminate(self, reason: str) -> None:
        """Bring the node to an end in order, within its own time for that; then end it."""
        self._start(0.0, reason, is_idle_only=False, ends=True)

    def _start(self, timeout_s: float, reason: str, *, is_idle_only: bool, ends: bool) -> str:
        """Begin to drain, or go on; why not, if it is refused."""
        busy = self._leases.busy_with()
        timeout_s = timeout_s or self._hub.settings.drain_timeout_s
        self._refusal = ""
        self.handle(ev.DrainRequested(timeout_s, reason or "requested", busy, is_idle_only, ends))
        return self._refusal

    def worker_registered(self, number: int) -> None:
        """A worker came up after the drain began."""
        if self.reason:
            self._hub.send_to(number, m.LeaveNode(self._text(), self._keeper))

    # ---- messages --------------------------------------------------------------------------------

    def _on_drain(self, source: Address, message: m.DrainNode) -> None:
        refusal = self._start(
            message.deadline_s, message.reason, is_idle_only=message.is_idle_only, ends=False
        )
        answer = m.DrainAnswered(message.request, not refusal, refusal)
        if source.process:  # a test's driver
            self._hub.send(source, answer)
        else:
            self._hub.to_control(answer)

    def _on_keeper_wanted(self, source: Address, message: m.KeeperWanted) -> None:
        self._leases.handle(sched.KeeperRequested(source, message.request))

    def _name_keeper(self, effect: sched.NameKeeper) -> None:
        keeper = None
        if effect.process:
            keeper = Address(self._hub.node, effect.process, self._hub.incarnation)
        self._hub.send(effect.source, m.KeeperGiven(effect.request, keeper))

    def _on_keeper_given(self, source: Address, message: m.KeeperGiven) -> None:
        self.handle(ev.KeeperNamed(message.request, message.keeper))

    def _on_primary_pulled(self, source: Address, message: m.PrimaryPulled) -> None:
        old = self._asked.pop(message.request, None)
        if old is not None:
            self.handle(ev.CopyEnded(old, message.location, message.error))

    def _on_primary_moved(self, source: Address, message: m.PrimaryMoved) -> None:
        if message.owner.node == self._hub.node:
            self._hub.send_to(message.owner.process, message)

    def _on_primary_noted(self, source: Address, message: m.PrimaryNoted) -> None:
        for old in message.known:
            self.handle(ev.OwnerAnswered(old, True))
        for old in message.unknown:
            self.handle(ev.OwnerAnswered(old, False))

    # ---- effects ---------------------------------------------------------------------------------

    def _refuse(self, effect: ev.RefuseDrain) -> None:
        self._refusal = effect.reason

    def _text(self) -> str:
        return f"its node drains: {self.reason}"

    def _begin(self, effect: ev.BeginDrain) -> None:
        self._leases.report_state("draining", effect.reason)
        self._leases.handle(sched.DrainStarted(effect.reason))
        self._have_workers_leave()

    def _have_workers_leave(self) -> None:
        for process in self._hub.processes.registered():
            if not process.is_driver:
                self._hub.send_to(process.number, m.LeaveNode(self._text(), self._keeper))

    def _ask_keeper(self, effect: ev.AskKeeper) -> None:
        self._hub.send(Address(effect.node, 0), m.KeeperWanted(effect.request))

    def _tell_keeper(self, effect: ev.TellKeeper) -> None:
        self._keeper = effect.keeper
        self._have_workers_leave()

    def _look(self) -> None:
        processes = self._hub.processes
        drivers = len(processes.drivers())
        node = self._hub.node
        ranges = [
            (Location(node, segment, offset, size), owner)
            for segment, offset, size, owner in self._store.machine.owned_ranges()
        ]
        workers = len(processes.by_start)
        self.handle(ev.Looked(workers, drivers, ranges))

    def _copy(self, effect: ev.CopyRange) -> None:
        self._last_asked += 1
        request = self._last_asked
        self._asked[request] = effect.old
        wanted = m.PullPrimary(request, effect.old, effect.owner)
        if not self._hub.send(Address(effect.target, 0), wanted):
            self._hub.reactor.call_later(0, lambda: self._unsent(request))

    def _unsent(self, request: int) -> None:
        old = self._asked.pop(request, None)
        if old is not None:
            self.handle(ev.CopyEnded(old, None, "its node cannot be reached"))

    def _tell_owner(self, effect: ev.TellOwner) -> None:
        self._hub.send(Address(effect.owner.node, 0), m.PrimaryMoved(effect.owner, effect.moves))

    def _drop_copy(self, effect: ev.DropCopy) -> None:
        new = effect.new
        self._hub.send(Address(new.node, 0), m.RangeReleased(new.segment, new.offset, new.size))

    def _end_node(self, effect: ev.EndNode) -> None:
        left = f"; its time was over with {effect.left} left" if effect.left else ""
        if self._end(effect.reason + left):
            self._leases.end_actors(f"node {self._hub.node[:8]} was drained ({self.reason})")
            self._hub.reactor.flush()

    # ---- copies for other nodes ------------------------------------------------------------------

    def _on_pull_primary(self, source: Address, message: m.PullPrimary) -> None:
        known = self._copies.get(message.location)
        if known is not None:
            self._hub.send(source, m.PrimaryPulled(message.request, known))
            return
        self._last_pull += 1
        self._pulls[self._last_pull] = (source, message)
        self._store.handle(store.CreateRequested(0, self._last_pull, message.location.size))

    def _on_room(self, effect: store.SegmentGranted | store.SegmentRefused) -> None:
        source, message = self._pulls.pop(effect.request)
        if isinstance(effect, store.SegmentRefused):
            refused = m.PrimaryPulled(message.request, None, effect.report)
            self._hub.send(source, refused)
            return
        old = message.location

        def ended(error: str) -> None:
            if error:
                self._store.handle(store.SegmentAborted(0, effect.segment))
                self._hub.send(source, m.PrimaryPulled(message.request, None, error))
                return
            new = Location(self._hub.node, effect.segment, effect.offset, old.size)
            sealed = store.RangeSealed(0, new.segment, new.offset, new.size, message.owner)
            self._store.handle(sealed)
            self._copies[old] = new
            if len(self._copies) > COPIES_KNOWN:
                del self._copies[next(iter(self._copies))]
            self._hub.send(source, m.PrimaryPulled(message.request, new))

        key = (old.node, old.segment, old.offset)
        self._transfer.pull(key, old.size, effect.offset, ended)
