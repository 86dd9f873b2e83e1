"""Why an actor is gone, as the exception behind its `ActorDiedError`.

The control service tells how an actor's process ended; here that becomes what the user sees.
It decides nothing: whether the actor is dead or away is the directory's word.
"""

from __future__ import annotations

import signal

from freehold._core.messages import ActorInfo
from freehold._io.serialization import loads
from freehold.errors import FreeholdError, NodeDiedError, WorkerCrashedError


def actor_cause(info: ActorInfo) -> FreeholdError | None:
    """What killed an actor: its constructor's error, its process's or node's end; None if a kill.

    Raises nothing: an error that cannot be unpickled here is told as text.
    """
    if info.error:
        try:
            error = loads(info.error)
        except Exception as unreadable:  # its class may not be there in this process  # noqa: BLE001
            return FreeholdError(f"its error cannot be unpickled here: {unreadable}")
        return error if isinstance(error, FreeholdError) else FreeholdError(str(error))
    cause = info.cause
    if cause is None:
        return None
    if cause.code is None and cause.signal is None:
        return NodeDiedError(node=cause.node, reason=cause.reason)
    return WorkerCrashedError(
        task_name=info.options.class_name,
        task_id=info.actor.hex(),
        node=cause.node,
        pid=cause.pid,
        exit_code=cause.code,
        signal=_signal_name(cause.signal),
        last_log_lines=tuple(cause.log),
    )


def _signal_name(number: int | None) -> str | None:
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
