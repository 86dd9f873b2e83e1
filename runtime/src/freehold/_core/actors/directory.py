"""Decides what becomes of the cluster's actors: placed, alive, restarting, dead; and who is told.

Place in the flow: the control service passes on what processes ask and node managers report, and
carries the effects out in order. The calls of an actor never come here: callers learn its address
by watching it and then talk to it directly.

A life goes pending → alive → (moving →) restarting → alive → … → dead. A placement is known by
(actor, restart), so that what is said late about an earlier one is recognised and ignored. Dead is
final, and said as soon as it is decided: the process's end may follow.

It deliberately knows no resources but a view of the nodes: whether there is room now the node
manager decides, where an actor also waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core.actors import events as ev
from freehold._core.actors import restoring
from freehold._core.actors.checks import DEAD_ACTORS, check_directory
from freehold._core.actors.events import ActorEffect, ActorEvent, Instant
from freehold._core.actors.moving import Moving
from freehold._core.actors.placing import (
    NodeRoom,
    pick_room,
    placing_shape,
    room_of,
    rooms_for,
    why_infeasible,
)
from freehold._core.actors.rows import (
    ALIVE,
    DEAD,
    LIVING,
    MOVING,
    PENDING,
    RESTARTING,
    Row,
    unlink,
)
from freehold._core.ids import Address
from freehold._core.limits import REPLACEMENT_S
from freehold._core.messages import (
    ActorAdopted,
    ActorEnded,
    ActorFound,
    ActorInfo,
    ActorLeft,
    ActorList,
    ActorOptions,
    ActorRegistered,
    ActorReport,
    ActorSpec,
    ActorStarted,
    ActorState,
    ExitCause,
    FindActor,
    FromProcess,
    KillActor,
    ListActors,
    NodeDied,
    NodeGroup,
    NodeInfo,
    OwnerInfo,
    PlacementFailed,
    ProcessGone,
    RegisterActor,
    ReleaseActor,
    WatchActor,
)
from freehold._core.resources import fits
from freehold._core.where import allows

RELEASE_GRACE_S = 5.0
"""Time for an actor whose last handle is gone to end by itself (`atexit`, destructors)."""

UNKNOWN_WATCH_S = 1.0
"""A handle can overtake its actor's registration by another way; after this it is unknown."""

RESTART_PAUSE_S = 0.1
"""Pause before a restart of an actor that ended before it was alive, doubled each time, …"""

RESTART_PAUSE_LIMIT_S = 5.0
"""… to this at the most: a constructor that crashes must not keep a node forking."""

REFUSED_PAUSE_S = 1.0
"""Pause before asking nodes again after all that could fit an actor have refused it."""


class ActorDirectory(Moving):
    """All actors of a cluster.

    Args:
        keeps: whether to say what is to be kept over a restart of the control service (`KeepActor`,
            `KeepDead`, `ForgetActor`, before all else of an event).

    Example:
        >>> directory = ActorDirectory()
        >>> directory.handle(FromProcess(Address("a", 1), FindActor(7, "x", "")), now=0.0)
        [Tell(address=Address(node='a', process=1, incarnation=0), message=ActorFound(request=7, \
info=None))]
    """

    def __init__(self, *, keeps: bool = False) -> None:
        self._keeps = keeps
        self._changed: dict[bytes, None] = {}
        """Actors of which something that is kept may have changed during `handle`."""
        self.rows: dict[bytes, Row] = {}
        self.dead: dict[bytes, ActorState] = {}
        self.named: dict[tuple[str, str], bytes] = {}
        self.owned: dict[Address, dict[bytes, None]] = {}
        self.watched: dict[Address, dict[bytes, None]] = {}
        self.unplaced: dict[bytes, None] = {}
        self.underway: dict[bytes, None] = {}
        """Placed and not alive yet: their node's figures may not count them."""
        self.unknown: dict[tuple[bytes, Address], Instant] = {}
        self.rooms: dict[str, NodeRoom] = {}
        self.lost: dict[str, tuple[NodeRoom, Instant]] = {}
        """Nodes that died lately, and until when another of their kind is waited for."""
        self.away: dict[str, None] = {}
        """Nodes that nobody declared dead and that cannot be heard."""
        self.groups: list[NodeGroup] = []
        self.draining = {}
        self._ignored = 0
        # These are only meaningful during `handle`.
        self.effects: list[ActorEffect] = []
        self.now: Instant = 0.0
        self._number = 0
        self._handlers: dict[type, Callable[[Any], None]] = {
            FromProcess: self._from_process,
            ActorStarted: self.started,
            ActorEnded: self.ended,
            ActorLeft: self.left,
            ProcessGone: self.process_gone,
            NodeDied: self._node_died,
            ev.PlacementRejected: self._placement_rejected,
            ev.ViewChanged: self._view_changed,
            ev.DeadlineReached: self._deadline_reached,
            ev.Restored: lambda event: restoring.restore(self, event),
            ev.NodeReturned: lambda event: restoring.node_returned(self, event),
            ev.NodeAway: self._node_away,
            ev.GroupsSet: self._groups_set,
        }
        self._requests: dict[type, Callable[[Address, Any], None]] = {
            RegisterActor: self._register,
            WatchActor: self._watch,
            FindActor: self._find,
            ListActors: self._list,
            KillActor: self._kill,
            ReleaseActor: self._release,
            ActorAdopted: self._adopt,
        }

    # ---- the interface -------------------------------------------------------------------------

    def handle(self, event: ActorEvent, *, now: Instant) -> list[ActorEffect]:
        """Take one event; what has to be done about it, in order."""
        self.now = now
        effects: list[ActorEffect] = []
        self.effects = effects
        self._handlers[type(event)](event)
        if self._changed:
            if self._keeps:
                effects[:0] = self._kept()
            self._changed.clear()
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        times = [self.rows[actor].not_before for actor in self.unplaced]
        # What waits for a node that does not exist yet waits for `ViewChanged`.
        times = [at for at in times if at > self.now]
        if self.unplaced:
            times += [until for _, until in self.lost.values() if until > self.now]
        if self.unknown and not self.away:
            times.append(max(self.now, next(iter(self.unknown.values()))))
        return min(times, default=None)

    def snapshot(self) -> ev.ActorSnapshot:
        """Counts for metrics, dashboard and tests."""
        states = [row.state for row in self.rows.values()]
        return ev.ActorSnapshot(
            pending=states.count(PENDING),
            alive=states.count(ALIVE) + states.count(MOVING),
            restarting=states.count(RESTARTING),
            dead=len(self.dead),
            named=len(self.named),
            watchers=sum(len(row.watchers) for row in self.rows.values()),
            unplaced=len(self.unplaced),
            ignored_events=self._ignored,
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other: see `checks`."""
        check_directory(self)

    # ---- requests of processes -----------------------------------------------------------------

    def _from_process(self, event: FromProcess) -> None:
        handler = self._requests.get(type(event.message))
        if handler is None:
            self._ignored += 1
        else:
            self._number = event.number
            handler(event.source, event.message)

    def _register(self, source: Address, message: RegisterActor) -> None:
        spec = message.spec
        known = self._state(spec.actor)
        if known is not None:
            self.tell(source, ActorRegistered(message.request, known.info))
            return
        row = Row(spec)
        name = row.name
        if name is not None and name in self.named:
            info = self.rows[self.named[name]].info()
            if spec.get_if_exists:
                self.tell(source, ActorRegistered(message.request, info))
            else:
                error = f"an actor named {name[1]!r} exists in namespace {name[0]!r}"
                self.tell(source, ActorRegistered(message.request, None, error))
            return
        self.rows[spec.actor] = row
        self._changed[spec.actor] = None
        if name is not None:
            self.named[name] = spec.actor
        self.owned.setdefault(spec.owner.address, {})[spec.actor] = None
        self.tell(source, ActorRegistered(message.request, row.info()))
        for actor, address in [key for key in self.unknown if key[0] == spec.actor]:
            del self.unknown[actor, address]
            self._watch(address, WatchActor(actor))
        self.place(row)

    def _watch(self, source: Address, message: WatchActor) -> None:
        actor = message.actor
        row = self.rows.get(actor)
        if row is not None:
            row.watchers[source] = None
            self.watched.setdefault(source, {})[actor] = None
            self.tell(source, ActorState(row.info()))
        elif actor in self.dead:
            self.tell(source, self.dead[actor])
        else:
            self.unknown.setdefault((actor, source), self.now + UNKNOWN_WATCH_S)

    def _find(self, source: Address, message: FindActor) -> None:
        actor = self.named.get((message.namespace, message.name))
        info = self.rows[actor].info() if actor is not None else None
        self.tell(source, ActorFound(message.request, info))

    def _list(self, source: Address, message: ListActors) -> None:
        infos = [state.info for state in self.dead.values()]
        infos += [row.info() for row in self.rows.values()]
        wanted = message.namespace
        found = [info for info in infos if wanted is None or info.options.namespace == wanted]
        self.tell(source, ActorList(message.request, found))

    def _kill(self, source: Address, message: KillActor) -> None:
        row = self.rows.get(message.actor)
        if row is None:
            self._ignored += 1
            return
        reason = message.reason or f"it was killed by {source}"
        if message.no_restart or not self._may_restart(row):
            self._die(row, reason)
        elif self._number and self._number <= row.kills.get(source.node, 0):
            self._ignored += 1  # said again, as the answer to it was lost
        elif row.placed_on and not row.is_ending:
            if self._number:
                row.kills[source.node] = self._number
            row.is_ending = True
            self._changed[message.actor] = None
            self.underway.pop(message.actor, None)
            self.unplace(row, 0.0, reason)
            row.reason, row.cause = reason, None
            self._set_restarting(row)

    def _release(self, source: Address, message: ReleaseActor) -> None:
        row = self.rows.get(message.actor)
        if row is None or row.spec.options.detached:
            self._ignored += 1
        else:
            self._die(row, "its last handle is gone", grace_s=RELEASE_GRACE_S)

    # ---- reports -------------------------------------------------------------------------------

    def _current(self, actor: bytes, restart: int) -> Row | None:
        """The actor, if that placement is its present one."""
        row = self.rows.get(actor)
        if row is None or row.restart != restart or not row.placed_on:
            self._ignored += 1
            return None
        return row

    def report(self, node: str, event: ActorReport) -> None:
        """What a node said of a placement and may not have been heard."""
        if isinstance(event, PlacementFailed):
            self._placement_rejected(
                ev.PlacementRejected(node, event.actor, event.restart, event.reason, event.is_final)
            )
        else:
            self._handlers[type(event)](event)

    def started(self, event: ActorStarted) -> None:
        """The constructor ran."""
        row = self._current(event.actor, event.restart)
        if row is None or row.is_ending or row.state in LIVING:
            return
        if event.error:
            self._die(row, "the constructor raised", error=event.error)
            return
        self._changed[event.actor] = None
        row.state = ALIVE
        self.underway.pop(event.actor, None)
        row.address = event.address
        row.reason, row.cause = "", None
        row.failures = 0
        self._tell_all(row)
        if row.placed_on in self.draining:
            self.move(row)

    def ended(self, event: ActorEnded) -> None:
        """The process of an actor ended."""
        row = self._current(event.actor, event.restart)
        if row is None:
            return
        self.leave_node(row)
        if event.is_intended:
            self._die(row, event.cause.reason or "it ended by itself")
        else:
            self.restart_row(row, f"its process ended: {event.cause}", event.cause)

    def _placement_rejected(self, event: ev.PlacementRejected) -> None:
        row = self._current(event.actor, event.restart)
        if row is None or row.placed_on != event.node:
            return
        self.leave_node(row)
        if row.is_ending:
            self.restart_row(row, event.reason)
        elif event.is_final:
            self._die(row, event.reason)
        else:
            row.refused_by[event.node] = None
            self.place(row)

    def process_gone(self, event: ProcessGone) -> None:
        """A process ended; who leaves in order has named who owns its actors then."""
        if event.heir is not None:
            self.bequeath(event.address, event.heir)
        self.forget([event.address], str(event.cause))

    def _node_died(self, event: NodeDied) -> None:
        self.away.pop(event.node, None)
        room = self.rooms.get(event.node)
        if room is not None and room.incarnation == event.incarnation:
            self._lose(room)
        gone = [
            address
            for address in {**self.owned, **self.watched}
            if address.node == event.node and address.incarnation == event.incarnation
        ]
        lost: list[Row] = []
        for row in self.rows.values():
            if row.placed_on == event.node and row.incarnation == event.incarnation:
                self.leave_node(row)
                lost.append(row)
        reason = f"node {event.node[:8]} died: {event.reason}"
        self.forget(gone, reason)
        for row in lost:
            if row.state != DEAD:
                self.restart_row(row, reason, ExitCause(reason=reason, node=event.node))

    def _view_changed(self, event: ev.ViewChanged) -> None:
        for info in event.nodes:
            if info.is_alive and info.state == "alive":
                self.rooms[info.node] = self._room_of(info)
                self.lost.pop(info.node, None)
            elif info.node in self.rooms:
                self._lose(self.rooms[info.node])
            self._note_draining(info)
        self._place_waiting()

    def _node_away(self, event: ev.NodeAway) -> None:
        if event.is_away:
            self.away[event.node] = None
        else:
            self.away.pop(event.node, None)

    def _groups_set(self, event: ev.GroupsSet) -> None:
        self.groups = event.groups
        self._place_waiting()

    def _deadline_reached(self, event: ev.DeadlineReached) -> None:
        for (actor, address), at in list(self.unknown.items()):
            if at > self.now or self.away:  # its registration may be waiting on such a node
                break
            del self.unknown[actor, address]
            reason = "there is no such actor: it has ended long ago, or is of another cluster"
            info = ActorInfo(actor, OwnerInfo(address), ActorOptions(), DEAD, reason=reason)
            self.tell(address, ActorState(info))
        self._place_waiting()

    # ---- transitions ---------------------------------------------------------------------------

    def _room_of(self, info: NodeInfo) -> NodeRoom:
        """What a node has just reported, less what is on its way there.

        Some of that it may count already; counting it twice makes the node look a little fuller
        for a moment, not counting it has a burst wait there while others are idle.
        """
        room = room_of(info)
        for actor in self.underway:
            row = self.rows[actor]
            if row.placed_on == info.node and row.incarnation == info.incarnation:
                room.charge(placing_shape(row.spec))
        return room

    def _lose(self, room: NodeRoom) -> None:
        del self.rooms[room.node]
        self.lost[room.node] = (room, self.now + REPLACEMENT_S)

    def _may_come(self, spec: ActorSpec) -> bool:
        """Whether a node that fits the actor may be added, or died lately and may be replaced."""
        shape = placing_shape(spec)
        if any(
            group.most > 0 and fits(shape, group.resources) and allows(spec.where, "", group.labels)
            for group in self.groups
        ):
            return True
        self.lost = {node: lost for node, lost in self.lost.items() if lost[1] > self.now}
        return any(room.may_run(shape, spec.where) for room, _ in self.lost.values())

    def leave_node(self, row: Row) -> None:
        """The actor has no process any more."""
        self._changed[row.spec.actor] = None
        row.placed_on = ""
        self.underway.pop(row.spec.actor, None)

    def _place_waiting(self) -> None:
        for actor in list(self.unplaced):
            row = self.rows[actor]
            if row.not_before <= self.now:
                row.refused_by.clear()
                self.place(row)

    def place(self, row: Row) -> None:
        """Send an actor to a node, or have it wait for one."""
        spec = row.spec
        self.unplaced.pop(spec.actor, None)
        shape = placing_shape(spec)
        room = None
        if row.not_before <= self.now:
            near = spec.owner.address.node
            room = pick_room(shape, near, rooms_for(spec, self.rooms), row.refused_by, spec.where)
            is_infeasible = room is None and self.rooms and not row.refused_by
            if is_infeasible and not self._may_come(spec):
                reason = why_infeasible(shape, self.rooms.values(), spec.where)
                self._die(row, reason, is_infeasible=True)
                return
        if room is None:
            if row.refused_by:
                row.not_before = self.now + REFUSED_PAUSE_S
            self.unplaced[spec.actor] = None
            return
        room.charge(shape)
        self._changed[spec.actor] = None
        row.placed_on = room.node
        row.incarnation = room.incarnation
        self.underway[spec.actor] = None
        self.effects.append(ev.PlaceActorOn(room.node, spec, row.restart))

    def restart_row(self, row: Row, reason: str, cause: ExitCause | None = None) -> None:
        """The actor's process is gone though nobody wanted that for good."""
        if not row.is_ending:
            row.reason, row.cause = reason, cause
        if not self._may_restart(row):
            self._die(row, reason, cause=cause)
            return
        if row.state not in LIVING and not row.is_ending:
            pause = RESTART_PAUSE_S * 2.0 ** min(row.failures, 16)
            row.not_before = self.now + min(pause, RESTART_PAUSE_LIMIT_S)
            row.failures += 1
        self._changed[row.spec.actor] = None
        row.restart += 1
        row.is_ending = False
        row.refused_by.clear()
        self._set_restarting(row)
        self.place(row)

    def _set_restarting(self, row: Row) -> None:
        is_news = row.state != RESTARTING
        row.state = RESTARTING
        row.address = None
        if is_news:
            self._tell_all(row)

    def _die(
        self,
        row: Row,
        reason: str,
        *,
        grace_s: float = 0.0,
        error: bytes = b"",
        is_infeasible: bool = False,
        cause: ExitCause | None = None,
    ) -> None:
        """The actor is dead for good: free its name, end its process, tell everybody."""
        actor = row.spec.actor
        if row.placed_on and not row.is_ending:
            self.unplace(row, grace_s, reason)
        row.state = DEAD
        row.address = None
        row.reason, row.cause = reason, cause
        state = ActorState(row.info(), is_infeasible)
        state.info.error = error
        for address in self._listeners(row):
            self.tell(address, state)
        self._drop(row)
        self.dead[actor] = state
        self._changed[actor] = None
        if len(self.dead) > DEAD_ACTORS:
            oldest = next(iter(self.dead))
            del self.dead[oldest]
            self._changed[oldest] = None

    def _drop(self, row: Row) -> None:
        actor = row.spec.actor
        del self.rows[actor]
        self.unplaced.pop(actor, None)
        self.underway.pop(actor, None)
        if row.name is not None:
            del self.named[row.name]
        if not row.is_orphan:
            unlink(self.owned, row.spec.owner.address, actor)
        for address in row.watchers:
            unlink(self.watched, address, actor)

    def forget(self, gone: list[Address], why: str) -> None:
        """Processes are gone: they hear nothing, and what they own ends unless it is detached."""
        orphans: list[Row] = []
        for address in gone:
            for actor in self.watched.pop(address, {}):
                del self.rows[actor].watchers[address]
            for key in [key for key in self.unknown if key[1] == address]:
                del self.unknown[key]
            orphans += [self.rows[actor] for actor in self.owned.pop(address, {})]
        for row in orphans:
            row.is_orphan = True
            self._changed[row.spec.actor] = None
        for row in orphans:
            if not row.spec.options.detached:
                self._die(row, f"its owner {row.spec.owner.address} is gone: {why}")

    def unplace(self, row: Row, grace_s: float, reason: str) -> None:
        """End the actor's process, or take its placement back."""
        self.effects.append(ev.Unplace(row.placed_on, row.spec.actor, row.restart, grace_s, reason))

    def unplace_stale(self, node: str, actor: bytes, restart: int) -> None:
        """A node has a process that is not the actor's present one."""
        reason = "it is not the actor's present process"
        self.effects.append(ev.Unplace(node, actor, restart, 0.0, reason))

    # ---- telling -------------------------------------------------------------------------------

    def _state(self, actor: bytes) -> ActorState | None:
        row = self.rows.get(actor)
        return ActorState(row.info()) if row is not None else self.dead.get(actor)

    def _listeners(self, row: Row) -> list[Address]:
        """The owner, then the watchers in the order in which they came."""
        owner = {} if row.is_orphan else {row.spec.owner.address: None}
        return list({**owner, **row.watchers})

    def _kept(self) -> list[ActorEffect]:
        """What is to be written down of the actors that changed."""
        kept: list[ActorEffect] = []
        for actor in self._changed:
            row = self.rows.get(actor)
            if row is not None:
                kept.append(ev.KeepActor(actor, None if row.is_kept else row.spec, row.life()))
                row.is_kept = True
            elif actor in self.dead:
                kept.append(ev.KeepDead(actor, self.dead[actor]))
            else:
                kept.append(ev.ForgetActor(actor))
        return kept

    def _tell_all(self, row: Row) -> None:
        state = ActorState(row.info())
        for address in self._listeners(row):
            self.tell(address, state)

    def tell(
        self, address: Address, message: ActorRegistered | ActorState | ActorFound | ActorList
    ) -> None:
        """Send an answer or a change of state to a process."""
        self.effects.append(ev.Tell(address, message))
