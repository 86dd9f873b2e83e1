"""`put`, `get`, `wait`, `cancel` and `explain`: what is asked of references.

Each checks what it was given and hands it to the core. A reference cannot be asked for without a
core: its cluster is gone, so the answer is `StaleReferenceError` and not a fresh cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, overload

from freehold._api import state
from freehold._core.ownership.reference import ObjectRef
from freehold.errors import NotSupportedYetError, StaleReferenceError

T = TypeVar("T")

_ONLY_REFS = frozenset((ObjectRef,))
_row_of = attrgetter("_row")


def put(value: T, *, owner: Any = None) -> ObjectRef[T]:
    """Store a value, once, to pass it to many tasks by reference.

    Args:
        value: anything picklable, but no `ObjectRef`.
        owner: not built yet; the caller owns the object.

    Returns:
        A reference; the value lives as long as one anywhere does, and its owner.

    Raises:
        TypeError: the value is a reference itself.
        SerializationError: it cannot be pickled.
        ObjectStoreFullError: there is no room, nor will be.

    Example:
        >>> table = freehold.put({"a": 1})
        >>> @freehold.remote
        ... def look_up(table, key):
        ...     return table[key]
        >>> freehold.get(look_up.remote(table, "a"))
        1
    """
    if owner is not None:
        raise NotSupportedYetError(
            feature="put(…, owner=…)",
            instead="put the value in the task or actor that is to own it",
        )
    if type(value) is ObjectRef:
        raise TypeError(f"put got {value!r}, which is a reference already; use it as it is")
    core = state.core
    if core is None:
        core = state.require()
    return core.put(value)


@overload
def get(
    object_refs: ObjectRef[T], *, timeout: float | None = None, return_exceptions: bool = False
) -> T: ...
@overload
def get(
    object_refs: Sequence[ObjectRef[T]],
    *,
    timeout: float | None = None,
    return_exceptions: bool = False,
) -> list[T]: ...
def get(object_refs: Any, *, timeout: float | None = None, return_exceptions: bool = False) -> Any:
    """The value of a reference, or the values of a list of them, as soon as they are there.

    Args:
        object_refs: a reference, or a list or tuple of them (also an `ObjectRefGenerator`).
        timeout: seconds to wait at the most; 0 does not wait. None waits without end.
        return_exceptions: give the error of a failed task in place of its value, and not raise it.

    Returns:
        The value, or a list of values in the order of the references. Large arrays are read-only
        views of the shared store.

    Raises:
        TypeError: something else than references was given.
        GetTimeoutError: the time passed; the tasks go on.
        TaskError: the function raised. It is also an instance of what it raised.
        DeserializationError: the value is here and cannot be unpickled.
        FreeholdError: the worker died, the object was lost, the task was cancelled, …

    Example:
        >>> freehold.get([freehold.put(1), freehold.put(2)], timeout=10)
        [1, 2]
        >>> @freehold.remote(max_retries=0)
        ... def fail():
        ...     raise KeyError("no such thing")
        >>> try:
        ...     freehold.get(fail.remote())
        ... except KeyError:
        ...     print("caught")
        caught
        >>> [error] = freehold.get([fail.remote()], return_exceptions=True)
        >>> isinstance(error, KeyError)
        True
    """
    if timeout is not None:
        _check_timeout("get", timeout)
    core = state.core
    if type(object_refs) is ObjectRef:
        if core is None:
            _stale(object_refs)
        return core.get((object_refs,), timeout, return_exceptions)[0]
    refs = _checked_refs("get", object_refs)
    if core is None:
        if refs:
            _stale(refs[0])
        return []
    return core.get(refs, timeout, return_exceptions)


def wait(
    ray_waitables: Sequence[ObjectRef[Any]],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
    separate_failures: bool = False,
) -> Any:
    """Wait until some of the objects are there, or have failed; which is which.

    Args:
        ray_waitables: references, each once.
        num_returns: how many to wait for.
        timeout: seconds to wait at the most; 0 looks and does not wait. None waits without end.
        fetch_local: have stored values of other nodes brought here as soon as they are ready, and
            count a reference as ready only when its value is here. It stays for a while without
            being read (setting `replica_keep_s`). False only asks whether it is anywhere.
        separate_failures: tell those that failed from those that have a value, without fetching it.

    Returns:
        `(ready, pending)`, each in the order given; `ready` has `num_returns` references at the
        most, and fewer when the time passed. With `separate_failures`, `(succeeded, failed,
        pending)`.

    Raises:
        TypeError: something else than a list of references was given.
        ValueError: a reference twice, or `num_returns` out of range.
        StaleReferenceError: a reference is of a cluster that has ended.

    Example:
        >>> @freehold.remote
        ... def divide(a, b):
        ...     return a / b
        >>> refs = [divide.remote(1, 1), divide.remote(1, 0)]
        >>> ready, pending = freehold.wait(refs, num_returns=2, timeout=30)
        >>> len(ready), len(pending)
        (2, 0)
        >>> succeeded, failed, pending = freehold.wait(refs, num_returns=2, separate_failures=True)
        >>> succeeded == refs[:1], failed == refs[1:]
        (True, True)
    """
    if isinstance(ray_waitables, ObjectRef):
        raise TypeError(f"wait takes a list of references, not one: use wait([{ray_waitables!r}])")
    refs = list(_checked_refs("wait", ray_waitables))
    # Draining a thousand references is a thousand waits: rows first, since their hash is C's own.
    if len(set(map(_row_of, refs))) != len(refs) and len(set(refs)) != len(refs):
        twice = next(ref for position, ref in enumerate(refs) if ref in refs[:position])
        raise ValueError(f"wait got {twice!r} twice; give each reference once")
    if isinstance(num_returns, bool) or not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be an int, not {num_returns!r}")
    if timeout is not None:
        _check_timeout("wait", timeout)
    if not refs:
        return ([], [], []) if separate_failures else ([], [])
    if not 1 <= num_returns <= len(refs):
        raise ValueError(
            f"num_returns must be from 1 to {len(refs)}, the number of references; "
            f"not {num_returns}"
        )
    core = state.core
    if core is None:
        _stale(refs[0])
    ready, pending = core.wait(refs, num_returns, timeout, fetch_local)
    if not separate_failures:
        return ready, pending
    failed = [ref for ref in ready if core.status(ref) == "failed"]
    lost = set(failed)
    return [ref for ref in ready if ref not in lost], failed, pending


def cancel(ray_waitable: ObjectRef[Any], *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that makes an object; `get` of it raises `TaskCancelledError`.

    A task that has not started never does. One that runs gets a `KeyboardInterrupt`; an async
    method's coroutine is cancelled. A task that is done stays done.

    Args:
        ray_waitable: one of the task's references.
        force: end the worker process, where an interrupt does not help. Not for actors.
        recursive: cancel the tasks that it submitted, too.

    Raises:
        TypeError: it is no reference.
        ValueError: `force` with the call of an actor.

    Example:
        >>> @freehold.remote(max_retries=0)
        ... def sleep_long():
        ...     import time
        ...     time.sleep(60)
        >>> ref = sleep_long.remote()
        >>> freehold.cancel(ref)
        >>> try:
        ...     freehold.get(ref)
        ... except freehold.exceptions.TaskCancelledError:
        ...     print("cancelled")
        cancelled
    """
    if type(ray_waitable) is not ObjectRef:
        raise TypeError(f"cancel takes a reference, not {_shown(ray_waitable)}; kill ends actors")
    core = state.core
    if core is None:
        _stale(ray_waitable)
    core.cancel(ray_waitable, force, recursive)


def explain(object_ref: ObjectRef[Any]) -> str:
    """Why an object is not there yet: where its task waits, and what each node lacks for it.

    Raises:
        TypeError: it is no reference.

    Example:
        >>> isinstance(freehold.explain(freehold.put(1)), str)
        True
    """
    if type(object_ref) is not ObjectRef:
        raise TypeError(f"explain takes a reference, not {_shown(object_ref)}")
    core = state.core
    if core is None:
        _stale(object_ref)
    return core.explain(object_ref)


def _checked_refs(call: str, refs: Any) -> Sequence[ObjectRef[Any]]:
    """The references, if they are that.

    A set or an iterator is refused: the order of the values would be anyone's guess, or lost.
    """
    if type(refs) is list and _ONLY_REFS.issuperset(map(type, refs)):
        return refs
    if not isinstance(refs, Sequence) or isinstance(refs, (str, bytes)):
        hint = ""
        if isinstance(refs, dict):
            hint = f"; use {call}(list(….values()))"
        elif hasattr(refs, "__iter__"):
            hint = f"; use {call}(list(…))"
        elif hasattr(refs, "remote"):
            hint = "; call .remote(…) first"
        raise TypeError(f"{call} takes an ObjectRef or a list of them, not {_shown(refs)}{hint}")
    for position, ref in enumerate(refs):
        if type(ref) is not ObjectRef:
            raise TypeError(
                f"{call} takes ObjectRefs; item {position} of the list is {_shown(ref)}"
            )
    return refs


def _check_timeout(call: str, timeout: Any) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout of {call} must be seconds or None, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout of {call} must be 0 or more seconds, or None; not {timeout!r}")


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.80}"


def _stale(ref: ObjectRef[Any]) -> NoReturn:
    raise StaleReferenceError(object_id=ref.hex(), cluster=ref._row.table.host.cluster)
