"""What is going on in a scheduler, for users, metrics and tests: reads its tables, changes nothing.

Place in the flow: `LeaseScheduler.explain`, `snapshot` and `check_invariants` are made here, so
that the machine's file holds decisions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.invariants import check
from freehold._core.messages import ShapeDemand
from freehold._core.resources import CPU, GPU, UNIT, Shape, lacking
from freehold._core.scheduling.events import SchedulingSnapshot
from freehold._core.scheduling.policy import NodeRoom, is_feasible, is_whole
from freehold._core.scheduling.workers import ACTOR, ENDING, IDLE, KEEPER, LEASED
from freehold._core.where import Where, allows

if TYPE_CHECKING:
    from freehold._core.scheduling.machine import LeaseScheduler
    from freehold._core.scheduling.serving import Serving


def take_snapshot(scheduler: LeaseScheduler) -> SchedulingSnapshot:
    """Counts at this moment."""
    pool = scheduler.pool
    return SchedulingSnapshot(
        total=dict(scheduler.room.total),
        available=dict(scheduler.room.available),
        queued=scheduler.lines.queued(),
        demand=list_demand(scheduler),
        idle=pool.counts[IDLE],
        starting=len(pool.starts),
        leased=pool.counts[LEASED],
        actors=pool.counts[ACTOR],
        ending=pool.counts[ENDING],
        blocked=sum(worker.is_blocked for worker in pool.by_process.values()),
        owners=len(scheduler.owners),
        granted=scheduler.last_lease,
        spilled=scheduler.spilled,
        ignored_events=scheduler.ignored,
    )


def list_demand(scheduler: Serving) -> list[ShapeDemand]:
    """What runs here and what waits, by shape and placement, in a fixed order.

    A task is counted once in a cluster: at its owner's node. So what owners of other nodes want
    here counts for nothing, and what was spilled away counts with all its owner's backlog.
    """
    queued: dict[tuple[Shape, Where | None], int] = {}
    running: dict[tuple[Shape, Where | None], int] = {}
    for row in scheduler.owners.values():
        for demand in row.demands.values():
            key = (demand.shape, demand.where)
            if demand.leases:
                running[key] = running.get(key, 0) + demand.leases
            is_ours = demand.owner.node == scheduler.node
            count = max(demand.waiting, demand.backlog) if is_ours else 0
            if count:
                queued[key] = queued.get(key, 0) + count
    for placement in scheduler.placements.values():
        key = (placement.shape, placement.where)
        if placement.process:
            running[key] = running.get(key, 0) + 1
        else:
            queued[key] = queued.get(key, 0) + 1
    found = []
    for key in {**queued, **running}:
        since = scheduler.lines.oldest(*key)
        oldest_s = max(0.0, scheduler.lines.now - since) if since is not None else 0.0
        found.append(ShapeDemand(*key, queued.get(key, 0), running.get(key, 0), oldest_s))
    return sorted(found, key=lambda demand: (demand.shape, str(demand.where)))


def explain_shape(scheduler: LeaseScheduler, shape: Shape, where: Where | None = None) -> list[str]:
    """A line for each node that is known, this one first."""
    room = scheduler.room
    here = NodeRoom(scheduler.node, room.total, room.available, scheduler.labels)
    line = _explain(here, shape, where)
    if not lacking(shape, room.available) and room.missing(shape):
        line += "; but no device has that much free"
    before = sum(w.count for w in scheduler.lines if not shape or _share(w.shape, shape))
    if before:
        line += f"; {before} waiting for the same resources there"
    if scheduler.pool.starts:
        line += f"; {len(scheduler.pool.starts)} workers are starting"
    return [line, *(_explain(other, shape, where) for other in scheduler.view)]


def _share(one: Shape, other: Shape) -> bool:
    names = [name for name, _ in other]
    return any(name in names for name, _ in one)


def _explain(room: NodeRoom, shape: Shape, where: Where | None) -> str:
    node, total, available = room.node, room.total, room.available
    missing = lacking(shape, available)
    if not allows(where, node, room.labels):
        verdict = f"may not run it ({where})"
    elif not is_whole(shape):
        verdict = "can never fit: GPU must be at most 1 or a whole number"
    elif not missing:
        verdict = "fits now"
    else:
        verdict = "lacks " if is_feasible(shape, total) else "can never fit: lacks "
        verdict += "; ".join(
            f"{name} (needs {need / UNIT:g}, has {max(0, has) / UNIT:g} free of "
            f"{total.get(name, 0) / UNIT:g})"
            for name, (need, has) in missing.items()
        )
    return f"node {node[:8]}: {verdict}"


def check_tables(scheduler: LeaseScheduler) -> None:
    """Compare a scheduler's tables with each other.

    SCH-1: free amounts and devices are the total less what workers and starts hold.
    SCH-2: nothing but CPU is ever overcommitted, and CPU only while tasks that waited go on.
    SCH-3: every lease has one worker and one owner, who both know it.
    SCH-4: what waits of a demand is what was wanted, not answered and not being started for it; a
    line counts its waiters.
    SCH-5: an idle worker holds nothing; one with devices is never idle.
    SCH-6: an actor placement waits, is being started, or has a process of its own.
    SCH-7: the counts of worker states are those of the workers.

    Raises:
        InvariantError: one of them does not hold.
    """
    _check_room(scheduler)
    _check_leases(scheduler)
    _check_lines(scheduler)
    _check_workers(scheduler)


def _check_room(scheduler: LeaseScheduler) -> None:
    room = scheduler.room
    free = dict(room.total)
    devices = [UNIT] * len(room.gpus)
    holders = [(w.shape, w.gpus, w.is_blocked) for w in scheduler.pool.by_process.values()]
    holders += [(s.shape, s.gpus, False) for s in scheduler.pool.starts.values()]
    for shape, gpus, is_blocked in holders:
        for name, units in shape:
            if name != CPU or not is_blocked:
                free[name] -= units
            if name == GPU:
                for index in gpus:
                    devices[index] -= min(units, UNIT)
    check(free == room.available, "SCH-1", f"available is {room.available}, should be {free}")
    check(devices == room.gpus, "SCH-1", f"free devices are {room.gpus}, should be {devices}")
    for name, units in free.items():
        check(name == CPU or units >= 0, "SCH-2", f"{name} is overcommitted: {units}")
        check(units <= room.total[name], "SCH-2", f"{name}: more is free than there is")


def _check_leases(scheduler: LeaseScheduler) -> None:
    seen = 0
    for owner, row in scheduler.owners.items():
        counts = dict.fromkeys(row.demands, 0)
        for lease, worker in row.leases.items():
            demand = worker.demand
            held = (
                worker.state == LEASED
                and worker.lease == lease
                and scheduler.leases.get(lease) is worker
                and demand is not None
                and demand.owner == owner
            )
            check(held, "SCH-3", f"lease {lease} of {owner} on process {worker.process}")
            if demand is not None:
                counts[demand.key] += 1
            seen += 1
        for key, count in counts.items():
            check(row.demands[key].leases == count, "SCH-3", f"lease count of {owner} key {key}")
    leased = scheduler.pool.counts[LEASED]
    check(seen == len(scheduler.leases) == leased, "SCH-3", f"{seen} leases, {leased} workers")


def _check_lines(scheduler: LeaseScheduler) -> None:
    waiting: dict[object, int] = {}
    for row in scheduler.owners.values():
        for demand in row.demands.values():
            due = max(0, demand.wanted - demand.answered - demand.binding)
            check(demand.waiting == due, "SCH-4", f"{demand} should have {due} waiting")
            starts = [s for s in scheduler.pool.starts.values() if s.waiter is demand]
            check(demand.binding == len(starts), "SCH-4", f"{demand} has {len(starts)} starts")
            if due:
                waiting[demand.name] = due
    for placement in scheduler.placements.values():
        if placement.waiting:
            waiting[placement.name] = 1
        binding = any(s.waiter is placement for s in scheduler.pool.starts.values())
        worker = scheduler.pool.by_process.get(placement.process)
        lives = worker is not None and worker.placement is placement
        check(placement.waiting + binding + lives == 1, "SCH-6", f"{placement}")
    for line in scheduler.lines:
        check(line.count > 0, "SCH-4", f"an empty line of {line.shape} was kept")
        check(
            line.count == sum(w.waiting for w in line.waiters.values()),
            "SCH-4",
            f"the line of {line.shape} counts {line.count}",
        )
        for name, waiter in line.waiters.items():
            check(waiting.pop(name, 0) == waiter.waiting, "SCH-4", f"{waiter} in line")
    check(not waiting, "SCH-4", f"wait in no line: {waiting}")


def _check_workers(scheduler: LeaseScheduler) -> None:
    counts = {IDLE: 0, LEASED: 0, ACTOR: 0, ENDING: 0, KEEPER: 0}
    for worker in scheduler.pool.by_process.values():
        counts[worker.state] += 1
        if worker.state == IDLE:
            empty = not worker.shape and not worker.gpus and not worker.is_blocked
            empty = empty and worker.demand is None and worker.placement is None
            check(empty, "SCH-5", f"idle process {worker.process} holds {worker.shape}")
        if worker.state == ACTOR:
            check(worker.placement is not None, "SCH-6", f"process {worker.process} is no actor")
    check(counts == scheduler.pool.counts, "SCH-7", f"{scheduler.pool.counts} are {counts}")
