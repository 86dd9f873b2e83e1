"""The root of the errors, and how each of them is made and pickled."""

from __future__ import annotations

from typing import Any, ClassVar

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: clear for the classes of the interpreter itself


class _Fields:
    """Lets ``str.format_map`` read an error's fields, class defaults included."""

    __slots__ = ("_error",)

    def __init__(self, error: FreeholdError) -> None:
        self._error = error

    def __getitem__(self, name: str) -> object:
        return getattr(self._error, name)


def restore(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Make an exception again without running its constructor, so that any signature survives."""
    static: Any = next(base for base in cls.__mro__ if not base.__flags__ & HEAP_TYPE)
    try:
        error = static.__new__(cls)
    except TypeError:
        # With several bases the interpreter takes its `__new__` from the first whose layout is the
        # widest: not `MemoryError`'s, which adds nothing to `Exception`'s.
        error = BaseException.__new__(cls)
    set_plainly(error, "args", args)
    error.__dict__.update(state)
    cause = state.get("cause")
    if isinstance(cause, BaseException):
        set_plainly(error, "__cause__", cause)
    return error


def set_plainly(error: BaseException, name: str, value: Any) -> None:
    """Set what the interpreter keeps of an exception, whatever its class says of attributes: a
    frozen dataclass refuses any.
    """
    BaseException.__setattr__(error, name, value)


class FreeholdError(Exception):
    """The root: ``except FreeholdError`` catches all that Freehold raises. Ray: ``RayError``.

    Example:
        >>> from freehold.errors import FreeholdError, NotInitializedError
        >>> try:
        ...     raise NotInitializedError(call="get()")
        ... except FreeholdError as error:
        ...     print(error)
        get() needs a cluster; call freehold.init() first
    """

    _says: ClassVar[str] = "freehold failed"

    def __init__(self, message: str = "", **fields: Any) -> None:
        self.__dict__.update(fields)
        super().__init__(message or self._message())

    def _message(self) -> str:
        return self._says.format_map(_Fields(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self.args, self.__dict__.copy())
