"""Actor classes: what `@freehold.remote` makes of a class.

A class is looked at once, at decoration: its methods with their options, whether any is async, its
constructor's arguments. What the core is told is built once a core, so that making an actor costs
no more than its arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from freehold._api import options as opts
from freehold._api import state
from freehold._api.actor_handle import ActorHandle, check_group, rebuild_handle
from freehold._api.runtime_env import prepare
from freehold._api.signature import (
    ANYTHING,
    ASYNC_GENERATOR,
    COROUTINE,
    GENERATOR,
    CallShape,
    call_shape,
    code_flags,
)
from freehold.errors import NotSupportedYetError

if TYPE_CHECKING:
    from freehold._api.handle_meta import Handled
    from freehold._core.interface import ActorRequest, Core

T = TypeVar("T")
KIND = "actors"
METHOD_OPTIONS = "__freehold_method__"
"""Attribute in which `@freehold.method` leaves a method's options."""
METHOD_GROUP = "__freehold_concurrency_group__"
"""Attribute with its concurrency group, for the worker, where a call names none."""

_UNPREPARED: Any = object()
_NOT_METHODS = frozenset(
    ("__init__", "__new__", "__del__", "__init_subclass__", "__class_getitem__", "__getattribute__")
)


class ActorClass(Generic[T]):
    """A class whose instances live in processes of their own; made by `freehold.remote`.

    Other classes may inherit from it. Its class attributes are those of the class.

    Example:
        >>> @freehold.remote
        ... class Counter:
        ...     def __init__(self, start=0):
        ...         self.n = start
        ...     def add(self):
        ...         self.n += 1
        ...         return self.n
        >>> counter = Counter.options(name="example-counter").remote(start=10)
        >>> freehold.get(counter.add.remote())
        11
        >>> freehold.get_actor("example-counter") == counter
        True
    """

    def __init__(self, cls: type[T], options: opts.Options) -> None:
        self._cls = cls
        self._user_options = options
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self._learn_constructor()
        self._core: Core = _UNPREPARED
        self._request: ActorRequest = _UNPREPARED
        self._handled: Handled = _UNPREPARED

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Make an actor, and return at once; an error of the constructor is that of every call.

        Args:
            args, kwargs: of the constructor.

        Raises:
            TypeError: the constructor does not take these arguments.
            ActorAlreadyExistsError (a ValueError): the name is taken, and `get_if_exists` is not
                set.
            SerializationError: the class or an argument cannot be pickled.

        Example:
            >>> @freehold.remote
            ... class Box:
            ...     def __init__(self, value):
            ...         self.value = value
            ...     def get(self):
            ...         return self.value
            >>> freehold.get(Box.remote("full").get.remote())
            'full'
        """
        core = state.core
        if core is not self._core:
            core = self._attach()
        if kwargs or not self._low <= len(args) <= self._high:
            self._init_shape.check(f"{self.__qualname__}.__init__", args, kwargs)
        ref, existing = core.create_actor(self._request, args, kwargs)
        if existing is not None:
            return rebuild_handle(ref, existing.options.handle_meta)
        return ActorHandle(ref, self._handled)

    def options(self, **options: Any) -> ActorClass[T]:
        """The same class with other options, which are those of `freehold.remote`.

        Example:
            >>> @freehold.remote
            ... class Echo:
            ...     def echo(self, x):
            ...         return x
            >>> echo = Echo.options(name="example-echo", get_if_exists=True).remote()
            >>> freehold.get(echo.echo.remote(5))
            5
        """
        merged = {**self._user_options, **opts.check(KIND, options)}
        return ActorClass(self._cls, _checked(self._cls, merged))

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Ray's static graphs: not built.

        Raises:
            NotSupportedYetError: always.
        """
        raise NotSupportedYetError(feature=f"{self.__qualname__}.bind()", instead="call .remote()")

    def _learn_constructor(self) -> None:
        self._init_shape = _constructor_shape(self._cls)
        self._low = self._init_shape.low
        self._high = self._init_shape.high

    def _attach(self) -> Core:
        """Resolve the options for the current core, which is started if there is none."""
        from freehold._api.handle_meta import HandleMeta, builtin_methods, handled, method_meta

        options = self._user_options
        core = state.require()
        # Anew: where a method's globals hold this very class, unpickling came here first, and the
        # class had nothing of its own yet.
        self._learn_constructor()
        env = prepare(core, options.get("runtime_env"))
        methods = builtin_methods()
        for name, (function, declared) in class_methods(self._cls).items():
            is_generator = bool(code_flags(function) & (GENERATOR | ASYNC_GENERATOR))
            methods[name] = method_meta(call_shape(function, 1), declared, is_generator)
        pending = options.get("max_pending_calls")
        meta = HandleMeta(
            class_name=self.__qualname__,
            methods=methods,
            max_task_retries=options.get("max_task_retries") or 0,
            concurrency_groups=list(options.get("concurrency_groups") or ()),
            max_pending_calls=-1 if pending is None else pending,
        )
        self._handled = handled(meta)
        self._request = self._make_request(core, env)
        self._core = core
        return core

    def _make_request(self, core: Core, env: str) -> ActorRequest:
        from freehold._core.interface import ActorRequest
        from freehold._core.messages import ActorOptions

        options = self._user_options
        is_async = is_async_class(self._cls)
        held, placement = opts.actor_shapes(options)
        pending = options.get("max_pending_calls")
        concurrency = opts.DEFAULT_ASYNC_CONCURRENCY if is_async else 1
        return ActorRequest(
            cls=self._cls,
            options=ActorOptions(
                name=options.get("name") or "",
                namespace=options.get("namespace") or core.namespace,
                class_name=self.__qualname__,
                max_restarts=options.get("max_restarts") or 0,
                max_task_retries=options.get("max_task_retries") or 0,
                max_concurrency=options.get("max_concurrency") or concurrency,
                concurrency_groups=options.get("concurrency_groups") or {},
                is_async=is_async,
                detached=options.get("lifetime") == "detached",
                max_pending_calls=-1 if pending is None else pending,
                handle_meta=self._handled.encoded,
            ),
            shape=held,
            placement_shape=placement,
            env=env,
            get_if_exists=bool(options.get("get_if_exists")),
            where=opts.where(options),
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_cls" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._cls, name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self._cls,)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        name = self.__qualname__
        raise TypeError(f"actor class {name} cannot be called directly; use {name}.remote(…)")

    def __repr__(self) -> str:
        return f"<actor class {self.__module__}.{self.__qualname__}>"

    # State and not constructor arguments: a method's globals may hold the actor class.
    def __getstate__(self) -> tuple[type[T], opts.Options]:
        return self._cls, self._user_options

    def __setstate__(self, found: tuple[type[T], opts.Options]) -> None:
        ActorClass.__init__(self, *found)


def make_actor_class(cls: type[T], options: opts.Options) -> ActorClass[T]:
    """Decorate a class.

    Raises:
        ValueError, TypeError: an option is wrong, or `__init__` is async.
    """
    return ActorClass(cls, _checked(cls, opts.check(KIND, options)))


def _checked(cls: type, options: opts.Options) -> opts.Options:
    """Check what the options and the class say together."""
    name = cls.__qualname__
    kind = code_flags(getattr(cls, "__init__"))  # noqa: B009 - cls.__init__ is unsound to mypy
    if kind & (COROUTINE | GENERATOR | ASYNC_GENERATOR):
        raise TypeError(
            f"actor class {name} has an __init__ that Python would never run: it is "
            f"{'a generator' if kind & GENERATOR else 'async'}; make it a plain method, and await "
            "what it needs in an async method that callers call first"
        )
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError(f"get_if_exists of actor class {name} needs a name to look for")
    groups = list(options.get("concurrency_groups") or ())
    for method_name, (_, declared) in class_methods(cls).items():
        check_group(f"{name} (method {method_name})", declared.get("concurrency_group"), groups)
    return options


def class_methods(cls: type) -> dict[str, tuple[Any, opts.Options]]:
    """The methods of a class and its bases by name, each with the options of its `@method`."""
    found: dict[str, tuple[Any, opts.Options]] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ in ("builtins", "typing", "abc"):
            continue
        for name, value in vars(base).items():
            function = getattr(value, "__func__", value)
            if not callable(function) or isinstance(value, type) or name in _NOT_METHODS:
                found.pop(name, None)  # an attribute of that name hides an inherited method
            else:
                found[name] = value, getattr(function, METHOD_OPTIONS, {})
    return found


def is_async_class(cls: type) -> bool:
    """Whether any method is `async def`: then all run on the actor's event loop."""
    asynchronous = COROUTINE | ASYNC_GENERATOR
    return any(code_flags(function) & asynchronous for function, _ in class_methods(cls).values())


def _constructor_shape(cls: type) -> CallShape:
    constructor: Any = getattr(cls, "__init__")  # noqa: B009 - cls.__init__ is unsound to mypy
    if constructor is object.__init__:
        plain = getattr(cls, "__new__") is getattr(object, "__new__")  # noqa: B009
        return CallShape() if plain else ANYTHING
    return call_shape(constructor, 1)
