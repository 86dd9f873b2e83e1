"""References that travel: in values, closures, actors and pickles; borrowed, adopted, passed on.

The store is empty after each module: what a reference held must be gone with it.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import (
    FAR,
    NEAR,
    PLACES,
    start_cluster,
    store_bytes_in_use,
    store_is_empty,
)

import freehold
from freehold.exceptions import ObjectLostError, StaleReferenceError
from freehold.testing import LocalCluster, eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

BIG = 500_000


@freehold.remote
def same(value: Any) -> Any:
    return value


@freehold.remote
def get_all(refs: Any) -> Any:
    return freehold.get(list(refs))


@freehold.remote
def wait_for(path: str) -> str:
    eventually(lambda: os.path.exists(path), timeout_s=30)
    return "result"


@freehold.remote
def big(value: int = 1) -> Any:
    return np.full(BIG, value, dtype=np.uint8)


@freehold.remote
class Holder:
    """Keeps references beyond the call that brought them."""

    def __init__(self, refs: list[Any] | None = None) -> None:
        self.refs = refs or []

    def hold(self, refs: list[Any]) -> int:
        self.refs += refs
        return len(self.refs)

    def give(self) -> list[Any]:
        return self.refs

    def values(self) -> list[Any]:
        return [_plain(value) for value in freehold.get(self.refs, timeout=20)]

    def drop(self) -> None:
        self.refs = []

    def make(self, value: int) -> list[Any]:
        return [freehold.put(np.full(BIG, value, dtype=np.uint8))]

    def pid(self) -> int:
        return os.getpid()


def _plain(value: Any) -> Any:
    return int(value[0]) if isinstance(value, np.ndarray) else value


# ---- inside values -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_value_and_its_reference_as_arguments_of_one_task(place: dict[str, float]) -> None:
    """What is inside the value is found either way."""

    @freehold.remote(resources=place)
    def compare(value: Any, refs: list[Any]) -> Any:
        again = freehold.get(refs[0])
        return freehold.get([value[0], again[0]])

    outer = freehold.put([freehold.put("inside"), np.zeros(BIG, dtype=np.uint8)])
    assert freehold.get(compare.remote(outer, [outer]), timeout=30) == ["inside", "inside"]


@pytest.mark.parametrize("place", PLACES)
def test_references_inside_values_stay_references(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def look(value: Any, *, key: Any = None) -> Any:
        inner = value["list"][0][0]
        assert isinstance(inner, freehold.ObjectRef)
        return freehold.get([inner, *value["tuple"], *(key or [])])

    a, b, c = freehold.put(1), same.remote("b"), big.options(resources=place).remote(3)
    found = freehold.get(look.remote({"list": [[a]], "tuple": (b,)}, key=[c]), timeout=20)
    assert (found[:2], int(found[2][0])) == ([1, "b"], 3)


def test_a_put_value_may_hold_references() -> None:
    inner = freehold.put(np.full(BIG, 4, dtype=np.uint8))
    outer = freehold.put({"deep": [inner]})
    outermost = freehold.put([outer])
    del inner, outer
    gc.collect()
    (found,) = freehold.get(outermost)
    assert int(freehold.get(freehold.get(found)["deep"][0])[0]) == 4


@pytest.mark.parametrize("place", PLACES)
def test_a_reference_inside_an_argument_that_is_a_reference(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def open_up(value: list[Any]) -> Any:
        return freehold.get(value[0])

    outer = freehold.put([freehold.put("inner")])
    assert freehold.get(open_up.remote(outer), timeout=20) == "inner"
    made = same.options(resources=place).remote([freehold.put("inner")])
    assert freehold.get(open_up.remote(made), timeout=20) == "inner"


@pytest.mark.parametrize("place", PLACES)
def test_closures_and_lambdas_may_hold_references(place: dict[str, float]) -> None:
    ref, other = freehold.put(np.full(BIG, 9, dtype=np.uint8)), same.remote(1)

    @freehold.remote(resources=place)
    def closed() -> int:
        return int(freehold.get(ref)[0]) + freehold.get(other)

    assert freehold.get(closed.remote(), timeout=20) == 10
    task = freehold.remote(lambda: freehold.get(other)).options(resources=place)
    assert freehold.get(task.remote(), timeout=20) == 1


def test_a_closure_keeps_its_references_while_it_lives() -> None:
    def make() -> Any:
        ref = freehold.put("kept")
        return freehold.remote(lambda: freehold.get(ref))

    task = make()
    assert freehold.get(task.remote(), timeout=20) == "kept"
    gc.collect()
    assert freehold.get(task.options(resources=FAR).remote(), timeout=20) == "kept"


def test_the_class_of_an_actor_may_close_over_references() -> None:
    ref = freehold.put("closed over")

    @freehold.remote
    class Closed:
        def look(self) -> str:
            return freehold.get(ref)

    assert freehold.get(Closed.remote().look.remote(), timeout=20) == "closed over"


def test_functions_as_arguments_may_close_over_references() -> None:
    ref = freehold.put("inside")

    @freehold.remote
    def call(function: Any) -> Any:
        return function()

    assert freehold.get(call.remote(lambda: freehold.get(ref)), timeout=20) == "inside"


@pytest.mark.parametrize("place", PLACES)
def test_ten_thousand_references_in_one_value(place: dict[str, float]) -> None:
    refs = [freehold.put(i) for i in range(10_000)]
    found = freehold.get(get_all.options(resources=place).remote(refs), timeout=40)
    assert found == list(range(10_000))
    outer = freehold.put(refs)
    del refs
    assert freehold.get(freehold.get(outer)[-1]) == 9_999


@pytest.mark.parametrize("place", PLACES)
def test_ten_thousand_references_returned(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def make() -> list[Any]:
        return [freehold.put(i) for i in range(10_000)]

    assert freehold.get(freehold.get(make.remote(), timeout=40), timeout=40) == list(range(10_000))


# ---- adopted and borrowed ------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_returned_reference_outlives_the_worker_that_made_it(place: dict[str, float]) -> None:
    @freehold.remote(resources=place, max_calls=1)
    def make() -> Any:
        return {
            "small": freehold.put("small"),
            "big": freehold.put(np.full(BIG, 5, dtype=np.uint8)),
            "pid": os.getpid(),
        }

    found = freehold.get(make.remote(), timeout=20)
    eventually(lambda: not os.path.exists(f"/proc/{found['pid']}"), timeout_s=20)
    assert freehold.get(found["small"], timeout=20) == "small"
    assert int(freehold.get(found["big"], timeout=20)[0]) == 5


@pytest.mark.parametrize("place", PLACES)
def test_a_worker_stays_while_it_owns_what_others_hold(
    place: dict[str, float], tmp_path: Path
) -> None:
    """A task that is still pending stays with whoever submitted it."""

    @freehold.remote(resources=place, max_calls=1)
    def make(path: str) -> Any:
        return [wait_for.remote(path)], os.getpid()

    go = tmp_path / "go"
    (ref,), pid = freehold.get(make.remote(str(go)), timeout=20)
    assert os.path.exists(f"/proc/{pid}")
    go.touch()
    assert freehold.get(ref, timeout=20) == "result"
    del ref
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=20)


@pytest.mark.parametrize("place", PLACES)
def test_references_go_down_and_up_through_nested_tasks(place: dict[str, float]) -> None:
    @freehold.remote(num_cpus=0.1)
    def down(refs: list[Any], depth: int) -> Any:
        if depth:
            where = place if depth % 2 else NEAR
            return freehold.get(down.options(resources=where).remote(refs, depth - 1))
        return refs

    ref = freehold.put(np.full(BIG, 6, dtype=np.uint8))
    (back,) = freehold.get(down.remote([ref], 4), timeout=30)
    assert back == ref
    del ref
    gc.collect()
    assert int(freehold.get(back, timeout=20)[0]) == 6


@pytest.mark.parametrize("place", PLACES)
def test_an_actor_keeps_what_its_owner_dropped(place: dict[str, float]) -> None:
    holder = Holder.options(resources=place).remote()
    refs = [freehold.put(1), big.remote(2), freehold.put(np.full(BIG, 3, dtype=np.uint8))]
    freehold.get(holder.hold.remote(refs), timeout=20)
    del refs
    gc.collect()
    freehold.get(same.remote(0), timeout=20)
    assert freehold.get(holder.values.remote(), timeout=20) == [1, 2, 3]
    back = freehold.get(holder.give.remote(), timeout=20)
    freehold.get(holder.drop.remote(), timeout=20)
    assert [_plain(v) for v in freehold.get(back, timeout=20)] == [1, 2, 3]


@pytest.mark.parametrize("place", PLACES)
def test_an_actor_keeps_what_its_constructor_was_given(place: dict[str, float]) -> None:
    ref = freehold.put(np.full(BIG, 8, dtype=np.uint8))
    holder = Holder.options(resources=place).remote([ref])
    freehold.get(holder.pid.remote(), timeout=20)
    del ref
    gc.collect()
    assert freehold.get(holder.values.remote(), timeout=20) == [8]


@pytest.mark.parametrize("place", PLACES)
def test_a_pending_task_may_be_passed_on(place: dict[str, float], tmp_path: Path) -> None:
    go = tmp_path / "go"

    @freehold.remote
    def slow() -> str:
        eventually(go.exists, timeout_s=30)
        return "late"

    holder = Holder.options(resources=place).remote()
    ref = slow.remote()
    freehold.get(holder.hold.remote([ref]), timeout=20)
    found = holder.values.remote()
    del ref
    go.touch()
    assert freehold.get(found, timeout=20) == ["late"]


@pytest.mark.parametrize("place", PLACES)
def test_a_chain_of_borrowers_survives_the_death_of_the_middle_one(
    place: dict[str, float],
) -> None:
    """The owner's own reference is gone, the actor that passed it on is killed: the last has it."""

    @freehold.remote
    class Passer:
        def take(self, refs: list[Any], last: Any) -> int:
            self.refs = refs
            freehold.get(last.hold.remote(refs))
            return os.getpid()

    middle, last = Passer.options(resources=place).remote(), Holder.remote()
    ref = freehold.put(np.full(BIG, 7, dtype=np.uint8))
    pid = freehold.get(middle.take.remote([ref], last), timeout=20)
    del ref
    gc.collect()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=10)
    assert freehold.get(last.values.remote(), timeout=20) == [7]
    freehold.get(last.drop.remote(), timeout=20)


def test_a_borrower_killed_holds_nothing_after_the_grace() -> None:
    holder = Holder.options(resources=FAR).remote()
    # So much that it is told apart from what the test before has left behind for the same grace.
    refs = [freehold.put(np.zeros(50_000_000, dtype=np.uint8))]
    freehold.get(holder.hold.remote(refs), timeout=20)
    del refs
    gc.collect()
    eventually(lambda: store_bytes_in_use() >= 50_000_000, timeout_s=5)
    os.kill(freehold.get(holder.pid.remote(), timeout=20), signal.SIGKILL)
    store_is_empty(timeout_s=25)


def test_actors_pass_references_among_themselves() -> None:
    a, b = Holder.options(resources=NEAR).remote(), Holder.options(resources=FAR).remote()
    freehold.get(b.hold.remote(freehold.get(a.make.remote(3), timeout=20)), timeout=20)
    assert freehold.get(b.values.remote(), timeout=20) == [3]
    # Straight from one to the other, through a task that only passes it on.
    freehold.get(b.hold.remote([a.make.remote(4)]), timeout=20)
    nested = freehold.get(b.give.remote(), timeout=20)[1]
    assert _plain(freehold.get(freehold.get(nested, timeout=20)[0], timeout=20)) == 4


def test_an_actors_object_lives_as_long_as_the_actor_and_a_reference() -> None:
    holder = Holder.options(resources=FAR).remote()
    (ref,) = freehold.get(holder.make.remote(5), timeout=20)
    freehold.get(holder.drop.remote(), timeout=20)
    assert _plain(freehold.get(ref, timeout=20)) == 5


# ---- pickled outside -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_reference_pickled_outside_is_pinned(place: dict[str, float]) -> None:
    @freehold.remote(resources=place)
    def read(blob: bytes) -> Any:
        return freehold.get(pickle.loads(blob))

    blob = pickle.dumps(freehold.put({"pinned": 1}))
    gc.collect()
    freehold.get(same.remote(0), timeout=20)
    assert freehold.get(pickle.loads(blob), timeout=20) == {"pinned": 1}
    assert freehold.get(read.remote(blob), timeout=20) == {"pinned": 1}


def test_a_reference_pickled_outside_is_the_same_reference() -> None:
    ref = same.remote(1)
    assert pickle.loads(pickle.dumps(ref)) == ref


def test_a_worker_may_pickle_a_reference(tmp_path: Path) -> None:
    @freehold.remote(resources=FAR)
    class Writer:
        def write(self) -> bytes:
            return pickle.dumps(freehold.put("from a worker"))

    writer = Writer.remote()
    blob = freehold.get(writer.write.remote(), timeout=20)
    assert freehold.get(pickle.loads(blob), timeout=20) == "from a worker"


# ---- references of a cluster that is gone ------------------------------------------------------


def test_references_of_a_dead_cluster(request: pytest.FixtureRequest) -> None:
    from freehold._api import state

    kept = state.core  # the module's cluster goes on behind the scenes
    state.set_core(None)
    try:
        with start_cluster(1, num_cpus=1):
            ready, big_one = freehold.put(1), freehold.put(np.zeros(BIG))
            pending = same.options(resources={"none": 1}).remote(1)
            blob = pickle.dumps(ready)
        for ref in (ready, big_one, pending):
            with pytest.raises(StaleReferenceError):
                freehold.get(ref)
            with pytest.raises(StaleReferenceError):
                freehold.wait([ref])
        state.set_core(kept)
        for ref in (ready, big_one, pending):
            with pytest.raises(StaleReferenceError):
                freehold.get(ref, timeout=5)
            with pytest.raises(ObjectLostError):
                freehold.get(same.remote(ref), timeout=5)
            with pytest.raises(ObjectLostError):
                freehold.get(same.remote([ref]), timeout=5)
        with pytest.raises(StaleReferenceError):
            pickle.loads(blob)
    finally:
        state.set_core(kept)
    assert freehold.get(same.remote(1), timeout=20) == 1


def test_a_thousand_borrowed_references_are_let_go(cluster: LocalCluster) -> None:
    store_is_empty()
    holder = Holder.options(resources=FAR).remote()
    refs = [freehold.put(np.zeros(110_000, dtype=np.uint8)) for _ in range(300)]
    freehold.get(holder.hold.remote(refs), timeout=20)
    del refs
    eventually(lambda: store_bytes_in_use() > 300 * 110_000 - 1, timeout_s=5)
    freehold.get(holder.drop.remote(), timeout=20)
    store_is_empty()
