"""Actors when their node, or their owner's, is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import Recorder, actors_alive

import freehold
from freehold.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError
from freehold.testing import LocalCluster, eventually

ON_1 = {"one": 1.0}


@pytest.fixture(params=["unix", "tcp"])
def pair(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Node 0 with the driver; node 1 with the resource "one"."""
    places = [{}, {"one": 4.0}]
    with LocalCluster(nodes=2, num_cpus=2, resources=places, network=request.param) as started:
        yield started


def answers(actor: Any) -> bool:
    try:
        return bool(freehold.get(actor.add.remote(1), timeout=20))
    except ActorUnavailableError:
        return False


def test_without_restarts_it_died_with_its_node(pair: LocalCluster, tmp_path: Path) -> None:
    actor = Recorder.options(resources=ON_1, name="gone").remote()
    freehold.get(actor.add.remote(1))
    refs = [actor.wait_for_file.remote(str(tmp_path / "never")), actor.add.remote(2)]
    pair.kill_node(1)
    for ref in [*refs, actor.add.remote(3)]:
        with pytest.raises(ActorDiedError, match="node") as caught:
            freehold.get(ref, timeout=20)
        assert isinstance(caught.value.cause, NodeDiedError)
    with pytest.raises(ValueError, match="gone"):
        freehold.get_actor("gone")


def on_node_1(pair: LocalCluster, count: int, **options: Any) -> list[Any]:
    """Actors that node 1 got because node 0 was full, and that fit on node 0 now."""
    filler = Recorder.options(num_cpus=2).remote()
    freehold.get(filler.add.remote(1))
    eventually(lambda: freehold.nodes()[0]["Available"].get("CPU", 0) < 1, timeout_s=5)
    actors = [Recorder.options(num_cpus=1, **options).remote() for _ in range(count)]
    homes = freehold.get([actor.node.remote() for actor in actors], timeout=20)
    assert homes == [pair.nodes[1].node] * count
    freehold.kill(filler)
    return actors


def test_actors_get_what_leases_and_earlier_actors_held_on_either_node(pair: LocalCluster) -> None:
    @freehold.remote
    def pid() -> int:
        return os.getpid()

    kind = Recorder.options(num_cpus=1)
    for _ in range(8):
        # Leases of both nodes hold the CPUs, idle; a fifth actor would wait for another to end.
        freehold.get([pid.remote() for _ in range(200)], timeout=20)
        actors = [kind.remote() for _ in range(4)]
        homes = freehold.get([actor.node.remote() for actor in actors], timeout=20)
        assert sorted(homes) == sorted(2 * [node.node for node in pair.nodes])
        del actors


def test_it_restarts_elsewhere(pair: LocalCluster) -> None:
    actors = on_node_1(pair, 2, max_restarts=2)
    freehold.get([actor.add.remote(1) for actor in actors])
    pair.kill_node(1)
    for actor in actors:
        eventually(lambda actor=actor: answers(actor), timeout_s=20)
        assert freehold.get(actor.was_restarted.remote())
        assert freehold.get(actor.node.remote()) == pair.nodes[0].node


def test_it_waits_for_a_node_that_fits(pair: LocalCluster) -> None:
    actor = Recorder.options(max_restarts=-1, max_task_retries=-1, resources=ON_1).remote()
    assert freehold.get(actor.add.remote(1)) == 1
    pair.kill_node(1)
    ref = actor.add.remote(2)
    with pytest.raises(freehold.exceptions.GetTimeoutError):
        freehold.get(ref, timeout=1.0)
    pair.add_node(resources={"one": 1.0})
    assert freehold.get(ref, timeout=20) == 1


def test_a_task_waits_for_a_node_that_fits(pair: LocalCluster) -> None:
    @freehold.remote(resources=ON_1)
    def node() -> str:
        return freehold.get_runtime_context().get_node_id()

    assert freehold.get(node.remote(), timeout=20) == pair.nodes[1].node
    pair.kill_node(1)
    eventually(lambda: not freehold.nodes()[1]["Alive"], timeout_s=10)
    ref = node.remote()
    with pytest.raises(freehold.exceptions.GetTimeoutError):
        freehold.get(ref, timeout=1.0)
    pair.add_node(resources={"one": 1.0})
    assert freehold.get(ref, timeout=20) not in [ready.node for ready in pair.nodes[:2]]


def test_retried_calls_go_on_elsewhere(pair: LocalCluster) -> None:
    (actor,) = on_node_1(pair, 1, max_restarts=1, max_task_retries=-1)
    refs = [actor.add.remote(i) for i in range(500)]
    pair.kill_node(1)
    found = freehold.get(refs, timeout=30)
    drop = next((i for i in range(1, 500) if found[i] < found[i - 1]), 500)
    assert found == [*range(1, drop + 1), *range(1, 500 - drop + 1)]


def test_an_owner_on_a_dead_node_takes_its_actors_along(pair: LocalCluster) -> None:
    @freehold.remote
    class Maker:
        def make(self) -> Any:
            self.made = Recorder.options(num_cpus=0).remote()
            return self.made, freehold.get(self.made.pid.remote())

    maker = Maker.options(resources=ON_1).remote()
    made, _ = freehold.get(maker.make.remote())
    freehold.get(made.add.remote(1))
    pair.kill_node(1)
    with pytest.raises(ActorDiedError):
        eventually(lambda: freehold.get(made.add.remote(1), timeout=20) is None, timeout_s=20)
    eventually(lambda: not actors_alive(), timeout_s=20)


def test_a_caller_on_a_dead_node_does_not_stop_the_actor(pair: LocalCluster) -> None:
    @freehold.remote
    def call_for_ever(actor: Any) -> None:
        while True:
            freehold.get(actor.add.remote(os.getpid()))

    actor = Recorder.options(num_cpus=0).remote()
    while freehold.get(actor.node.remote()) != pair.nodes[0].node:
        actor = Recorder.options(num_cpus=0).remote()
    held = [actor]
    ref = call_for_ever.options(resources=ON_1, max_retries=0).remote(actor)
    eventually(lambda: freehold.get(held[0].add.remote("driver")) > 100, timeout_s=20)
    pair.kill_node(1)
    with pytest.raises(NodeDiedError):
        freehold.get(ref, timeout=20)
    assert freehold.get(actor.add.remote("still here"), timeout=20) > 100
    held.clear()
    del actor
    eventually(lambda: not actors_alive(), timeout_s=20)
