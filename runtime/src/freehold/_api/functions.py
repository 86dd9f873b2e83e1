"""The decorators: `remote` for functions and classes, `method` for what an actor's methods say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from freehold._api import options as opts
from freehold._api.actor_class import METHOD_GROUP, METHOD_OPTIONS, ActorClass, make_actor_class
from freehold._api.remote_function import RemoteFunction, make_remote_function

if TYPE_CHECKING:
    from freehold._core.ownership.reference import ObjectRef

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@overload
def remote(target: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
@overload
def remote(target: Callable[..., T], /) -> RemoteFunction[ObjectRef[T]]: ...
@overload
def remote(**options: Any) -> Callable[[Any], Any]: ...
def remote(*target: Any, **options: Any) -> Any:
    """Make a function run in workers, or a class an actor class.

    Args:
        target: the function or class, when used without options.
        options: of tasks and actors: `num_cpus`, `num_gpus`, `memory` (bytes), `resources` (by
            name; amounts down to 0.0001), `name`, `runtime_env`. Of tasks: `num_returns` (a number
            or "dynamic"; default 1), `max_retries` (default 3, −1 for no end; for crashes, and with
            `retry_exceptions` True or a list of classes also for those), `max_calls` (of one worker
            process), `timeout_s` (of one attempt). Of actors: `max_restarts`, `max_task_retries`
            (default 0), `max_concurrency`, `concurrency_groups`, `max_pending_calls`, `namespace`,
            `get_if_exists`, `lifetime`.

    Returns:
        A `RemoteFunction` or an `ActorClass`; call its `.remote(…)`.

    Raises:
        TypeError, ValueError: it is neither function nor class, or an option is wrong.
        NotSupportedYetError: an option of Ray's that is not built yet.

    Example:
        >>> @freehold.remote
        ... def square(x):
        ...     return x * x
        >>> freehold.get([square.remote(n) for n in range(4)])
        [0, 1, 4, 9]
        >>> @freehold.remote(num_cpus=1, max_restarts=1)
        ... class Counter:
        ...     def __init__(self):
        ...         self.n = 0
        ...     def add(self):
        ...         self.n += 1
        ...         return self.n
        >>> counter = Counter.remote()
        >>> freehold.get([counter.add.remote(), counter.add.remote()])
        [1, 2]
    """
    if len(target) == 1 and not options:
        return _decorate(target[0], {})
    if target or not options:
        raise TypeError(
            "use @freehold.remote without parentheses, or @freehold.remote(num_cpus=…, …) "
            "with options by keyword alone"
        )
    return lambda decorated: _decorate(decorated, options)


def _decorate(target: Any, options: opts.Options) -> Any:
    if isinstance(target, (RemoteFunction, ActorClass)):
        raise TypeError(f"{target!r} is remote already; use its .options(…) to change it")
    if isinstance(target, type):
        return make_actor_class(target, options)
    return make_remote_function(target, options)


def method(*target: Any, **options: Any) -> Callable[[F], F]:
    """Say how the calls of an actor's method are made, unless the caller says otherwise.

    Args:
        options: `num_returns`, `concurrency_group`, `max_task_retries`, `retry_exceptions`,
            `timeout_s` (seconds), `name`.

    Raises:
        TypeError, ValueError: an option is wrong, or there is none.

    Example:
        >>> @freehold.remote
        ... class Splitter:
        ...     @freehold.method(num_returns=2)
        ...     def halves(self, text):
        ...         middle = len(text) // 2
        ...         return text[:middle], text[middle:]
        >>> left, right = Splitter.remote().halves.remote("abcd")
        >>> freehold.get([left, right])
        ['ab', 'cd']
    """
    if target or not options:
        raise TypeError("use @freehold.method(num_returns=…, …) with options by keyword")
    checked = opts.check("actor methods", options)

    def decorate(function: F) -> F:
        setattr(function, METHOD_OPTIONS, checked)
        if checked.get("concurrency_group"):
            setattr(function, METHOD_GROUP, checked["concurrency_group"])
        return function

    return decorate
