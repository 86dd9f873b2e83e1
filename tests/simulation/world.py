"""A whole cluster in one process, from a seed: machines, network, faults, and who judges them.

`World(seed).run()` lets a driver and what it starts run on two nodes under delays and, by seed,
crashes, a node's death and broken connections; then faults end and everything must come to rest.

What is demanded (SIM-1 … SIM-7 in docs/invariants.md): every get ends, with the right value or
with an error that a fault before it explains; nothing that a living process refers to is forgotten
by its living owner or released under it; a task with `max_retries=0` begins once at the most; every
machine's own invariants hold after each event; at rest nobody has a row, a lease or a range; and in
families whose makers are killed no get fails at all.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.simulation.network import CONTROL, Clock, Network
from tests.simulation.nodes import SimControl, SimNode
from tests.simulation.parts import Context
from tests.simulation.process import Execution, SimProcess, SimWorker, Value, tag
from tests.simulation.program import (
    Program,
    actor_program,
    decode,
    driver_program,
    family_driver,
    family_program,
    task_program,
)
from tests.simulation.runner import Steps

from freehold._core import messages as m
from freehold._core.ids import ACTOR_HANDLE_INDEX, Address, Location, root_task_id
from freehold._core.ownership.borrowing import is_supervised_by
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import FAILED, REGISTERING, Row
from freehold._core.scheduling import events as ev

NODES = ("0" * 32, "1" * 32)
FAULTS = ("none", "crash", "node", "reset", "makers")
"""What goes wrong; "makers": workers are killed that own what others wait for, and all of it must
be made again."""
FAULTS_END_S = 3.0
REST_S = 200.0
MAX_EVENTS = 400_000
USER_FAILURES = {b"user", b"cancelled", b"TaskCancelledError", b"ActorDiedError"}
"""What programs bring about themselves; an actor is dead, too, when its constructor fails."""


class World:
    """One simulated cluster."""

    def __init__(
        self,
        seed: int,
        faults: str | None = None,
        rng: random.Random | None = None,
        cpus: tuple[int, int] = (2, 2),
    ) -> None:
        self.seed = seed
        self.rng = rng if rng is not None else random.Random(f"world {seed}")
        self.faults = faults if faults is not None else FAULTS[seed % len(FAULTS)]
        self.is_families = self.faults == "makers"
        self.has_deadlocks = seed // len(FAULTS) % 2 == 1 and not self.is_families
        """Whether actors return what others gave them; see `process.WAIT_LIMIT_S`."""
        self.has_actors = True
        self.has_retries = True
        """Whether some tasks are executed again after an exception of their own."""
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, self.rng.choice([0.0005, 0.005, 0.05]))
        self.start_control()
        self.nodes = {
            name: self.make_node(name, number) for name, number in zip(NODES, cpus, strict=True)
        }
        self.processes: dict[Address, SimProcess] = {}
        self.starts: Counter[bytes] = Counter()
        self.dropped: dict[tuple[Address, int], int] = {}
        """Attempts in which a task's caller let go of an argument before the task's end."""
        self.retried_after_drop = 0
        self.sent: set[tuple[Address, int]] = set()
        self.sent_again: set[bytes] = set()
        """Arguments of tasks that were executed again."""
        self.given_again: set[bytes] = set()
        """Arguments of tasks that were executed again though they had ended."""
        self.first_fault_at: float | None = None
        self.cancelled = False
        self.actors: set[bytes] = set()
        self.failures: Counter[bytes] = Counter()
        self.threads = 0
        self.finished = 0
        self.cycles = 0
        self.left = 0
        """Workers that left by themselves."""
        self.once: set[tuple[Address, int]] = set()
        self.inside: dict[bytes, int] = {}
        """How many references an object's value holds, as it was made last."""
        self._checks = 0

    def start_control(self) -> None:
        """There is a control service from now on."""
        self.control = SimControl(self)
        self.network.receivers[CONTROL] = self.control

    def make_node(self, name: str, cpus: int) -> SimNode:
        """A node of this cluster, not started yet."""
        return SimNode(self, name, cpus)

    # ---- running --------------------

    def run(self) -> None:
        """Run to rest and judge."""
        for node in self.nodes.values():
            self.network.receivers[node.address] = node
            node.start()
        driver = SimProcess(self, self.nodes[NODES[0]].new_address())
        self._add(driver)
        self.begin(driver)
        while self.clock.step(REST_S):
            assert self.clock.events < MAX_EVENTS, "the cluster does not come to rest"
            if self.finished == self.threads and self.clock.now > FAULTS_END_S + 60.0:
                break
        self.judge(driver)

    def begin(self, driver: SimProcess) -> None:
        """Start the driver's threads and plan what goes wrong."""
        root = self.root()
        for number in range(self.rng.randint(1, 4)):
            rng = random.Random(f"driver {self.seed} {number}")
            play = family_driver if self.is_families else driver_program
            steps = play(Program(driver, root, rng, 0), rng.randint(8, 40))
            self.start_thread(driver, steps, rng.random() * 0.2)
        if self.faults != "none":
            most = 3 if self.is_families else 4  # nothing is made again more often than that
            for _ in range(self.rng.randint(1, most)):
                self.clock.at(self.rng.random() ** 2 * 1.5, self._fault)

    def root(self) -> Context:
        """What numbers the driver's own tasks and puts."""
        return Context(root_task_id("simulation", str(self.seed)))

    def start_thread(self, driver: SimProcess, steps: Steps, delay_s: float) -> None:
        """A thread of the driver, which must come to its end."""
        self.threads += 1
        self.clock.after(delay_s, lambda: driver.run(steps, self._thread_ended))

    def _thread_ended(self, result: Any) -> None:
        assert result == [], f"a thread of the driver ended with {result!r}"
        self.finished += 1

    def _add(self, process: SimProcess) -> None:
        self.processes[process.address] = process
        self.network.receivers[process.address] = process

    def start_worker(self, node: SimNode, start: int) -> None:
        """A fork that was asked for has come up."""
        if self.network.receivers.get(node.address) is not node:
            return
        worker = SimWorker(self, node.new_address())
        for ended, heir in node.heirs.items():
            worker.owner.heirs.note(ended, heir)
            worker.owner.borrowing.dead.setdefault(ended)
        self._add(worker)
        node.handle(ev.WorkerStarted(start, worker.address.process, 1000 + start))
        node.drain.worker_started(worker.address)

    def living(self, node: str) -> list[SimProcess]:
        """The living processes of a node."""
        return [p for p in self.processes.values() if p.is_alive and p.address.node == node]

    def living_nodes(self) -> list[SimNode]:
        """The nodes that are up."""
        return [n for n in self.nodes.values() if self.network.receivers.get(n.address) is n]

    # ---- faults --------------------

    def note_fault(self) -> None:
        """From now on some errors are legitimate."""
        if self.first_fault_at is None:
            self.first_fault_at = self.clock.now

    def _fault(self) -> None:
        if self.faults == "node":
            if self.network.receivers.get(Address(NODES[1], 0)) is not None:
                self.kill_node(self.nodes[NODES[1]])
            return
        if self.faults == "reset":
            pairs = self.network.pairs()
            if pairs:
                self.note_fault()
                self.network.reset(*self.rng.choice(pairs))
            return
        workers = [p for p in self.processes.values() if p.is_alive and isinstance(p, SimWorker)]
        # Those hurt most whose tasks made what others hold.
        makers = [p for p in workers if any(maker.rows for maker in p.owner.table.makers.values())]
        if makers and (self.is_families or self.rng.random() < 0.8):
            workers = makers
        if workers:
            self.kill(self.rng.choice(workers).address, "it crashed")

    def kill(self, address: Address, reason: str) -> None:
        """A process is killed; its node manager sees it a moment later."""
        process = self.processes[address]
        if process.is_alive:
            self.note_fault()
            self._end(process, m.ExitCause(None, 9, reason if reason != "it crashed" else ""))

    def exit_cleanly(self, worker: SimWorker) -> None:
        """A worker ends by itself."""
        if worker.is_alive:
            worker.carry_out()
            if worker.owner.handoff.is_needed:
                self.note_fault()  # an actor that ends takes along what it owns
            self._end(worker, m.ExitCause(0))

    def _end(self, process: SimProcess, cause: m.ExitCause) -> None:
        self.network.remove(process.address, is_clean=cause.code == 0)
        node = self.nodes[process.address.node]
        delay = self.rng.random() * 0.01
        self.clock.after(delay, lambda: node.process_exited(process.address, cause))

    def drained(self, node: SimNode, left: str) -> None:
        """A node that was drained ends."""
        raise AssertionError(f"nobody drained {node.name}")

    def kill_node(self, node: SimNode) -> None:
        self.note_fault()
        for process in self.living(node.name):
            self.network.remove(process.address)
        self.network.remove(node.address)

    # ---- programs --------------------

    def rng_of(self, name: bytes) -> random.Random:
        """The randomness of a task's program: the same each time it is executed."""
        return random.Random(f"{self.seed} {name.hex()}")

    def program_of(self, execution: Execution) -> Any:
        """What an execution runs."""
        if self.is_families:
            return family_program
        return task_program if type(execution.message) is m.Run else actor_program

    # ---- judging --------------------

    def note_start(self, execution: Execution) -> None:
        """User code begins to run."""
        if type(execution.message) is not m.Run:
            return
        self.starts[execution.context.task_id] += 1
        if decode(execution.message.payload).is_once:
            name = (execution.source, execution.message.key)
            assert name not in self.once, f"{name} has max_retries=0 and begins a second time"
            self.once.add(name)

    def note_failure(self, ref: ObjectRef[Any], error: bytes) -> None:
        """A get ended with an error."""
        self.failures[bytes(error)] += 1
        if bytes(error) == b"timeout" and self.has_deadlocks:
            return
        is_lost = error.startswith(b"ObjectReconstruction")
        if self.faults == "crash" and is_lost and ref.binary() not in self.given_again:
            # The store outlives workers: only what was released too early can be missing there. Not
            # too early for a task that had ended: it is executed again for what it made, and a
            # stored argument that no task may make again is gone.
            raise AssertionError(f"{ref!r} failed with {bytes(error)!r} though no node died")
        if bytes(error) in USER_FAILURES or self.first_fault_at is not None:
            return
        raise AssertionError(f"{ref!r} failed with {bytes(error)!r} before any fault")

    def note_unreadable(self, process: SimProcess, row: Row, where: Location) -> None:
        """A stored value was not where it should be."""
        node = self.nodes[where.node]
        if self.network.receivers.get(node.address) is not node or node.dead:
            return
        if (where.segment, 0) in node.store.ranges:
            return
        raise AssertionError(f"{process.address} reads {where} of {row!r}: released under it")

    def check_view(self, process: SimProcess, ref: ObjectRef[Any], where: Location) -> None:
        """A stored argument was in use until now: it must still be there."""
        self.note_unreadable(process, ref._row, where)

    def note_sent(self, owner: Address, run: m.Run | m.Call) -> None:
        """A task is sent to be executed: under a new key if it had ended (a replay)."""
        if run.attempt:
            ids: set[bytes] = set()
            for refs in (run.nested, *(arg.ref for arg in run.args or ())):
                packed = refs.packed if refs is not None else b""
                ids |= {packed[at : at + 20] for at in range(0, len(packed), 22)}
            self.sent_again |= ids
            if (owner, run.key) not in self.sent:
                self.given_again |= ids
        self.sent.add((owner, run.key))

    def note_dropped(self, caller: Address, worker: Address, run: m.Run | m.Call) -> None:
        """A caller has let go of an argument of a task that runs: a good moment for its end."""
        self.dropped[caller, run.key] = run.attempt
        if self.faults == "crash" and self.clock.now < FAULTS_END_S and self.rng.random() < 0.3:
            self.clock.after(self.rng.random() * 0.01, lambda: self.kill(worker, "it crashed"))

    def check_value(self, ref: ObjectRef[Any], value: Value) -> None:
        """What a get has found is the object's own, with all that was inside."""
        assert value[0] == tag(ref.binary()), f"{ref!r} has the value {value[0]!r}"
        if self.faults == "none" or self.is_families:  # else it may be made another time otherwise
            inside = self.inside.get(ref.binary(), 0)
            assert len(value[1]) == inside, f"{ref!r} holds {len(value[1])} instead of {inside}"

    def check_arguments(self, data: bytes, values: list[Any]) -> None:
        """The values of top-level arguments are those of the references given."""
        expected = [tag(id_) for id_ in decode(data).expected]
        found = [blob for blob, _ in values]
        assert found == expected, f"arguments {found} instead of {expected}"

    def check(self, process: SimProcess) -> None:
        """Invariants after an event."""
        self._checks += 1
        table = process.owner.table
        rows = list({id(row): row for row, _ in table.by_id.values()}.values())
        rows += [task.row for task in process.owner.leasing.unfinished()]
        if self._checks % 8 == 0:
            process.owner.check_invariants(rows)
        if self._checks % 32 == 0:
            self._check_references()

    def _check_references(self) -> None:
        """SIM-2: an object that a living process holds is known to its living owner."""
        for process in self.processes.values():
            if not process.is_alive or self._is_released(process):
                continue
            for id_, (row, _) in process.owner.table.by_id.items():
                if row.info is None or not row.count or row.state == FAILED:
                    continue
                owner = self._owner_now(id_, row.info.address)
                if row.registration == REGISTERING and self._is_moving(process, row):
                    continue
                if owner is None or not owner.is_alive:
                    continue
                if row.registration == REGISTERING and is_supervised_by(row.info, owner.address):
                    continue  # asked in a dead owner's stead, it has not answered yet
                if frozenset((owner.address, process.address)) in self.network.resets:
                    continue
                if row.first_index == ACTOR_HANDLE_INDEX and id_ in self.sent_again:
                    continue  # what may be executed again does not keep an actor
                known = owner.owner.table.by_id.get(id_)
                if known is None and not self._is_under_way(owner.address, process.address):
                    raise AssertionError(
                        f"{process.address} holds {row!r}, which its owner {owner.address} forgot"
                    )

    def _owner_now(self, id_: bytes, address: Address) -> SimProcess | None:
        """Who owns an object: who gave it away sends its holders on."""
        owner = self.processes.get(address)
        while owner is not None and id_ not in owner.owner.table.by_id:
            if id_ not in owner.owner.handoff.given:
                break
            owner = self.processes.get(owner.owner.handoff.given[id_])
        return owner

    def _is_moving(self, process: SimProcess, row: Row) -> bool:
        """Whether a new owner, or an heir, was asked and has not answered yet."""
        assert row.info is not None
        return (row.info.address, row.object_id(0)) in process.owner.borrowing.moving

    def _is_released(self, process: SimProcess) -> bool:
        """Whether it is an actor that nobody can reach any more and that is about to be ended.

        Its constructor's arguments are let go with its last handle, though it may still run.
        """
        actor = getattr(process, "actor", None)
        if actor is None:
            return False
        creator = self.processes.get(actor[0].owner.address)
        return creator is None or actor[0].actor not in creator.owner.actors.links

    def _is_under_way(self, owner: Address, holder: Address) -> bool:
        """Whether the holder's handing over of objects has not reached the new owner yet."""
        way = self.network._ways.get((holder, owner))
        return (way is not None and bool(way.queue)) or self._has_delayed_answer(holder)

    def _has_delayed_answer(self, holder: Address) -> bool:
        return bool(self.processes[holder].owner.borrowing._after)

    def judge(self, driver: SimProcess) -> None:
        """The end: everything is done and nothing is left."""
        assert self.finished == self.threads, (
            f"{self.threads - self.finished} threads of the driver wait for ever: "
            f"{driver.owner.table.rows} rows"
        )
        living = [process for process in self.processes.values() if process.is_alive]
        if not self._are_cycles(living):
            for process in living:
                self._judge_process(process)
        for node in self.living_nodes():
            # What a worker stored for a caller that its answer never reached is nobody's: it stays
            # until the caller ends.
            left = {
                place: entry
                for place, entry in node.store.ranges.items()
                if self.processes[node.store.writers[place]].is_alive
            }
            is_empty = not left or bool(self.network.resets) or self.cycles > 0
            assert is_empty, f"{node.name[:4]} still stores {left}"
            for owner in node.scheduler.owners:
                is_alive = self.processes[owner].is_alive
                assert is_alive, f"{node.name[:4]} still has demands of {owner}, which is dead"
            free = node.scheduler.room.available
            assert free == node.scheduler.room.total, f"{node.name[:4]} has free only {free}"

    def _are_cycles(self, living: list[SimProcess]) -> bool:
        """Whether all that is left are values that refer to each other and nobody else to them.

        Counting cannot end those. They come about when actors hand on what they keep, and when a
        task was executed again and did not do
        the same: an object of its second execution may hold one of the first, and the reverse.
        """
        if all(count == 1 for count in self.starts.values()) and not self.has_deadlocks:
            return False
        for process in living:
            rows = {row: 0 for row, _ in process.owner.table.by_id.values()}
            if len(rows) != process.owner.table.rows:
                return False
            self.cycles += len(rows)
            for row in list(rows):
                for _, inside in (row.nested or {}).values():
                    for ref in inside:
                        rows[ref._row] += 1
            if any(row.count != n + len(row.borrowers or ()) for row, n in rows.items()):
                return False
        return True

    def _judge_process(self, process: SimProcess) -> None:
        owner = process.owner
        table = owner.table
        rows = [row for row, _ in table.by_id.values()]
        assert not table.by_id or self.network.resets, f"{process.address} still knows {rows}"
        assert not table.rows or self.network.resets, f"{process.address}: {table.rows} rows left"
        assert not owner.leasing.leases, f"{process.address} still has leases"
        assert not owner.leasing.unfinished(), f"{process.address} still has tasks"
        if not self.network.resets:
            assert table.lineage_bytes == 0, f"{table.lineage_bytes} bytes of lineage left"
            assert not table.stale
            assert not table.made_here
            assert not table.inside_kept
            assert table.borrowed_rows == 0
            assert not owner.actors.links, f"{process.address} still has actors"
            assert not owner.handing._until_taken
            assert not owner.borrowing._after
            assert not owner.borrowing._asked
            assert not owner.supervision.by_row, f"{process.address} still supervises"
            assert not table.makers, f"{process.address} still has makers"
            assert not table.holders


__all__ = ["World"]
