"""Decides who works for whom on one node: grants leases, starts and ends workers, spills back.

Place in the flow: the node manager turns messages of owners, workers and the control service into
the events of `events.py`, calls `handle` and carries out the effects in order. The machine starts
no process and knows no connection; what it is told of a worker's end is taken as confirmed.

Resources are held from the grant to the return of a lease. Where the worker's process must end (an
actor, a worker with devices, a lease returned to be killed, a dead owner's worker) they are held
until it *has* ended: a process that still runs may still use them.

Rejected: binding each fork to the demand it is for. A worker that starts is for whoever is next in
line, so that a lease returned meanwhile serves at once. Workers with devices are the exception,
because their devices are set before any user code runs in them.

It deliberately does not know tasks, objects or where arguments are: the owner chose this node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from freehold._core.ids import Address
from freehold._core.messages import ExitCause
from freehold._core.resources import CPU, Shape, fits
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.draining import Draining
from freehold._core.scheduling.events import Instant, SchedulingEffect, SchedulingEvent
from freehold._core.scheduling.lines import Demand, Placement
from freehold._core.scheduling.policy import (
    PACK_UNTIL,
    NodeRoom,
    is_feasible,
    is_whole,
    pick_node,
    why_infeasible,
)
from freehold._core.scheduling.report import (
    check_tables,
    explain_shape,
    take_snapshot,
)
from freehold._core.scheduling.room import count_fitting
from freehold._core.scheduling.serving import (
    ASK_AGAIN_S,
    ASK_PAUSE_S,
    OwnerRow,
    subtract,
)
from freehold._core.scheduling.workers import ACTOR, ENDING, IDLE, LEASED, Worker
from freehold._core.where import Where, allows

START_ATTEMPTS = 5
"""Failed starts in a row after which those who wait for the environment are told."""

START_PAUSE_S = 0.1
"""Pause after a failed start, doubled with each in a row: a new zygote needs some time."""

LOOK_AGAIN_S = 0.5
"""While something waits for room, the view is looked at this often though nothing in it changed:
longer than word of another node's change takes, so that nothing is sent back and forth."""

SPREAD_STEPS = 64
"""Decisions spent at the most on sending away one demand that never fits here."""


class LeaseScheduler(Draining):
    """The scheduler of one node.

    Example:
        >>> node = LeaseScheduler("a" * 32, {"CPU": 10_000}, ev.SchedulerSettings())
        >>> owner = Address("a" * 32, 1)
        >>> demand = ev.DemandChanged(owner, 0, (("CPU", 10_000),), "", wanted=1)
        >>> for effect in node.handle(demand, now=0.0):
        ...     print(effect)
        StartWorker(start=1, env='', gpus=[])
        ReportNode(available={'CPU': 10000}, queued={'CPU: 1': 1})
    """

    def __init__(
        self,
        node: str,
        total: dict[str, int],
        settings: ev.SchedulerSettings,
        *,
        incarnation: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(node, total, settings, incarnation, labels or {})
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.NodeStarted: self._node_started,
            ev.DemandChanged: self._demand_changed,
            ev.LeaseReturned: self._lease_returned,
            ev.WorkerStarted: self._worker_started,
            ev.WorkerStartFailed: self._worker_start_failed,
            ev.WorkerExited: self._worker_exited,
            ev.WorkerLeaving: self._worker_leaving,
            ev.TaskBlocked: self._task_blocked,
            ev.OwningChanged: self._owning_changed,
            ev.OwnerGone: self._owner_gone,
            ev.ActorPlacementRequested: self._actor_placement_requested,
            ev.ActorUnplaced: self._actor_unplaced,
            ev.ViewChanged: self._view_changed,
            ev.GroupsChanged: self._groups_changed,
            ev.NodeLost: self._node_lost,
            ev.DrainStarted: self._drain_started,
            ev.KeeperRequested: self._keeper_requested,
            ev.DeadlineReached: lambda event: None,
        }

    # ---- the interface -------------------------------------------------------------------------

    def handle(self, event: SchedulingEvent, *, now: Instant) -> list[SchedulingEffect]:
        """Take one event; what has to be done about it, in order."""
        self._now = self.lines.now = now
        effects: list[SchedulingEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        if self.draining:
            self._send_off()
        elif self.lines:
            self._serve()
        if self.draining or not self.lines:
            self._is_short = False
        if self._keeper_wanted:
            self._find_keeper()
        if self._is_short or self.room.available.get(CPU, 0) < 0:
            self._ask_return_idle()
        if self._is_short and self.view.may_change:
            self._look_again()
        else:
            self._looked_at = None
        if self._grace:
            self._end_overdue()
        if self._spares:
            self._start_spares()
        self._reap_idle()
        if self._is_dirty or self.lines.is_dirty:
            self._report()
        return effects

    def next_deadline(self) -> Instant | None:
        """When `DeadlineReached` is due, if at all."""
        times = list(self._grace.values())
        oldest = self.pool.oldest_reapable(self._keep_idle)
        if oldest is not None:
            times.append(oldest.idle_since + self.settings.idle_worker_s)
        if self.lines:
            times += [at for at in self._no_start_before.values() if at > self._now]
            if self.lines.barring is not None:
                times.append(self.lines.bar_until)
        if self._asked_at is not None and self._is_short:
            times.append(self._asked_at + (ASK_PAUSE_S if self._must_ask else ASK_AGAIN_S))
        if self._looked_at is not None:
            times.append(self._looked_at + LOOK_AGAIN_S)
        if self._reported_at is not None and (self._is_dirty or self.lines.is_dirty):
            times.append(self._reported_at + self.settings.report_period_s)
        return min(times, default=None)

    def explain(self, shape: Shape, where: Where | None = None) -> list[str]:
        """For each node of the view, this one first: why the shape runs there now or does not."""
        return explain_shape(self, shape, where)

    def snapshot(self) -> ev.SchedulingSnapshot:
        """Counts for metrics, dashboard and tests."""
        return take_snapshot(self)

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        Raises:
            InvariantError: SCH-1 to SCH-7, see `report.check_tables`.
        """
        check_tables(self)

    # ---- demand --------------------------------------------------------------------------------

    def _demand_changed(self, event: ev.DemandChanged) -> None:
        if event.owner in self.dead:
            self.ignored += 1  # it came a longer way than word of its sender's end
            return
        row = self.owners.get(event.owner)
        if row is None:
            row = self.owners[event.owner] = OwnerRow()
        demand = row.demands.get(event.key)
        if demand is None:
            demand = Demand(event.owner, event.key, event.shape, event.env, event.where)
            row.demands[event.key] = demand
        elif (demand.shape, demand.env, demand.where) != (event.shape, event.env, event.where):
            self.ignored += 1
            return
        demand.wanted = event.wanted
        if demand.backlog != event.backlog:
            demand.backlog = event.backlog
            self._is_dirty = True
        demand.is_spilled = event.spilled
        demand.is_near = event.is_near
        before = demand.waiting
        self._update_waiting(demand)
        if demand.waiting > before:
            self._must_ask = True
            if not self.draining:
                self._spread(demand)
        elif before and not demand.waiting and demand.leases and self._is_short and self.lines:
            # Others wait, and it was left out of the last round of asking, since it did itself.
            self._effects.append(ev.AskReturnIdle(event.owner, 1))

    def _spread(self, demand: Demand) -> bool:
        """Decide where what waits of a demand should come from; whether some was sent away."""
        shape, where = demand.shape, demand.where
        must_stay = not self.view or demand.is_spilled or (not shape and where is None)
        if must_stay and self._may_run(shape, where):
            return False
        here = NodeRoom(self.node, self.room.total, self._free_beside(demand), self.labels)
        here.chosen = self._chosen_here
        count = demand.waiting
        step = 1 + count // SPREAD_STEPS
        sent: dict[str, int] = {}
        left = count
        while left > 0:
            choice = pick_node(
                shape,
                here,
                self.view,
                may_leave=not demand.is_spilled,
                where=where,
                pack_until=1.0 if demand.is_near else PACK_UNTIL,
            )
            if choice.kind == "nowhere":
                if self.view.may_come(shape, where, self._now):
                    return False
                self._refuse(demand)
                return True
            if choice.kind == "wait":
                break
            share = min(left, step) if choice.kind == "wait there" else 1
            left -= share
            if choice.kind == "here":
                here.chosen += 1
                for name, units in shape:
                    here.available[name] -= units
                continue
            sent[choice.node] = sent.get(choice.node, 0) + share
            for _ in range(share):
                self.view.charge(choice.node, shape)
        self._chosen_here = here.chosen
        for node, share in sent.items():
            demand.answered += share
            self.spilled += share
            self._effects.append(ev.SpillBack(demand.owner, demand.key, share, node))
        self._update_waiting(demand)
        return bool(sent)

    def _refuse(self, demand: Demand) -> None:
        reason = self._why_infeasible(demand.shape, demand.where)
        demand.answered += demand.waiting
        self._update_waiting(demand)
        self._effects.append(ev.ReportInfeasible(demand.owner, demand.key, reason))

    def _why_infeasible(self, shape: Shape, where: Where | None, *, is_here: bool = False) -> str:
        here = NodeRoom(self.node, self.room.total, self.room.available, self.labels)
        others = [] if is_here else [*self.view, *self.view.groups]
        return why_infeasible(shape, [here, *others], where)

    def _may_run(self, shape: Shape, where: Where | None) -> bool:
        """Whether the shape could run on this node, were it empty."""
        return is_feasible(shape, self.room.total) and allows(where, self.node, self.labels)

    def _free_beside(self, demand: Demand) -> dict[str, int]:
        """What will be free here when all others that wait and fit have been served."""
        free = dict(self.room.available)
        for line in self.lines:
            others = line.count - (demand.waiting if demand.name in line.waiters else 0)
            subtract(free, line.shape, count_fitting(line.shape, free, others))
        return free

    def _owner_gone(self, event: ev.OwnerGone) -> None:
        if not event.may_return:
            self.dead.add(event.owner)
        self._drop_owner(event.owner)

    def _drop_owner(self, owner: Address) -> None:
        row = self.owners.pop(owner, None)
        if row is None:
            return
        self._is_dirty = True  # what it had in store waits no more
        for demand in row.demands.values():
            demand.wanted = 0
            self._update_waiting(demand)
        for worker in row.leases.values():
            del self.leases[worker.lease]
            worker.demand = None
            self._is_dirty = True
            self._end(worker, f"the owner {owner} of its lease is gone")

    # ---- leases --------------------------------------------------------------------------------

    def _lease_returned(self, event: ev.LeaseReturned) -> None:
        worker = self.leases.get(event.lease)
        demand = worker.demand if worker is not None else None
        if worker is None or demand is None or demand.owner != event.owner:
            self.ignored += 1
            return
        self._end_lease(worker, demand)
        if worker.is_leaving and not event.kill:
            self._let_go(worker)
            return
        if event.kill or worker.gpus:
            self._end(worker, event.reason or "its lease was returned")
            return
        self._release(worker)
        self.pool.set_state(worker, IDLE, self._now)

    def _end_lease(self, worker: Worker, demand: Demand) -> None:
        del self.leases[worker.lease]
        del self.owners[demand.owner].leases[worker.lease]
        demand.leases -= 1
        worker.demand = None
        self._is_dirty = True

    def _task_blocked(self, event: ev.TaskBlocked) -> None:
        worker = self.pool.by_process.get(event.process)
        if (
            worker is None
            or worker.state not in (LEASED, ACTOR)
            or worker.is_blocked == event.is_blocked
        ):
            self.ignored += 1
            return
        worker.is_blocked = event.is_blocked
        if event.is_blocked:
            changed = self.room.give_cpu(worker.shape)
        else:
            changed = self.room.take_back_cpu(worker.shape)
            self._must_ask = changed
        if changed:
            self._is_dirty = True

    # ---- workers -------------------------------------------------------------------------------

    def _node_started(self, event: ev.NodeStarted) -> None:
        for _ in range(self._prestart):
            self._start("")

    def _worker_started(self, event: ev.WorkerStarted) -> None:
        start = self.pool.pop_start(event.start)
        if start is None:
            self.ignored += 1
            self._effects.append(ev.KillWorker(event.process, "nobody started it"))
            return
        self._start_failures.pop(start.env, None)
        self._no_start_before.pop(start.env, None)
        worker = Worker(event.process, event.pid, start.env)
        self.pool.add(worker, self._now)
        waiter = start.waiter
        if waiter is None:
            if self.draining:
                self._end(worker, f"the node drains: {self.draining}")
            return
        worker.shape = start.shape
        worker.gpus = start.gpus
        if isinstance(waiter, Placement):
            if not waiter.is_dropped and self.draining:
                self._reject(waiter, f"the node drains: {self.draining}", is_final=False)
            elif not waiter.is_dropped:
                self._assign(worker, waiter)
                return
        else:
            waiter.binding -= 1
            if waiter.wanted > waiter.answered and not self.draining:
                self._grant(worker, waiter)
                return
            self._update_waiting(waiter)
        self._end(worker, "what it was started for is no longer wanted")

    def _worker_start_failed(self, event: ev.WorkerStartFailed) -> None:
        start = self.pool.pop_start(event.start)
        if start is None:
            self.ignored += 1
            return
        env = start.env
        self._spares.pop(env, None)
        waiter = start.waiter
        if waiter is not None:
            self.room.give_back(start.shape, start.gpus)
            self._is_dirty = True
            if isinstance(waiter, Demand):
                waiter.binding -= 1
                self._update_waiting(waiter)
            elif not waiter.is_dropped:
                self.lines.set_waiting(waiter, 1)
        failures = self._start_failures.get(env, 0) + 1
        if event.is_env or failures >= START_ATTEMPTS:
            self._start_failures.pop(env, None)
            self._no_start_before.pop(env, None)
            self._env_failed(env, event.reason)
        else:
            self._start_failures[env] = failures
            self._no_start_before[env] = self._now + START_PAUSE_S * 2 ** (failures - 1)

    def _env_failed(self, env: str, reason: str) -> None:
        owners: dict[Address, None] = {}
        for line in [line for line in self.lines if line.env == env]:
            for waiter in list(line.waiters.values()):
                if isinstance(waiter, Demand):
                    waiter.answered += waiter.waiting
                    self._update_waiting(waiter)
                    owners[waiter.owner] = None
                else:
                    self._reject(waiter, reason, is_final=True)
        for owner in owners:
            self._effects.append(ev.ReportEnvFailed(owner, env, reason))

    def _worker_exited(self, event: ev.WorkerExited) -> None:
        worker = self.pool.by_process.get(event.process)
        if worker is None:
            self.ignored += 1
        else:
            self.pool.remove(worker)
            self._grace.pop(event.process, None)
            demand = worker.demand
            if demand is not None:
                self._end_lease(worker, demand)
                self._effects.append(
                    ev.RevokeLease(demand.owner, worker.lease, event.process, event.cause)
                )
            placement = worker.placement
            if placement is not None and not worker.gpus and self._prestart:
                self._spares[worker.env] = self._spares.get(worker.env, 0) + 1
            self._release(worker)
            if placement is not None:
                del self.placements[placement.name]
                self._report_ended(placement, event.cause, event.is_intended or placement.was_asked)
        owner = Address(self.node, event.process, self.incarnation)
        self.dead.add(owner)
        self._drop_owner(owner)

    def _worker_leaving(self, event: ev.WorkerLeaving) -> None:
        worker = self.pool.by_process.get(event.process)
        if worker is None or worker.is_leaving or worker.state == ENDING:
            self.ignored += 1
            return
        worker.leaves_because = event.reason
        if worker.state == LEASED:
            worker.is_leaving = True  # its owner hears of it, too, and gives the lease back
            return
        placement = worker.placement
        if placement is not None:
            if placement.was_asked:
                return
            # It crossed the actor, which it will not start: that waits for another worker.
            self._release(worker)
            worker.placement = None
            placement.process = 0
            self.lines.set_waiting(placement, 1)
        self._let_go(worker)

    def _let_go(self, worker: Worker) -> None:
        """A worker that is leaving may end; it may stay for a while because of what it owns."""
        if worker.shape:
            worker.shape = self.room.give_rest(worker.shape, without_cpu=worker.is_blocked)
            worker.is_blocked = False
            self._is_dirty = True
        self.pool.set_state(worker, ENDING, self._now)
        self._effects.append(ev.AskExit(worker.process, worker.leaves_because))

    def _owning_changed(self, event: ev.OwningChanged) -> None:
        worker = self.pool.by_process.get(event.process)
        if worker is None:
            self.ignored += 1
        else:
            self.pool.set_owning(worker, event.is_owning, self._now)
            self._keeper_owns(worker, event.is_owning)

    def _end_overdue(self) -> None:
        for process in [p for p, at in self._grace.items() if at <= self._now]:
            del self._grace[process]
            self._end(self.pool.by_process[process], "it did not end by itself when asked")

    def _reap_idle(self) -> None:
        while True:
            oldest = self.pool.oldest_reapable(self._keep_idle)
            if oldest is None or self._now < oldest.idle_since + self.settings.idle_worker_s:
                return
            self._end(oldest, "it was idle")

    # ---- actors --------------------------------------------------------------------------------

    def _actor_placement_requested(self, event: ev.ActorPlacementRequested) -> None:
        placement = Placement(event.actor, event.restart, event.shape, event.env, event.where)
        if placement.name in self.placements:
            self.ignored += 1
            return
        if self.draining:
            reason = f"the node drains: {self.draining}"
            self._effects.append(ev.RejectActor(event.actor, event.restart, reason, False))
            return
        if not self._may_run(event.shape, event.where):
            reason = self._why_infeasible(event.shape, event.where, is_here=True)
            is_final = not is_whole(event.shape)
            self._effects.append(ev.RejectActor(event.actor, event.restart, reason, is_final))
            return
        self.placements[placement.name] = placement
        self._is_dirty = True
        self.lines.set_waiting(placement, 1)
        self._must_ask = True

    def _actor_unplaced(self, event: ev.ActorUnplaced) -> None:
        placement = self.placements.get((event.actor, event.restart))
        if placement is None:
            self.ignored += 1
        elif not placement.process:
            self.lines.set_waiting(placement, 0)
            placement.is_dropped = True
            del self.placements[placement.name]
            self._report_ended(placement, ExitCause(reason=event.reason), event.grace_s > 0)
        else:
            worker = self.pool.by_process[placement.process]
            if worker.state == ENDING:
                return
            if event.grace_s <= 0:
                self._grace.pop(worker.process, None)
                self._end(worker, event.reason)
            elif not placement.was_asked:
                placement.was_asked = True
                self._grace[worker.process] = self._now + event.grace_s
                self._effects.append(ev.AskExit(worker.process, event.reason))

    def _report_ended(self, placement: Placement, cause: ExitCause, is_intended: bool) -> None:
        self._effects.append(
            ev.ReportActorEnded(
                placement.actor, placement.restart, placement.process, cause, is_intended
            )
        )

    # ---- the cluster ---------------------------------------------------------------------------

    def _view_changed(self, event: ev.ViewChanged) -> None:
        for info in event.nodes:
            self.view.update(info, self._now)
        if not self.draining:
            self._send_away()

    def _groups_changed(self, event: ev.GroupsChanged) -> None:
        self.view.set_groups(event.groups)
        if not self.draining:
            self._send_away()  # what could only have run in a group that is no more is refused

    def _look_again(self) -> None:
        """What waits may have come after the last news of the room that another node has."""
        if self._looked_at is not None and self._now < self._looked_at + LOOK_AGAIN_S:
            return
        is_first = self._looked_at is None
        self._looked_at = self._now
        if not is_first:
            self.view.forget_charges()
            self._send_away()

    def _send_away(self) -> None:
        """Send what waits here where the view has room for it."""
        for line in list(self.lines):
            for waiter in list(line.waiters.values()):
                if isinstance(waiter, Placement):
                    self._send_elsewhere(waiter)
                    continue
                if waiter.is_spilled and self._may_run(waiter.shape, waiter.where):
                    continue
                if not self._spread(waiter):
                    break

    def _send_elsewhere(self, placement: Placement) -> None:
        """An actor waits here for room that another node has now: it had better be placed there."""
        if self.room.fits(placement.shape):
            return
        for room in self.view:
            if fits(placement.shape, room.available) and allows(
                placement.where, room.node, room.labels
            ):
                self.view.charge(room.node, placement.shape)
                reason = f"no room now, and node {room.node[:8]} has some"
                self._reject(placement, reason, is_final=False)
                return

    def _node_lost(self, event: ev.NodeLost) -> None:
        self.view.remove(event.node, self._now)
        self.dead.add_node(event.node, event.incarnation)
        for owner in [
            o for o in self.owners if o.node == event.node and o.incarnation == event.incarnation
        ]:
            self._drop_owner(owner)
