"""Actor handles: what calls an actor, wherever it lives.

A handle wraps the counted reference that the core gave for the actor, and the shared description of
its class. It pickles as these two, so that inside a value the reference is nested and counted like
any other, and the actor lives as long as a handle anywhere does. Methods are made when first asked
for and kept in the handle; they hold the reference and not the handle, because a cycle would keep
the actor alive until the garbage collector finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from freehold._api import options as opts
from freehold._api import state
from freehold._api.signature import UNBOUNDED
from freehold._api.suggest import did_you_mean
from freehold.errors import NotSupportedYetError, StaleReferenceError

if TYPE_CHECKING:
    from freehold._api.handle_meta import Handled
    from freehold._api.signature import CallShape
    from freehold._core.interface import TaskOptions
    from freehold._core.ownership.reference import ObjectRef


class ActorMethod:
    """A method of an actor: call its `.remote(…)`. Made by handles, not by hand.

    Example:
        >>> @freehold.remote
        ... class Greeter:
        ...     def greet(self, name):
        ...         return f"hello {name}"
        >>> greet = Greeter.remote().greet
        >>> freehold.get(greet.remote("Ada"))
        'hello Ada'
    """

    __slots__ = (
        "_handled",
        "_high",
        "_is_streaming",
        "_low",
        "_name",
        "_options",
        "_ref",
        "_shape",
    )

    _shape: CallShape
    _options: TaskOptions

    def __init__(self, ref: ObjectRef[Any], handled: Handled, name: str) -> None:
        found = handled.call(name)
        if found is None:
            known = [method for method in handled.meta.methods if not method.startswith("_")]
            class_name = handled.meta.class_name
            raise AttributeError(
                f"actor class {class_name} has no method {name!r}{did_you_mean(name, known)}"
            )
        self._ref = ref
        self._handled = handled
        self._name = name
        self._shape, self._options = found
        self._is_streaming = handled.meta.methods[name].is_generator
        self._low = self._shape.low
        self._high = self._shape.high
        if self._is_streaming:
            self._low = UNBOUNDED  # every call to the slow path, which says what to do

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, and return at once.

        Calls of one handle run in the order they were made (in an async actor or one with several
        threads: start in that order).

        Returns:
            An `ObjectRef`; with `num_returns=n` a list of n of them, with 0 None.

        Raises:
            TypeError: the method does not take these arguments.
            SerializationError: an argument cannot be pickled.
            PendingCallsLimitExceeded: the actor's `max_pending_calls` are reached.

        Example:
            >>> @freehold.remote
            ... class Adder:
            ...     def add(self, a, b):
            ...         return a + b
            >>> freehold.get(Adder.remote().add.remote(1, b=2))
            3
        """
        core = state.core
        if core is None:
            self._refuse()
        if kwargs or not self._low <= len(args) <= self._high:
            self._check(args, kwargs)
        return core.call_actor(self._ref, self._name, args, kwargs, self._options)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options, which are those of `freehold.method`.

        Example:
            >>> @freehold.remote
            ... class Pair:
            ...     def get(self):
            ...         return 1, 2
            >>> freehold.get(Pair.remote().get.options(num_returns=2).remote())
            [1, 2]
        """
        from freehold._api.handle_meta import changed

        checked = opts.check("actor methods", options)
        group = checked.get("concurrency_group")
        check_group(self._handled.meta.class_name, group, self._handled.meta.concurrency_groups)
        method = ActorMethod(self._ref, self._handled, self._name)
        method._options = changed(self._options, checked)
        method._is_streaming = self._is_streaming and checked.get("num_returns") is None
        if not method._is_streaming:
            method._low = method._shape.low
        return method

    def bind(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Ray's static graphs: not built.

        Raises:
            NotSupportedYetError: always.
        """
        raise NotSupportedYetError(feature=f"{self._name}.bind()", instead="call .remote()")

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._shape.check(self._name, args, kwargs)
        if self._is_streaming:
            raise NotSupportedYetError(
                feature=f"generator method {self._name} as a streaming call",
                instead=f'use {self._name}.options(num_returns="dynamic") or @freehold.method',
            )

    def _refuse(self) -> NoReturn:
        cluster = self._ref._row.table.host.cluster
        raise StaleReferenceError(object_id=self._ref.hex(), cluster=cluster)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"actor method {self._name} cannot be called directly; use {self._name}.remote(…)"
        )

    def __repr__(self) -> str:
        return f"<method {self._name} of {describe(self._ref, self._handled)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._options is not self._handled._calls[self._name][1]:
            raise TypeError(f"{self!r} with options cannot be pickled; pass the handle")
        return getattr, (ActorHandle(self._ref, self._handled), self._name)


class ActorHandle:
    """A handle of an actor: its methods are attributes, each with `.remote(…)`.

    Made by `ActorClass.remote`, `freehold.get_actor`, or by passing one on. Handles of the same
    actor are equal. The actor ends when the last handle is gone and what was called is done, unless
    it is detached.

    Example:
        >>> @freehold.remote
        ... class Counter:
        ...     def __init__(self):
        ...         self.n = 0
        ...     def add(self, by=1):
        ...         self.n += by
        ...         return self.n
        >>> counter = Counter.remote()
        >>> @freehold.remote
        ... def add_three(handle):
        ...     return freehold.get(handle.add.remote(3))
        >>> freehold.get(add_three.remote(counter)), freehold.get(counter.add.remote())
        (3, 4)
    """

    def __init__(self, ref: ObjectRef[Any], handled: Handled) -> None:
        self._ref = ref
        self._handled = handled

    def __getattr__(self, name: str) -> Any:
        # Only for names not in the instance yet: from the second time on a method is found there.
        state_ = self.__dict__
        if "_handled" not in state_:  # half made: pickle and copy ask before there is any state
            raise AttributeError(name)
        method = ActorMethod(state_["_ref"], state_["_handled"], name)
        state_[name] = method
        return method

    @property
    def _actor_id(self) -> bytes:
        """The actor's id; Ray's programs print `handle._actor_id.hex()`."""
        return self._ref.task_id()

    def __dir__(self) -> list[str]:
        return sorted(self._handled.meta.methods)

    def __eq__(self, other: object) -> bool:
        return self._ref == other._ref if isinstance(other, ActorHandle) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return describe(self._ref, self._handled)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_handle, (self._ref, self._handled.encoded)


def rebuild_handle(ref: ObjectRef[Any], encoded: bytes) -> ActorHandle:
    """A handle of the actor that `ref` counts, with the methods that `encoded` describes."""
    from freehold._api.handle_meta import decode

    handled = decode(encoded)
    if handled.meta.max_pending_calls >= 0:
        # Known before the first call, which does not wait for word of the actor.
        ref._row.table.host.limit_calls(ref, handled.meta.max_pending_calls)
    return ActorHandle(ref, handled)


def describe(ref: ObjectRef[Any], handled: Handled) -> str:
    """An actor in an error message or a log."""
    return f"Actor({handled.meta.class_name}, {ref.task_id().hex()})"


def check_group(class_name: str, group: str | None, groups: list[str]) -> None:
    """Check that a class has a concurrency group.

    Raises:
        ValueError: it has not.
    """
    if group is not None and group not in groups:
        raise ValueError(
            f"actor class {class_name} has no concurrency group {group!r}"
            f"{did_you_mean(group, groups) or '; declare it in concurrency_groups={…}'}"
        )
