"""An unpicklable value names the attribute that is to blame."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from freehold._io.serializability import FailureTuple, blame_arguments, inspect_serializability
from freehold._io.serialization import dumps, dumps_function
from freehold.errors import NotInitializedError, SerializationError

module_lock = threading.Lock()


class Service:
    def __init__(self) -> None:
        self.name = "s"
        self.config = {"lock": threading.Lock(), "n": 1}

    def method(self) -> None:
        """Bound methods carry their object."""


class Slots:
    __slots__ = ("inner",)

    def __init__(self) -> None:
        self.inner = threading.Lock()


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("not me")


def failure_of(value: Any, **options: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        dumps(value, **options)
    return caught.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "value"),
        (Service(), "value.config['lock']"),
        ([1, {"a": Service()}], "value[1]['a'].config['lock']"),
        (Slots(), "value.inner"),
        (Service().method, "value.__self__.config['lock']"),
        ((n for n in range(3)), "value"),
        ({"f": Refuses()}, "value['f']"),
        ({3: lambda lock=module_lock: lock}, "value[3][default 0]"),
    ],
)
def test_path(value: Any, path: str) -> None:
    assert failure_of(value).path == path


def test_the_message_names_role_path_type_and_what_to_do() -> None:
    error = failure_of(Service(), role=lambda: "result of task f", root="result")
    text = str(error)
    assert text.startswith("result of task f cannot be pickled because of result.config['lock']")
    assert "(a _thread.lock)" in text
    assert "inspect_serializability" in text
    assert isinstance(error.__cause__, TypeError)
    assert isinstance(error, TypeError)


def test_the_role_is_made_only_for_an_error() -> None:
    def role() -> str:
        raise AssertionError("asked for")

    dumps([1], role)


def test_a_function_names_what_it_captured() -> None:
    service = Service()

    def uses_captured() -> Any:
        return service

    def uses_global() -> Any:
        return module_lock

    uses_global.__module__ = "__main__"  # by value, as in a user's program
    with pytest.raises(SerializationError) as caught:
        dumps_function(uses_captured)
    assert caught.value.path.endswith("uses_captured[captured service].config['lock']")
    assert caught.value.role.startswith("function ")
    with pytest.raises(SerializationError) as caught:
        dumps_function(uses_global)
    assert caught.value.path.endswith("uses_global[global module_lock]")


def test_a_function_with_a_variable_that_has_no_value_yet() -> None:
    def recursive() -> Any:
        return later, module_lock

    recursive.__module__ = "__main__"
    with pytest.raises(SerializationError) as caught:
        dumps_function(recursive)
    assert caught.value.path.endswith("recursive")
    later = 1


def test_a_class_names_its_attribute() -> None:
    class Local:
        shared = threading.Lock()

    with pytest.raises(SerializationError) as caught:
        dumps_function(Local)
    assert caught.value.path.endswith("Local.shared")


def test_which_argument() -> None:
    args, kwargs = (1, [Service()]), {"ok": 2}
    error = blame_arguments(args, kwargs, "task f", failure_of((args, kwargs)))
    assert error.role == "argument 1 of task f"
    assert error.path == "value[0].config['lock']"
    error = blame_arguments((), {"bad": Slots()}, "method A.go", TypeError("x"))
    assert error.role == "argument 'bad' of method A.go"
    assert error.path == "value.inner"


def test_a_value_whose_own_reduce_raises_keeps_the_reason() -> None:
    error = failure_of([Refuses()])
    assert (error.path, error.reason) == ("value[0]", "not me")
    assert isinstance(error.__cause__, ValueError)


def test_freeholds_own_errors_pass_through_unchanged() -> None:
    class Handle:
        def __reduce__(self) -> Any:
            raise NotInitializedError(call="pickling a handle")

    with pytest.raises(NotInitializedError):
        dumps([Handle()])


def test_too_deep_a_structure_is_a_serialization_error() -> None:
    deep: list[Any] = []
    for _ in range(50_000):
        deep = [deep]
    assert "recursion" in failure_of(deep).reason


def test_a_cycle_ends() -> None:
    cycle: list[Any] = [threading.Lock()]
    cycle.insert(0, cycle)
    assert failure_of(cycle).type_name == "_thread.lock"


def test_inspect_of_a_good_value() -> None:
    out = io.StringIO()
    assert inspect_serializability({"a": 1}, "d", print_file=out) == (True, set())
    assert out.getvalue() == "d can be pickled\n"


def test_inspect_finds_all_that_fail_and_prints_them() -> None:
    service, out = Service(), io.StringIO()
    ok, failures = inspect_serializability([service, Slots()], name="pair", print_file=out)
    assert not ok
    assert all(isinstance(failure, FailureTuple) for failure in failures)
    found = {failure.name: failure for failure in failures}
    assert set(found) == {"['lock']", ".inner"}
    assert found["['lock']"].obj is service.config["lock"]
    assert found["['lock']"].parent is service.config
    assert "pair cannot be pickled" in out.getvalue()
    assert ".config" in out.getvalue()


def test_inspect_stops_at_its_depth() -> None:
    service = Service()
    _, failures = inspect_serializability([service], depth=1, print_file=io.StringIO())
    assert {failure.name for failure in failures} == {"[0]"}
