"""Tasks over the real runtime: arguments, results, errors, retries, ends."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FAR, PLACES

import freehold
from freehold.exceptions import (
    SerializationError,
    TaskError,
    WorkerCrashedError,
)
from freehold.testing import LocalCluster, eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]


class MyError(Exception):
    """A user's error with arguments of its own."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


@freehold.remote
def echo(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs else args


@freehold.remote
def add(a: int, b: int = 10) -> int:
    return a + b


@freehold.remote
def pid() -> int:
    return os.getpid()


# ---- arguments and results ---------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_task_runs_in_another_process(place: dict[str, float]) -> None:
    assert freehold.get(pid.options(resources=place).remote(), timeout=20) != os.getpid()


@pytest.mark.parametrize("place", PLACES)
def test_references_among_the_arguments_are_replaced_by_values(place: dict[str, float]) -> None:
    one, two = freehold.put(1), add.options(resources=place).remote(1, 1)
    task = add.options(resources=place)
    assert freehold.get(task.remote(one, two), timeout=20) == 3
    assert freehold.get(task.remote(one, b=two), timeout=20) == 3
    assert freehold.get(task.remote(a=two, b=one), timeout=20) == 3
    assert freehold.get(task.remote(two), timeout=20) == 12


def test_a_reference_to_none_is_replaced_too() -> None:
    assert freehold.get(echo.remote(freehold.put(None), 1, x=freehold.put(None))) == (
        (None, 1),
        {"x": None},
    )


def test_arguments_may_outgrow_a_message() -> None:
    blob = os.urandom(300_000)
    args, kwargs = freehold.get(echo.remote(1, blob, None, key=blob), timeout=20)
    assert args == (1, blob, None)
    assert kwargs == {"key": blob}


def test_many_small_arguments_may_outgrow_a_message() -> None:
    values = [os.urandom(3000) for _ in range(100)]
    assert freehold.get(echo.remote(*values), timeout=20) == tuple(values)


def test_a_large_nested_value_travels_as_an_argument() -> None:
    value = {"a": [list(range(50_000))], "b": {"c": os.urandom(200_000)}}
    assert freehold.get(echo.remote(value), timeout=20) == (value,)


def test_a_function_may_close_over_large_values() -> None:
    table = os.urandom(300_000)

    @freehold.remote
    def look_up(index: int) -> int:
        return table[index]

    assert freehold.get(look_up.remote(5), timeout=20) == table[5]


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 64])
@pytest.mark.parametrize("place", PLACES)
def test_num_returns_gives_that_many_references(count: int, place: dict[str, float]) -> None:
    @freehold.remote(num_returns=count, resources=place)
    def several() -> Any:
        return [i * 10 for i in range(count)] if count > 1 else 0

    refs = several.remote()
    found = freehold.get(refs if count > 1 else [refs], timeout=20)
    assert found == [i * 10 for i in range(count)]


def test_outputs_of_one_task_may_be_small_and_large() -> None:
    big = os.urandom(200_000)

    @freehold.remote(num_returns=3)
    def mixed() -> tuple[int, bytes, None]:
        return 1, big, None

    assert freehold.get(mixed.remote(), timeout=20) == [1, big, None]


def test_many_outputs_may_hold_references() -> None:
    @freehold.remote(num_returns=20)
    def many() -> list[Any]:
        return [[freehold.put(i)] for i in range(20)]

    outer = freehold.get(many.remote(), timeout=20)
    assert freehold.get([inner[0] for inner in outer], timeout=20) == list(range(20))


def test_num_returns_0_gives_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    @freehold.remote(num_returns=0)
    def leave_mark() -> None:
        mark.touch()

    assert leave_mark.remote() is None
    eventually(mark.exists, timeout_s=10)


@pytest.mark.parametrize("place", PLACES)
def test_dynamic_returns_come_as_a_generator_of_references(place: dict[str, float]) -> None:
    @freehold.remote(num_returns="dynamic", resources=place)
    def some(count: int) -> Any:
        yield from range(count)

    refs = freehold.get(some.remote(5), timeout=20)
    assert isinstance(refs, freehold.ObjectRefGenerator)
    assert [freehold.get(ref) for ref in refs] == [0, 1, 2, 3, 4]
    assert list(freehold.get(some.remote(0), timeout=20)) == []


def test_too_few_outputs_are_an_error_that_says_how_many() -> None:
    @freehold.remote(num_returns=3)
    def two() -> tuple[int, int]:
        return 1, 2

    with pytest.raises(ValueError, match="num_returns=3 but returned 2"):
        freehold.get(two.remote(), timeout=20)


def test_classes_and_functions_of_main_travel(
    run_script: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_script(
        """
        import dataclasses, freehold
        @dataclasses.dataclass
        class Point:
            x: int
            def moved(self, by): return Point(self.x + by)
        class Odd(Exception): pass
        SCALE = 3
        def scaled(point): return Point(point.x * SCALE)
        @freehold.remote
        def work(point):
            if point.x % 2: raise Odd(point.x)
            return scaled(point).moved(1)
        if __name__ == "__main__":
            freehold.init(num_cpus=2)
            assert freehold.get(work.remote(Point(2))) == Point(7)
            assert freehold.get(work.remote(freehold.put(Point(4)))) == Point(13)
            assert freehold.get((lambda: 0) and work.options(num_cpus=0).remote(Point(6))).x == 19
            try:
                freehold.get(work.remote(Point(1)))
            except Odd as error:
                assert error.args == (1,)
                print("fine")
        """
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["fine"]), done.stderr


def test_lambdas_are_remote_functions() -> None:
    assert freehold.get(freehold.remote(lambda x: x * 2).remote(21), timeout=20) == 42


# ---- errors ------------------------------------------------------------------------------------


@freehold.remote
def fail(text: str = "no") -> None:
    raise MyError(7, text)


@pytest.mark.parametrize("place", PLACES)
def test_the_error_can_be_caught_by_its_own_class(place: dict[str, float]) -> None:
    with pytest.raises(MyError) as caught:
        freehold.get(fail.options(resources=place).remote("remote"), timeout=20)
    error = caught.value
    assert isinstance(error, TaskError)
    assert error.code == 7  # type: ignore[attr-defined]
    text = str(error)
    assert "raise MyError(7, text)" in text
    assert "fail" in text
    assert "test_tasks.py" in text


def test_the_cause_of_an_error_travels() -> None:
    @freehold.remote
    def chain() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise MyError(1, "second") from error

    with pytest.raises(MyError) as caught:
        freehold.get(chain.remote(), timeout=20)
    assert "KeyError: 'first'" in str(caught.value)
    assert "direct cause" in str(caught.value)


def test_an_error_passes_through_the_tasks_that_needed_the_value() -> None:
    ref = add.remote(add.remote(fail.remote("deep"), 1), 2)
    with pytest.raises(MyError, match="deep"):
        freehold.get(ref, timeout=20)


def test_an_error_of_a_nested_task_is_caught_by_class_inside_the_outer() -> None:
    @freehold.remote
    def outer() -> str:
        try:
            freehold.get(fail.remote())
        except MyError as error:
            return f"caught {error.code}"
        return "nothing"

    assert freehold.get(outer.remote(), timeout=20) == "caught 7"


def test_an_error_that_nobody_catches_in_the_outer_task_arrives_as_its_own_class() -> None:
    @freehold.remote
    def outer() -> None:
        freehold.get(fail.remote("inner"))

    with pytest.raises(MyError, match="inner"):
        freehold.get(outer.remote(), timeout=20)


def test_return_exceptions_gives_errors_in_their_places() -> None:
    refs = [add.remote(1, 2), fail.remote(), add.remote(3, 4)]
    found = freehold.get(refs, timeout=20, return_exceptions=True)
    assert found[::2] == [3, 7]
    assert isinstance(found[1], MyError)


def test_an_exception_that_cannot_be_pickled_arrives_as_text() -> None:
    @freehold.remote
    def awkward() -> None:
        class Local(Exception):
            def __init__(self) -> None:
                super().__init__("holds a lock")
                import threading

                self.lock = threading.Lock()

        raise Local

    with pytest.raises(TaskError, match="holds a lock"):
        freehold.get(awkward.remote(), timeout=20)


def test_system_exit_and_keyboard_interrupt_of_user_code_are_errors_of_the_task() -> None:
    @freehold.remote(max_retries=0)
    def leave(kind: type[BaseException]) -> None:
        raise kind("by user")

    for kind in (SystemExit, KeyboardInterrupt):
        with pytest.raises((TaskError, WorkerCrashedError)):
            freehold.get(leave.remote(kind), timeout=20)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


# ---- what cannot be pickled ----------------------------------------------------------------------


class Holder:
    def __init__(self) -> None:
        import threading

        self.inner = {"lock": threading.Lock()}


def test_an_argument_that_cannot_be_pickled_names_the_attribute() -> None:
    with pytest.raises(SerializationError, match="lock"):
        add.remote(Holder(), 1)
    with pytest.raises(TypeError, match="inner"):
        add.remote(1, b=Holder())


def test_a_function_that_cannot_be_pickled_names_the_variable() -> None:
    holder = Holder()

    @freehold.remote
    def use() -> Any:
        return holder

    with pytest.raises(SerializationError, match="holder"):
        use.remote()


def test_a_result_that_cannot_be_pickled_names_the_attribute_and_the_cluster_goes_on() -> None:
    @freehold.remote
    def give() -> Any:
        return Holder()

    with pytest.raises(SerializationError, match="inner"):
        freehold.get(give.remote(), timeout=20)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def test_an_argument_that_cannot_be_unpickled_is_an_error_of_the_task() -> None:
    with pytest.raises(RuntimeError, match="not on this side"):
        freehold.get(echo.remote(Unloadable()), timeout=20)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def _refuse() -> None:
    raise RuntimeError("not on this side")


class Unloadable:
    def __reduce__(self) -> Any:
        return _refuse, ()


# ---- context -------------------------------------------------------------------------------------


def test_a_task_knows_where_it_is(cluster: LocalCluster) -> None:
    @freehold.remote(num_cpus=0.5, resources=FAR)
    def look() -> dict[str, Any]:
        context = freehold.get_runtime_context()
        return {
            "node": context.get_node_id(),
            "task": context.get_task_id(),
            "resources": context.get_assigned_resources(),
            "name": context.get_task_name(),
        }

    ref = look.remote()
    found = freehold.get(ref, timeout=20)
    assert found["node"] == cluster.nodes[-1].node
    assert found["task"] == ref.task_id().hex()
    assert found["resources"] == {"CPU": 0.5, "far": 1.0}
    assert "look" in found["name"]
