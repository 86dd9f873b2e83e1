"""The object store of one node: messages to the store machine's events, effects to deeds.

Bytes pass here in no case: creators write into the arena themselves, and `transfer` moves ranges
between nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._core.store import events as ev
from freehold._core.store.machine import StoreMachine
from freehold._io import clock
from freehold._io.shm import Arena, ArenaFullError
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.memory import READ_MEMORY_S, MemoryReader, MemoryWatch, Toucher
from freehold._processes.node.settings import store_settings


class Puller(Protocol):
    """Who brings ranges of other nodes here."""

    def pull(self, key: ev.ReplicaKey, size: int, offset: int) -> None:
        """Bring them, then say `PullFinished` or `PullFailed`."""


class StoreDesk:
    """The shell around `StoreMachine` and the arena.

    Args:
        reader: tells how much memory the machine has left.
    """

    def __init__(self, hub: Hub, arena: Arena, reader: MemoryReader | None = None) -> None:
        self._hub = hub
        self._arena = arena
        self.puller: Puller
        self.machine = StoreMachine(store_settings(hub.settings))
        self.on_change: Callable[[], None] = lambda: None
        """Called when what is in use may have changed."""
        self.on_own: Callable[[ev.SegmentGranted | ev.SegmentRefused], None] = lambda effect: None
        """Called when the node manager itself gets room that it asked for, or does not."""
        self._alarm = clock.MachineAlarm(hub.reactor, self._on_due)
        self._memory = MemoryWatch(reader or MemoryReader())
        self._is_looking = False
        self._toucher = Toucher(hub.reactor, arena, self._touched)
        self._doers: dict[type, Any] = {
            ev.DecommitPages: lambda effect: arena.decommit(effect.offset, effect.length),
            ev.TouchPages: lambda effect: self._toucher.touch(effect.offset, effect.length),
            ev.ReadBudget: self._look_soon,
            ev.SegmentGranted: self._granted,
            ev.SegmentRefused: self._refused,
            ev.StartPull: self._pull,
            ev.ReplicaReady: self._replica_ready,
            ev.ReplicaFailed: self._replica_failed,
            ev.AskViews: self._ask_views,
        }

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this desk's."""
        return {
            m.CreateSegment: self._on_create,
            m.RangeSealed: self._on_sealed,
            m.RangeAdopted: self._on_adopted,
            m.RangeReleased: self._on_released,
            m.SlabClosed: self._on_slab_closed,
            m.SegmentAborted: self._on_aborted,
            m.Pull: self._on_pull,
            m.ReplicaUnpinned: self._on_unpinned,
            m.ViewsReported: self._on_views_reported,
            m.ViewReleased: self._on_view_released,
        }

    def handle(self, event: ev.StoreEvent) -> list[ev.StoreEffect]:
        """Hand an event to the machine and do what it says; the effects, for who wants to look."""
        if isinstance(event, ev.CreateRequested | ev.ReplicaRequested):
            self._look()
        effects = self.machine.handle(event, now=clock.now())
        failed: dict[int, str] = {}
        for effect in effects:
            if isinstance(effect, ev.CommitPages):
                try:
                    self._arena.commit(effect.offset, effect.length)
                except ArenaFullError as error:
                    failed[effect.extent] = str(error)
            elif isinstance(effect, ev.SegmentGranted | ev.StartPull) and effect.offset in failed:
                continue
            elif not isinstance(effect, ev.RefuseRead):
                self._doers[type(effect)](effect)
        for extent, reason in failed.items():
            self.handle(ev.CommitFailed(extent, reason))
        self._alarm.arm(self.machine.next_deadline())
        self.on_change()
        return effects

    def _on_due(self) -> None:
        self.handle(ev.DeadlineReached())

    def use(self) -> ev.StoreUse:
        """What is in use, for reports."""
        return self.machine.use()

    # ---- the machine's memory --------------------------------------------------------------------

    def _look(self, *, is_due: bool = False) -> None:
        left = self._memory.left(is_due=is_due)
        if left is not None:
            self.handle(ev.BudgetRead(left.budget_bytes, left.told))

    def _look_soon(self, _effect: ev.ReadBudget) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._hub.reactor.call_later(READ_MEMORY_S, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        self._look(is_due=True)

    def _touched(self, offset: int, length: int, is_done: bool) -> None:
        self.handle(ev.PagesTouched(offset, length, is_done))

    # ---- messages --------------------------------------------------------------------------------

    def _on_create(self, source: Address, message: m.CreateSegment) -> None:
        self.handle(
            ev.CreateRequested(source.process, message.request, message.size, message.is_slab)
        )

    def _on_sealed(self, source: Address, message: m.RangeSealed) -> None:
        self.handle(
            ev.RangeSealed(
                source.process, message.segment, message.offset, message.size, message.owner
            )
        )

    def _on_adopted(self, source: Address, message: m.RangeAdopted) -> None:
        self.handle(ev.RangeAdopted(message.segment, message.offset, message.owner))

    def _on_released(self, source: Address, message: m.RangeReleased) -> None:
        self.handle(ev.RangeReleased(message.segment, message.offset, message.size))

    def _on_slab_closed(self, source: Address, message: m.SlabClosed) -> None:
        self.handle(ev.SlabClosed(message.segment, message.used))

    def _on_aborted(self, source: Address, message: m.SegmentAborted) -> None:
        self.handle(ev.SegmentAborted(source.process, message.segment))

    def _on_pull(self, source: Address, message: m.Pull) -> None:
        where = message.location
        self.handle(
            ev.ReplicaRequested(
                source.process, message.request, _key(where), where.size, message.is_ahead
            )
        )

    def _on_unpinned(self, source: Address, message: m.ReplicaUnpinned) -> None:
        self.handle(ev.ReplicaUnpinned(source.process, _key(message.location)))

    def _on_views_reported(self, source: Address, message: m.ViewsReported) -> None:
        self.handle(ev.ViewsReported(source.process, message.query, message.ranges))

    def _on_view_released(self, source: Address, message: m.ViewReleased) -> None:
        self.handle(ev.ViewReleased(source.process, message.segment, message.offset))

    # ---- effects ---------------------------------------------------------------------------------

    def _granted(self, effect: ev.SegmentGranted) -> None:
        if effect.process == 0:
            self._hub.reactor.call_later(0, lambda: self.on_own(effect))
            return
        granted = m.SegmentGranted(
            effect.request, effect.segment, effect.offset, effect.size, effect.is_warm
        )
        self._hub.send_to(effect.process, granted)

    def _refused(self, effect: ev.SegmentRefused) -> None:
        if effect.process == 0:
            self._hub.reactor.call_later(0, lambda: self.on_own(effect))
            return
        self._hub.send_to(effect.process, m.SegmentRefused(effect.request, effect.report))

    def _pull(self, effect: ev.StartPull) -> None:
        self.puller.pull(effect.key, effect.size, effect.offset)

    def _replica_ready(self, effect: ev.ReplicaReady) -> None:
        where = Location(*effect.key, effect.size)
        self._hub.send_to(effect.process, m.Pulled(effect.request, where, effect.offset))

    def _replica_failed(self, effect: ev.ReplicaFailed) -> None:
        where = Location(*effect.key, 0)
        self._hub.send_to(effect.process, m.Pulled(effect.request, where, error=effect.reason))

    def _ask_views(self, effect: ev.AskViews) -> None:
        self._hub.send_to(effect.process, m.AskViews(effect.query, effect.ranges))


def _key(where: Location) -> ev.ReplicaKey:
    return (where.node, where.segment, where.offset)
