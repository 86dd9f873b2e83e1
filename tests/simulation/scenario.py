"""A simulated cluster in which nothing is left to chance: given programs, kills where they say.

Rules that need a certain order of ends and deaths are come upon rarely by random programs. A
scenario spells that order out: what the driver and each task do, and which worker is killed when.
Machines, network and judges are those of `World`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.parts import Context, Failure
from tests.simulation.process import Execution, SimProcess, SimWorker, Value, View, tag
from tests.simulation.program import CPU, Payload, Refs, decode, encode
from tests.simulation.runner import Steps
from tests.simulation.world import World

from freehold._core.ids import Address
from freehold._core.interface import TaskOptions
from freehold._core.messages import ActorOptions
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef


class Even(random.Random):
    """Chance that always falls alike.

    Messages take equally long, no worker leaves by itself, and what a process said before it was
    killed arrives.
    """

    def random(self) -> float:
        """The middle."""
        return 0.5

    def choice(self, seq: Sequence[Any]) -> Any:
        """The first."""
        return seq[0]

    def randint(self, a: int, b: int) -> int:
        """The least."""
        return a


class Part:
    """The part of one program: what the driver or an execution of a task does, step by step."""

    def __init__(self, world: Scenario, process: SimProcess, context: Context) -> None:
        self.world = world
        self.process = process
        self.context = context
        self.given: Refs = []
        """References inside the arguments that a task or call was given."""
        self.views: list[View] = []
        """Its arguments that are in the store."""

    def submit(
        self,
        name: str,
        args: Refs | None = None,
        inside: Refs | None = None,
        max_retries: int = 3,
        retry_exceptions: bool = False,
        needs_cpu: bool = True,
    ) -> ObjectRef[Any]:
        """Submit the program `name` as a task.

        `args` are arguments themselves, `inside` are references inside arguments.
        """
        expected = [ref.binary() for ref in args or ()]
        payload = Payload(name, 0, 1, expected, is_once=max_retries == 0)
        given = Given(encode(payload), list(enumerate(args)) if args else None, inside)
        options = TaskOptions(
            shape=CPU if needs_cpu else (),
            max_retries=max_retries,
            retry_exceptions=retry_exceptions,
        )
        return self.process.submit(self.context, "body", options, given)[0]

    def create_actor(self, name: str) -> ObjectRef[Any]:
        """Make an actor with the program `name` for a constructor: its handle."""
        options = ActorOptions(class_name="Actor", max_restarts=0, max_task_retries=0)
        given = Given(encode(Payload(name, 0)), None, None)
        return self.process.create_actor(self.context, options, given)

    def call(self, handle: ObjectRef[Any], name: str, inside: Refs | None = None) -> ObjectRef[Any]:
        """Call an actor's method, the program `name`."""
        given = Given(encode(Payload(name, 0)), None, inside)
        return self.process.call(self.context, handle, TaskOptions(max_retries=0), given)

    @property
    def state(self) -> Refs:
        """What an actor keeps between calls."""
        assert isinstance(self.process, SimWorker)
        return self.process.actor_state

    def drop_arguments(self) -> None:
        """Let go of what the task was given, while it runs."""
        self.given.clear()
        self.views.clear()
        self.process.carry_out()

    def check_arguments(self) -> None:
        """What is in the store and still in use must still be there."""
        for view in self.views:
            self.world.check_view(self.process, *view)

    def put(self, inside: Refs | None = None, is_stored: bool = False) -> ObjectRef[Any]:
        """Put a value, maybe with references inside."""
        ref = self.process.put(self.context, inside or [], is_stored)
        self.process.carry_out()
        return ref

    def get(self, ref: ObjectRef[Any]) -> Steps:
        """Get a value, which must be the right one: the references inside."""
        value = yield from self.process.get(ref)
        assert not isinstance(value, Failure), f"{ref!r} failed with {bytes(value)!r}"
        assert value[0] == tag(ref.binary()), f"{ref!r} has the value {value[0]!r}"
        return list(value[1])

    def failure(self, ref: ObjectRef[Any]) -> Steps:
        """Get what must fail: the name of the error."""
        value = yield from self.process.get(ref)
        assert isinstance(value, Failure), f"{ref!r} has the value {value!r}"
        return bytes(value).decode()

    def kill(self, name: str) -> None:
        """Kill the worker that began the program `name` last."""
        self.world.kill(self.world.ran[name][-1], "it crashed")

    def leave(self) -> None:
        """The task under way is the last that its worker executes."""
        assert isinstance(self.process, SimWorker)
        self.process.calls_left = 1

    def attempt(self, name: str) -> int:
        """How often the program `name` was begun before."""
        return len(self.world.ran[name]) - 1


Body = Callable[[Part], Steps]


class Scenario(World):
    """One cluster with a program for the driver and one for each task, which has its name."""

    def __init__(self, driver: Body, *tasks: Body, cpus: tuple[int, int] = (2, 2)) -> None:
        super().__init__(0, "none", Even(), cpus)
        self._driver = driver
        self._tasks = {body.__name__: body for body in tasks}
        self.ran: dict[str, list[Address]] = defaultdict(list)
        """Where each program was executed, in order."""

    def begin(self, driver: SimProcess) -> None:
        self.start_thread(driver, self._driver(Part(self, driver, self.root())), 0.0)

    def program_of(self, execution: Execution) -> Any:
        return self._execute

    def _execute(self, execution: Execution, held: Refs, values: list[Value]) -> Steps:
        name = decode(execution.message.payload).kind
        self.ran[name].append(execution.worker.address)
        part = Part(self, execution.worker, execution.context)
        part.given = [*held, *(ref for _, inside in values for ref in inside)]
        part.views, execution.views = execution.views, []
        return self._tasks[name](part)
