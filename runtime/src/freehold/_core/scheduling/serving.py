"""Carries out the scheduler's grants: who in the lines gets which worker, and what is missing.

Place in the flow: `machine.LeaseScheduler` takes an event, changes what waits or what is free, and
then has the lines served here. The tables are declared here too; nothing here knows an event.
"""

from __future__ import annotations

from collections.abc import Mapping

from freehold._core.dead_owners import DeadOwners
from freehold._core.ids import Address
from freehold._core.resources import CPU, UNIT, Shape, fits
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.events import Instant, SchedulingEffect
from freehold._core.scheduling.lines import Demand, Line, Lines, Placement
from freehold._core.scheduling.report import list_demand
from freehold._core.scheduling.room import Room, count_fitting
from freehold._core.scheduling.view import ClusterView
from freehold._core.scheduling.workers import ACTOR, ENDING, LEASED, Start, Worker, WorkerPool

PRESTART_LIMIT = 4
"""Workers started ahead by default at the most: an idle one costs up to 25 MB."""

SPARE_LIMIT = 8
"""Idle workers up to which one is forked in the place of an actor's: a burst of actors comes back
soon or not at all, and those not used within `idle_worker_s` go. Each is a process of 6 MB."""

ASK_AGAIN_S = 1.0
"""While someone waits, holders of leases are reminded this often; so long they keep it in mind."""

DEAD_OWNERS = 2_000
"""Dead owners remembered: a demand that comes after its owner's death comes soon after it."""

ASK_PAUSE_S = 0.1
"""Least time between two rounds of asking; a round goes to every holder."""


class OwnerRow:
    """What one owner wants and has."""

    __slots__ = ("demands", "leases")

    def __init__(self) -> None:
        self.demands: dict[int, Demand] = {}
        self.leases: dict[int, Worker] = {}


class Serving:
    """The tables of one node's scheduler, and the serving of its lines."""

    draining = ""
    """Why nothing is granted here any more, if so."""

    def __init__(
        self,
        node: str,
        total: dict[str, int],
        settings: ev.SchedulerSettings,
        incarnation: int,
        labels: Mapping[str, str],
    ) -> None:
        self.node = node
        self.labels = labels
        self.incarnation = incarnation
        self.settings = settings
        cpus = total.get(CPU, 0) // UNIT
        self._keep_idle = settings.idle_workers if settings.idle_workers >= 0 else max(1, cpus)
        self._starts_at_once = (
            settings.starts_at_once if settings.starts_at_once > 0 else max(2, cpus)
        )
        prestart = settings.prestart_workers
        self._prestart = prestart if prestart >= 0 else min(cpus, PRESTART_LIMIT)
        self.room = Room(total)
        self.pool = WorkerPool()
        self.lines = Lines(settings.passed_over_s, node, labels)
        self.view = ClusterView(node)
        self.owners: dict[Address, OwnerRow] = {}
        self.dead = DeadOwners(DEAD_OWNERS)
        self.leases: dict[int, Worker] = {}
        self.placements: dict[tuple[bytes, int], Placement] = {}
        self.actors_hold: dict[str, int] = {}
        self.last_start = 0
        self.last_lease = 0
        self.spilled = 0
        self.ignored = 0
        self._chosen_here = 0
        """Leases that were to be spread and stayed here: the view counts those of other nodes."""
        self._grace: dict[int, Instant] = {}
        self._start_failures: dict[str, int] = {}
        self._no_start_before: dict[str, Instant] = {}
        self._spares: dict[str, int] = {}
        """Workers to be forked in the place of those that were actors, by environment."""
        self._asked_at: Instant | None = None
        self._must_ask = False
        self._is_short = False
        self._looked_at: Instant | None = None
        """When the view was last looked at for what waits; None while nothing is short."""
        self._keeper_wanted: dict[Address, int] = {}
        """Node managers that asked for a keeper, and their number for it."""
        self._reported: tuple[object, ...] = (dict(total), {}, [], True, 0)
        self._reported_at: Instant | None = None
        self._is_dirty = False
        # Both are only meaningful during `handle`.
        self._effects: list[SchedulingEffect] = []
        self._now: Instant = 0.0

    # ---- serving the lines ---------------------------------------------------------------------

    def _serve(self) -> None:
        """Grant what can be granted, start what is missing, see who is left without resources."""
        self.lines.update_bar(self.room, self.actors_hold, self._now)
        candidates = list(self.lines)
        short: list[Line] = []
        workerless: list[Line] = []
        while candidates:
            line = candidates[0]
            for other in candidates:
                if other.head.turn < line.head.turn:
                    line = other
            barred = self.lines.barred(self.room)
            if not line.is_for_here:
                candidates.remove(line)  # it waits for another node to come
                continue
            if not self.room.fits(line.shape) or (
                barred
                and line is not self.lines.barring
                and any(name in barred for name, _ in line.shape)
            ):
                short.append(line)
                candidates.remove(line)
                continue
            turn = line.head.turn
            if not self._serve_head(line):
                workerless.append(line)
                candidates.remove(line)
                continue
            if short and line.shape:
                self.lines.passed_over(short, turn, self._now)
            if not line.count:
                candidates.remove(line)
        self._is_short = bool(short)
        if workerless:
            self._start_missing(workerless)

    def _serve_head(self, line: Line) -> bool:
        """Serve the first in a line whose shape fits; False if there is no worker for it."""
        waiter = line.head
        if line.needs_devices:
            if not self._may_start(line.env):
                return False
            self.last_start += 1
            gpus = self.room.take(line.shape)
            self._is_dirty = True
            if isinstance(waiter, Demand):
                waiter.binding += 1
            self.pool.add_start(Start(self.last_start, line.env, waiter, line.shape, gpus))
            self._effects.append(ev.StartWorker(self.last_start, line.env, gpus))
            self.lines.served(line, waiter)
            return True
        is_actor = isinstance(waiter, Placement)
        worker = self.pool.find_idle(line.env, for_actor=is_actor)
        if worker is None:
            return False
        if line.shape:
            self.room.take(line.shape)
            self._is_dirty = True
        worker.shape = line.shape
        if isinstance(waiter, Placement):
            self._assign(worker, waiter)
        else:
            self._grant(worker, waiter)
        self.lines.served(line, waiter)
        return True

    def _grant(self, worker: Worker, demand: Demand) -> None:
        self.last_lease += 1
        demand.answered += 1
        demand.leases += 1
        worker.lease = self.last_lease
        worker.demand = demand
        self._is_dirty = True
        self.pool.set_state(worker, LEASED, self._now)
        self.leases[worker.lease] = worker
        self.owners[demand.owner].leases[worker.lease] = worker
        self._effects.append(
            ev.GrantLease(
                demand.owner,
                demand.key,
                worker.lease,
                worker.process,
                worker.pid,
                demand.answered,
                worker.gpus,
            )
        )

    def _assign(self, worker: Worker, placement: Placement) -> None:
        placement.process = worker.process
        worker.placement = placement
        self._is_dirty = True
        self.pool.set_state(worker, ACTOR, self._now)
        for name, units in worker.shape:
            self.actors_hold[name] = self.actors_hold.get(name, 0) + units
        self._effects.append(
            ev.AssignActor(
                placement.actor, placement.restart, worker.process, worker.pid, worker.gpus
            )
        )

    def _may_start(self, env: str) -> bool:
        if self.draining:
            return False
        if len(self.pool.starts) >= self._starts_at_once:
            return False
        return self._now >= self._no_start_before.get(env, 0.0)

    def _start_missing(self, workerless: list[Line]) -> None:
        """Fork as many workers as could be used at once, not more at a time than allowed."""
        free = dict(self.room.available)
        missing: dict[str, int] = {}
        for line in workerless:
            if not line.needs_devices:
                count = count_fitting(line.shape, free, line.count)
                subtract(free, line.shape, count)
                missing[line.env] = missing.get(line.env, 0) + count
        for env, count in missing.items():
            for _ in range(count - self.pool.starting(env)):
                if not self._may_start(env):
                    break
                self._start(env)

    def _start_spares(self) -> None:
        """Fork what actors took from the pool for good: half of what an actor costs before its
        constructor runs is its process, and here nobody waits for it."""
        for env, count in list(self._spares.items()):
            room = SPARE_LIMIT - self.pool.idle(env) - self.pool.starting(env)
            left = min(count, room)
            while left > 0 and self._may_start(env):
                self._start(env)
                left -= 1
            if left > 0:
                self._spares[env] = left
            else:
                del self._spares[env]

    def _ask_return_idle(self) -> None:
        """Have those who hold leases that may be idle give them back."""
        pause = ASK_PAUSE_S if self._must_ask else ASK_AGAIN_S
        if self._asked_at is not None and self._now < self._asked_at + pause:
            return
        self._asked_at = self._now
        self._must_ask = False
        # What no node can run now waits for one to come, not for what others hold.
        count = sum(line.count for line in self.lines if fits(line.shape, self.room.total))
        if not count and self.room.available.get(CPU, 0) >= 0:
            return
        count = max(1, count)
        for owner, row in self.owners.items():
            # Who waits for a key has no idle lease of that key.
            if row.leases and any(d.leases and not d.waiting for d in row.demands.values()):
                self._effects.append(ev.AskReturnIdle(owner, count))

    # ---- telling ------------------------------------------------------------------------------

    def _report(self) -> None:
        if (
            self._reported_at is not None
            and self._now < self._reported_at + self.settings.report_period_s
        ):
            return
        self._is_dirty = self.lines.is_dirty = False
        demand = list_demand(self)
        # Only who waits longer than before is no news.
        counts = [(x.shape, x.where, x.queued, x.running) for x in demand]
        actors = self.pool.counts[ACTOR]
        is_idle = not self.leases and not self.placements
        seen = (dict(self.room.available), self.lines.queued(), counts, is_idle, actors)
        if seen != self._reported:
            self._reported = seen
            self._reported_at = self._now
            self._effects.append(ev.ReportNode(seen[0], seen[1], demand, is_idle, actors))

    # ---- elementary moves ----------------------------------------------------------------------

    def _update_waiting(self, demand: Demand) -> None:
        waiting = max(0, demand.wanted - demand.answered - demand.binding)
        self.lines.set_waiting(demand, waiting)

    def _reject(self, placement: Placement, reason: str, *, is_final: bool) -> None:
        self.lines.set_waiting(placement, 0)
        del self.placements[placement.name]
        self._effects.append(ev.RejectActor(placement.actor, placement.restart, reason, is_final))

    def _start(self, env: str) -> None:
        self.last_start += 1
        self.pool.add_start(Start(self.last_start, env))
        self._effects.append(ev.StartWorker(self.last_start, env, []))

    def _release(self, worker: Worker) -> None:
        """Give back what a worker holds."""
        if worker.shape:
            self.room.give_back(worker.shape, worker.gpus, without_cpu=worker.is_blocked)
            self._is_dirty = True
        if worker.placement is not None:
            for name, units in worker.shape:
                self.actors_hold[name] -= units
        worker.shape = ()
        worker.gpus = []
        worker.is_blocked = False

    def _end(self, worker: Worker, reason: str) -> None:
        """Have a worker's process end; it holds what it holds until it has."""
        self.pool.set_state(worker, ENDING, self._now)
        self._effects.append(ev.KillWorker(worker.process, reason))


def subtract(free: dict[str, int], shape: Shape, count: int) -> None:
    """Take `count` of the shape from amounts in units."""
    if count:
        for name, units in shape:
            free[name] -= units * count
