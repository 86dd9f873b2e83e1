"""Remote functions: decoration, options, the check of arguments, and what the core is given."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import cloudpickle
import pytest
from tests.unit.api.fake_core import FakeCore

import freehold
from freehold._api import state
from freehold.errors import NotSupportedYetError


@freehold.remote
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@freehold.remote
def factorial(n: int) -> int:
    return 1 if n == 0 else n * freehold.get(factorial.remote(n - 1))


def test_call_runs_and_arguments_by_reference_are_resolved(core: FakeCore) -> None:
    assert freehold.get(add.remote(add.remote(1, 2), b=freehold.put(4))) == 7


def test_function_keeps_its_name_and_docstring() -> None:
    assert (add.__name__, add.__doc__, add.__wrapped__(1)) == ("add", "Add.", 2)  # type: ignore[attr-defined]
    assert "test_remote_function.add" in repr(add)


def test_direct_call_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"remote function add cannot .* use add\.remote\("):
        add(1)


def test_bind_is_not_supported_yet() -> None:
    with pytest.raises(NotSupportedYetError, match=r"call \.remote\(\)"):
        add.bind(1)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, r"add\(\) is missing 1 required argument: 'a'"),
        ((1, 2, 3), {}, r"add\(\) takes from 1 to 2 positional arguments but 3 were"),
        ((1,), {"a": 2}, r"got multiple values for argument 'a'"),
        ((1,), {"c": 2}, r"got an unexpected keyword argument 'c'"),
    ],
)
def test_wrong_arguments_are_refused_before_submission(
    core: FakeCore, args: Any, kwargs: Any, text: str
) -> None:
    with pytest.raises(TypeError, match=text):
        add.remote(*args, **kwargs)
    assert core.calls == []


def test_defaults_are_those_of_ray(core: FakeCore) -> None:
    add.remote(1)
    options = core.task_options()
    assert options.shape == (("CPU", 10_000),)
    assert (options.num_returns, options.max_retries, options.retry_exceptions) == (1, 3, False)
    assert (options.name, options.env, options.timeout_s) == ("add", "", None)


def test_options_reach_the_core_and_leave_the_original_alone(core: FakeCore) -> None:
    other = add.options(
        num_cpus=0.5,
        resources={"spice": 2},
        memory=100,
        max_retries=-1,
        retry_exceptions=[KeyError],
        timeout_s=2,
        name="sum",
    )
    other.remote(1)
    options = core.task_options()
    assert options.shape == (("CPU", 5_000), ("memory", 1_000_000), ("spice", 20_000))
    assert (options.max_retries, options.timeout_s, options.name) == (-1, 2.0, "sum")
    assert pickle.loads(options.retry_exceptions) == (KeyError,)  # type: ignore[arg-type]
    add.remote(1)
    assert core.task_options().name == "add"


def test_none_takes_an_option_back(core: FakeCore) -> None:
    add.options(num_cpus=2).options(num_cpus=None).remote(1)
    assert core.task_options().shape == (("CPU", 10_000),)


def test_functions_with_other_options_share_what_was_sent(core: FakeCore) -> None:
    add.remote(1)
    entry = core.last("submit")[1]
    add.options(num_cpus=0).remote(1)
    assert core.last("submit")[1] is entry
    add.options(max_calls=2).remote(1)
    assert core.last("submit")[1] is not entry
    assert core.last("submit")[1].max_calls == 2


def test_worker_of_a_gpu_task_is_used_once(core: FakeCore) -> None:
    add.options(num_gpus=0.5).remote(1)
    assert core.last("submit")[1].max_calls == 1
    add.options(num_gpus=0.5, max_calls=0).remote(1)
    assert core.last("submit")[1].max_calls == 0


def test_num_returns(core: FakeCore) -> None:
    @freehold.remote(num_returns=2)
    def pair() -> tuple[int, int]:
        return 1, 2

    assert freehold.get(pair.remote()) == [1, 2]
    assert pair.options(num_returns=0).remote() is None
    assert freehold.get(pair.options(num_returns=1).remote()) == (1, 2)


def test_dynamic_returns_give_a_generator_of_references(core: FakeCore) -> None:
    @freehold.remote(num_returns="dynamic")
    def count(n: int) -> Any:
        yield from range(n)

    refs = freehold.get(count.remote(3))
    assert isinstance(refs, freehold.ObjectRefGenerator)
    assert [len(refs), *freehold.get(list(refs)), *freehold.get(refs)] == [3, 0, 1, 2, 0, 1, 2]
    assert freehold.get(refs[-1]) == 2


def test_generator_without_num_returns_is_not_supported_yet() -> None:
    def count() -> Any:
        yield 1

    with pytest.raises(NotSupportedYetError, match='num_returns="dynamic"'):
        freehold.remote(count)
    with pytest.raises(NotSupportedYetError, match="streaming"):
        freehold.remote(num_returns="streaming")(count)


def test_coroutine_function_is_refused() -> None:
    async def later() -> None: ...

    with pytest.raises(ValueError, match=r"async def .*later cannot be a remote function"):
        freehold.remote(later)


@pytest.mark.parametrize("target", [1, "f", None, object()])
def test_what_is_no_function_is_refused(target: Any) -> None:
    with pytest.raises(TypeError, match="takes a function or a class, not"):
        freehold.remote(target)


def test_decorating_twice_or_without_options_is_refused() -> None:
    with pytest.raises(TypeError, match="is remote already"):
        freehold.remote(add)
    with pytest.raises(TypeError, match="without parentheses"):
        freehold.remote()
    with pytest.raises(TypeError, match="by keyword alone"):
        freehold.remote(1, num_cpus=1)  # type: ignore[call-overload]


def test_functools_partial_and_builtins_are_functions(core: FakeCore) -> None:
    assert freehold.get(freehold.remote(len).remote([1, 2])) == 2
    assert freehold.get(freehold.remote(functools.partial(max, 3)).remote(2)) == 3


def test_recursive_function_survives_cloudpickle_by_value(core: FakeCore) -> None:
    namespace: dict[str, Any] = {"freehold": freehold, "__name__": "__main__"}
    exec(  # a function of __main__ refers to itself through its globals
        "@freehold.remote\n"
        "def f(n):\n"
        "    return 1 if n == 0 else n * freehold.get(f.remote(n - 1))\n",
        namespace,
    )
    again = pickle.loads(cloudpickle.dumps(namespace["f"]))
    assert freehold.get(again.remote(4)) == 24
    assert again.__name__ == "f"
    assert freehold.get(factorial.remote(3)) == 6


def test_pickled_function_keeps_its_options(core: FakeCore) -> None:
    pickle.loads(cloudpickle.dumps(add.options(name="sum", num_cpus=2))).remote(1)
    assert (core.task_options().name, core.task_options().shape) == ("sum", (("CPU", 20_000),))


def test_first_call_starts_a_cluster_and_another_core_is_noticed(requests: list[Any]) -> None:
    assert freehold.get(add.remote(1)) == 2
    assert len(requests) == 1
    first = state.core
    freehold.shutdown()
    assert freehold.get(add.remote(1)) == 2
    assert len(requests) == 2
    assert state.core is not first
