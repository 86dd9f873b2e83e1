"""What `get` raises for a function that raised, and how it takes on its cause's class.

Rejected: pickling the made class or the cause inside the error's own pickle. A cause whose class
the reader lacks, or whose constructor does not fit its ``args``, would then make the whole error
unreadable; so the cause travels as bytes of its own, tried before they are sent.
"""

from __future__ import annotations

import pickle
import traceback
import types
import weakref
from typing import Any

from freehold._errors.base import HEAP_TYPE, FreeholdError, restore, set_plainly


class UnserializableException(FreeholdError):
    """Stands as the ``cause`` of a `TaskError` when the exception could not be pickled there or
    unpickled here.

    The task's own failure is in ``text``. A *value* that cannot be pickled is a
    `SerializationError`.
    """

    type_name: str = "an exception"
    text: str = ""
    reason: str = "it cannot be pickled"
    _says = "{type_name} could not be carried over ({reason}): {text}"


class TaskError(FreeholdError):
    """Your function raised. ``get`` raises it as an instance of the cause's class too, so ``except
    MyError`` works.

    Its process ended well; when the process died under it you get `WorkerCrashedError`, when the
    cluster gave up on it
    `TaskCancelledError`, `TaskTimeoutError` or `TaskUnschedulableError`. Ray: ``RayTaskError``.
    """

    cause: BaseException | None = None
    cause_text: str = ""
    task_name: str = "unknown"
    task_id: str = ""
    node: str = "unknown"
    pid: int = 0
    attempt: int = 0

    @classmethod
    def wrap(cls, error: BaseException, **fields: Any) -> TaskError:
        """Wrap what user code raised, with its traceback as text; errors of nested tasks are not
        nested again.
        """
        where = error.__traceback__
        while where is not None and _is_ours(where):
            where = where.tb_next
        where = where or error.__traceback__
        text = "".join(traceback.format_exception(type(error), error, where))
        cause = error.cause if isinstance(error, TaskError) else error
        return cls(cause=cause, cause_text=text, **fields)

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.__cause__ = self.cause

    def _message(self) -> str:
        name = f"task {self.task_name}" + (f" ({self.task_id})" if self.task_id else "")
        where = f"{name} failed on node {self.node}, pid {self.pid}, attempt {self.attempt}"
        return f"{where}; its traceback there:\n{self.cause_text.rstrip()}"

    function_name = property(lambda self: self.task_name, doc="Ray's name of ``task_name``.")
    traceback_str = property(lambda self: self.cause_text, doc="Ray's name of ``cause_text``.")

    def as_instanceof_cause(self) -> TaskError:
        """This error as an instance of both `TaskError` and the cause's class, or itself where that
        cannot be.

        It stays plain for causes that are Freehold's own (a task's inner `GetTimeoutError` must not
        look like the
        caller's), that are no ``Exception`` (a remote ``SystemExit`` must not end the caller), or
        whose class refuses
        to be derived from.
        """
        cause = self.cause
        if not isinstance(cause, Exception) or isinstance(cause, FreeholdError):
            return self
        try:
            return _instance_of_cause(self, cause)
        except Exception:  # noqa: BLE001 - a metaclass of the user's may raise anything
            return self

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in self.__dict__.items() if name != "cause"}
        return _restore_task_error, (self.args, state, *_pack_cause(self.cause))


def _is_ours(where: types.TracebackType) -> bool:
    return str(where.tb_frame.f_globals.get("__name__", "")).startswith("freehold._")


def _pack_cause(cause: BaseException | None) -> tuple[bytes | None, str, str]:
    """The cause as (pickle or None, type name, text), tried by unpickling it here.

    An exception whose constructor has other parameters than its ``args`` pickles well and fails
    when it is read: it is
    then packed without its constructor. So the reader of a `TaskError` never fails over its cause.
    """
    if cause is None:
        return None, "", ""
    name = f"{type(cause).__module__}.{type(cause).__qualname__}"
    try:
        text = str(cause)
    except Exception as error:  # noqa: BLE001 - user code
        text = f"(its __str__ raised {type(error).__name__})"
    packed: object
    for packed in (cause, _Bare(cause)):
        try:
            blob = _pickled(packed)
            if type(pickle.loads(blob)).__name__ == type(cause).__name__:
                return blob, name, text
        except Exception:  # noqa: BLE001 - user code
            continue
    return None, name, text


class _Bare:
    """Pickles as the exception it holds, without that one's constructor or ``__reduce__``."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self.error), self.error.args, dict(self.error.__dict__))


def _pickled(value: object) -> bytes:
    try:
        blob = pickle.dumps(value, 5)
        if b"__main__" not in blob:
            return blob
    except Exception:  # noqa: BLE001 - user code
        pass
    import cloudpickle  # only for classes of __main__ and of functions: rare, and slow to import

    by_value: bytes = cloudpickle.dumps(value, 5)
    return by_value


def _restore_task_error(
    args: tuple[Any, ...], state: dict[str, Any], blob: bytes | None, name: str, text: str
) -> Any:
    if blob is not None:
        try:
            state["cause"] = pickle.loads(blob)
        except Exception as error:  # noqa: BLE001 - user code
            reason = f"unpickling it raised {type(error).__name__}: {error}"
            state["cause"] = UnserializableException(type_name=name, text=text, reason=reason)
    elif name:
        state["cause"] = UnserializableException(type_name=name, text=text)
    return restore(TaskError, args, state)


_C_FIELDS = (types.GetSetDescriptorType, types.MemberDescriptorType)

# Weak values: a class that a user made in a function goes when its last error goes.
_made_classes: weakref.WeakValueDictionary[type, type[TaskError]] = weakref.WeakValueDictionary()


def _instance_of_cause(error: TaskError, cause: Exception) -> TaskError:
    cls = type(cause)
    made = _made_classes.get(cls)
    if made is None:
        body: dict[str, Any] = {"__getattr__": _read_from_cause, "__str__": _text_of_task_error}
        body |= {"__reduce__": _reduce_made, "__module__": cls.__module__, "__doc__": cls.__doc__}
        made = _made_classes[cls] = type(f"TaskError({cls.__name__})", (TaskError, cls), body)
    if isinstance(cause, BaseExceptionGroup):
        group: Any = BaseExceptionGroup  # its stub wants a group class; `made` is one at run time
        found = group.__new__(made, cause.message, cause.exceptions)
    else:
        found = restore(made, (), {})
    found.__dict__.update(error.__dict__)
    found.__dict__["_plain"] = error
    # What the interpreter's own classes keep outside __dict__: args, errno, start, value …
    for base in cls.__mro__:
        if base.__flags__ & HEAP_TYPE:
            continue
        for name, held in vars(base).items():
            if isinstance(held, _C_FIELDS) and name[0] != "_":
                try:
                    set_plainly(found, name, getattr(cause, name))
                except (AttributeError, TypeError):
                    continue
    set_plainly(found, "__cause__", cause)
    made_error: TaskError = found
    return made_error


def _read_from_cause(self: TaskError, name: str) -> Any:
    if name[:2] == "__":
        raise AttributeError(name)
    return getattr(self.__dict__["cause"], name)


def _text_of_task_error(self: TaskError) -> str:
    return str(self.__dict__["_plain"])


def _reduce_made(self: TaskError) -> tuple[Any, ...]:
    return TaskError.as_instanceof_cause, (self.__dict__["_plain"],)
