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
from freehold._core.actors.events import ActorEffect, ActorEvent, Instant
from freehold._core.actors.moving import Moving
from freehold._core.actors.placing import (
    NodeRoom,
    pick_room,
    placing_shape,
    room_of,
    why_infeasible,
)
from freehold._core.actors.rows import ALIVE, DEAD, MOVING, PENDING, RESTARTING, Row, unlink
from freehold._core.ids import Address
from freehold._core.invariants import check
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
    ActorStarted,
    ActorState,
    ExitCause,
    FindActor,
    FromProcess,
    KillActor,
    ListActors,
    NodeDied,
    NodeInfo,
    OwnerInfo,
    ProcessGone,
    RegisterActor,
    ReleaseActor,
    WatchActor,
)
from freehold._core.resources import Shape, fits

DEAD_ACTORS = 1_000
"""Dead actors remembered, so that a late call learns why; the oldest is forgotten first."""

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

    Example:
        >>> directory = ActorDirectory()
        >>> directory.handle(FromProcess(Address("a", 1), FindActor(7, "x", "")), now=0.0)
        [Tell(address=Address(node='a', process=1, incarnation=0), message=ActorFound(request=7, \
info=None))]
    """

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._dead: dict[bytes, ActorState] = {}
        self._named: dict[tuple[str, str], bytes] = {}
        self._owned: dict[Address, dict[bytes, None]] = {}
        self._watched: dict[Address, dict[bytes, None]] = {}
        self._unplaced: dict[bytes, None] = {}
        self._underway: dict[bytes, None] = {}
        """Placed and not alive yet: their node's figures may not count them."""
        self._unknown: dict[tuple[bytes, Address], Instant] = {}
        self._rooms: dict[str, NodeRoom] = {}
        self._lost: dict[str, tuple[NodeRoom, Instant]] = {}
        """Nodes that died lately, and until when another of their kind is waited for."""
        self._draining = {}
        self._ignored = 0
        # Both are only meaningful during `handle`.
        self._effects: list[ActorEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            FromProcess: self._from_process,
            ActorStarted: self._started,
            ActorEnded: self._ended,
            ActorLeft: self._left,
            ProcessGone: self._process_gone,
            NodeDied: self._node_died,
            ev.PlacementRejected: self._placement_rejected,
            ev.ViewChanged: self._view_changed,
            ev.DeadlineReached: self._deadline_reached,
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
        self._now = now
        effects: list[ActorEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        times = [self._rows[actor].not_before for actor in self._unplaced]
        # What waits for a node that does not exist yet waits for `ViewChanged`.
        times = [at for at in times if at > self._now]
        if self._unplaced:
            times += [until for _, until in self._lost.values() if until > self._now]
        if self._unknown:
            times.append(next(iter(self._unknown.values())))
        return min(times, default=None)

    def snapshot(self) -> ev.ActorSnapshot:
        """Counts for metrics, dashboard and tests."""
        states = [row.state for row in self._rows.values()]
        return ev.ActorSnapshot(
            pending=states.count(PENDING),
            alive=states.count(ALIVE),
            restarting=states.count(RESTARTING),
            dead=len(self._dead),
            named=len(self._named),
            watchers=sum(len(row.watchers) for row in self._rows.values()),
            unplaced=len(self._unplaced),
            ignored_events=self._ignored,
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        ACT-1: a name leads to the one actor that has it and is not dead.
        ACT-2: an actor has an address exactly while it is alive, and is then placed.
        ACT-3: an actor that is not dead is placed on a node or waits for one; it is underway
        exactly while it is placed and not alive, unless it was killed there.
        ACT-4: owners and watchers are found by address exactly as the actors know them.
        ACT-5: no actor is restarted more often than it may be, moves not counted.
        ACT-6: the dead are bounded in number and not among the living.

        Raises:
            InvariantError: one of them does not hold.
        """
        named = {row.name: actor for actor, row in self._rows.items() if row.name is not None}
        check(named == self._named, "ACT-1", f"names are {self._named}, should be {named}")
        owned: dict[Address, dict[bytes, None]] = {}
        watched: dict[Address, dict[bytes, None]] = {}
        for actor, row in self._rows.items():
            who = f"actor {actor.hex()}"
            alive = row.state in (ALIVE, MOVING)
            check((row.address is not None) == alive, "ACT-2", f"{who} at {row.address}")
            check(bool(row.placed_on) or not alive, "ACT-2", f"{who} lives nowhere")
            waits = actor in self._unplaced
            check(waits != bool(row.placed_on), "ACT-3", f"{who} is on {row.placed_on!r}")
            most = row.spec.options.max_restarts
            underway = bool(row.placed_on) and not alive and not row.is_ending
            check((actor in self._underway) == underway, "ACT-3", f"{who} is {row.state}")
            spent = row.restart - row.moves
            check(most < 0 or spent <= most, "ACT-5", f"{who}: restart {row.restart}")
            check(actor not in self._dead, "ACT-6", f"{who} is {row.state} and dead")
            if not row.is_orphan:
                owned.setdefault(row.spec.owner.address, {})[actor] = None
            for address in row.watchers:
                watched.setdefault(address, {})[actor] = None
        check(owned == self._owned, "ACT-4", "the index of owners is wrong")
        check(watched == self._watched, "ACT-4", "the index of watchers is wrong")
        check(len(self._dead) <= DEAD_ACTORS, "ACT-6", f"{len(self._dead)} dead are kept")

    # ---- requests of processes -----------------------------------------------------------------

    def _from_process(self, event: FromProcess) -> None:
        handler = self._requests.get(type(event.message))
        if handler is None:
            self._ignored += 1
        else:
            handler(event.source, event.message)

    def _register(self, source: Address, message: RegisterActor) -> None:
        spec = message.spec
        known = self._state(spec.actor)
        if known is not None:
            self._tell(source, ActorRegistered(message.request, known.info))
            return
        row = Row(spec)
        name = row.name
        if name is not None and name in self._named:
            info = self._rows[self._named[name]].info()
            if spec.get_if_exists:
                self._tell(source, ActorRegistered(message.request, info))
            else:
                error = f"an actor named {name[1]!r} exists in namespace {name[0]!r}"
                self._tell(source, ActorRegistered(message.request, None, error))
            return
        self._rows[spec.actor] = row
        if name is not None:
            self._named[name] = spec.actor
        self._owned.setdefault(spec.owner.address, {})[spec.actor] = None
        self._tell(source, ActorRegistered(message.request, row.info()))
        for actor, address in [key for key in self._unknown if key[0] == spec.actor]:
            del self._unknown[actor, address]
            self._watch(address, WatchActor(actor))
        self._place(row)

    def _watch(self, source: Address, message: WatchActor) -> None:
        actor = message.actor
        row = self._rows.get(actor)
        if row is not None:
            row.watchers[source] = None
            self._watched.setdefault(source, {})[actor] = None
            self._tell(source, ActorState(row.info()))
        elif actor in self._dead:
            self._tell(source, self._dead[actor])
        else:
            self._unknown.setdefault((actor, source), self._now + UNKNOWN_WATCH_S)

    def _find(self, source: Address, message: FindActor) -> None:
        actor = self._named.get((message.namespace, message.name))
        info = self._rows[actor].info() if actor is not None else None
        self._tell(source, ActorFound(message.request, info))

    def _list(self, source: Address, message: ListActors) -> None:
        infos = [state.info for state in self._dead.values()]
        infos += [row.info() for row in self._rows.values()]
        wanted = message.namespace
        found = [info for info in infos if wanted is None or info.options.namespace == wanted]
        self._tell(source, ActorList(message.request, found))

    def _kill(self, source: Address, message: KillActor) -> None:
        row = self._rows.get(message.actor)
        if row is None:
            self._ignored += 1
            return
        reason = message.reason or f"it was killed by {source}"
        if message.no_restart or not self._may_restart(row):
            self._die(row, reason)
        elif row.placed_on and not row.is_ending:
            row.is_ending = True
            self._underway.pop(message.actor, None)
            self._unplace(row, 0.0, reason)
            row.reason, row.cause = reason, None
            self._set_restarting(row)

    def _release(self, source: Address, message: ReleaseActor) -> None:
        row = self._rows.get(message.actor)
        if row is None or row.spec.options.detached:
            self._ignored += 1
        else:
            self._die(row, "its last handle is gone", grace_s=RELEASE_GRACE_S)

    # ---- reports -------------------------------------------------------------------------------

    def _current(self, actor: bytes, restart: int) -> Row | None:
        """The actor, if that placement is its present one."""
        row = self._rows.get(actor)
        if row is None or row.restart != restart or not row.placed_on:
            self._ignored += 1
            return None
        return row

    def _started(self, event: ActorStarted) -> None:
        row = self._current(event.actor, event.restart)
        if row is None or row.is_ending or row.state in (ALIVE, MOVING):
            return
        if event.error:
            self._die(row, "the constructor raised", error=event.error)
            return
        row.state = ALIVE
        self._underway.pop(event.actor, None)
        row.address = event.address
        row.reason, row.cause = "", None
        row.failures = 0
        self._tell_all(row)
        if row.placed_on in self._draining:
            self._move(row)

    def _ended(self, event: ActorEnded) -> None:
        row = self._current(event.actor, event.restart)
        if row is None:
            return
        self._leave_node(row)
        if event.is_intended:
            self._die(row, event.cause.reason or "it ended by itself")
        else:
            self._restart(row, f"its process ended: {event.cause}", event.cause)

    def _placement_rejected(self, event: ev.PlacementRejected) -> None:
        row = self._current(event.actor, event.restart)
        if row is None or row.placed_on != event.node:
            return
        self._leave_node(row)
        if row.is_ending:
            self._restart(row, event.reason)
        elif event.is_final:
            self._die(row, event.reason)
        else:
            row.refused_by[event.node] = None
            self._place(row)

    def _process_gone(self, event: ProcessGone) -> None:
        self._forget([event.address], str(event.cause))

    def _node_died(self, event: NodeDied) -> None:
        room = self._rooms.get(event.node)
        if room is not None and room.incarnation == event.incarnation:
            self._lose(room)
        gone = [
            address
            for address in {**self._owned, **self._watched}
            if address.node == event.node and address.incarnation == event.incarnation
        ]
        lost: list[Row] = []
        for row in self._rows.values():
            if row.placed_on == event.node and row.incarnation == event.incarnation:
                self._leave_node(row)
                lost.append(row)
        reason = f"node {event.node[:8]} died: {event.reason}"
        self._forget(gone, reason)
        for row in lost:
            if row.state != DEAD:
                self._restart(row, reason, ExitCause(reason=reason, node=event.node))

    def _view_changed(self, event: ev.ViewChanged) -> None:
        for info in event.nodes:
            is_open = info.is_alive and info.state == "alive"
            if is_open:
                self._rooms[info.node] = self._room_of(info)
                self._lost.pop(info.node, None)
            elif info.node in self._rooms:
                self._lose(self._rooms[info.node])
            self._note_draining(info)
        self._place_waiting()

    def _deadline_reached(self, event: ev.DeadlineReached) -> None:
        for (actor, address), at in list(self._unknown.items()):
            if at > self._now:
                break
            del self._unknown[actor, address]
            reason = "there is no such actor: it has ended long ago, or is of another cluster"
            info = ActorInfo(actor, OwnerInfo(address), ActorOptions(), DEAD, reason=reason)
            self._tell(address, ActorState(info))
        self._place_waiting()

    # ---- transitions ---------------------------------------------------------------------------

    def _room_of(self, info: NodeInfo) -> NodeRoom:
        """What a node has just reported, less what is on its way there.

        Some of that it may count already; counting it twice makes the node look a little fuller
        for a moment, not counting it has a burst wait there while others are idle.
        """
        room = room_of(info)
        for actor in self._underway:
            row = self._rows[actor]
            if row.placed_on == info.node and row.incarnation == info.incarnation:
                room.charge(placing_shape(row.spec))
        return room

    def _lose(self, room: NodeRoom) -> None:
        del self._rooms[room.node]
        self._lost[room.node] = (room, self._now + REPLACEMENT_S)

    def _may_come(self, shape: Shape) -> bool:
        """Whether a node died lately that fits the shape: another may take its place."""
        self._lost = {node: lost for node, lost in self._lost.items() if lost[1] > self._now}
        return any(fits(shape, room.total) for room, _ in self._lost.values())

    def _leave_node(self, row: Row) -> None:
        row.placed_on = ""
        self._underway.pop(row.spec.actor, None)

    def _place_waiting(self) -> None:
        for actor in list(self._unplaced):
            row = self._rows[actor]
            if row.not_before <= self._now:
                row.refused_by.clear()
                self._place(row)

    def _place(self, row: Row) -> None:
        """Send an actor to a node, or have it wait for one."""
        spec = row.spec
        self._unplaced.pop(spec.actor, None)
        shape = placing_shape(spec)
        room = None
        if row.not_before <= self._now:
            near = spec.owner.address.node
            room = pick_room(shape, near, self._rooms.values(), row.refused_by)
            is_infeasible = room is None and self._rooms and not row.refused_by
            if is_infeasible and not self._may_come(shape):
                reason = why_infeasible(shape, list(self._rooms.values()))
                self._die(row, reason, is_infeasible=True)
                return
        if room is None:
            if row.refused_by:
                row.not_before = self._now + REFUSED_PAUSE_S
            self._unplaced[spec.actor] = None
            return
        room.charge(shape)
        row.placed_on = room.node
        row.incarnation = room.incarnation
        self._underway[spec.actor] = None
        self._effects.append(ev.PlaceActorOn(room.node, spec, row.restart))

    def _may_restart(self, row: Row) -> bool:
        most = row.spec.options.max_restarts
        return most < 0 or row.restart - row.moves < most

    def _restart(self, row: Row, reason: str, cause: ExitCause | None = None) -> None:
        """The actor's process is gone though nobody wanted that for good."""
        if not row.is_ending:
            row.reason, row.cause = reason, cause
        if not self._may_restart(row):
            self._die(row, reason, cause=cause)
            return
        if row.state not in (ALIVE, MOVING) and not row.is_ending:
            pause = RESTART_PAUSE_S * 2.0 ** min(row.failures, 16)
            row.not_before = self._now + min(pause, RESTART_PAUSE_LIMIT_S)
            row.failures += 1
        row.restart += 1
        row.is_ending = False
        row.refused_by.clear()
        self._set_restarting(row)
        self._place(row)

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
            self._unplace(row, grace_s, reason)
        row.state = DEAD
        row.address = None
        row.reason, row.cause = reason, cause
        state = ActorState(row.info(), is_infeasible)
        state.info.error = error
        for address in self._listeners(row):
            self._tell(address, state)
        self._drop(row)
        self._dead[actor] = state
        if len(self._dead) > DEAD_ACTORS:
            del self._dead[next(iter(self._dead))]

    def _drop(self, row: Row) -> None:
        actor = row.spec.actor
        del self._rows[actor]
        self._unplaced.pop(actor, None)
        self._underway.pop(actor, None)
        if row.name is not None:
            del self._named[row.name]
        if not row.is_orphan:
            unlink(self._owned, row.spec.owner.address, actor)
        for address in row.watchers:
            unlink(self._watched, address, actor)

    def _forget(self, gone: list[Address], why: str) -> None:
        """Processes are gone: they hear nothing, and what they own ends unless it is detached."""
        orphans: list[Row] = []
        for address in gone:
            for actor in self._watched.pop(address, {}):
                del self._rows[actor].watchers[address]
            for key in [key for key in self._unknown if key[1] == address]:
                del self._unknown[key]
            orphans += [self._rows[actor] for actor in self._owned.pop(address, {})]
        for row in orphans:
            row.is_orphan = True
        for row in orphans:
            if not row.spec.options.detached:
                self._die(row, f"its owner {row.spec.owner.address} is gone: {why}")

    def _unplace(self, row: Row, grace_s: float, reason: str) -> None:
        self._effects.append(
            ev.Unplace(row.placed_on, row.spec.actor, row.restart, grace_s, reason)
        )

    # ---- telling -------------------------------------------------------------------------------

    def _state(self, actor: bytes) -> ActorState | None:
        row = self._rows.get(actor)
        return ActorState(row.info()) if row is not None else self._dead.get(actor)

    def _listeners(self, row: Row) -> list[Address]:
        """The owner, then the watchers in the order in which they came."""
        owner = {} if row.is_orphan else {row.spec.owner.address: None}
        return list({**owner, **row.watchers})

    def _tell_all(self, row: Row) -> None:
        state = ActorState(row.info())
        for address in self._listeners(row):
            self._tell(address, state)

    def _tell(
        self, address: Address, message: ActorRegistered | ActorState | ActorFound | ActorList
    ) -> None:
        self._effects.append(ev.Tell(address, message))
