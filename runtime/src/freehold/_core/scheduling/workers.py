"""The workers of a node: being started, idle, leased, actors, or ending.

Place in the flow: the scheduler takes workers from it and puts them back. Idle workers are used
again last in, first out, so that the others grow old and can be ended. A worker that owns objects
others may need is never ended for being idle, and never made an actor (whose end is not ours to
choose) while another will do.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from freehold._core.resources import Shape
from freehold._core.scheduling.events import Instant
from freehold._core.scheduling.lines import Demand, Placement, Waiter

IDLE = "idle"
LEASED = "leased"
ACTOR = "actor"
ENDING = "ending"
KEEPER = "keeper"
"""It owns what workers of other nodes owned that drained."""


@dataclass(slots=True)
class Start:
    """A worker being forked; with `waiter` if it was given `gpus` and so is for one alone."""

    start: int
    env: str
    waiter: Waiter | None = None
    shape: Shape = ()
    gpus: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Worker:
    """A registered worker process and what it holds."""

    process: int
    pid: int
    env: str
    state: str = IDLE
    idle_since: Instant = 0.0
    is_owning: bool = False
    is_blocked: bool = False
    is_leaving: bool = False
    """It starts no task any more, and ends when its lease has been given back."""
    leaves_because: str = ""
    shape: Shape = ()
    """What it holds of the node; while `is_blocked` its CPUs are given back already."""
    gpus: list[int] = field(default_factory=list)
    lease: int = 0
    demand: Demand | None = None
    placement: Placement | None = None


class WorkerPool:
    """Workers by process number, the idle ones by environment, and the starts under way."""

    def __init__(self) -> None:
        self.by_process: dict[int, Worker] = {}
        self.starts: dict[int, Start] = {}
        self.counts = {IDLE: 0, LEASED: 0, ACTOR: 0, ENDING: 0, KEEPER: 0}
        self._idle: dict[str, dict[int, Worker]] = {}
        self._reapable: dict[int, Worker] = {}
        """Idle and not owning, the one that has been idle longest first."""
        self._plain_starts: dict[str, int] = {}

    # ---- starting ------------------------------------------------------------------------------

    def add_start(self, start: Start) -> None:
        self.starts[start.start] = start
        if start.waiter is None:
            self._plain_starts[start.env] = self._plain_starts.get(start.env, 0) + 1

    def pop_start(self, number: int) -> Start | None:
        """The start is over."""
        start = self.starts.pop(number, None)
        if start is not None and start.waiter is None:
            self._plain_starts[start.env] -= 1
            if not self._plain_starts[start.env]:
                del self._plain_starts[start.env]
        return start

    def starting(self, env: str) -> int:
        """Workers being started that anyone with the environment may get."""
        return self._plain_starts.get(env, 0)

    def idle(self, env: str) -> int:
        """Workers of the environment that do nothing."""
        return len(self._idle.get(env, ()))

    # ---- workers -------------------------------------------------------------------------------

    def add(self, worker: Worker, now: Instant) -> None:
        """A worker registered; it is idle."""
        self.by_process[worker.process] = worker
        self.counts[IDLE] += 1
        self._enter_idle(worker, now)

    def set_state(self, worker: Worker, state: str, now: Instant) -> None:
        """Move a worker from one state to another."""
        if worker.state == IDLE:
            self._leave_idle(worker)
        self.counts[worker.state] -= 1
        self.counts[state] += 1
        worker.state = state
        if state == IDLE:
            self._enter_idle(worker, now)

    def remove(self, worker: Worker) -> None:
        """Its process has ended."""
        if worker.state == IDLE:
            self._leave_idle(worker)
        self.counts[worker.state] -= 1
        del self.by_process[worker.process]

    def set_owning(self, worker: Worker, is_owning: bool, now: Instant) -> None:
        """Whether it must be spared; a worker that no longer owns counts as idle from now on."""
        if worker.is_owning == is_owning:
            return
        worker.is_owning = is_owning
        if worker.state == IDLE:
            self._leave_idle(worker)
            self._enter_idle(worker, now)

    def find_idle(self, env: str, *, for_actor: bool) -> Worker | None:
        """The idle worker to use next."""
        idle = self._idle.get(env)
        if not idle:
            return None
        if not for_actor:
            return idle[next(reversed(idle))]
        return next((w for w in reversed(idle.values()) if not w.is_owning), None)

    def oldest_reapable(self, keep: int) -> Worker | None:
        """The worker to end next if more than `keep` are idle."""
        if self.counts[IDLE] <= keep or not self._reapable:
            return None
        return next(iter(self._reapable.values()))

    def _enter_idle(self, worker: Worker, now: Instant) -> None:
        worker.idle_since = now
        self._idle.setdefault(worker.env, {})[worker.process] = worker
        if not worker.is_owning:
            self._reapable[worker.process] = worker

    def _leave_idle(self, worker: Worker) -> None:
        idle = self._idle[worker.env]
        del idle[worker.process]
        if not idle:
            del self._idle[worker.env]
        self._reapable.pop(worker.process, None)
