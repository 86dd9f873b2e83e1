"""Errors of actors, and of what waits in line for them."""

from __future__ import annotations

from typing import Any

from freehold._errors.base import FreeholdError
from freehold._errors.task_error import TaskError


class ActorError(FreeholdError):
    """A call of an actor could not be done. Always one of the two below: dead or unavailable. Ray:
    ``RayActorError``.
    """

    actor_id: str = "unknown"
    actor_name: str = "unknown"
    reason: str = ""
    _says = "actor {actor_name} ({actor_id}) failed: {reason}"


class ActorDiedError(ActorError):
    """The actor is gone for good; ``cause`` says why: a `TaskError` if its constructor raised, a
    `WorkerCrashedError` with the exit code and last lines if its process died, None if it was
    killed or left.

    If it is being restarted: `ActorUnavailableError`.
    """

    cause: FreeholdError | None = None

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.__cause__ = self.cause

    @property
    def actor_init_failed(self) -> bool:
        """Whether the constructor raised."""
        return isinstance(self.cause, TaskError)

    def _message(self) -> str:
        who = f"actor {self.actor_name} ({self.actor_id})"
        if isinstance(self.cause, TaskError):
            return (
                f"{who} died because {self.reason or 'its constructor raised'}; create it "
                f"again once that is mended\n{self.cause}"
            )
        why = self.reason or (
            "its process died"
            if self.cause is not None
            else "it was killed or its last handle went"
        )
        text = (
            f"{who} is dead: {why}; create it again, with max_restarts if it should "
            f"come back by itself"
        )
        return f"{text}\n{self.cause}" if self.cause is not None else text


class ActorUnavailableError(ActorError):
    """The actor cannot be reached now and may be again: it restarts, or its connection broke in
    mid-call.

    The call may or may not have run. If it cannot come back: `ActorDiedError`.
    """

    reason: str = "its connection broke"
    _says = (
        "actor {actor_name} ({actor_id}) is unavailable: {reason}; the call may have run: "
        "repeat it if that does no harm, or set max_task_retries"
    )


class ActorUnschedulableError(FreeholdError):
    """No node can ever have what the actor asks for; ``reason`` names what lacks where. For a
    task: `TaskUnschedulableError`.
    """

    actor_id: str = "unknown"
    actor_name: str = "unknown"
    reason: str = "no node of the cluster can ever fit it; ask for less, or add a node that has it"
    _says = "actor {actor_name} ({actor_id}) is {reason}"


class ActorPlacementGroupRemoved(FreeholdError):
    """The placement group that the actor lived in was removed. For a task:
    `TaskPlacementGroupRemoved`.
    """

    actor_id: str = "unknown"
    group_id: str = "unknown"
    _says = (
        "placement group {group_id} of actor {actor_id} was removed; make one and create it again"
    )


class ActorAlreadyExistsError(FreeholdError, ValueError):
    """A new actor's name is taken. If the name is *unknown*: ``get_actor`` raises ValueError."""

    actor_name: str = "unknown"
    namespace: str = "unknown"
    _says = (
        "an actor named {actor_name!r} exists in namespace {namespace!r}; choose another name, "
        "or get it with get_if_exists=True"
    )


class ActorHandleNotFoundError(FreeholdError, ValueError):
    """``kill`` of a handle of a cluster that has ended. A *call* by such a handle:
    `StaleReferenceError`; of an actor that has ended: `ActorDiedError`.
    """

    actor_id: str = "unknown"
    _says = (
        "the handle of actor {actor_id} is of a cluster that is gone, and its actor with it; "
        "handles do not outlive shutdown(): create the actor again"
    )


class AsyncioActorExit(FreeholdError):
    """Raised inside an async actor by ``exit_actor()`` to leave its loop; callers see
    `ActorDiedError`.
    """

    _says = "the actor leaves; do not catch this"


class PendingCallsLimitExceeded(FreeholdError):
    """One actor has ``max_pending_calls`` unanswered calls from this caller. For bytes:
    `PendingLimitError`.
    """

    actor_id: str = "unknown"
    limit: int = 0
    _says = (
        "actor {actor_id} has {limit} pending calls, its max_pending_calls; get some results first"
    )


class PendingLimitError(FreeholdError):
    """Pending tasks of this process hold too many bytes of arguments, and none ended for a while.

    For the count of one actor's calls: `PendingCallsLimitExceeded`; for the store:
    `ObjectStoreFullError`.
    """

    pending_bytes: int = 0
    limit_bytes: int = 0
    waited_s: float = 0.0
    is_on_event_loop: bool = False
    """The caller runs an event loop, which must not wait: it was not waited for."""

    def _message(self) -> str:
        why = f"none ended in {self.waited_s:.0f} s"
        what = "get results first"
        if self.is_on_event_loop:
            why, what = "an event loop must not wait for them", "await results first"
        return (
            f"pending tasks hold {self.pending_bytes} bytes of arguments (limit "
            f"{self.limit_bytes}) and {why}; {what}, or put() what several tasks share"
        )
