"""Random programs: what tasks, actors and the driver of a simulated cluster do.

A task's program is drawn from its id, so that executing it again does the same: it makes the same
objects under the same ids. Every value names itself (`process.tag`), so that a wrong value, or the
value of another object, is found wherever it is read.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
from tests.simulation.parts import Context, Failure, UserError
from tests.simulation.process import SimProcess, Value, View
from tests.simulation.runner import Steps

from freehold._core.interface import TaskOptions
from freehold._core.messages import ActorOptions
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef

if TYPE_CHECKING:
    from tests.simulation.process import Execution
    from tests.simulation.world import World

CPU = (("CPU", 10_000),)
Refs = list[ObjectRef[Any]]


class Payload(msgspec.Struct):
    """The pickled arguments of a simulated call."""

    kind: str
    depth: int
    outputs: int = 1
    expected: list[bytes] = []
    """Ids of the top-level arguments, whose values must be theirs."""
    is_once: bool = False


def encode(payload: Payload) -> bytes:
    return msgspec.msgpack.encode(payload)


def decode(data: bytes) -> Payload:
    return msgspec.msgpack.decode(data, type=Payload)


class Program:
    """Steps drawn one after another; `held` are the references that it has."""

    def __init__(self, process: SimProcess, context: Context, rng: random.Random, depth: int):
        self.process = process
        self.world: World = process.world
        self.context = context
        self.rng = rng
        self.depth = depth
        self.held: Refs = []
        self.handles: Refs = []
        self.views: list[View] = []
        """Arguments in the store that are still in use."""

    def _some(self, most: int) -> Refs:
        count = min(len(self.held), self.rng.randint(0, most))
        return self.rng.sample(self.held, count)

    def _given(self, kind: str, outputs: int) -> Given:
        top = self._some(2)
        nested = self._some(2)
        if kind == "body":
            # Only tasks get handles: an actor that keeps a value with its own handle inside would
            # be a cycle across processes, which counting cannot end.
            nested += self.handles[: self.rng.randint(0, 1)]
        expected = [ref.binary() for ref in top]
        payload = encode(Payload(kind, self.depth + 1, outputs, expected))
        return Given(payload, list(enumerate(top)) or None, nested or None)

    def submit(self) -> None:
        """Submit a task with some of the references, at the top level and nested."""
        rng = self.rng
        kind = rng.choice(["body", "leaf", "leaf"])
        outputs = rng.choice([1, 1, 1, 1, 0, 2, 3, 20])
        options = TaskOptions(
            shape=rng.choice([CPU, CPU, ()]),
            num_returns=outputs,
            max_retries=rng.choice([3, 3, 0]),
            retry_exceptions=rng.random() < 0.2 and self.world.has_retries,
        )
        given = self._given(kind, outputs)
        payload = decode(given.payload)
        payload.is_once = options.max_retries == 0
        given.payload = encode(payload)
        self.held += self.process.submit(self.context, kind, options, given)

    def have_child(self) -> None:
        """Submit a task of a family; it may be executed as often as need be."""
        outputs = self.rng.choice([1, 1, 2])
        options = TaskOptions(shape=CPU, num_returns=outputs, max_retries=-1)
        payload = Payload("body", self.depth + 1, outputs)
        given = Given(encode(payload), None, self._some(2) or None)
        self.held += self.process.submit(self.context, "body", options, given)

    def put(self) -> None:
        """Put a value, maybe with references inside."""
        self.held.append(
            self.process.put(self.context, self._some(2), is_stored=self.rng.random() < 0.5)
        )

    def create_actor(self) -> None:
        """Make an actor that keeps what it is given."""
        options = ActorOptions(
            class_name="Actor",
            max_restarts=self.rng.choice([0, 0, 1]),
            max_task_retries=0,
        )
        given = self._given("actor", 1)
        self.handles.append(self.process.create_actor(self.context, options, given))

    def call(self) -> None:
        """Call an actor with some of the references."""
        handle = self.rng.choice(self.handles)
        options = TaskOptions(max_retries=self.rng.choice([0, 0, 2]))
        given = self._given("call", 1)
        self.held.append(self.process.call(self.context, handle, options, given))

    def get(self) -> Steps:
        """Get a value; what is inside is held from now on."""
        ref = self.rng.choice(self.held)
        value = yield from self.process.get(ref)
        if isinstance(value, Failure):
            self.world.note_failure(ref, value)
            return
        self.world.check_value(ref, value)
        self.adopt(value[1])

    def adopt(self, refs: Refs) -> None:
        """Hold references that came from elsewhere; those of actors are handles."""
        for ref in refs:
            is_handle = ref.binary() in self.world.actors
            (self.handles if is_handle else self.held).append(ref)

    def take(self, execution: Execution, held: Refs, values: list[Value]) -> None:
        """Have what a task or call was given."""
        self.adopt(held)
        for _, inside in values:
            self.adopt(inside)
        self.views, execution.views = execution.views, []

    def drop(self) -> None:
        """Let go of a reference, or of a stored argument."""
        at = self.rng.randrange(len(self.held) + len(self.views))
        if at < len(self.held):
            del self.held[at]
        else:
            self.world.check_view(self.process, *self.views.pop(at - len(self.held)))

    def cancel(self) -> None:
        """Cancel a task."""
        ref = self.rng.choice(self.held)
        now = self.world.clock.now
        self.world.cancelled = True
        self.process.owner.cancel(ref._row, False, False, now)

    def step(self) -> Steps:
        """One random step."""
        rng = self.rng
        choice = rng.random()
        if choice < 0.25:
            yield ("sleep", rng.random() * 0.03)
        elif choice < 0.5 and self.depth < 3:
            self.submit()
        elif choice < 0.62:
            self.put()
        elif choice < 0.82 and self.held:
            yield from self.get()
        elif choice < 0.9 and self.held + self.views:
            self.drop()
        elif choice < 0.93 and self.depth < 2 and self.world.has_actors:
            self.create_actor()
        elif choice < 0.985 and self.handles:
            self.call()
        elif choice >= 0.985 and self.held:
            self.cancel()
        self.process.carry_out()


def task_program(execution: Execution, held: Refs, values: list[Value]) -> Steps:
    """What a task does and returns: for each output the references inside and whether stored."""
    worker = execution.worker
    payload = decode(execution.message.payload)
    rng = worker.world.rng_of(execution.context.task_id)
    program = Program(worker, execution.context, rng, payload.depth)
    program.take(execution, held, values)
    del held, values
    while program.views and rng.random() < 0.7:
        worker.world.check_view(worker, *program.views.pop())
    worker.carry_out()
    if payload.kind == "leaf":
        if rng.random() < 0.5:
            yield ("sleep", rng.random() * rng.choice([0.001, 0.001, 0.05]))
    else:
        for _ in range(rng.randint(2, 9)):
            yield from program.step()
    for view in program.views:
        worker.world.check_view(worker, *view)
    if rng.random() < 0.05:
        raise UserError
    everything = program.held
    outputs = []
    for _ in range(payload.outputs):
        inside = rng.sample(everything, min(len(everything), rng.choice([0, 0, 1, 2])))
        is_stored = rng.random() < 0.4
        outputs.append((inside, is_stored))
    return outputs


def actor_program(execution: Execution, held: Refs, values: list[Value]) -> Steps:
    """A constructor or a call: keep some of the references, return some of those kept."""
    worker = execution.worker
    payload = decode(execution.message.payload)
    worker.actor_calls += 1
    rng = worker.world.rng_of(execution.context.task_id + bytes([worker.actor_calls % 251]))
    program = Program(worker, execution.context, rng, 3)
    program.take(execution, held, values)
    del held, values
    if rng.random() < 0.3:
        yield ("sleep", rng.random() * 0.01)
    if rng.random() < 0.5:
        program.put()
    if payload.kind == "actor" and rng.random() < 0.05:
        raise UserError
    state = worker.actor_state
    state += [ref for ref in program.held if rng.random() < 0.6]
    while len(state) > 4 or (state and rng.random() < 0.3):
        del state[rng.randrange(len(state))]
    everything = program.held + state if worker.world.has_deadlocks else program.held
    inside = rng.sample(everything, min(len(everything), rng.choice([0, 1, 2])))
    return [(inside, rng.random() < 0.4)]


def driver_program(program: Program, steps: int) -> Steps:
    """One thread of the driver: random steps, then every reference it still has is got."""
    for _ in range(steps):
        yield from program.step()
    while program.held:
        program.held = program.held[-8:]
        yield from program.get()
        program.drop()
    program.handles.clear()
    return []


def family_program(execution: Execution, held: Refs, values: list[Value]) -> Steps:
    """A task that makes the same whenever it is executed: children, puts, and a result with them.

    Most of it is still being made, and owned by this worker, when the task returns.
    """
    worker = execution.worker
    payload = decode(execution.message.payload)
    rng = worker.world.rng_of(execution.context.task_id)
    program = Program(worker, execution.context, rng, payload.depth)
    program.adopt(held)
    del held, values
    for _ in range(rng.randint(1, 4)):
        yield ("sleep", rng.random() ** 2 * 0.05)
        if payload.depth < 4 and rng.random() < 0.7:
            program.have_child()
        else:
            program.put()
        worker.carry_out()
    everything = program.held
    outputs = []
    for _ in range(payload.outputs):
        inside = rng.sample(everything, rng.randint(1, len(everything)))
        outputs.append((inside, rng.random() < 0.4))
    return outputs


def family_driver(program: Program, steps: int) -> Steps:
    """Get everything there is to get of a few families, slowly: nothing of it may be lost."""
    rng = program.rng
    for _ in range(rng.randint(1, 3)):
        program.have_child()
    program.process.carry_out()
    held, program.held = program.held, []
    for _ in range(4 * steps):
        if not held:
            break
        if rng.random() < 0.5:
            yield ("sleep", rng.random() * 0.1)
        ref = held.pop(rng.randrange(len(held)))
        value = yield from program.process.get(ref)
        assert not isinstance(value, Failure), f"SIM-6: {ref!r} is lost: {bytes(value)!r}"
        program.world.check_value(ref, value)
        held += rng.sample(value[1], rng.randint(0, len(value[1])))
        del ref, value
    return []
