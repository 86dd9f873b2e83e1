"""Errors of tasks other than what their function raised, of workers and of nodes."""

from __future__ import annotations

from freehold._errors.base import FreeholdError


class UserCodeException(FreeholdError):
    """Code of yours that Freehold calls besides tasks raised (a callback, a hook); in a task it is
    a `TaskError`.
    """

    _says = "user code called by freehold raised; see the cause"


class TaskCancelledError(FreeholdError):
    """``get`` of a task that was cancelled, or that needed one. If its time ran out:
    `TaskTimeoutError`.
    """

    task_id: str = "unknown"
    task_name: str = "unknown"
    _says = "task {task_name} ({task_id}) was cancelled; submit it again if its result is needed"


class TaskTimeoutError(FreeholdError, TimeoutError):
    """The task ran longer than its own ``timeout_s`` and was ended. If only *you* stopped waiting:
    `GetTimeoutError`.
    """

    task_id: str = "unknown"
    task_name: str = "unknown"
    timeout_s: float = 0.0
    attempt: int = 0
    _says = (
        "task {task_name} ({task_id}), attempt {attempt}, was ended after its "
        "timeout_s of {timeout_s}; "
        "raise timeout_s or split the task"
    )


class TaskUnschedulableError(FreeholdError):
    """No node can ever have what the task asks for. A task that merely waits is pending: ask
    ``explain(ref)``.
    """

    task_id: str = "unknown"
    task_name: str = "unknown"
    needs: str = "unknown resources"
    available: str = "unknown"
    _says = (
        "task {task_name} ({task_id}) needs {needs} and no node can ever give "
        "it (largest: {available}); "
        "ask for less or add such a node"
    )


class TaskPlacementGroupRemoved(FreeholdError):
    """The placement group that the task was to run in was removed. For an actor:
    `ActorPlacementGroupRemoved`.
    """

    task_id: str = "unknown"
    group_id: str = "unknown"
    _says = "placement group {group_id} of task {task_id} was removed; make one and submit it again"


class WorkerCrashedError(FreeholdError):
    """The process that ran the task ended without an answer: signal, ``os._exit``, segmentation
    fault.

    An exception is a `TaskError`; a process ended to save memory an `OutOfMemoryError`; a lost
    machine a
    `NodeDiedError`; an actor's process an `ActorDiedError` with this as its cause.
    """

    task_name: str = "unknown"
    task_id: str = "unknown"
    node: str = "unknown"
    pid: int = 0
    exit_code: int | None = None
    signal: str | None = None
    last_log_lines: tuple[str, ...] = ()

    def _message(self) -> str:
        how = "died"
        if self.signal is not None:
            how = f"was killed by {self.signal}"
        elif self.exit_code is not None:
            how = f"ended with exit code {self.exit_code}"
        text = (
            f"the worker (pid {self.pid}, node {self.node}) of task "
            f"{self.task_name} ({self.task_id}) {how}"
        )
        if self.last_log_lines:
            return text + "; the last lines it logged:\n  " + "\n  ".join(self.last_log_lines)
        return (
            text
            + " and logged nothing; look for a segmentation fault, os._exit or a kill from outside"
        )


class NodeDiedError(FreeholdError):
    """The node was declared dead. What cannot be had again of its objects is an
    `ObjectLostError`.
    """

    node: str = "unknown"
    reason: str = "its connection closed"
    _says = "node {node} died: {reason}; what it ran is retried while max_retries allows"


class LocalNodeDiedError(NodeDiedError):
    """This process's own node manager died; it cannot go on. For any other node:
    `NodeDiedError`.
    """

    _says = (
        "the node manager of this process (node {node}) died: {reason}; call "
        "shutdown() and init() again"
    )


LocalRayletDiedError = LocalNodeDiedError


class OutOfMemoryError(FreeholdError):
    """The worker was ended because its machine ran out of memory. The *store* running out:
    `ObjectStoreFullError`.
    """

    task_name: str = "unknown"
    node: str = "unknown"
    used_bytes: int = 0
    limit_bytes: int = 0
    _says = (
        "the worker of task {task_name} was ended: node {node} used "
        "{used_bytes} of {limit_bytes} bytes of memory; "
        "declare memory= for the task or run fewer at once"
    )
