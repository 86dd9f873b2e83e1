"""`get_actor`, `kill` and `exit_actor`: what is done to actors beside calling them."""

from __future__ import annotations

from typing import Any

from freehold._api import state
from freehold._api.actor_handle import ActorHandle, rebuild_handle
from freehold._api.option_checks import text
from freehold.errors import ActorHandleNotFoundError


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """A handle of the living actor of that name.

    Args:
        name: as given to `.options(name=…)`.
        namespace: where it was named; None for this job's.

    Raises:
        ValueError: there is none.

    Example:
        >>> @freehold.remote
        ... class Store:
        ...     def ping(self):
        ...         return "pong"
        >>> store = Store.options(name="example-store").remote()
        >>> freehold.get(freehold.get_actor("example-store").ping.remote())
        'pong'
    """
    text("the actor's name", name)
    if namespace is not None:
        text("namespace", namespace)
    core = state.require()
    ref, info = core.find_actor(name, namespace or core.namespace)
    return rebuild_handle(ref, info.options.handle_meta)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor's process at once; calls in flight fail with `ActorDiedError`.

    Args:
        actor: a handle.
        no_restart: for good. False lets `max_restarts` bring it back.

    Raises:
        TypeError: it is no actor handle.
        ActorHandleNotFoundError: its cluster has ended.

    Example:
        >>> @freehold.remote
        ... class Sleeper:
        ...     def ping(self):
        ...         return 1
        >>> sleeper = Sleeper.remote()
        >>> freehold.kill(sleeper)
        >>> try:
        ...     freehold.get(sleeper.ping.remote())
        ... except freehold.exceptions.ActorDiedError:
        ...     print("gone")
        gone
    """
    if not isinstance(actor, ActorHandle):
        raise TypeError(
            f"kill takes an actor handle, not {type(actor).__name__} {actor!r:.80}; "
            f"cancel is for tasks"
        )
    core = state.core
    if core is None:
        raise ActorHandleNotFoundError(actor_id=actor._actor_id.hex())
    core.kill_actor(actor._ref, no_restart)


def exit_actor() -> Any:
    """End the calling actor: this call ends here, and returns None; those after it fail.

    To be called in a method. It does not return: it raises what unwinds the method.

    Raises:
        TypeError: called outside an actor.

    Example:
        >>> from freehold.actor import exit_actor
        >>> @freehold.remote
        ... class OneShot:
        ...     def stop(self):
        ...         exit_actor()
        >>> actor = OneShot.remote()
        >>> ended = actor.stop.remote()
        >>> ready, _ = freehold.wait([ended], timeout=30)
        >>> len(ready)
        1
    """
    core = state.core
    context = core.context() if core is not None else None
    if core is None or context is None or not context.actor_id:
        raise TypeError("exit_actor ends the actor that calls it, and this is none; use kill(…)")
    core.exit_actor()
