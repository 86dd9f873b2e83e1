"""The lease scheduler against a naive model of a node: its processes, its owners, its resources.

Safety after every event: nothing is granted that is not there, no worker serves two, a lease ends
once. Liveness at the end of every run: with all leases given back, whatever fits is granted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from freehold._core.ids import Address
from freehold._core.messages import ExitCause, NodeInfo
from freehold._core.resources import UNIT, Shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.machine import LeaseScheduler

pytestmark = pytest.mark.timeout(180)  # 20 s of CPU time, on a machine that may be shared

NODE = "n" * 32
OTHER = "o" * 32
TOTAL = {"CPU": 2 * UNIT, "GPU": 2 * UNIT, "x": UNIT}
OTHER_TOTAL = {"CPU": 4 * UNIT, "big": UNIT}
SHAPES: list[Shape] = [
    (),
    (("CPU", UNIT),),
    (("CPU", 2 * UNIT),),
    (("CPU", UNIT // 2), ("x", UNIT // 4)),
    (("x", UNIT),),
    (("GPU", UNIT),),
    (("GPU", UNIT // 2),),
    (("CPU", UNIT), ("GPU", 2 * UNIT)),
    (("CPU", 4 * UNIT),),
    (("big", UNIT),),
    (("nowhere", UNIT),),
]
OWNERS = [Address(NODE, 1000), Address(NODE, 1001), Address(OTHER, 5)]


@dataclass
class Held:
    """What one process of the model holds: its resources, and for whom."""

    shape: Shape = ()
    gpus: list[int] = field(default_factory=list)
    lease: int = 0
    owner: Address | None = None
    actor: tuple[bytes, int] | None = None
    is_blocked: bool = False
    is_killed: bool = False
    is_leaving: bool = False
    may_leave: bool = False


@dataclass
class Wish:
    """What an owner wants under one key, and how much of it was answered."""

    shape: Shape
    env: str
    wanted: int = 0
    answered: int = 0


LUCK = st.integers(0, 4)
"""What happens rarely happens at 0, so that leases live long enough to meet each other."""


class LeaseModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        settings = ev.SchedulerSettings(idle_worker_s=1.0, idle_workers=1)
        self.machine = LeaseScheduler(NODE, dict(TOTAL), settings)
        self.now = 0.0
        self.processes: dict[int, Held] = {}
        self.starts: dict[int, tuple[Held, str]] = {}
        self.wishes: dict[tuple[Address, int], Wish] = {}
        self.actors: dict[tuple[bytes, int], str] = {}
        self.shape_of_actor: dict[tuple[bytes, int], Shape] = {}
        self.last_process = 0
        self.last_actor = 0
        self.used_leases: set[int] = set()
        self.ended_leases: set[int] = set()
        self.envs: dict[int, str] = {}
        self.owners = list(OWNERS)
        self.dead: list[Address] = []
        self.tell(ev.NodeStarted())

    # ---- carrying out ------------------------------------------------------------------------

    def tell(self, event: ev.SchedulingEvent) -> None:
        handlers: dict[type, Callable[[Any], None]] = {
            ev.GrantLease: self.grant,
            ev.StartWorker: self.start,
            ev.KillWorker: self.kill,
            ev.AskExit: self.may_leave,
            ev.AssignActor: self.assign,
            ev.RevokeLease: self.revoke,
            ev.SpillBack: self.spill,
            ev.ReportInfeasible: self.refuse,
            ev.ReportEnvFailed: self.env_failed,
            ev.RejectActor: self.reject,
            ev.ReportActorEnded: self.actor_ended,
            ev.AskReturnIdle: self.asked,
            ev.ReportNode: self.reported,
        }
        for effect in self.machine.handle(event, now=self.now):
            handlers[type(effect)](effect)
        self.machine.check_invariants()

    def free(self) -> dict[str, int]:
        free = dict(TOTAL)
        for held in [*self.processes.values(), *(h for h, _ in self.starts.values())]:
            for name, units in held.shape:
                if name != "CPU" or not held.is_blocked:
                    free[name] -= units
        return free

    def take(self, held: Held, shape: Shape, gpus: list[int]) -> None:
        free = self.free()
        for name, units in shape:
            assert free[name] >= units, f"{name} is overcommitted by a grant"
        held.shape, held.gpus = shape, gpus
        devices = [0, 0]
        for other in [*self.processes.values(), *(h for h, _ in self.starts.values())]:
            for name, units in other.shape:
                if name == "GPU":
                    assert len(other.gpus) == max(1, units // UNIT)
                    for index in other.gpus:
                        devices[index] += min(units, UNIT)
        assert max(devices) <= UNIT, "a device is shared by more than fit it"

    def grant(self, effect: ev.GrantLease) -> None:
        wish = self.wishes[effect.owner, effect.key]
        held = self.processes[effect.process]
        assert not held.lease
        assert not held.actor
        assert not held.is_killed
        assert not held.may_leave
        assert effect.owner not in self.dead
        assert self.envs[effect.process] == wish.env
        assert effect.lease not in self.used_leases
        self.used_leases.add(effect.lease)
        wish.answered += 1
        assert effect.granted == wish.answered
        assert wish.answered <= wish.wanted, "more was granted than was wanted"
        if held.shape != wish.shape:
            self.take(held, wish.shape, effect.gpus)
        assert held.gpus == effect.gpus
        held.lease, held.owner = effect.lease, effect.owner

    def start(self, effect: ev.StartWorker) -> None:
        assert effect.start not in self.starts
        held = Held()
        self.starts[effect.start] = (held, effect.env)
        if effect.gpus:
            waiting = [w.shape for w in self.wishes.values() if w.answered < w.wanted]
            waiting += [self.shape_of_actor[a] for a, s in self.actors.items() if s == "waiting"]
            free = self.free()
            shape = self.machine.pool.starts[effect.start].shape
            assert shape in waiting
            assert all(free[name] >= units for name, units in shape)
            self.take(held, shape, effect.gpus)

    def kill(self, effect: ev.KillWorker) -> None:
        held = self.processes[effect.process]
        assert not held.is_killed
        held.is_killed = True

    def may_leave(self, effect: ev.AskExit) -> None:
        held = self.processes[effect.process]
        assert not held.lease, "a worker leaves though an owner may be sending it tasks"
        if held.actor is None:
            assert held.is_leaving
            assert not held.may_leave
            held.may_leave = True

    def assign(self, effect: ev.AssignActor) -> None:
        name = (effect.actor, effect.restart)
        held = self.processes[effect.process]
        assert not held.lease
        assert not held.actor
        assert not held.is_killed
        assert not held.may_leave
        if held.shape != self.shape_of_actor[name]:
            self.take(held, self.shape_of_actor[name], effect.gpus)
        held.actor = name
        assert self.actors[name] == "waiting"
        self.actors[name] = "alive"

    def revoke(self, effect: ev.RevokeLease) -> None:
        self.end_lease(effect.lease)
        assert effect.process not in self.processes
        assert any(owner == effect.owner for owner, _ in self.wishes)

    def end_lease(self, lease: int) -> None:
        assert lease in self.used_leases
        assert lease not in self.ended_leases, "a lease ended twice"
        self.ended_leases.add(lease)

    def spill(self, effect: ev.SpillBack) -> None:
        wish = self.wishes[effect.owner, effect.key]
        assert effect.node == OTHER
        assert all(OTHER_TOTAL.get(name, 0) >= units for name, units in wish.shape)
        wish.answered += effect.count
        assert wish.answered <= wish.wanted

    def refuse(self, effect: ev.ReportInfeasible) -> None:
        wish = self.wishes[effect.owner, effect.key]
        assert any(TOTAL.get(name, 0) < units for name, units in wish.shape)
        assert wish.answered < wish.wanted
        wish.answered = wish.wanted

    def env_failed(self, effect: ev.ReportEnvFailed) -> None:
        for (owner, _), wish in self.wishes.items():
            if owner == effect.owner and wish.env == effect.env:
                bound = sum(
                    s.waiter is self.machine.owners[owner].demands.get(key)
                    for s in self.machine.pool.starts.values()
                    for (o, key), w in self.wishes.items()
                    if w is wish and o == owner
                )
                wish.answered = max(wish.answered, wish.wanted - bound)

    def reject(self, effect: ev.RejectActor) -> None:
        assert self.actors.pop((effect.actor, effect.restart)) == "waiting"

    def actor_ended(self, effect: ev.ReportActorEnded) -> None:
        state = self.actors.pop((effect.actor, effect.restart))
        assert state == ("alive" if effect.process else "waiting")

    def asked(self, effect: ev.AskReturnIdle) -> None:
        assert any(h.lease and h.owner == effect.owner for h in self.processes.values())

    def reported(self, effect: ev.ReportNode) -> None:
        assert effect.available == self.free()

    # ---- rules -------------------------------------------------------------------------------

    @rule(
        who=st.integers(0, len(OWNERS) - 1),
        shape=st.sampled_from([1, 1, 1, *range(len(SHAPES))]),
        env=st.sampled_from(["", "", "", "e"]),
        more=st.sampled_from([1, 1, 2, 4, -1, -3]),
        flags=st.tuples(st.booleans(), st.booleans()),
    )
    def demand(self, who: int, shape: int, env: str, more: int, flags: tuple[bool, bool]) -> None:
        spilled, starts = flags
        owner = self.owners[who]
        key = 2 * shape + (env == "e")
        wish = self.wishes.setdefault((owner, key), Wish(SHAPES[shape], env))
        wish.wanted = max(wish.answered, wish.wanted + more)
        self.tell(ev.DemandChanged(owner, key, wish.shape, env, wish.wanted, 0, spilled))
        if starts:
            self.all_start()

    @precondition(lambda self: self.starts)
    @rule(data=st.data(), outcome=st.sampled_from(["well", "well", "well", "failed", "env"]))
    def start_ends(self, data: st.DataObject, outcome: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.starts)))
        if outcome == "well":
            self.start_ended_well(number)
            return
        del self.starts[number]
        self.tell(ev.WorkerStartFailed(number, "no", outcome == "env"))

    @rule()
    def starts_end_well(self) -> None:
        self.all_start()

    def all_start(self) -> None:
        for number in sorted(self.starts):
            self.start_ended_well(number)

    def start_ended_well(self, number: int) -> None:
        held, env = self.starts.pop(number)
        self.last_process += 1
        self.processes[self.last_process] = held
        self.envs[self.last_process] = env
        self.tell(ev.WorkerStarted(number, self.last_process, 7))

    @precondition(lambda self: any(h.lease for h in self.processes.values()))
    @rule(data=st.data(), kill=st.booleans())
    def give_back(self, data: st.DataObject, kill: bool) -> None:
        leased = [p for p, h in self.processes.items() if h.lease]
        self.return_lease(data.draw(st.sampled_from(leased)), kill)

    def return_lease(self, process: int, kill: bool) -> None:
        held = self.processes[process]
        lease, owner = held.lease, held.owner
        assert owner is not None
        self.end_lease(lease)
        held.lease, held.owner = 0, None
        leaves = held.is_leaving and not kill
        if leaves:
            # Its devices' memory may be in use until the process has ended; nothing else is.
            held.shape = tuple(entry for entry in held.shape if entry[0] == "GPU")
            held.is_blocked = False
        elif not kill and not held.gpus:
            held.shape, held.is_blocked = (), False
        self.tell(ev.LeaseReturned(owner, lease, kill))
        assert held.may_leave == leaves
        assert held.is_killed == (kill or (bool(held.gpus) and not leaves))

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), luck=LUCK)
    def leaves(self, data: st.DataObject, luck: int) -> None:
        """A worker announces its end; an actor that it was to become crossed that."""
        process = data.draw(st.sampled_from(sorted(self.processes)))
        held = self.processes[process]
        if not luck or held.is_killed or held.is_leaving:
            return
        name = held.actor
        if name is not None:
            if self.machine.placements[name].was_asked:
                return
            held.actor, held.shape, held.gpus, held.is_blocked = None, (), [], False
            self.actors[name] = "waiting"
        held.is_leaving = True
        self.tell(ev.WorkerLeaving(process, "max_calls"))
        assert held.may_leave == (not held.lease)

    @precondition(lambda self: self.processes)
    @rule(data=st.data(), luck=LUCK)
    def exits(self, data: st.DataObject, luck: int) -> None:
        if not luck:
            self.exited(data.draw(st.sampled_from(sorted(self.processes))))

    def exited(self, process: int) -> None:
        held = self.processes.pop(process)
        self.tell(ev.WorkerExited(process, ExitCause(signal=9)))
        assert not held.lease or held.lease in self.ended_leases, "an ended lease was not revoked"
        assert held.actor is None or held.actor not in self.actors

    @precondition(lambda self: any(h.lease or h.actor for h in self.processes.values()))
    @rule(data=st.data(), is_blocked=st.booleans())
    def blocks(self, data: st.DataObject, is_blocked: bool) -> None:
        busy = [p for p, h in self.processes.items() if (h.lease or h.actor) and not h.is_killed]
        if busy:
            process = data.draw(st.sampled_from(busy))
            self.processes[process].is_blocked = is_blocked
            self.tell(ev.TaskBlocked(process, is_blocked))

    @rule(who=st.integers(0, len(OWNERS) - 1), luck=LUCK, may_return=st.booleans())
    def owner_ends(self, who: int, luck: int, may_return: bool) -> None:
        if luck:
            return
        owner = self.owners[who]
        if not may_return:
            self.dead.append(owner)
            self.owners[who] = Address(owner.node, 2000 + len(self.dead))
        mine = [h for h in self.processes.values() if h.owner == owner]
        for held in mine:
            self.end_lease(held.lease)
            held.lease, held.owner = 0, None
        self.wishes = {name: w for name, w in self.wishes.items() if name[0] != owner}
        self.tell(ev.OwnerGone(owner, may_return))
        assert all(held.is_killed for held in mine)

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), shape=st.sampled_from(SHAPES))
    def late_demand(self, data: st.DataObject, shape: Shape) -> None:
        owner = data.draw(st.sampled_from(self.dead))
        self.tell(ev.DemandChanged(owner, 0, shape, "", 1))
        assert owner not in self.machine.owners, "a dead owner's demand was taken"

    @rule(shape=st.sampled_from(SHAPES), env=st.sampled_from(["", "e"]))
    def actor(self, shape: Shape, env: str) -> None:
        self.last_actor += 1
        name = (bytes([self.last_actor % 256]) * 16, self.last_actor)
        self.actors[name] = "waiting"
        self.shape_of_actor[name] = shape
        self.tell(ev.ActorPlacementRequested(*name, shape, env))

    @precondition(lambda self: self.actors)
    @rule(data=st.data(), grace_s=st.sampled_from([0.0, 0.5]))
    def unplace(self, data: st.DataObject, grace_s: float) -> None:
        self.tell(ev.ActorUnplaced(*data.draw(st.sampled_from(sorted(self.actors))), grace_s))

    @rule(process=st.integers(1, 12), is_owning=st.booleans())
    def owning(self, process: int, is_owning: bool) -> None:
        self.tell(ev.OwningChanged(process, is_owning))

    @rule(cpu=st.integers(0, 4), is_alive=st.booleans())
    def view(self, cpu: int, is_alive: bool) -> None:
        available = {"CPU": cpu * UNIT, "big": UNIT}
        info = NodeInfo(OTHER, 0, dict(OTHER_TOTAL), available, is_alive=is_alive)
        self.tell(ev.ViewChanged([info]))

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.5, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.advance(self.now + seconds)

    def advance(self, until: float) -> None:
        for _ in range(1000):
            due = self.machine.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.tell(ev.DeadlineReached())
            after = self.machine.next_deadline()
            assert after is None or after > self.now, "a deadline was reached and stays"
        else:
            raise AssertionError("deadlines without end")
        self.now = until

    # ---- liveness ----------------------------------------------------------------------------

    def teardown(self) -> None:
        for _ in range(400):
            before = self.machine.snapshot()
            for number in sorted(self.starts):
                self.start_ended_well(number)
            ending = [p for p, h in self.processes.items() if h.is_killed or h.may_leave]
            for process in sorted(ending):
                self.exited(process)
            for process in [p for p, h in self.processes.items() if h.lease]:
                if self.processes[process].lease:
                    self.return_lease(process, kill=False)
            for name in sorted(self.actors):
                if self.actors.get(name) == "alive":
                    self.tell(ev.ActorUnplaced(*name))
            self.advance(self.now + 70.0)
            if self.machine.snapshot() == before and not self.starts:
                break
        for key, wish in self.wishes.items():
            assert wish.answered == wish.wanted, f"{key} {wish} waits for ever"
        assert "waiting" not in self.actors.values(), "an actor waits for ever"
        snapshot = self.machine.snapshot()
        assert snapshot.available == TOTAL
        assert snapshot.idle <= 1 + sum(w.is_owning for w in self.machine.pool.by_process.values())


TestLeaseModel = pytest.mark.timeout(300)(LeaseModel.TestCase)
TestLeaseModel.settings = settings(max_examples=200, stateful_step_count=60)
