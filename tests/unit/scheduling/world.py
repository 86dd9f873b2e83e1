"""A scheduler whose workers start when the test says so, for short tests."""

from __future__ import annotations

from typing import TypeVar

from freehold._core.ids import Address
from freehold._core.messages import ExitCause, NodeInfo
from freehold._core.resources import UNIT, Shape, make_shape
from freehold._core.scheduling import events as ev
from freehold._core.scheduling.machine import LeaseScheduler

NODE = "a" * 32
OTHER = "b" * 32
THIRD = "c" * 32
DRIVER = Address(NODE, 900)
SECOND = Address(NODE, 901)
CPU1 = make_shape({"CPU": 1})

Effect = TypeVar("Effect")


class World:
    """One node; `now` moves by hand. Reports are left out of what `tell` returns."""

    def __init__(self, settings: ev.SchedulerSettings | None = None, **total: float) -> None:
        self.machine = LeaseScheduler(
            NODE,
            dict(make_shape(total)),
            settings or ev.SchedulerSettings(prestart_workers=0),
        )
        self.now = 100.0
        self.last_process = 0
        self.reports: list[ev.ReportNode] = []

    def tell(self, event: ev.SchedulingEvent) -> list[ev.SchedulingEffect]:
        effects = self.machine.handle(event, now=self.now)
        self.machine.check_invariants()
        self.reports += [e for e in effects if isinstance(e, ev.ReportNode)]
        return [effect for effect in effects if not isinstance(effect, ev.ReportNode)]

    def want(
        self,
        wanted: int,
        shape: Shape = CPU1,
        owner: Address = DRIVER,
        *,
        key: int = 0,
        env: str = "",
        spilled: bool = False,
    ) -> list[ev.SchedulingEffect]:
        return self.tell(ev.DemandChanged(owner, key, shape, env, wanted, 0, spilled))

    def start_all(self) -> list[ev.SchedulingEffect]:
        """Every worker being started registers, until no more are started."""
        effects: list[ev.SchedulingEffect] = []
        while self.machine.pool.starts:
            for start in list(self.machine.pool.starts):
                self.last_process += 1
                effects += self.tell(ev.WorkerStarted(start, self.last_process, 7))
        return effects

    def idle(self, count: int, env: str = "") -> None:
        """So many workers have been started, used, and are idle: processes 1, 2, …"""
        owner = Address(NODE, 999)
        self.want(count, (), owner, env=env)
        self.start_all()
        for lease in list(self.machine.leases):
            self.tell(ev.LeaseReturned(owner, lease))
        self.tell(ev.OwnerGone(owner))

    def exited(self, process: int) -> list[ev.SchedulingEffect]:
        return self.tell(ev.WorkerExited(process, ExitCause(signal=9)))

    def pass_time(self, seconds: float) -> list[ev.SchedulingEffect]:
        """Move the clock, reaching every deadline on the way."""
        until = self.now + seconds
        effects: list[ev.SchedulingEffect] = []
        due = self.machine.next_deadline()
        while due is not None and due <= until:
            self.now = max(self.now, due)
            effects += self.tell(ev.DeadlineReached())
            due = self.machine.next_deadline()
        self.now = until
        return effects

    @property
    def available(self) -> dict[str, float]:
        return {name: n / UNIT for name, n in self.machine.room.available.items()}


def of(effects: list[ev.SchedulingEffect], kind: type[Effect]) -> list[Effect]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def node_info(
    node: str = OTHER,
    *,
    free: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    **total: float,
) -> NodeInfo:
    """A node as the view has it; all of it free unless said otherwise."""
    units = dict(make_shape(total))
    return NodeInfo(
        node, 0, units, dict(make_shape(total if free is None else free)), labels=labels or {}
    )
