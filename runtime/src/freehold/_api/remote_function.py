"""Remote functions: what `@freehold.remote` makes of a function.

`remote()` is the hottest line of user-facing code: one comparison finds out whether this function
is prepared for the current core (and whether there is one), one counts the arguments, and the rest
is the core's. Everything else happens at decoration or in `_attach`, once a core.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from freehold._api import options as opts
from freehold._api import state
from freehold._api.runtime_env import prepare
from freehold._api.signature import (
    ASYNC_GENERATOR,
    COROUTINE,
    GENERATOR,
    call_shape,
    code_flags,
)
from freehold.errors import NotSupportedYetError

if TYPE_CHECKING:
    from freehold._core.interface import Core, FunctionEntry, TaskOptions

Out = TypeVar("Out", covariant=True)
KIND = "remote functions"
CALLABLES = (types.FunctionType, types.BuiltinFunctionType, functools.partial)
GOOD_FORMS = 64
"""Forms of calls (number of positional arguments, names of the others) remembered as right."""

_UNPREPARED: Any = object()


class RemoteFunction(Generic[Out]):
    """A function whose calls run in workers; made by `freehold.remote`, not by hand.

    Example:
        >>> @freehold.remote
        ... def add(a, b):
        ...     return a + b
        >>> freehold.get(add.remote(1, 2))
        3
        >>> freehold.get(add.options(num_cpus=0.5, name="sum").remote(3, b=4))
        7
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: opts.Options,
        entries: dict[int, FunctionEntry] | None = None,
    ) -> None:
        self._function = function
        self._user_options = options
        # Functions that `.options()` made share the code that was sent to workers.
        self._entries: dict[int, FunctionEntry] = {} if entries is None else entries
        self._prepare_call()
        functools.update_wrapper(self, function, updated=())

    def _prepare_call(self) -> None:
        self._shape = call_shape(self._function)
        self._low = self._shape.low
        self._high = self._shape.high
        self._good_forms: set[tuple[object, ...]] = set()
        self._core: Core = _UNPREPARED
        self._entry: FunctionEntry = _UNPREPARED
        self._options: TaskOptions = _UNPREPARED

    @property
    def _name(self) -> str:
        function = self._function
        if isinstance(function, functools.partial):
            function = function.func
        return cast(str, getattr(function, "__qualname__", type(function).__name__))

    def remote(self, *args: Any, **kwargs: Any) -> Out:
        """Submit a call, and return at once.

        An `ObjectRef` that is an argument itself is replaced by its value before the function
        starts; one inside another value is passed on as it is.

        Returns:
            An `ObjectRef`; with `num_returns=n` a list of n of them, with 0 None.

        Raises:
            TypeError: the function does not take these arguments.
            SerializationError: the function or an argument cannot be pickled.

        Example:
            >>> @freehold.remote
            ... def double(x):
            ...     return 2 * x
            >>> freehold.get(double.remote(double.remote(1)))
            4
        """
        core = state.core
        if core is not self._core:
            core = self._attach()
        if kwargs or not self._low <= len(args) <= self._high:
            # The answer depends on the number and the names alone, so a call site asks once.
            form = (len(args), *kwargs)
            if form not in self._good_forms:
                self._shape.check(self._name, args, kwargs)
                if len(self._good_forms) < GOOD_FORMS:
                    self._good_forms.add(form)
        return core.submit_task(self._entry, args, kwargs, self._options)  # type: ignore[return-value]

    def _attach(self) -> Core:
        """Resolve the options for the current core, which is started if there is none."""
        from freehold._core.interface import FunctionEntry

        core = state.require()
        env = prepare(core, self._user_options.get("runtime_env"))
        self._options = opts.task_options(self._user_options, self._name, env)
        calls = opts.max_calls(self._user_options)
        entry = self._entries.get(calls)
        if entry is None:
            entry = FunctionEntry(self._function, self._name, calls)
            entry = self._entries.setdefault(calls, entry)
        self._entry = entry
        self._core = core
        return core

    def options(self, **options: Any) -> RemoteFunction[Any]:
        """The same function with other options, which are those of `freehold.remote`.

        Example:
            >>> @freehold.remote
            ... def pair():
            ...     return 1, 2
            >>> freehold.get(pair.options(num_returns=2).remote())
            [1, 2]
        """
        merged = {**self._user_options, **opts.check(KIND, options)}
        return RemoteFunction(self._function, _checked(self._function, merged), self._entries)

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Ray's static graphs: not built.

        Raises:
            NotSupportedYetError: always.
        """
        raise NotSupportedYetError(
            feature=f"{self._name}.bind()", instead="call .remote(): references make the graph"
        )

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"remote function {self._name} cannot be called directly; use "
            f"{self._name}.remote(…), or {self._name}.__wrapped__(…) to run it here"
        )

    def __repr__(self) -> str:
        return f"<remote function {self.__module__}.{self._name}>"

    # State and not constructor arguments: a recursive function's globals hold its remote function.
    def __getstate__(self) -> tuple[Callable[..., Any], opts.Options]:
        return self._function, self._user_options

    def __setstate__(self, found: tuple[Callable[..., Any], opts.Options]) -> None:
        self._function, self._user_options = found
        self._entries = {}
        # A function of a reference cycle has its code already, but its name perhaps not yet.
        self._prepare_call()
        functools.update_wrapper(self, self._function, updated=())


def make_remote_function(function: Any, options: opts.Options) -> RemoteFunction[Any]:
    """Decorate a function.

    Raises:
        TypeError: it is no function.
        ValueError: it is a coroutine function, or an option is wrong.
    """
    if not isinstance(function, CALLABLES):
        raise TypeError(
            f"@freehold.remote takes a function or a class, not {type(function).__name__} "
            f"{function!r:.80}"
        )
    return RemoteFunction(function, _checked(function, opts.check(KIND, options)))


def _checked(function: Any, options: opts.Options) -> opts.Options:
    """Check what the options and the function say together."""
    name = getattr(function, "__qualname__", repr(function))
    flags = code_flags(function)
    if flags & (COROUTINE | ASYNC_GENERATOR):
        raise ValueError(
            f"async def {name} cannot be a remote function; use a method of an async actor, "
            f"or a function that calls asyncio.run"
        )
    if flags & GENERATOR and options.get("num_returns") is None:
        raise NotSupportedYetError(
            feature=f"generator {name} as a streaming task",
            instead='say num_returns="dynamic" or a number',
        )
    return options
