"""A program under way in a simulated process: a generator that yields what it waits for."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from tests.simulation.parts import ArgumentLost, Cancelled, UserError, Waiter

from freehold._core.ids import Location
from freehold._core.ownership.row import LOST, PENDING, Row

if TYPE_CHECKING:
    from tests.simulation.process import SimProcess

WAIT_LIMIT_S = 10.0
"""Where actors hand on what they keep, a task may be given its own caller's output to wait for;
there, but only there, tasks give up after this long."""

Steps = Generator[Any, Any, Any]


class Runner:
    """One program under way in a process."""

    def __init__(self, process: SimProcess, steps: Steps, then: Any) -> None:
        self.process = process
        self.steps: Steps | None = steps
        self.then = then
        self._wait_number = 0

    def resume(self, value: Any) -> None:
        """Go on with what was waited for."""
        process = self.process
        if self.steps is None or not process.is_alive:
            return
        ended: Any = None
        operation: Any = None
        try:
            if value is Cancelled:
                operation = self.steps.throw(Cancelled())
            else:
                operation = self.steps.send(value)
        except StopIteration as stop:
            ended = stop.value
        except (Cancelled, UserError, ArgumentLost) as error:
            ended = type(error)(*error.args)
        if operation is None:
            # Outside the handler: its traceback holds the program's frame and so its references.
            self._end(ended)
            process.carry_out()
            return
        self._wait(*operation)
        process.carry_out()

    def _end(self, result: Any) -> None:
        self.steps = None
        then, self.then = self.then, None
        then(result)

    def _wait(self, what: str, value: Any) -> None:
        process, world = self.process, self.process.world
        if what == "sleep":
            world.clock.after(value, lambda: self.resume(None))
        elif what == "pull":
            delay = 0.0 if value.node == process.address.node else world.rng.random() * 0.05
            world.clock.after(delay, lambda: self._pulled(value))
        else:
            rows: list[Row] = [row for row in value if row.state in (PENDING, LOST)]
            if not rows:
                world.clock.after(0.0, lambda: self.resume(True))
                return
            process.on_blocked(True)
            self._wait_number = number = self._wait_number + 1
            waiter = Waiter(len(rows), lambda: self._unblock(number, True))
            for row in rows:
                process.owner.await_row(row, waiter, world.clock.now)
            if world.has_deadlocks and process.is_worker:
                world.clock.after(WAIT_LIMIT_S, lambda: self._unblock(number, False))

    def _unblock(self, number: int, is_there: bool) -> None:
        def go_on() -> None:
            if self.process.is_alive and self._wait_number == number:
                self._wait_number += 1
                self.process.on_blocked(False)
                self.resume(is_there)

        self.process.world.clock.after(0.0, go_on)

    def _pulled(self, where: Location) -> None:
        node = self.process.world.nodes[where.node]
        is_up = self.process.world.network.receivers.get(node.address) is node
        self.resume(node.store.read(where) if is_up else None)
