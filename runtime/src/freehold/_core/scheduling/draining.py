"""A node that drains: it grants nothing any more, and what waits is sent to other nodes.

Place in the flow: part of the scheduler. Workers are told to leave by the shell; here each is let
go as one that leaves by itself (`WorkerLeaving`). What only this node could run goes on waiting, as
after a node's death: another of its kind may come.

Here, too, a node gives a *keeper*: an idle worker that owns from then on what the workers of
another node that drains owned. It runs nothing as long as it owns anything.
"""

from __future__ import annotations

from freehold._core.scheduling import events as ev
from freehold._core.scheduling.lines import Demand, Placement
from freehold._core.scheduling.policy import pick_other
from freehold._core.scheduling.serving import Serving
from freehold._core.scheduling.workers import IDLE, KEEPER, Worker

SENDS_AT_ONCE = 64
"""Decisions spent at the most on sending one demand away."""


class Draining(Serving):
    """The parts of one node's scheduler that have to do with drains."""

    def _drain_started(self, event: ev.DrainStarted) -> None:
        self.draining = event.reason
        self._spares.clear()
        for source, request in self._keeper_wanted.items():
            self._effects.append(ev.NameKeeper(source, request, 0))
        self._keeper_wanted.clear()
        self._send_off()

    def busy_with(self) -> str:
        """What of leases and actors makes the node not idle; empty if nothing."""
        if self.leases:
            return f"{len(self.leases)} leases are in use"
        if self.placements:
            return f"{len(self.placements)} actors are there"
        return "tasks wait there" if self.lines else ""

    def _send_off(self) -> None:
        """Send all that waits here to other nodes."""
        for line in list(self.lines):
            for waiter in list(line.waiters.values()):
                if isinstance(waiter, Placement):
                    self._reject(waiter, f"the node drains: {self.draining}", is_final=False)
                else:
                    self._send_demand_off(waiter)

    def _send_demand_off(self, demand: Demand) -> None:
        step = 1 + demand.waiting // SENDS_AT_ONCE
        left = demand.waiting
        sent: dict[str, int] = {}
        while left > 0:
            node = pick_other(demand.shape, self.view, demand.where)
            if not node:
                break
            share = min(left, step)
            left -= share
            sent[node] = sent.get(node, 0) + share
            for _ in range(share):
                self.view.charge(node, demand.shape)
        for node, share in sent.items():
            demand.answered += share
            self.spilled += share
            self._effects.append(ev.SpillBack(demand.owner, demand.key, share, node))
        self._update_waiting(demand)

    # ---- keepers ---------------------------------------------------------------------------------

    def _keeper_requested(self, event: ev.KeeperRequested) -> None:
        if self.draining:
            self._effects.append(ev.NameKeeper(event.source, event.request, 0))
            return
        self._keeper_wanted[event.source] = event.request
        self._find_keeper()

    def _find_keeper(self) -> None:
        """Name the keeper to those who asked for one, or have a worker started that will be it."""
        workers = self.pool.by_process.values()
        keeper = next((worker for worker in workers if worker.state == KEEPER), None)
        if keeper is None:
            keeper = self.pool.find_idle("", for_actor=True)
            if keeper is not None:
                self.pool.set_state(keeper, KEEPER, self._now)
        if keeper is not None:
            for source, request in self._keeper_wanted.items():
                self._effects.append(ev.NameKeeper(source, request, keeper.process))
            self._keeper_wanted.clear()
        elif not self.pool.starting("") and self._may_start(""):
            self._start("")

    def _keeper_owns(self, worker: Worker, is_owning: bool) -> None:
        """A keeper that owns nothing any more is an idle worker again."""
        if worker.state == KEEPER and not is_owning:
            self.pool.set_state(worker, IDLE, self._now)
