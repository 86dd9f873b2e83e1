"""Decides how a node comes to its end in order: where its data goes, who keeps its rows, when.

Place in the flow: somebody asks (`DrainRequested`: the control service, or SIGTERM); the shell has
the scheduler grant nothing more and the workers leave, which give their rows to the *keeper* that
this machine has another node name. From then on the machine looks at what is left (`Looked`), has
each stored range copied to another node as a primary copy, and tells its owner, until the owner
knows. The node is drained when nothing runs here and every range has moved, or nobody wants it.

A range's life: found → copying → told (again every `TELL_AGAIN_S`) → moved. The old copy stays
where it is until the node ends: views and pulls of it may be under way, and its owner lets go of
the new one alone. Ranges that a process of this node owns wait until that has given its rows away.

It deliberately moves no bytes, knows no objects, and does not wait for ever: at its deadline the
node ends however far it is, and what is left is lost as with a node's death.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core.drain import events as ev
from freehold._core.drain.events import DrainEffect, DrainEvent, Instant
from freehold._core.ids import Address, Location
from freehold._core.invariants import check
from freehold._core.limits import (
    COPIES_AT_ONCE,
    COPY_BYTES_AT_ONCE,
    COPY_PAUSE_S,
    DRAIN_LOOK_S,
    TELL_AGAIN_S,
    TELLS_IN_VAIN,
)
from freehold._core.messages import NodeInfo

ALIVE = "alive"
DRAINING = "draining"
DRAINED = "drained"

COPYING = "copying"
TOLD = "told"
MOVED = "moved"
FAILED = "failed"


class Move:
    """One stored range on its way to another node."""

    __slots__ = ("in_vain", "new", "old", "owner", "state", "target", "until")

    def __init__(self, old: Location, owner: Address) -> None:
        self.old = old
        self.owner = owner
        self.state = FAILED
        self.target = ""
        self.new: Location | None = None
        self.until: Instant = 0.0
        """When it is to be tried, or told, again."""
        self.in_vain = 0
        """How often the owner said that it does not know it."""


class Drain:
    """The drain of one node.

    Example:
        >>> drain = Drain("a" * 32)
        >>> drain.handle(ev.DrainRequested(60.0, "scale-down"), now=0.0)
        [BeginDrain(reason='scale-down'), Look()]
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.state = ALIVE
        self.reason = ""
        self._ends = False
        self._deadline: Instant = 0.0
        self._look_at: Instant | None = None
        self._nodes: dict[str, NodeInfo] = {}
        self._charged: dict[str, int] = {}
        """Bytes sent to a node since its last word."""
        self._moves: dict[Location, Move] = {}
        self._workers = 0
        self._drivers = 0
        self._keeper: Address | None = None
        self._keeper_node = ""
        self._keeper_request = 0
        self._has_ended = False
        # Both are only meaningful during `handle`.
        self._effects: list[DrainEffect] = []
        self._now: Instant = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.DrainRequested: self._requested,
            ev.ViewSeen: self._view_seen,
            ev.NodeLost: self._node_lost,
            ev.ProcessEnded: self._process_ended,
            ev.Looked: self._looked,
            ev.KeeperNamed: self._keeper_named,
            ev.CopyEnded: self._copy_ended,
            ev.OwnerAnswered: self._owner_answered,
            ev.DeadlineReached: self._deadline_reached,
        }

    # ---- the interface -------------------------------------------------------------------------

    def handle(self, event: DrainEvent, *, now: Instant) -> list[DrainEffect]:
        """Take one event; what has to be done about it, in order."""
        self._now = now
        effects: list[DrainEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        if self.state == ALIVE or self._has_ended:
            return None
        return self._deadline if self._look_at is None else min(self._deadline, self._look_at)

    def snapshot(self) -> ev.DrainSnapshot:
        """How far it is."""
        moved = sum(move.state == MOVED for move in self._moves.values())
        return ev.DrainSnapshot(
            state=self.state,
            moving=len(self._moves) - moved,
            moved=moved,
            workers=self._workers,
            drivers=self._drivers,
            keeper=self._keeper,
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        DRN-1: a range that is told of or moved has a copy, one that is being copied has none.
        DRN-2: no more is copied at once than allowed, and nothing to this node.
        DRN-3: a drained node has nothing left to move.

        Raises:
            InvariantError: one of them does not hold.
        """
        copying = [move for move in self._moves.values() if move.state == COPYING]
        for move in self._moves.values():
            has_copy = move.new is not None
            is_placed = move.state in (TOLD, MOVED)
            check(has_copy or not is_placed or move.in_vain > 0, "DRN-1", f"{move.old} has no copy")
            check(not has_copy or move.state != COPYING, "DRN-1", f"{move.old} is copied twice")
            check(move.target != self.node, "DRN-2", f"{move.old} is copied to its own node")
        check(len(copying) <= COPIES_AT_ONCE, "DRN-2", f"{len(copying)} ranges are being copied")
        if self.state == DRAINED:
            left = [move.old for move in self._moves.values() if move.state != MOVED]
            check(not left, "DRN-3", f"it is drained and has {left}")

    # ---- requests ------------------------------------------------------------------------------

    def _requested(self, event: ev.DrainRequested) -> None:
        if self.state == ALIVE and event.must_be_idle and event.busy_with:
            self._effects.append(ev.RefuseDrain(event.busy_with))
            return
        deadline = self._now + event.timeout_s
        self._ends = self._ends or event.ends
        if self.state != ALIVE:
            self._deadline = min(self._deadline, deadline)
            if self.state == DRAINED and self._ends:
                self._end("")
            return
        self.state = DRAINING
        self.reason = event.reason
        self._deadline = deadline
        self._effects.append(ev.BeginDrain(event.reason))
        self._want_keeper()
        self._look()

    def _deadline_reached(self, event: ev.DeadlineReached) -> None:
        if self.state == ALIVE or self._has_ended:
            return
        if self._now >= self._deadline:
            self._end(self._left())
        elif self._look_at is not None and self._now >= self._look_at:
            self._look()

    def _look(self) -> None:
        self._look_at = self._now + DRAIN_LOOK_S
        self._effects.append(ev.Look())

    def _left(self) -> str:
        ranges = sum(move.state != MOVED for move in self._moves.values())
        parts = [(self._workers, "workers"), (self._drivers, "drivers"), (ranges, "stored ranges")]
        return ", ".join(f"{count} {what}" for count, what in parts if count)

    def _end(self, left: str) -> None:
        self._has_ended = True
        self._effects.append(ev.EndNode(f"it was drained: {self.reason}", left))

    # ---- the cluster ---------------------------------------------------------------------------

    def _view_seen(self, event: ev.ViewSeen) -> None:
        for info in event.nodes:
            if info.node == self.node:
                continue
            if info.is_alive and info.state == ALIVE:
                self._nodes[info.node] = info
                self._charged.pop(info.node, None)
            else:
                self._nodes.pop(info.node, None)
        if self.state == DRAINING:
            self._want_keeper()

    def _node_lost(self, event: ev.NodeLost) -> None:
        self._nodes.pop(event.node, None)
        if self._keeper_node == event.node:
            self._lose_keeper()
        for move in self._moves.values():
            if move.target == event.node and move.state != MOVED:
                self._fail(move)

    def _process_ended(self, event: ev.ProcessEnded) -> None:
        if event.address == self._keeper:
            self._lose_keeper()

    # ---- the keeper ----------------------------------------------------------------------------

    def _want_keeper(self) -> None:
        if self._keeper_node or not self._nodes:
            return
        self._keeper_node = min(self._nodes.values(), key=_keeper_rank).node
        self._keeper_request += 1
        self._effects.append(ev.AskKeeper(self._keeper_node, self._keeper_request))

    def _lose_keeper(self) -> None:
        self._keeper, self._keeper_node = None, ""
        if self.state == DRAINING:
            self._want_keeper()

    def _keeper_named(self, event: ev.KeeperNamed) -> None:
        if event.request != self._keeper_request or not self._keeper_node:
            return
        if event.keeper is None:
            self._nodes.pop(self._keeper_node, None)  # it drains, too, and says so in a moment
            self._lose_keeper()
            return
        self._keeper = event.keeper
        self._effects.append(ev.TellKeeper(event.keeper))

    # ---- stored ranges -------------------------------------------------------------------------

    def _looked(self, event: ev.Looked) -> None:
        if self.state != DRAINING:
            return
        self._workers, self._drivers = event.workers, event.drivers
        found = dict(event.ranges)
        for old, move in list(self._moves.items()):
            if old not in found and move.state != COPYING:  # its owner let go of it
                del self._moves[old]
                if move.new is not None and move.state != MOVED:
                    self._effects.append(ev.DropCopy(move.new))
        for old, owner in found.items():
            known = self._moves.get(old)
            if known is None:
                self._moves[old] = Move(old, owner)
            elif known.owner != owner and known.state != MOVED:
                known.owner, known.in_vain = owner, 0
        self._copy_more()
        self._tell()
        is_empty = not event.workers and not event.drivers
        if is_empty and all(move.state == MOVED for move in self._moves.values()):
            self.state = DRAINED
            self._look_at = None
            self._effects.append(ev.ReportDrained())
            if self._ends:
                self._end("")

    def _copy_more(self) -> None:
        copying = [move for move in self._moves.values() if move.state == COPYING]
        count, size = len(copying), sum(move.old.size for move in copying)
        for move in self._moves.values():
            if count >= COPIES_AT_ONCE or size >= COPY_BYTES_AT_ONCE:
                return
            if move.state != FAILED or self._now < move.until or move.owner.node == self.node:
                continue
            target = self._pick(move)
            if target is None:
                return
            move.state, move.target = COPYING, target
            self._charged[target] = self._charged.get(target, 0) + move.old.size
            count, size = count + 1, size + move.old.size
            self._effects.append(ev.CopyRange(target, move.old, move.owner))

    def _pick(self, move: Move) -> str | None:
        """The node with most room in its store; not the one that just failed, if there is
        another."""
        others = [info for info in self._nodes.values() if info.node != move.target]
        best = max(others or self._nodes.values(), key=self._free, default=None)
        return best.node if best is not None else None

    def _free(self, info: NodeInfo) -> tuple[bool, int, str]:
        used = info.store_bytes + self._charged.get(info.node, 0)
        return (not _is_passing(info), info.store_total_bytes - used, info.node)

    def _fail(self, move: Move) -> None:
        move.state, move.new = FAILED, None
        move.until = self._now + COPY_PAUSE_S

    def _copy_ended(self, event: ev.CopyEnded) -> None:
        """A copy is there, or failed. Of what was let go of meanwhile the next look finds out."""
        move = self._moves.get(event.old)
        if move is None or move.state != COPYING:
            if event.new is not None and (move is None or move.new != event.new):
                self._effects.append(ev.DropCopy(event.new))
            return
        if event.new is None:
            self._fail(move)
        else:
            move.state, move.new, move.until = TOLD, event.new, self._now
            self._tell()
        self._copy_more()

    def _tell(self) -> None:
        """Tell owners of copies that they do not know yet; nobody's is let go."""
        told: dict[Address, list[tuple[Location, Location]]] = {}
        for move in self._moves.values():
            if move.state != TOLD or move.new is None or self._now < move.until:
                continue
            if move.in_vain >= TELLS_IN_VAIN:
                # Its answer never reached who would own it, or who owned it has ended.
                self._effects.append(ev.DropCopy(move.new))
                move.state, move.new = MOVED, None
                continue
            move.until = self._now + TELL_AGAIN_S
            told.setdefault(move.owner, []).append((move.old, move.new))
        for owner, moves in told.items():
            self._effects.append(ev.TellOwner(owner, moves))

    def _owner_answered(self, event: ev.OwnerAnswered) -> None:
        move = self._moves.get(event.old)
        if move is None or move.state != TOLD:
            return
        if event.is_known:
            move.state = MOVED
        else:
            move.in_vain += 1


def _is_passing(info: NodeInfo) -> bool:
    """A driver's own node, without CPUs, which ends with it: others' data goes there last."""
    return not info.total.get("CPU", 0) and not info.is_head


def _keeper_rank(info: NodeInfo) -> tuple[bool, float, str]:
    total = info.total.get("CPU", 0)
    use = 1.0 - info.available.get("CPU", 0) / total if total else 1.0
    return (_is_passing(info), use, info.node)
