"""Why an object is not there yet, as far as the process that waits for it knows.

What nodes lack for a task or an actor only a node manager can tell: for that the shape to ask it
about is returned with the lines. It deliberately asks nobody and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from freehold._core.ownership.actor_calls import ALIVE, DEAD, ActorLink
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import FAILED, PENDING, READY, Task
from freehold._core.resources import Shape
from freehold._core.where import Where

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

Wanted: TypeAlias = tuple[Shape, Where | None]

_STATES = {READY: "ready", FAILED: "failed"}


def explain_here(owner: Owner, ref: ObjectRef[Any]) -> tuple[list[str], Wanted | None]:
    """What is known here, and what no node has given room to yet; under the lock."""
    row = ref._row
    lines = [f"object {ref.hex()} is {_STATES.get(row.state, 'pending')}"]
    if row.state != PENDING:
        return lines, None
    task = row.task
    if task is None:
        if row.info is not None:
            lines.append(f"its owner {row.info.address} has not resolved it yet")
        return lines, None
    if task.missing:
        lines.append(f"its task {task.name} waits for {task.missing} arguments")
        return lines, None
    if task.actor is not None:
        return _explain_call(task, task.actor, lines)
    if task.lease is not None:
        behind = list(task.lease.inflight).index(row.key)
        where = f"worker {task.lease.worker} (pid {task.lease.pid})"
        what = f"waits there behind {behind}" if behind else "runs there"
        lines.append(f"its task {task.name} was sent to {where} and {what}")
        return lines, None
    if task.queue is None:
        return lines, None
    in_line = len(task.queue.pending)
    lines.append(f"its task {task.name} waits for a lease with {in_line} in line")
    return lines, (task.queue.shape, task.queue.where)


def _explain_call(task: Task, link: ActorLink, lines: list[str]) -> tuple[list[str], Wanted | None]:
    """The same for a call of an actor."""
    info = link.info
    who = f"actor {link.actor.hex()}"
    if info is not None:
        who = f"actor {info.options.class_name} ({link.actor.hex()})"
    key = task.row.key
    if key in link.inflight:
        lines.append(f"its call {task.name} was sent to {who} and {_place(task, link)}")
        return lines, None
    before = len(link.inflight) + (link.calls.index(task) if task in link.calls else 0)
    lines.append(f"its call {task.name} waits here behind {before} calls by this process")
    if link.calls and link.calls[0] is not task and link.calls[0].missing:
        first = link.calls[0]
        lines.append(f"the first of them, {first.name}, waits for {first.missing} arguments")
    if link.state in (ALIVE, DEAD):
        return lines, None
    reason = f": {info.reason}" if info is not None and info.reason else ""
    lines.append(f"its {who} is {link.state}{reason}")
    return lines, ((info.shape, info.where) if info is not None else ((), None))


def _place(task: Task, link: ActorLink) -> str:
    """Whether a call that was sent runs: of other processes' calls nothing is known here."""
    behind = list(link.inflight).index(task.row.key)
    options = link.info.options if link.info is not None else None
    at_once = max(1, options.max_concurrency) if options is not None else 1
    if options is not None and options.concurrency_groups:
        # Each group has a limit of its own; those of other groups are not before it.
        group = task.message.options.concurrency_group if task.message.options else ""
        at_once = options.concurrency_groups.get(group, at_once)
    if behind < at_once:
        return "runs there, unless other processes' calls were before it"
    return f"waits there behind {behind} calls by this process, of which {at_once} can run at once"
