"""The tasks that this process executes, as far as others hold what they make.

A task submits and puts in its own name, and this process owns that. When others get to know of such
an object they are told who supervises it: the owner of the task, and so on up (`OwnerInfo`). That
owner is told in turn when it must keep the task's spec, and no longer.

Here is also the other end of a replay (`supervision`): an execution that is told what is wanted
says so when it makes that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core.ids import Address, split_object_id
from freehold._core.limits import SUPERVISORS
from freehold._core.messages import (
    Done,
    DoneWith,
    Output,
    OwnerInfo,
    Recreated,
    SupervisedBy,
    Supervisor,
    Want,
    Wanted,
)
from freehold._core.ownership.row import Row, Task
from freehold._core.ownership.specs import Place

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

_WANTS_KEPT = 1024
_LINES_KEPT = 128


class Origin:
    """A task executed here that made something. Kept while it runs or `rows` are in scope."""

    __slots__ = ("caller", "info", "is_running", "places", "rows", "task", "wanted")

    def __init__(self, task: bytes, info: OwnerInfo) -> None:
        self.task = task
        self.info = info
        self.rows: dict[Row, None] = {}
        """What it made and this process owns and others may know of."""
        self.is_running = True
        self.wanted: dict[bytes, Wanted] = {}
        self.caller: Address | None = None
        """Who wants it: whose task it executes now."""
        self.places: list[Place] = []
        """Who keeps the task's spec for us."""

    def info_of(self, row: Row) -> OwnerInfo:
        """What others are told of whom to ask about a row of this task."""
        return self.info


class Origins:
    """Everything of one process that its tasks made in their own names."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._by_task = owner.table.makers
        self._running: dict[tuple[Address, int], Origin] = {}
        self._lines: dict[Address, dict[bytes, tuple[Supervisor, ...]]] = {}
        """Of each caller: who supervises its tasks of a parent, for the last parents it named."""
        self.wants: dict[tuple[Address, int], Want] = {}
        """What was said of executions that have not begun (or have ended, of which we know no
        more): the last of them."""
        self.wanting: dict[bytes, Origin] = {}
        """Those of which something is wanted, by task."""

    # ---- what the caller says ------------------------------------------------------------------

    def on_supervised_by(self, source: Address, message: SupervisedBy) -> None:
        """Tasks of this parent follow."""
        lines = self._lines.setdefault(source, {})
        lines.pop(message.parent, None)
        lines[message.parent] = message.supervisors
        if len(lines) > _LINES_KEPT:
            del lines[next(iter(lines))]

    def on_want(self, source: Address, message: Want) -> None:
        """Something that the execution of a task makes is wanted."""
        origin = self._running.get((source, message.key))
        if origin is not None:
            self._want(origin, message)
            return
        self.wants[source, message.key] = message
        if len(self.wants) > _WANTS_KEPT:
            del self.wants[next(iter(self.wants))]

    def forget(self, source: Address) -> None:
        """A caller has ended."""
        self._lines.pop(source, None)
        for place in [place for place in self.wants if place[0] == source]:
            del self.wants[place]

    def forget_node(self, node: str) -> None:
        """A node is gone with all callers there."""
        callers = [*self._lines, *(source for source, _ in self.wants)]
        for source in {source: None for source in callers if source.node == node}:
            self.forget(source)

    # ---- an execution ----------------------------------------------------------------------------

    def begin(self, task: bytes, parent: bytes, source: Address, key: int) -> Origin:
        """A task executes and is about to make something, or was told what is wanted of it."""
        above = self._lines.get(source, {}).get(parent, ())
        supervisors = (Supervisor(source, task, key), *above)[:SUPERVISORS]
        info = OwnerInfo(self._owner.address, supervisors)
        origin = self._by_task.get(task)
        if origin is None:
            origin = self._by_task[task] = Origin(task, info)
        origin.info = info
        origin.caller = source
        origin.is_running = True
        self._running[source, key] = origin
        want = self.wants.pop((source, key), None)
        if want is not None:
            self._want(origin, want)
        return origin

    def _want(self, origin: Origin, message: Want) -> None:
        table = self._owner.table
        for wanted in message.wanted:
            if wanted.id in origin.wanted:
                continue
            origin.wanted[wanted.id] = wanted
            self.wanting[origin.task] = origin
            if wanted.below:
                for task in self._owner.leasing.unfinished():
                    if task.message.parent == origin.task:
                        self._pass_on(origin, wanted, task)
            elif wanted.id in table.by_id:
                row, index = table.by_id[wanted.id]
                if row.info is None and row.count:
                    self._found(origin, row, index)

    def on_submitted(self, parent: bytes, task: Task) -> None:
        """A task of which something is wanted submitted another; not sent yet."""
        origin = self.wanting.get(parent)
        if origin is None:
            return
        row = task.row
        for wanted in list(origin.wanted.values()):
            if wanted.below:
                self._pass_on(origin, wanted, task)
                continue
            maker, index = split_object_id(wanted.id)
            if maker == row.task_id() and index < row.outputs:
                self._found(origin, row, index)

    def _pass_on(self, origin: Origin, wanted: Wanted, task: Task) -> None:
        """The child that leads to what is wanted is told so; what comes of it is ours to answer
        for."""
        owner = self._owner
        if wanted.below[-1].task != task.row.task_id():
            return
        me = Supervisor(owner.address, task.row.task_id(), task.row.key)
        below = wanted.below[:-1]
        line = (*below, me, *origin.info.supervisors)
        found = owner.supervision.supervise(wanted.id, task, line, len(below))
        if found is not None:
            self._say(origin, *found)

    def below(
        self, line: tuple[Supervisor, ...], caller: Address, key: int
    ) -> tuple[Supervisor, ...] | None:
        """Of those to ask for an object: who leads from it up to a task that is executed here.

        None if the task did not have it made.
        """
        origin = self._running.get((caller, key))
        if origin is None or origin.info.supervisors[0] not in line:
            return None
        return line[: line.index(origin.info.supervisors[0])]

    def on_put(self, parent: bytes, row: Row) -> None:
        """A task of which something is wanted put an object."""
        origin = self.wanting.get(parent)
        if origin is not None and row.object_id(0) in origin.wanted:
            self._found(origin, row, 0)

    def _found(self, origin: Origin, row: Row, index: int) -> None:
        """What is wanted is made. The caller hears of it at once: others may wait for it."""
        table = self._owner.table
        id_ = table.expose(row, index)
        known = table.by_id[id_][0]
        if known is not row and known.info is not None:
            self._owner.supervision.follow(known)
        self._say(origin, row, index)

    def _say(self, origin: Origin, row: Row, index: int) -> None:
        owner = self._owner
        ref = owner.table.reference(row, index)  # a row that nobody holds ends with it
        if origin.caller is not None and origin.caller != owner.address:
            described = owner.borrowing.describe([ref], origin.caller)
            owner.outbox.send(origin.caller, Recreated(described), True)

    def end(self, origin: Origin, source: Address, answer: Any) -> Any:
        """An execution is over: its answer, with what the caller must know of what it made."""
        self._running.pop((source, answer.key), None)
        self.wanting.pop(origin.task, None)
        origin.is_running = False
        origin.wanted = {}
        if origin.rows and type(answer) in (Done, DoneWith):
            answer = with_outputs(answer)
            answer.is_owning = True
            self._owner.specs.note(origin, (source, answer.key))
        self.end_if_unused(origin)
        return answer

    def end_if_unused(self, origin: Origin) -> None:
        """Nobody holds what the task made: its owner may let its spec go."""
        if origin.is_running or origin.rows or self._by_task.get(origin.task) is not origin:
            return
        del self._by_task[origin.task]
        self._owner.specs.end(origin)


def with_outputs(answer: Done | DoneWith) -> DoneWith:
    """The common answer in the form that has room for more."""
    if type(answer) is Done:
        return DoneWith(answer.key, answer.attempt, answer.run_us, [Output(answer.blob)])
    return answer  # type: ignore[return-value]
