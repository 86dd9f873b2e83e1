"""Leases and actor placements of one node: messages to the scheduler's events, effects to deeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.machine import LeaseScheduler
from freehold._io import clock
from freehold._io.zygote_protocol import WorkerStart
from freehold._processes.node.environments import Environments
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.pool import WorkerPool
from freehold._processes.node.processes import LocalProcess
from freehold._processes.node.settings import node_labels, scheduler_settings

STORE_REPORT_S = 0.25
"""How often the use of store, actors and drivers is reported, while nothing else changes."""


class LeaseDesk:
    """The shell around `LeaseScheduler`.

    Args:
        template: what all workers' starts have in common.
    """

    def __init__(
        self, hub: Hub, total: dict[str, int], template: WorkerStart, store_use: Callable[[], Any]
    ) -> None:
        self._hub = hub
        self._template = template
        self._store_use = store_use
        self.pool: WorkerPool
        """Set by the service; it tells this desk of workers in turn."""
        self.environments: Environments
        """Set by the service, too."""
        self.total = total
        self.scheduler = LeaseScheduler(
            hub.node,
            total,
            scheduler_settings(hub.settings),
            incarnation=hub.incarnation,
            labels=node_labels(hub.settings, hub.node),
        )
        self._alarm = clock.MachineAlarm(hub.reactor, lambda: self.handle(ev.DeadlineReached()))
        self._told = m.NodeReported(hub.node, dict(total), {})
        self._scheduled = ev.ReportNode(dict(total), {}, is_idle=True)
        """The scheduler's part of the last report."""
        self._is_telling = False
        self._actors: dict[tuple[bytes, int], Address] = {}
        """Placements that have started, and where."""
        self._moved: dict[tuple[bytes, int], None] = {}
        """Those that have moved elsewhere, and whose processes have not ended."""
        self.on_keeper: Callable[[ev.NameKeeper], None] = lambda effect: None
        """Tells another node of the worker that is to keep its rows."""
        self._node_state = ("alive", "")
        self._specs: dict[tuple[bytes, int], m.ActorSpec] = {}
        """Of actors that are to live here and have not started."""
        self._doers: dict[type, Any] = {
            ev.GrantLease: self._grant,
            ev.SpillBack: self._spill,
            ev.ReportInfeasible: self._infeasible,
            ev.ReportEnvFailed: self._env_failed,
            ev.StartWorker: self._start_worker,
            ev.KillWorker: self._kill_worker,
            ev.AskExit: self._ask_exit,
            ev.AskReturnIdle: self._ask_return_idle,
            ev.RevokeLease: self._revoke,
            ev.AssignActor: self._assign_actor,
            ev.RejectActor: self._reject_actor,
            ev.ReportActorEnded: self._actor_ended,
            ev.NameKeeper: lambda effect: self.on_keeper(effect),
            ev.ReportNode: self._report,
        }

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this desk's."""
        return {
            m.LeaseDemand: self._on_demand,
            m.ReturnLease: self._on_return,
            m.Blocked: self._on_blocked,
            m.OwningChanged: self._on_owning,
            m.Explain: self._on_explain,
            m.ActorStarted: self._on_actor_started,
            m.ActorEnded: self._on_actor_ending,
            m.ActorLeft: self._on_actor_left,
            m.MoveActor: self._on_move,
            m.PlaceActor: self._on_place,
            m.UnplaceActor: self._on_unplace,
        }

    def handle(self, event: ev.SchedulingEvent) -> None:
        """Hand an event to the scheduler and do what it says."""
        for effect in self.scheduler.handle(event, now=clock.now()):
            self._doers[type(effect)](effect)
        self._alarm.arm(self.scheduler.next_deadline())

    # ---- messages --------------------------------------------------------------------------------

    def _on_demand(self, source: Address, message: m.LeaseDemand) -> None:
        self.environments.want(message.env, source.node)
        self.handle(
            ev.DemandChanged(
                source,
                message.key,
                message.shape,
                message.env,
                message.wanted,
                message.backlog,
                message.spilled,
                message.where,
                message.is_near,
            )
        )

    def _on_return(self, source: Address, message: m.ReturnLease) -> None:
        self.handle(ev.LeaseReturned(source, message.lease, message.kill, message.reason))

    def _on_blocked(self, source: Address, message: m.Blocked) -> None:
        if source.node == self._hub.node:
            self.handle(ev.TaskBlocked(source.process, message.is_blocked))

    def _on_owning(self, source: Address, message: m.OwningChanged) -> None:
        if source.node == self._hub.node:
            self.handle(ev.OwningChanged(source.process, message.is_owning))

    def _on_explain(self, source: Address, message: m.Explain) -> None:
        lines = self.scheduler.explain(message.shape, message.where)
        self._hub.send(source, m.Explained(message.request, lines))

    def _on_actor_started(self, source: Address, message: m.ActorStarted) -> None:
        self._specs.pop((message.actor, message.restart), None)
        if not message.error:
            self._actors[message.actor, message.restart] = message.address
            self.state_changed()
        self._hub.to_control(message)

    def _on_actor_ending(self, source: Address, message: m.ActorEnded) -> None:
        """An actor says that it is about to end by its own choice, or a node that one has ended."""
        if source.node != self._hub.node:
            self._hub.to_control(message)
            return
        process = self._hub.local(source)
        if process is not None:
            process.is_retiring = True
            process.end_reason = message.cause.reason

    def _on_actor_left(self, source: Address, message: m.ActorLeft) -> None:
        process = self._hub.local(source)
        if process is not None:
            process.is_retiring = True
            process.end_reason = "it moved to another node"
            self._moved[message.actor, message.restart] = None
        self._hub.to_control(message)

    def _on_move(self, source: Address, message: m.MoveActor) -> None:
        placement = self.scheduler.placements.get((message.actor, message.restart))
        if placement is not None and placement.process:
            leave = m.LeaveActor(message.callers, message.reason)
            self._hub.send_to(placement.process, leave)

    def end_actors(self, reason: str) -> None:
        """The node ends: its actors did not move, and are told of why."""
        for actor, restart in self.scheduler.placements:
            if (actor, restart) in self._moved:
                continue
            cause = m.ExitCause(reason=reason, node=self._hub.node)
            self._hub.to_control(m.ActorEnded(actor, restart, cause))

    def _on_place(self, source: Address, message: m.PlaceActor) -> None:
        spec = message.spec
        self._specs[spec.actor, message.restart] = spec
        if spec.environment is not None:
            self.environments.prepare(spec.environment, spec.owner.address.node)
        self.handle(
            ev.ActorPlacementRequested(
                spec.actor, message.restart, spec.shape, spec.env, spec.where
            )
        )

    def _on_unplace(self, source: Address, message: m.UnplaceActor) -> None:
        self._specs.pop((message.actor, message.restart), None)
        self.handle(
            ev.ActorUnplaced(message.actor, message.restart, message.grace_s, message.reason)
        )

    # ---- the pool --------------------------------------------------------------------------------

    def worker_registered(self, process: LocalProcess) -> None:
        """See `PoolListener`."""
        self.handle(ev.WorkerStarted(process.start, process.number, process.pid))

    def worker_missing(self, process: LocalProcess, reason: str, is_env: bool) -> None:
        """See `PoolListener`."""
        self.handle(ev.WorkerStartFailed(process.start, reason, is_env))

    def worker_ended(self, process: LocalProcess) -> None:
        """See `PoolListener`."""
        assert process.cause is not None
        self.handle(ev.WorkerExited(process.number, process.cause, process.is_retiring))
        self.handle(ev.OwnerGone(process.address))

    # ---- effects ---------------------------------------------------------------------------------

    def _grant(self, effect: ev.GrantLease) -> None:
        granted = m.LeaseGranted(
            effect.key,
            effect.lease,
            self._address(effect.process),
            effect.granted,
            effect.gpus,
            effect.pid,
        )
        if not self._hub.send(effect.owner, granted):
            self._hub.reactor.call_later(0, lambda: self._undeliverable(effect))

    def _undeliverable(self, effect: ev.GrantLease) -> None:
        """An owner's connection went before its end is known: do not keep a worker for it."""
        self.handle(ev.LeaseReturned(effect.owner, effect.lease))

    def _spill(self, effect: ev.SpillBack) -> None:
        self._hub.send(effect.owner, m.LeaseSpilledBack(effect.key, effect.count, effect.node))

    def _infeasible(self, effect: ev.ReportInfeasible) -> None:
        self._hub.send(effect.owner, m.LeaseInfeasible(effect.key, effect.reason))

    def _env_failed(self, effect: ev.ReportEnvFailed) -> None:
        self._hub.send(effect.owner, m.EnvFailed(effect.env, effect.reason))

    def _start_worker(self, effect: ev.StartWorker) -> None:
        old = self._template
        worker = WorkerStart(
            effect.start,
            old.cluster,
            old.node_manager,
            old.sockets,
            old.arena_fd,
            old.arena_bytes,
            effect.env,
            effect.gpus,
            namespace=old.namespace,
            lineage_bytes=old.lineage_bytes,
            pending_bytes=old.pending_bytes,
        )
        env_vars = {}
        if self.total.get("GPU"):
            # A worker without devices must see none, or the first import of a framework takes all.
            env_vars["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, effect.gpus))
        # Later in this turn: a start that fails at once must not come back into the scheduler here.
        self._hub.reactor.call_later(0, lambda: self.pool.start(worker, env_vars))

    def _kill_worker(self, effect: ev.KillWorker) -> None:
        process = self._hub.processes.by_number.get(effect.process)
        if process is not None:
            self.pool.kill(process, effect.reason)

    def _ask_exit(self, effect: ev.AskExit) -> None:
        process = self._hub.processes.by_number.get(effect.process)
        if process is not None:
            process.end_reason = process.end_reason or effect.reason
            process.is_retiring = True
        self._hub.send_to(effect.process, m.ExitProcess(effect.reason))

    def _ask_return_idle(self, effect: ev.AskReturnIdle) -> None:
        self._hub.send(effect.owner, m.ReturnIdle(effect.count))

    def _revoke(self, effect: ev.RevokeLease) -> None:
        revoked = m.LeaseRevoked(effect.lease, self._address(effect.process), effect.cause)
        self._hub.send(effect.owner, revoked)

    def _assign_actor(self, effect: ev.AssignActor) -> None:
        # Kept until the actor has started: its worker may leave instead.
        spec = self._specs[effect.actor, effect.restart]
        process = self._hub.processes.by_number.get(effect.process)
        if process is not None:
            process.name = spec.options.name or spec.options.class_name
        self._hub.send_to(effect.process, m.CreateActor(spec, effect.restart, effect.gpus))

    def _reject_actor(self, effect: ev.RejectActor) -> None:
        self._specs.pop((effect.actor, effect.restart), None)
        failed = m.PlacementFailed(effect.actor, effect.restart, effect.reason, effect.is_final)
        self._hub.to_control(failed)

    def _actor_ended(self, effect: ev.ReportActorEnded) -> None:
        if self._actors.pop((effect.actor, effect.restart), None) is not None:
            self.state_changed()
        self._specs.pop((effect.actor, effect.restart), None)
        self._moved.pop((effect.actor, effect.restart), None)
        ended = m.ActorEnded(effect.actor, effect.restart, effect.cause, effect.is_intended)
        self._hub.to_control(ended)

    def _report(self, effect: ev.ReportNode) -> None:
        self._scheduled = effect
        self._told = self._state()
        self._hub.to_control(self._told)

    def _state(self) -> m.NodeReported:
        """What there is to report."""
        use = self._store_use()
        effect = self._scheduled
        drivers = len(self._hub.processes.drivers())
        # Copies of others' objects and empty slabs are nothing that its end would lose.
        is_idle = effect.is_idle and not drivers and not use.primary_bytes
        return m.NodeReported(
            self._hub.node,
            effect.available,
            effect.queued,
            use.in_use_bytes,
            use.touched_free_bytes,
            use.pinned_replica_bytes,
            *self._node_state,
            actors=effect.actors,
            drivers=drivers,
            is_idle=is_idle,
            demand=effect.demand,
        )

    def last_report(self) -> m.NodeReported:
        """What was last told, for a control service that has not heard it."""
        return self._told

    def living_actors(self) -> list[m.LivingActor]:
        """All placements here, with the address of those that have started."""
        return [
            m.LivingActor(actor, restart, self._actors.get((actor, restart)))
            for actor, restart in self.scheduler.placements
            if (actor, restart) not in self._moved
        ]

    def report_state(self, state: str, reason: str) -> None:
        """The node is this from now on (`NodeInfo.state`)."""
        self._node_state = (state, reason)
        self._report(self._scheduled)

    def busy_with(self) -> str:
        """What makes the node not idle; empty if nothing."""
        drivers = len(self._hub.processes.drivers())
        if drivers:
            return f"{drivers} drivers are attached"
        kept = self._store_use().primary_bytes
        if kept:
            return f"{kept} bytes are kept there that are nowhere else"
        return self.scheduler.busy_with()

    def state_changed(self) -> None:
        """The store, the actors or the drivers are others: tell soon, if nothing else is told
        before."""
        if not self._is_telling:
            self._is_telling = True
            self._hub.reactor.call_later(STORE_REPORT_S, self._tell_state)

    def _tell_state(self) -> None:
        self._is_telling = False
        if self._state() != self._told:
            self._report(self._scheduled)

    def _address(self, number: int) -> Address:
        return Address(self._hub.node, number, self._hub.incarnation)
