"""`TaskError`: `except MyError` across the wire, whatever the user's exception class does."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from typing import Any

import pytest

from freehold.errors import GetTimeoutError, TaskError, UnserializableException


class Plain(Exception):
    pass


class Required(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}: {hint}")
        self.code = code
        self.hint = hint

    @property
    def doubled(self) -> int:
        return self.code * 2


class Slotted(Exception):
    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        self.depth = depth


class NewArgs(Exception):
    def __new__(cls, first: int, second: int) -> NewArgs:
        return super().__new__(cls, first, second)

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first, second)


class Final(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


class Unpicklable(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def wrapped(error: BaseException) -> TaskError:
    try:
        raise error
    except BaseException as caught:
        return TaskError.wrap(
            caught, task_name="work", task_id="ab12", node="n1", pid=77, attempt=2
        )


def across(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error, 5))


CAUSES = [
    Plain("a", 1),
    Required(7, hint="x"),
    Slotted(3),
    NewArgs(1, 2),
    KeyError("missing"),
    ZeroDivisionError("by zero"),
    FileNotFoundError(2, "no such file", "/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    StopIteration(5),
    ExceptionGroup("many", [ValueError("v"), KeyError("k")]),
    BadText(),
]


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: type(cause).__name__)
def test_is_caught_as_the_cause_and_as_task_error_after_the_wire(cause: Exception) -> None:
    plain = across(wrapped(cause))
    assert type(plain) is TaskError
    made = plain.as_instanceof_cause()
    for error in (made, across(made)):
        assert isinstance(error, TaskError)
        assert isinstance(error, type(cause))
        assert type(error.__cause__) is type(cause)
        assert repr(error.args) == repr(cause.args)
        text = str(error)
        assert "task work (ab12) failed on node n1, pid 77, attempt 2" in text
        assert "Traceback (most recent call last)" in text
        assert type(cause).__name__ in text


def test_attributes_and_properties_of_the_cause_are_readable() -> None:
    error: Any = across(wrapped(Required(7, hint="x"))).as_instanceof_cause()
    assert (error.code, error.hint, error.doubled) == (7, "x", 14)
    slotted: Any = across(wrapped(Slotted(3))).as_instanceof_cause()
    assert slotted.depth == 3
    missing: Any = across(wrapped(FileNotFoundError(2, "no", "/x"))).as_instanceof_cause()
    assert (missing.errno, missing.filename) == (2, "/x")
    stop: Any = across(wrapped(StopIteration(5))).as_instanceof_cause()
    assert stop.value == 5
    with pytest.raises(AttributeError):
        _ = error.nothing_of_the_kind


def test_fields_and_rays_names() -> None:
    error = across(wrapped(Plain())).as_instanceof_cause()
    assert (error.task_name, error.node, error.pid, error.attempt) == ("work", "n1", 77, 2)
    assert error.function_name == "work"
    assert error.traceback_str == error.cause_text
    assert "test_task_error.py" in error.cause_text


def test_the_made_class_is_made_once_and_goes_with_its_cause() -> None:
    first = wrapped(Plain()).as_instanceof_cause()
    assert type(first) is type(wrapped(Plain()).as_instanceof_cause())
    local = type("Local", (Exception,), {})
    error = wrapped(local()).as_instanceof_cause()
    gone = weakref.ref(type(error))
    del error, local
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "cause", [Final("f"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_stays_plain_where_it_cannot_or_must_not_be_the_cause(cause: BaseException) -> None:
    error = across(wrapped(cause))
    assert error.as_instanceof_cause() is error
    assert type(error.cause) is type(cause)


def test_an_inner_timeout_is_not_the_callers() -> None:
    error = across(wrapped(GetTimeoutError(timeout_s=1))).as_instanceof_cause()
    assert not isinstance(error, GetTimeoutError)
    assert isinstance(error.cause, GetTimeoutError)


def test_errors_of_nested_tasks_are_flat() -> None:
    inner = across(wrapped(Plain("deep"))).as_instanceof_cause()
    outer: Any = across(wrapped(inner)).as_instanceof_cause()
    assert type(outer.cause) is Plain
    assert "deep" in outer.cause_text
    assert isinstance(outer, Plain)


def test_an_unpicklable_cause_is_replaced_by_its_name_and_text() -> None:
    error = across(wrapped(Unpicklable("held a lock")))
    assert isinstance(error.cause, UnserializableException)
    assert error.cause.type_name.endswith("Unpicklable")
    assert error.cause.text == "held a lock"
    assert "held a lock" in str(error)
    assert type(error.as_instanceof_cause()) is TaskError


def test_a_cause_that_cannot_be_read_here_does_not_spoil_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob = pickle.dumps(wrapped(Plain("x")), 5)
    monkeypatch.delitem(globals(), "Plain")
    error = pickle.loads(blob)
    assert isinstance(error.cause, UnserializableException)
    assert "AttributeError" in error.cause.reason
    assert "failed on node n1" in str(error)


def test_a_class_made_in_a_function_goes_by_value() -> None:
    class Inside(Exception):
        pass

    error = across(wrapped(Inside("x"))).as_instanceof_cause()
    assert type(error.cause).__name__ == "Inside"
    assert isinstance(error, Inside)  # cloudpickle knows the class it pickled


def test_notes_are_kept() -> None:
    cause = Plain("x")
    cause.add_note("look there")
    error = across(wrapped(cause))
    assert error.cause.__notes__ == ["look there"]
    assert "look there" in error.cause_text


def test_freeholds_own_frames_above_the_users_function_are_left_out() -> None:
    def user_function() -> None:
        raise Plain("x")

    scope: dict[str, Any] = {"__name__": "freehold._processes.worker.run"}
    code = compile("def run_task(f):\n    f()\n", "internal.py", "exec")
    exec(code, scope)
    with pytest.raises(Plain) as caught:
        scope["run_task"](user_function)
    error = caught.value
    assert error.__traceback__ is not None
    inner = error.with_traceback(error.__traceback__.tb_next)
    text = TaskError.wrap(inner).cause_text
    assert "user_function" in text
    assert "internal.py" not in text
