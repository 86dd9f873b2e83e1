"""A node drains under load: every task runs once, nothing is lost and nothing made again.

Node 0 is the driver's and has the control service; 1 and 2 come and go. Tasks have `max_retries=0`
and objects one copy, so that whatever a drain forgets is an error here.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import freehold
from freehold.exceptions import ActorDiedError, FreeholdError
from freehold.testing import LocalCluster, eventually

STORE_BYTES = 128 << 20
BIG = 300_000


@pytest.fixture(params=["unix", "tcp"])
def trio(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Three nodes; `one` and `two` are resources of the others, `any` of both."""
    resources = [{"zero": 1000.0}, {"one": 1000.0, "any": 1000.0}, {"two": 1000.0, "any": 1000.0}]
    with LocalCluster(
        nodes=3,
        num_cpus=[1, 2, 2],
        resources=resources,
        object_store_memory=STORE_BYTES,
        replica_keep_s=0.2,
        network=request.param,
    ) as running:
        yield running


def nobody_ran_twice() -> None:
    """Every task that began did so once, in its first attempt."""
    core: Any = freehold._api.state.core  # type: ignore[attr-defined]
    starts = Counter(event[3] for event in core.task_events() if event[1] == "started")
    assert not starts or max(starts.values()) == 1, starts.most_common(3)


@freehold.remote(max_retries=0, num_cpus=0)
def make(number: int, seconds: float = 0.0) -> Any:
    """An array as the result, and references to a large and a small object of its own."""
    time.sleep(seconds)
    inside = [freehold.put(np.full(BIG, number % 200, np.uint8)), freehold.put(("small", number))]
    return (
        inside,
        np.full(BIG, number % 200, np.uint8),
        freehold.get_runtime_context().get_node_id(),
    )


def check(number: int, refs: list[Any]) -> None:
    """Everything that `make(number)` made is there, with its value."""
    inside, array = freehold.get(refs[:2], timeout=30)
    assert (array == number % 200).all()
    big, small = freehold.get(inside, timeout=30)
    assert (big == number % 200).all()
    assert small == ("small", number)


def check_all(made: list[list[Any]]) -> None:
    """The same for `make(0)`, `make(1)`, …"""
    for number, refs in enumerate(made):
        check(number, refs)


def test_what_tasks_made_moves_with_their_node(trio: LocalCluster) -> None:
    place = {"one": 1}
    made = [make.options(num_returns=3, resources=place).remote(i) for i in range(20)]
    freehold.wait([ref for refs in made for ref in refs], num_returns=60, timeout=30)
    assert trio.drain_node(1) == "dead"
    check_all(made)


def test_tasks_under_way_run_once(trio: LocalCluster) -> None:
    place = {"any": 400}
    made = [make.options(num_returns=3, resources=place).remote(i, 0.05) for i in range(60)]
    freehold.wait([refs[2] for refs in made], num_returns=10, timeout=30)
    assert trio.drain_node(1) == "dead"
    check_all(made)
    nobody_ran_twice()
    nodes = Counter(freehold.get([refs[2] for refs in made]))
    assert len(nodes) == 2, "the node that drained ran none"


@freehold.remote(max_retries=0, num_cpus=0)
def hold(refs: list[Any], seconds: float) -> Any:
    """Have references for some time, then read them."""
    time.sleep(seconds)
    array, kept = freehold.get(refs[:2])
    return int(array.sum()), kept


def test_two_nodes_drain_one_after_the_other(trio: LocalCluster) -> None:
    made = [make.options(num_returns=3, resources={"one": 1}).remote(i) for i in range(6)]
    freehold.wait([ref for refs in made for ref in refs], num_returns=18, timeout=30)
    assert trio.drain_node(1) == "dead"
    assert trio.drain_node(2) == "dead"
    check_all(made)


def test_a_task_elsewhere_goes_on_with_what_moved(trio: LocalCluster) -> None:
    refs = freehold.get(make.options(num_returns=3, resources={"one": 1}).remote(7)[0])
    held = hold.options(resources={"two": 1}).remote(refs, 3.0)
    eventually(lambda: freehold.available_resources().get("two", 1000) < 1000)
    assert trio.drain_node(1) == "dead"
    assert freehold.get(held, timeout=30) == (7 * BIG, ("small", 7))
    nobody_ran_twice()


def test_sigterm_drains_without_being_asked(trio: LocalCluster) -> None:
    made = [make.options(num_returns=3, resources={"one": 1}).remote(i) for i in range(6)]
    freehold.wait([ref for refs in made for ref in refs], num_returns=18, timeout=30)
    os.kill(trio.nodes[1].pid, signal.SIGTERM)
    gone = trio.nodes[1].node
    eventually(
        lambda: not any(n["NodeID"] == gone and n["Alive"] for n in freehold.nodes()),
        timeout_s=30,
    )
    check_all(made)


def test_without_time_the_promise_is_broken(trio: LocalCluster) -> None:
    """What the tests above show is the drain's doing."""
    made = [make.options(num_returns=3, resources={"one": 1}).remote(i) for i in range(6)]
    freehold.wait([ref for refs in made for ref in refs], num_returns=18, timeout=30)
    trio.drain_node(1, timeout_s=0.001)
    with pytest.raises(FreeholdError):
        check_all(made)


def test_an_idle_drain_is_refused_when_it_is_not_idle(trio: LocalCluster) -> None:
    running = make.options(num_returns=3, resources={"one": 1}).remote(1, 1.0)
    eventually(lambda: freehold.available_resources().get("one", 1000) < 1000)
    assert trio.drain_node(1, timeout_s=2, is_idle=True) == "alive"
    check(1, running)


def test_a_drained_node_is_no_target(trio: LocalCluster) -> None:
    assert trio.drain_node(1, ends=False) == "drained"
    made = [make.options(num_returns=3, resources={"any": 1}).remote(i) for i in range(6)]
    check_all(made)
    assert set(freehold.get([refs[2] for refs in made])) == {trio.nodes[2].node}


@freehold.remote(num_cpus=0)
class Tally:
    """Counts its calls, and keeps references to what it made."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def add(self, number: int, seconds: float = 0.0) -> tuple[int, str]:
        time.sleep(seconds)
        self.calls.append(number)
        return number, freehold.get_runtime_context().get_node_id()

    def order(self) -> list[int]:
        return self.calls

    def make(self, number: int) -> list[Any]:
        self.kept = [freehold.put(np.full(BIG, number, np.uint8)), freehold.put(("small", number))]
        self.made = double.options(resources={"two": 1}).remote(number)
        return [*self.kept, self.made, freehold.put([self.kept[0]])]


@freehold.remote(max_retries=0, num_cpus=0)
def double(number: int) -> int:
    return 2 * number


def test_an_actor_finishes_its_queued_calls_and_restarts_elsewhere(trio: LocalCluster) -> None:
    actor = Tally.options(max_restarts=1, resources={"any": 1}).remote()
    _, home = freehold.get(actor.add.remote(0), timeout=20)
    index = next(i for i, node in enumerate(trio.nodes) if node.node == home)
    before = [actor.add.remote(i, 0.02) for i in range(1, 60)]
    done = freehold.get(before[0], timeout=20)
    assert done[1] == home
    assert trio.drain_node(index) == "dead"
    after = [actor.add.remote(i) for i in range(60, 80)]
    found = freehold.get(before + after, timeout=30)
    assert [number for number, _ in found] == list(range(1, 80))
    nodes = [node for _, node in found]
    assert nodes == sorted(nodes, key=lambda node: node != home), "old life, then new"
    assert nodes[-1] != home
    later = [number for number, node in found if node != home]
    assert freehold.get(actor.order.remote(), timeout=20) == later


def test_a_drains_restart_is_not_counted(trio: LocalCluster) -> None:
    actor = Tally.options(max_restarts=1, resources={"any": 1}).remote()
    _, home = freehold.get(actor.add.remote(0), timeout=20)
    index = next(i for i, node in enumerate(trio.nodes) if node.node == home)
    assert trio.drain_node(index) == "dead"
    freehold.get(actor.add.remote(1), timeout=20)
    freehold.kill(actor, no_restart=False)
    assert freehold.get(actor.order.remote(), timeout=20) == []


def test_what_an_actor_owns_outlives_its_node(trio: LocalCluster) -> None:
    actor = Tally.options(max_restarts=1, resources={"one": 1}).remote()
    refs = freehold.get(actor.make.remote(7), timeout=20)
    freehold.get(refs[2], timeout=20)
    actor2 = Tally.options(resources={"two": 1}).remote()
    held = hold.options(resources={"two": 1}).remote(refs, 2.0)
    del actor
    assert trio.drain_node(1) == "dead"
    array, small, made, around = freehold.get(refs, timeout=20)
    assert (array == 7).all()
    assert (small, made) == (("small", 7), 14)
    assert (freehold.get(around[0], timeout=20) == 7).all()
    assert freehold.get(held, timeout=20) == (7 * BIG, ("small", 7))
    assert freehold.get(actor2.add.remote(1), timeout=20)[0] == 1


def test_an_actor_that_may_not_restart_ends_with_word_of_the_drain(trio: LocalCluster) -> None:
    actor = Tally.options(resources={"one": 1}).remote()
    assert freehold.get(actor.add.remote(0), timeout=20)[0] == 0
    assert trio.drain_node(1, timeout_s=1.0) == "dead"
    with pytest.raises(ActorDiedError, match="drained"):
        freehold.get(actor.add.remote(1), timeout=20)


def test_a_worker_past_max_calls_need_not_stay_for_what_it_owns(trio: LocalCluster) -> None:
    @freehold.remote(max_calls=1, max_retries=0, num_cpus=0, resources={"one": 1})
    def parent() -> tuple[int, list[Any]]:
        mine = freehold.put(np.full(BIG, 5, np.uint8))
        passed = hold.options(resources={"two": 1}).remote([mine, freehold.put("x")], 0.0)
        return os.getpid(), [mine, passed, freehold.put("small")]

    pid, refs = freehold.get(parent.remote(), timeout=20)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=15)
    array, passed, small = freehold.get(refs, timeout=20)
    assert (array == 5).all()
    assert (passed, small) == ((5 * BIG, "x"), "small")
    nobody_ran_twice()


def test_a_pull_under_way_comes_to_its_end(trio: LocalCluster) -> None:
    @freehold.remote(max_retries=0, num_cpus=0, resources={"one": 1})
    def large() -> Any:
        return np.ones(24 << 20, np.uint8)

    refs = [large.remote() for _ in range(2)]
    freehold.wait(refs, num_returns=2, timeout=30, fetch_local=False)
    pulled = [ref.future() for ref in refs]
    assert trio.drain_node(1) == "dead"
    assert [int(future.result(timeout=30).sum()) for future in pulled] == [24 << 20] * 2


def test_references_inside_values_of_values(trio: LocalCluster) -> None:
    @freehold.remote(max_retries=0, num_cpus=0, resources={"any": 1})
    def chain(depth: int) -> Any:
        if not depth:
            return freehold.put(np.full(BIG, 3, np.uint8))
        return [chain.remote(depth - 1), freehold.put(depth)]

    def depth_of(ref: Any) -> int:
        value = freehold.get(ref, timeout=30)
        if not isinstance(value, list):
            assert (freehold.get(value, timeout=30) == 3).all()
            return 0
        below = depth_of(value[0])
        assert freehold.get(value[1], timeout=30) == below + 1
        return below + 1

    refs = [chain.remote(4) for _ in range(4)]
    freehold.wait(refs, num_returns=4, timeout=30)
    assert trio.drain_node(1) == "dead"
    assert [depth_of(ref) for ref in refs] == [4] * 4
    nobody_ran_twice()
