"""Actors as their callers see them: creation, calls in order, and what a death means for each
call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._core.ids import ACTOR_HANDLE_INDEX, Address, object_id
from freehold._core.limits import LEASE_S
from freehold._core.messages import (
    ActorInfo,
    ActorOptions,
    ActorSpec,
    Call,
    CallsStopped,
    OwnerInfo,
    RegisterActor,
    ReleaseActor,
    RunOptions,
    WatchActor,
)
from freehold._core.options import TaskOptions
from freehold._core.ownership.actor_calls import (
    ALIVE,
    DEAD,
    MOVING,
    PENDING_ACTOR,
    RESTARTING,
    ActorLink,
)
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import PENDING, Row, Task
from freehold._core.resources import Shape
from freehold._core.where import Where
from freehold.errors import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    FreeholdError,
    PendingCallsLimitExceeded,
)

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


LOOK_AGAIN_S = 0.02
"""How often it is looked whether a moving actor has answered all calls."""


class ActorCalls:
    """The actors that one process has made or called."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.links: dict[bytes, ActorLink] = {}
        self._by_address: dict[Address, ActorLink] = {}
        self._creations: dict[bytes, tuple[Task, ActorSpec, int]] = {}
        self._ask_at: dict[bytes, float] = {}
        """When to ask about actors that could not be reached and of which nothing was heard."""
        self._stop_at: float | None = None
        """When to look whether moving actors have answered all."""
        self.error_of: Any = None
        """Turns a dead actor's `ActorInfo` into the cause of its `ActorDiedError`; the shell's."""

    # ---- creating ----------------------------------------------------------------------------

    def create(
        self,
        row: Row,
        options: ActorOptions,
        spec: tuple[Shape, Shape, str, bytes, bool, Where | None],
        given: Given,
        request: int,
    ) -> None:
        """Have an actor made as soon as its constructor's arguments are known.

        `spec` is (shape, placement shape, env, class blob, get_if_exists, placement); `row` counts
        handles.
        """
        owner = self._owner
        shape, placement_shape, env, class_blob, get_if_exists, where = spec
        message = Call(row.key, 0, "__init__", row.parent, row.child_index, given.payload, 1)
        creation = owner.table.new_task(row.parent, row.child_index, 1)
        task = Task(creation, message, None, 0, False)
        if given.is_plain:
            owner.table.attach(creation, task)
        link = self.link_to(row)
        task.actor = link
        link.max_pending_calls = options.max_pending_calls
        link.is_watched = True
        actor = ActorSpec(
            row.task_id(),
            OwnerInfo(owner.address),
            options,
            shape,
            env,
            class_blob,
            given.payload,
            get_if_exists=get_if_exists,
            placement_shape=placement_shape,
            where=where,
        )
        self._creations[actor.actor] = (task, actor, request)
        if given.is_plain or not owner.arguments.attach(task, given):
            self.push_ready(link)

    def _register(self, link: ActorLink) -> None:
        task, spec, request = self._creations[link.actor]
        owner = self._owner
        if task.top_level is not None and not owner.arguments.fill(task):
            owner.arguments.on_unfilled(task, 0.0)
            if task.row.state == PENDING:
                link.info = None  # an argument was lost since; this runs again when it is back
                return
            error = task.row.value
            self._end_creation(link.actor)
            dead = ActorInfo(spec.actor, spec.owner, spec.options, DEAD)
            dead.reason = "an argument of its constructor failed"
            dead.error = owner.error_blob(error)
            self.on_state(dead, 0.0)
            return
        spec.args = task.message.args
        spec.nested = task.message.nested
        owner.outbox.ask_node(RegisterActor(request, spec))
        if spec.options.max_restarts == 0 and task.arguments is None:
            self._end_creation(link.actor)

    def _end_creation(self, actor: bytes) -> None:
        """The constructor will not run again: its arguments may go."""
        creation = self._creations.pop(actor, None)
        if creation is not None:
            row = creation[0].row
            self._owner.fail(row, b"", 0.0)
            self._owner.table.release(row, 0)

    def constructor_arguments(self, actor: bytes) -> list[ObjectRef[Any]]:
        """References to what a restart of an actor of ours would need."""
        creation = self._creations.get(actor)
        arguments = (creation[0].arguments or []) if creation is not None else []
        return [self._owner.table.reference(row, index) for row, index in arguments]

    def link_to(self, handle: Row) -> ActorLink:
        """What is known of the actor that `handle` stands for."""
        actor = handle.task_id()
        link = self.links.get(actor)
        if link is None:
            link = self.links[actor] = ActorLink(handle)
        return link

    # ---- calling -----------------------------------------------------------------------------

    def call(
        self,
        handle: Row,
        method: str,
        options: TaskOptions,
        place: tuple[bytes, int],
        given: Given,
        now: float,
    ) -> Row:
        """Own a new call of an actor's method.

        Raises:
            PendingCallsLimitExceeded: the actor has `max_pending_calls` of ours unfinished.
        """
        owner = self._owner
        link = self.links.get(handle.task_id())
        if link is None:
            link = self.link_to(handle)
        if 0 <= link.max_pending_calls <= link.pending():
            raise PendingCallsLimitExceeded(actor_id=link.actor.hex(), limit=link.max_pending_calls)
        if not link.is_watched:
            link.is_watched = True
            owner.outbox.ask_node(WatchActor(link.actor))
        returns = options.num_returns
        row = owner.table.new_task(place[0], place[1], returns if returns > 0 else 1)
        message = Call(row.key, 0, method, place[0], place[1], given.payload, returns)
        if (
            options.name
            or options.retry_exceptions
            or options.concurrency_group
            or options.timeout_s is not None
        ):
            message.options = RunOptions(
                options.name,
                options.timeout_s,
                options.retry_exceptions,
                options.max_retries,
                options.concurrency_group,
            )
        retries = options.max_retries
        task = Task(row, message, None, retries, retries != 0)
        task.retry_exceptions = options.retry_exceptions
        task.actor = link
        if owner.origins.wanting:
            owner.origins.on_submitted(place[0], task)
        owner.table.retain(handle, 0)  # until the call ends, so that it is not cut off
        if given.is_plain:
            owner.table.attach(row, task)
        else:
            owner.arguments.attach(task, given)
        if link.state == DEAD:
            self._fail_lost(link, [task], now)
        else:
            link.append(task)
            self.push_ready(link)
        return row

    def push_ready(self, link: ActorLink) -> None:
        """Send what can be sent, in order."""
        owner = self._owner
        if link.state == PENDING_ACTOR and link.actor in self._creations:
            task, spec, _ = self._creations[link.actor]
            if spec.args is None and not task.missing and link.info is None:
                link.info = ActorInfo(
                    spec.actor,
                    spec.owner,
                    spec.options,
                    PENDING_ACTOR,
                    shape=spec.placement_shape or spec.shape,
                )
                self._register(link)
        address = link.address
        if address is None:
            return
        while True:
            ready = link.next_ready()
            if ready is None:
                return
            task = ready
            if task.top_level is not None and not owner.arguments.fill(task):
                link.inflight.pop(task.row.key, None)
                self._ended(link)
                owner.arguments.on_unfilled(task, 0.0)
                continue
            owner.outbox.messages.append((address, task.message, len(link.inflight) == 1))

    def put_back(self, task: Task, now: float) -> bool:
        """A call that was taken out of the line is to be tried again, before all others.

        False if its actor will run no call any more: it has failed.
        """
        link: ActorLink = task.actor
        if link.actor in self._creations and self._creations[link.actor][0] is task:
            return True
        self._owner.table.retain(link.handle, 0)
        if link.state == DEAD:
            self._fail_lost(link, [task], now)
            return False
        link.requeue([task])
        return True

    def withdraw(self, task: Task) -> None:
        """A call that was not sent is cancelled."""
        link: ActorLink = task.actor
        if task in link.calls:
            link.calls.remove(task)
            self._ended(link)
            self.push_ready(link)

    def in_flight(self, source: Address, key: int) -> Task | None:
        """The call that an actor has of us."""
        link = self._by_address.get(source)
        return link.inflight.get(key) if link is not None else None

    def finish(self, source: Address, key: int, attempt: int) -> Task | None:
        """The call that an actor's answer is about."""
        task = self.in_flight(source, key)
        if task is None or task.message.attempt != attempt:
            return None
        link: ActorLink = task.actor
        del link.inflight[key]
        self._owner.tasks_finished += 1
        self._ended(link)
        return task

    def _ended(self, link: ActorLink) -> None:
        # Put off to the end of the event, because the call may be about to be put back in line.
        self._owner.table.drops.append((link.handle, 0))

    # ---- changes -----------------------------------------------------------------------------

    def on_state(self, info: ActorInfo, now: float, is_infeasible: bool = False) -> None:
        """The control service tells of an actor's state."""
        link = self.links.get(info.actor)
        if link is None and info.state == MOVING and info.address is not None:
            self._owner.outbox.send(info.address, CallsStopped(info.actor))
        if link is None and info.state != DEAD:
            self._disown(info)
        if link is None or link.state == DEAD:
            return
        if info.state != DEAD and info.restarts < link.least_restart:
            return
        self._ask_at.pop(info.actor, None)
        if link.address is not None and link.address != info.address:
            self._by_address.pop(link.address, None)
        lost = link.change(info)
        link.is_infeasible = is_infeasible
        link.max_pending_calls = info.options.max_pending_calls
        if link.address is not None:
            self._by_address[link.address] = link
        if info.state == DEAD or (info.state == ALIVE and info.options.max_restarts == 0):
            self._end_creation(info.actor)
        if lost:
            self._fail_lost(link, lost, now)
        waiters, link.waiters = link.waiters, []
        self._owner.outbox.woken.extend(waiters)
        self.push_ready(link)
        if link.state == MOVING:
            self._stop_at = now
            self._stop_calls(now)

    def _disown(self, info: ActorInfo) -> None:
        """End an actor that is said to be ours, and is not: its owner died as it left."""
        owner = self._owner
        handle = object_id(info.actor, ACTOR_HANDLE_INDEX)
        if info.owner.address == owner.address and not info.options.detached:
            known = owner.table.by_id.get(handle)
            is_ours = known is not None and known[0].info is None
            if not is_ours and handle not in owner.handoff.given:
                owner.outbox.ask_node(ReleaseActor(info.actor))

    def _stop_calls(self, now: float) -> None:
        """Tell moving actors that have answered all we sent; look again at the others soon.

        Not at each answer, which every call of every actor would pay for.
        """
        self._stop_at = None
        for link in self.links.values():
            if link.state != MOVING or link.address is None or link.has_stopped == link.address:
                continue
            if link.inflight:
                self._stop_at = now + LOOK_AGAIN_S
                self._owner.outbox.has_deadline = True
            else:
                link.has_stopped = link.address
                self._owner.outbox.send(link.address, CallsStopped(link.actor), True)

    def on_killed(self, handle: Row, reason: str, no_restart: bool, now: float) -> None:
        """This process had the actor killed: what it calls from now on must not overtake that.

        For good, it is dead for this process at once. Else calls wait for its next life, and only
        where it is known to be alive; elsewhere what is said of it next is said after the kill.
        """
        link = self.link_to(handle)
        known = link.info
        if not no_restart:
            if known is None or link.state not in (ALIVE, MOVING):
                return
            most = known.options.max_restarts
            if most < 0 or link.restarts - known.moves < most:
                ending = ActorInfo(
                    known.actor, known.owner, known.options, RESTARTING, None, link.restarts, reason
                )
                ending.moves = known.moves
                self.on_state(ending, now)
                link.least_restart = link.restarts + 1
                return
        if known is None and link.actor in self._creations:
            spec = self._creations[link.actor][1]
            known = ActorInfo(spec.actor, spec.owner, spec.options, DEAD)
        options = known.options if known is not None else ActorOptions()
        owner = known.owner if known is not None else OwnerInfo(self._owner.address)
        self.on_state(ActorInfo(link.actor, owner, options, DEAD, reason=reason), now)

    def on_unreachable(self, address: Address, now: float) -> None:
        """The connection to an actor broke: its calls wait for word of the control service."""
        link = self._by_address.pop(address, None)
        if link is not None and link.state == ALIVE:
            link.state = PENDING_ACTOR
            link.address = None
            self._ask_at[link.actor] = now + LEASE_S
            self._owner.outbox.has_deadline = True

    def next_deadline(self) -> float | None:
        """When `on_deadline` has something to do."""
        late = [*self._ask_at.values()]
        if self._stop_at is not None:
            late.append(self._stop_at)
        return min(late, default=None)

    def on_deadline(self, now: float) -> None:
        """Ask about actors whose connection broke though nobody told of their end."""
        if self._stop_at is not None and self._stop_at <= now:
            self._stop_calls(now)
        for actor in [actor for actor, at in self._ask_at.items() if at <= now]:
            del self._ask_at[actor]
            self._owner.outbox.ask_node(WatchActor(actor))

    def _fail_lost(self, link: ActorLink, lost: list[Task], now: float) -> None:
        """Calls in flight at the death: retried if they may be, else failed with the reason."""
        owner = self._owner
        again = []
        for task in lost:
            if link.state != DEAD and task.retries_left != 0 and not task.is_cancelled:
                if task.retries_left > 0:
                    task.retries_left -= 1
                task.message.attempt += 1
                owner.table.hold_dropped(task)
                again.append(task)
                continue
            owner.fail(task.row, self.death_error(link), now)
            self._ended(link)
        link.requeue(again)

    def is_calling(self, address: Address) -> bool:
        """Whether a call is on its way to the actor at that address."""
        link = self._by_address.get(address)
        return link is not None and link.pending() > 0

    def fail_all(self, error: BaseException) -> None:
        """The cluster is gone: every unfinished call fails."""
        for link in self.links.values():
            tasks = [*link.inflight.values(), *link.calls]
            link.inflight.clear()
            link.calls.clear()
            link.state = DEAD
            for task in tasks:
                self._owner.fail(task.row, error, 0.0)
                self._ended(link)
        self._by_address.clear()
        for actor in list(self._creations):
            self._end_creation(actor)

    def death_error(self, link: ActorLink) -> FreeholdError:
        """Why calls of this actor fail now: gone for good, or away."""
        info = link.info
        name = info.options.class_name if info is not None else "unknown"
        reason = info.reason if info is not None else ""
        if link.is_infeasible:
            return ActorUnschedulableError(
                actor_id=link.actor.hex(), actor_name=name, reason=reason
            )
        if link.state == DEAD:
            cause = self.error_of(info) if self.error_of is not None else None
            return ActorDiedError(
                actor_id=link.actor.hex(), actor_name=name, reason=reason, cause=cause
            )
        # It lives where it lived, and nothing was said of it: only the way there is broken.
        why = reason or ActorUnavailableError.reason
        return ActorUnavailableError(actor_id=link.actor.hex(), actor_name=name, reason=why)

    def on_handle_ended(self, row: Row) -> None:
        """The last handle, anywhere, is gone and no call is unfinished."""
        actor = row.task_id()
        link = self.links.pop(actor, None)
        self._end_creation(actor)
        self._ask_at.pop(actor, None)
        if link is not None and link.address is not None:
            self._by_address.pop(link.address, None)
        if link is None or link.info is None or not link.info.options.detached:
            self._owner.outbox.ask_node(ReleaseActor(actor))

    def forget(self, returned: list[Row]) -> None:
        """Handles of other processes' actors among the borrowed objects that ended here."""
        if not self.links:
            return
        for row in returned:
            link = self.links.get(row.task_id())
            if link is not None and link.handle is row:
                del self.links[row.task_id()]
                self._ask_at.pop(link.actor, None)
                if link.address is not None:
                    self._by_address.pop(link.address, None)
