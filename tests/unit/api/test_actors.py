"""Actor classes, handles and methods over a core that runs them at once."""

# mypy does not see what a class decorator returns.
# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import cloudpickle
import pytest
from tests.unit.api.fake_core import FakeContext, FakeCore

import freehold
from freehold._api import state
from freehold._io.serialization import dumps, loads
from freehold.actor import ActorHandle, ActorMethod, exit_actor
from freehold.errors import (
    ActorHandleNotFoundError,
    NotSupportedYetError,
    StaleReferenceError,
)


class Base:
    def shared(self) -> str:
        return "base"

    def replaced(self) -> str:
        return "base"


@freehold.remote
class Counter(Base):
    """Counts."""

    KIND = "counter"

    def __init__(self, start: int = 0) -> None:
        self.n = start

    def add(self, by: int = 1) -> int:
        self.n += by
        return self.n

    @freehold.method(num_returns=2, max_task_retries=5)
    def both(self) -> tuple[int, int]:
        return self.n, -self.n

    def replaced(self) -> str:
        return "counter"

    @staticmethod
    def static(x: int) -> int:
        return 2 * x

    def stream(self) -> Any:
        yield self.n


def test_methods_run_on_the_instance(core: FakeCore) -> None:
    counter = Counter.remote(start=5)
    assert freehold.get([counter.add.remote(), counter.add.remote(by=2)]) == [6, 8]
    assert freehold.get(counter.both.remote()) == [8, -8]
    assert freehold.get(counter.shared.remote()) == "base"
    assert freehold.get(counter.replaced.remote()) == "counter"
    assert freehold.get(counter.static.remote(4)) == 8


def test_defaults_hold_no_cpu_but_are_placed_where_one_is_free(core: FakeCore) -> None:
    Counter.remote()
    request = core.actor_request()
    assert (request.shape, request.placement_shape) == ((), (("CPU", 10_000),))
    options = request.options
    assert (options.name, options.namespace, options.class_name) == ("", "here", "Counter")
    assert (options.max_restarts, options.max_task_retries) == (0, 0)
    assert (options.max_concurrency, options.is_async, options.max_pending_calls) == (1, False, -1)


def test_resources_named_are_held(core: FakeCore) -> None:
    Counter.options(num_cpus=0).remote()
    assert core.actor_request().placement_shape == core.actor_request().shape == ()
    Counter.options(num_gpus=1).remote()
    request = core.actor_request()
    assert request.shape == request.placement_shape == (("CPU", 10_000), ("GPU", 10_000))


def test_options_reach_the_core(core: FakeCore) -> None:
    Counter.options(
        name="c",
        namespace="there",
        max_restarts=-1,
        max_task_retries=2,
        max_concurrency=4,
        max_pending_calls=9,
    ).remote()
    options = core.actor_options()
    assert (options.name, options.namespace) == ("c", "there")
    assert (options.max_restarts, options.max_task_retries) == (-1, 2)
    assert (options.max_concurrency, options.max_pending_calls) == (4, 9)


def test_async_class_is_told_and_gets_rays_concurrency(core: FakeCore) -> None:
    @freehold.remote
    class Later:
        async def work(self) -> None: ...

    Later.remote()
    assert (core.actor_options().is_async, core.actor_options().max_concurrency) == (True, 1000)


def test_methods_options(core: FakeCore) -> None:
    counter = Counter.options(max_task_retries=2).remote()
    counter.add.remote()
    assert core.last("call")[-1].max_retries == 2
    assert core.last("call")[-1].name == ""  # the class and the method, which both ends know
    counter.both.remote()
    assert (core.last("call")[-1].max_retries, core.last("call")[-1].num_returns) == (5, 2)
    counter.add.options(name="n", timeout_s=3, max_task_retries=0).remote()
    options = core.last("call")[-1]
    assert (options.name, options.timeout_s, options.max_retries) == ("n", 3.0, 0)
    assert options.shape == ()


def test_concurrency_groups(core: FakeCore) -> None:
    class Grouped:
        @freehold.method(concurrency_group="io")
        def load(self) -> int:
            return 1

    with pytest.raises(ValueError, match=r"method load\) has no concurrency group 'io'; declare"):
        freehold.remote(Grouped)
    actor = freehold.remote(concurrency_groups={"io": 2, "math": 3})(Grouped).remote()
    actor.load.remote()
    assert core.last("call")[-1].concurrency_group == "io"
    actor.load.options(concurrency_group="math").remote()
    assert core.last("call")[-1].concurrency_group == "math"
    with pytest.raises(ValueError, match="no concurrency group 'mth'; did you mean 'math'"):
        actor.load.options(concurrency_group="mth")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: Counter.remote(1, 2),
            r"Counter.__init__\(\) takes from 0 to 1 positional",
        ),
        (lambda: Counter.remote(begin=1), "unexpected keyword argument 'begin'"),
        (
            lambda: Counter.remote().add.remote(1, 2),
            r"add\(\) takes from 0 to 1 positional arguments",
        ),
        (lambda: Counter.remote().static.remote(), r"static\(\) is missing 1 required argument"),
    ],
)
def test_wrong_arguments_are_refused(core: FakeCore, call: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        call()


def test_class_without_constructor_takes_no_arguments(core: FakeCore) -> None:
    empty: Any = freehold.remote(type("Empty", (), {}))
    empty.remote()
    with pytest.raises(TypeError, match="takes 0 positional arguments but 1 was given"):
        empty.remote(1)


def test_generator_method_needs_num_returns(core: FakeCore) -> None:
    counter = Counter.remote(3)
    with pytest.raises(NotSupportedYetError, match=r"stream\.options\(num_returns=.dynamic.\)"):
        counter.stream.remote()
    with pytest.raises(NotSupportedYetError):
        counter.stream.options(name="x").remote()
    [ref] = freehold.get(counter.stream.options(num_returns="dynamic").remote())
    assert freehold.get(ref) == 3


def test_direct_calls_say_what_to_do(core: FakeCore) -> None:
    with pytest.raises(TypeError, match=r"use Counter\.remote"):
        Counter()
    with pytest.raises(TypeError, match=r"use add\.remote"):
        Counter.remote().add()
    for bind in (Counter.bind, Counter.remote().add.bind):
        with pytest.raises(NotSupportedYetError):
            bind()


def test_unknown_method_names_the_nearest(core: FakeCore) -> None:
    with pytest.raises(AttributeError, match="Counter has no method 'ad'; did you mean 'add'"):
        Counter.remote().ad  # noqa: B018
    assert not hasattr(Counter.remote(), "__len__")


def test_class_keeps_its_attributes_and_can_be_inherited_from(core: FakeCore) -> None:
    assert (Counter.KIND, Counter.__name__, Counter.__doc__) == ("counter", "Counter", "Counts.")

    @freehold.remote
    class Double(Counter):
        def add(self, by: int = 1) -> int:
            result: int = super().add(2 * by)
            return result

    double = Double.remote()
    assert freehold.get(double.add.remote(2)) == 4
    assert freehold.get(double.replaced.remote()) == "counter"


def test_attribute_hides_an_inherited_method(core: FakeCore) -> None:
    class Hidden(Base):
        replaced = None  # type: ignore[assignment]

    with pytest.raises(AttributeError, match="no method 'replaced'"):
        freehold.remote(Hidden).remote().replaced  # noqa: B018


def test_every_actor_has_rays_methods(core: FakeCore) -> None:
    counter = Counter.remote(1)
    for prefix in ("freehold", "ray"):
        assert freehold.get(getattr(counter, f"__{prefix}_ready__").remote()) is True
        call = getattr(counter, f"__{prefix}_call__")
        assert freehold.get(call.remote(lambda self, x: self.n + x, 2)) == 3
        getattr(counter, f"__{prefix}_terminate__").remote()
        assert core.calls[-1] == ("exit",)


def test_named_actor_is_found_with_its_methods(core: FakeCore) -> None:
    counter = Counter.options(name="c").remote(7)
    found = freehold.get_actor("c")
    assert found == counter
    assert hash(found) == hash(counter)
    assert found != Counter.remote()
    assert freehold.get(found.both.remote()) == [7, -7]
    with pytest.raises(ValueError, match="elsewhere"):
        freehold.get_actor("c", namespace="elsewhere")
    with pytest.raises(ValueError, match="must not be empty"):
        freehold.get_actor("")


def test_get_if_exists_gives_the_existing_actor_with_its_own_methods(core: FakeCore) -> None:
    counter = Counter.options(name="c").remote(7)

    @freehold.remote
    class Other:
        def other(self) -> None: ...

    same = Other.options(name="c", get_if_exists=True).remote()
    assert same == counter
    assert freehold.get(same.add.remote()) == 8
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="c").remote()


def test_handle_in_a_value_is_a_nested_reference(core: FakeCore) -> None:
    counter = Counter.remote(1)
    blob, nested = dumps({"handle": [counter]})
    assert nested is not None
    assert [ref.hex() for ref in nested] == [counter._ref.hex()]
    again = loads(blob, nested)["handle"][0]  # type: ignore[arg-type]
    assert again == counter
    assert freehold.get(again.add.remote()) == 2
    blob, nested = dumps(counter.add)
    assert freehold.get(loads(blob, nested).remote()) == 3  # type: ignore[arg-type]


def test_handle_goes_as_soon_as_nothing_holds_it(core: FakeCore) -> None:
    counter = Counter.remote()
    counter.add.remote()
    gone = weakref.ref(counter)
    ref = weakref.ref(counter._ref)
    core.refs.clear()
    gc.disable()
    try:
        del counter
        assert gone() is None
        assert ref() is None
    finally:
        gc.enable()


def test_method_keeps_the_actor_without_its_handle(core: FakeCore) -> None:
    add = Counter.remote().add
    assert isinstance(add, ActorMethod)
    assert freehold.get(add.remote()) == 1


def test_class_and_recursive_reference_survive_cloudpickle(core: FakeCore) -> None:
    again = pickle.loads(cloudpickle.dumps(Counter.options(name="copy")))
    assert freehold.get(again.remote(2).add.remote()) == 3
    assert core.actor_options().name == "copy"


def test_kill(core: FakeCore) -> None:
    counter = Counter.remote()
    freehold.kill(counter, no_restart=False)
    assert core.calls[-1] == ("kill", counter._ref, False)
    with pytest.raises(TypeError, match=r"kill takes an actor handle, not ObjectRef .* cancel is"):
        freehold.kill(freehold.put(1))  # type: ignore[arg-type]


def test_exit_actor_is_for_actors(core: FakeCore) -> None:
    with pytest.raises(TypeError, match="exit_actor ends the actor that calls it"):
        exit_actor()
    core.here = FakeContext()
    exit_actor()
    assert core.calls == [("exit",)]


def test_handle_outlives_its_cluster_as_a_stale_one(core: FakeCore) -> None:
    counter = Counter.remote()
    state.set_core(None)
    with pytest.raises(StaleReferenceError, match="of cluster fake-cluster, which is gone"):
        counter.add.remote()
    with pytest.raises(ActorHandleNotFoundError, match="do not outlive shutdown") as caught:
        freehold.kill(counter)
    assert isinstance(caught.value, ValueError)
    assert caught.value.actor_id == counter._actor_id.hex()


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("async def __init__(self): self.n = 1", "it is async"),
        ("def __init__(self): yield", "it is a generator"),
        ("async def __init__(self): yield", "it is async"),
    ],
)
def test_constructor_that_python_would_never_run_is_refused(declared: str, says: str) -> None:
    made: dict[str, Any] = {}
    exec(f"class Late:\n    {declared}\n    def m(self): return self.n\n", made)
    with pytest.raises(TypeError, match=f"Late has an __init__ .*{says}"):
        freehold.remote(made["Late"])


def test_handle_lists_its_methods(core: FakeCore) -> None:
    counter = Counter.remote()
    assert isinstance(counter, ActorHandle)
    assert {"add", "both", "shared", "static"} <= set(dir(counter))
    assert repr(counter) == f"Actor(Counter, {counter._actor_id.hex()})"
    assert repr(counter.add) == f"<method add of {counter!r}>"
