"""Tasks over the real runtime: arguments, results, errors, retries, ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FAR, NEAR

import freehold
from freehold.exceptions import (
    GetTimeoutError,
    SerializationError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
    WorkerCrashedError,
)
from freehold.testing import LocalCluster, eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

PLACES = [pytest.param(NEAR, id="near"), pytest.param(FAR, id="far")]


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
        for i in range(count):
            yield i

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


# ---- crashes and retries -------------------------------------------------------------------------


def _count(path: str) -> int:
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
        return file.tell()


def _exit() -> None:
    os._exit(3)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segfault() -> None:
    ctypes.string_at(0)


CRASHES = [
    pytest.param(_exit, "exit code 3", id="os._exit"),
    pytest.param(_kill, "signal 9|SIGKILL", id="SIGKILL"),
    pytest.param(_segfault, "signal 11|SIGSEGV", id="segfault"),
]


@pytest.mark.parametrize(("crash", "said"), CRASHES)
def test_a_crash_without_retries_is_an_error_that_says_how(
    crash: Callable[[], None], said: str
) -> None:
    @freehold.remote(max_retries=0, resources=FAR)
    def die() -> None:
        crash()

    with pytest.raises(WorkerCrashedError, match=said):
        freehold.get(die.remote(), timeout=20)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


@pytest.mark.parametrize(("crash", "said"), CRASHES)
def test_a_crash_is_retried(crash: Callable[[], None], said: str, tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2, resources=FAR)
    def third_time() -> int:
        n = _count(count)
        if n < 3:
            crash()
        return n

    assert freehold.get(third_time.remote(), timeout=20) == 3


def test_retries_end(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2)
    def never() -> None:
        _count(count)
        _exit()

    with pytest.raises(WorkerCrashedError):
        freehold.get(never.remote(), timeout=20)
    assert os.path.getsize(count) == 3


def test_the_last_lines_of_a_dead_worker_are_in_the_error() -> None:
    @freehold.remote(max_retries=0)
    def die() -> None:
        print("famous last words", flush=True)
        _exit()

    with pytest.raises(WorkerCrashedError, match="famous last words"):
        freehold.get(die.remote(), timeout=20)


@pytest.mark.parametrize(
    ("wanted", "tries"),
    [(True, 3), (False, 1), ([MyError], 3), ([KeyError], 1), ([KeyError, Exception], 3)],
)
def test_retry_exceptions(wanted: Any, tries: int, tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=2, retry_exceptions=wanted)
    def always() -> None:
        _count(count)
        raise MyError(1, "again")

    with pytest.raises(MyError):
        freehold.get(always.remote(), timeout=20)
    assert os.path.getsize(count) == tries


def test_a_retry_may_succeed(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(retry_exceptions=True, max_retries=-1)
    def fifth_time() -> int:
        n = _count(count)
        if n < 5:
            raise MyError(n, "not yet")
        return n

    assert freehold.get(fifth_time.remote(), timeout=20) == 5


def test_a_crash_leaves_others_of_the_same_worker_alone(tmp_path: Path) -> None:
    """Tasks sent ahead to a worker that dies are not charged for it."""

    @freehold.remote(max_retries=1)
    def maybe(i: int) -> int:
        if i == 50 and _count(str(tmp_path / "count")) == 1:
            _exit()
        return i

    refs = [maybe.remote(i) for i in range(200)]
    assert freehold.get(refs, timeout=30) == list(range(200))


def test_max_calls_replaces_the_worker() -> None:
    @freehold.remote(max_calls=2)
    def where() -> int:
        return os.getpid()

    pids = [freehold.get(where.remote(), timeout=20) for _ in range(6)]
    assert all(pids.count(one) <= 2 for one in pids)
    pids = freehold.get([where.remote() for _ in range(12)], timeout=30)
    assert all(pids.count(one) <= 2 for one in pids)


@freehold.remote(max_retries=0)
def sleep_long(seconds: float = 60.0) -> str:
    time.sleep(seconds)
    return "slept"


def test_timeout_s_ends_a_task_that_sleeps() -> None:
    started = time.monotonic()
    with pytest.raises(TaskTimeoutError, match="timeout_s of 0.2"):
        freehold.get(sleep_long.options(timeout_s=0.2).remote(), timeout=20)
    assert time.monotonic() - started < 5


def test_timeout_s_ends_a_task_in_a_c_loop() -> None:
    @freehold.remote(timeout_s=0.2, max_retries=0)
    def stuck() -> int:
        return sum(1 for _ in iter(int, 1)) if False else _c_loop()

    started = time.monotonic()
    with pytest.raises(TaskTimeoutError):
        freehold.get(stuck.remote(), timeout=20)
    assert time.monotonic() - started < 12
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def _c_loop() -> int:
    import itertools

    return max(zip(itertools.repeat(0), itertools.count(), strict=False))[0]


def test_timeout_s_leaves_a_quick_task_alone() -> None:
    assert freehold.get(add.options(timeout_s=5).remote(1, 1), timeout=20) == 2


# ---- cancelling ----------------------------------------------------------------------------------


def test_cancelling_a_task_that_waits_for_an_argument(tmp_path: Path) -> None:
    slow = sleep_long.remote()
    waiting = echo.remote(slow)
    freehold.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        freehold.get(waiting, timeout=10)
    assert slow.status() == "pending"
    freehold.cancel(slow)
    with pytest.raises(TaskCancelledError):
        freehold.get(slow, timeout=10)


def test_cancelling_a_task_that_waits_for_a_worker(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    @freehold.remote(resources={"far": 1000}, num_cpus=0)
    def hold() -> None:
        sleep_until(tmp_path / "go")

    @freehold.remote(resources={"far": 1000}, num_cpus=0)
    def leave_mark() -> None:
        mark.touch()

    holding, waiting = hold.remote(), leave_mark.remote()
    freehold.cancel(waiting)
    with pytest.raises(TaskCancelledError):
        freehold.get(waiting, timeout=10)
    (tmp_path / "go").touch()
    freehold.get(holding, timeout=20)
    freehold.get(hold.remote(), timeout=20)
    assert not mark.exists()


def sleep_until(path: Path) -> None:
    eventually(path.exists, timeout_s=30)


@pytest.mark.parametrize("place", PLACES)
def test_cancelling_a_running_task_interrupts_it(place: dict[str, float], tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"

    @freehold.remote(resources=place)
    def run() -> None:
        started.touch()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            ended.touch()
            raise

    ref = run.remote()
    eventually(started.exists, timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert ended.exists()


def test_cancelling_with_force_ends_a_c_loop(tmp_path: Path) -> None:
    started = tmp_path / "started"

    @freehold.remote
    def run() -> int:
        started.touch()
        return _c_loop()

    ref = run.remote()
    eventually(started.exists, timeout_s=10)
    freehold.cancel(ref, force=True)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert freehold.get(add.remote(1, 1), timeout=20) == 2


def test_cancelling_is_recursive_unless_told_not_to(tmp_path: Path) -> None:
    @freehold.remote
    def child(name: str) -> None:
        (tmp_path / f"{name}-started").touch()
        try:
            time.sleep(30)
        finally:
            (tmp_path / f"{name}-ended").touch()

    @freehold.remote
    def parent(name: str) -> None:
        freehold.get(child.remote(name))

    ref = parent.remote("deep")
    eventually((tmp_path / "deep-started").exists, timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    eventually((tmp_path / "deep-ended").exists, timeout_s=5)

    ref = parent.remote("flat")
    eventually((tmp_path / "flat-started").exists, timeout_s=10)
    freehold.cancel(ref, recursive=False)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    with pytest.raises(AssertionError):
        eventually((tmp_path / "flat-ended").exists, timeout_s=0.5)


def test_cancelling_a_finished_task_changes_nothing() -> None:
    ref = add.remote(1, 2)
    freehold.get(ref, timeout=20)
    freehold.cancel(ref)
    freehold.cancel(ref, force=True)
    assert freehold.get(ref) == 3


def test_a_cancelled_task_is_not_retried(tmp_path: Path) -> None:
    count = str(tmp_path / "count")

    @freehold.remote(max_retries=5, retry_exceptions=True)
    def run() -> None:
        _count(count)
        time.sleep(60)

    ref = run.remote()
    eventually(lambda: os.path.exists(count), timeout_s=10)
    freehold.cancel(ref)
    with pytest.raises(TaskCancelledError):
        freehold.get(ref, timeout=10)
    assert os.path.getsize(count) == 1


def test_tasks_that_needed_a_cancelled_one_fail_with_it() -> None:
    slow = sleep_long.remote()
    after = echo.remote(slow)
    freehold.cancel(slow)
    with pytest.raises(TaskCancelledError):
        freehold.get(after, timeout=10)


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


def test_get_waits_no_longer_than_told() -> None:
    ref = sleep_long.remote()
    for timeout in (0, 0.05):
        started = time.monotonic()
        with pytest.raises(GetTimeoutError):
            freehold.get(ref, timeout=timeout)
        assert time.monotonic() - started < 2
    freehold.cancel(ref, force=True)
