"""Lost objects: the node that held the only copy is killed, and what can be made again is.

A cluster a test, since killing a node changes it. With one node the copy is lost by nothing short
of the cluster's end, so most of these need two; that lineage is dropped with the last reference is
tested on both.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster, store_is_empty

import freehold
from freehold._api import state
from freehold.exceptions import (
    NodeDiedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedLineageEvictedError,
    OwnerDiedError,
)
from freehold.testing import LocalCluster, eventually

BIG = 400_000


@pytest.fixture(params=["unix", "tcp"])
def two(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    with start_cluster(2, num_cpus=2, network=request.param) as cluster:
        yield cluster


@freehold.remote
def count_and_make(path: str, value: int, *needs: Any) -> Any:
    with open(path, "ab", buffering=0) as file:
        file.write(b"x")
    return np.full(BIG, value + sum(int(array[0]) for array in needs), dtype=np.uint8)


def lose_far(cluster: LocalCluster) -> None:
    """Kill the node that has `far`, with another there to take its place."""
    cluster.add_node(num_cpus=2, resources={"far": 1000})
    cluster.kill_node(1)
    eventually(lambda: sum(node["Alive"] for node in freehold.nodes()) == 2, timeout_s=20)


def runs(path: str) -> int:
    return os.path.getsize(path)


def test_a_lost_primary_is_made_again(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    ref = count_and_make.options(resources=FAR).remote(path, 7)
    freehold.wait([ref], timeout=20, fetch_local=False)
    lose_far(two)
    assert int(freehold.get(ref, timeout=30)[0]) == 7
    assert runs(path) == 2


def test_lost_arguments_are_made_again_first(two: LocalCluster, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "abc"]
    task = count_and_make.options(resources=FAR)
    a = task.remote(paths[0], 1)
    b = task.remote(paths[1], 2, a)
    c = task.remote(paths[2], 3, b, a)
    freehold.wait([c], timeout=20, fetch_local=False)
    del a, b
    gc.collect()
    lose_far(two)
    assert int(freehold.get(c, timeout=40)[0]) == 1 + 2 + 3 + 1
    assert [runs(path) for path in paths] == [2, 2, 2]


def test_a_task_gets_its_lost_argument_made_again(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    ref = count_and_make.options(resources=FAR).remote(path, 5)
    freehold.wait([ref], timeout=20, fetch_local=False)
    lose_far(two)

    @freehold.remote
    def first(array: Any) -> int:
        return int(array[0])

    @freehold.remote(resources=FAR)
    def first_inside(refs: list[Any]) -> int:
        return int(freehold.get(refs[0])[0])

    assert freehold.get([first.remote(ref), first_inside.remote([ref])], timeout=40) == [5, 5]
    assert runs(path) == 2


def test_nothing_is_run_again_while_a_copy_exists(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    ref = count_and_make.options(resources=FAR).remote(path, 9)
    array = freehold.get(ref, timeout=20)  # copied here and viewed
    lose_far(two)
    assert int(array[-1]) == 9
    assert int(freehold.get(ref, timeout=30)[0]) == 9
    assert runs(path) == 1


def test_small_results_are_not_lost(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")

    @freehold.remote(resources=FAR)
    def small() -> str:
        Path(path).write_text("x")
        return "small"

    ref = small.remote()
    freehold.wait([ref], timeout=20, fetch_local=False)
    os.unlink(path)
    lose_far(two)
    assert freehold.get(ref, timeout=20) == "small"
    assert not os.path.exists(path)


def test_a_task_that_ran_on_the_lost_node_is_retried(two: LocalCluster, tmp_path: Path) -> None:
    started, go = tmp_path / "started", tmp_path / "go"

    @freehold.remote(resources=FAR)
    def run(retries: str) -> str:
        (tmp_path / f"started-{retries}").touch()
        eventually(go.exists, timeout_s=40)
        return "done"

    again, once = run.remote("some"), run.options(max_retries=0).remote("none")
    eventually((tmp_path / "started-some").exists, timeout_s=20)
    eventually((tmp_path / "started-none").exists, timeout_s=20)
    lose_far(two)
    go.touch()
    assert freehold.get(again, timeout=30) == "done"
    with pytest.raises(NodeDiedError):
        freehold.get(once, timeout=30)
    assert not started.exists()


def test_what_cannot_be_made_again_says_why(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")

    @freehold.remote(resources=FAR)
    class Maker:
        def make(self) -> Any:
            return np.zeros(BIG)

    once = count_and_make.options(resources=FAR, max_retries=0).remote(path, 1)
    maker = Maker.remote()
    of_actor = maker.make.remote()
    freehold.wait([once, of_actor], num_returns=2, timeout=20, fetch_local=False)
    lose_far(two)
    for ref in (once, of_actor):
        with pytest.raises(ObjectReconstructionFailedError, match=r"put\(\).*actor.*max_retries=0"):
            freehold.get(ref, timeout=20)
    assert runs(path) == 1


def test_a_put_of_a_lost_node_is_lost_with_its_owner(two: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    class Owner:
        def make(self) -> list[Any]:
            self.kept = freehold.put(np.zeros(BIG))
            return [self.kept]

    owner = Owner.remote()
    (ref,) = freehold.get(owner.make.remote(), timeout=20)
    lose_far(two)
    with pytest.raises((OwnerDiedError, ObjectReconstructionFailedError)):
        freehold.get(ref, timeout=20)


def test_outputs_of_a_task_are_lost_and_made_together(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")

    @freehold.remote(num_returns=3, resources=FAR)
    def three() -> Any:
        with open(path, "ab", buffering=0) as file:
            file.write(b"x")
        return np.full(BIG, 1), "small", np.full(BIG, 3)

    refs = three.remote()
    freehold.wait(refs, num_returns=3, timeout=20, fetch_local=False)
    lose_far(two)
    found = freehold.get(refs, timeout=30)
    assert (found[0][0], found[1], found[2][0]) == (1, "small", 3)
    assert runs(path) == 2


def test_packed_outputs_are_made_again(two: LocalCluster) -> None:
    @freehold.remote(num_returns=40, resources=FAR)
    def many() -> Any:
        return [np.full(1000, i) for i in range(40)]

    refs = many.remote()
    freehold.wait(refs, num_returns=40, timeout=20, fetch_local=False)
    lose_far(two)
    assert [int(array[0]) for array in freehold.get(refs, timeout=30)] == list(range(40))


def test_past_the_lineage_budget_the_loss_names_it() -> None:
    padding = b"x" * 5000

    @freehold.remote(resources=FAR)
    def make(_padding: bytes, refs: Any = None) -> Any:
        return np.zeros(BIG)

    with start_cluster(2, num_cpus=2, lineage_bytes=1000) as two:
        refs = [make.remote(padding), make.remote(padding, [freehold.put(1)])]
        freehold.wait(refs, num_returns=2, timeout=20, fetch_local=False)
        lose_far(two)
        for ref in refs:
            with pytest.raises(ObjectReconstructionFailedLineageEvictedError, match="1000 bytes"):
                freehold.get(ref, timeout=20)


def test_a_borrower_gets_what_was_made_again(two: LocalCluster, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")

    @freehold.remote(num_cpus=0)
    class Borrower:
        def hold(self, refs: list[Any]) -> None:
            self.refs = refs

        def first(self) -> int:
            return int(freehold.get(self.refs[0], timeout=30)[0])

    borrower = Borrower.options(resources={"near": 1}).remote()
    ref = count_and_make.options(resources=FAR).remote(path, 4)
    freehold.wait([ref], timeout=20, fetch_local=False)
    freehold.get(borrower.hold.remote([ref]), timeout=20)
    lose_far(two)
    assert freehold.get(borrower.first.remote(), timeout=40) == 4
    assert runs(path) == 2


def test_a_task_that_always_kills_its_node_is_given_up(two: LocalCluster) -> None:
    @freehold.remote(resources=FAR, max_retries=1)
    def die() -> None:
        os._exit(1)

    with pytest.raises(Exception, match="exit code 1"):
        freehold.get(die.remote(), timeout=30)


@pytest.mark.parametrize("nodes", [1, 2])
def test_lineage_ends_with_the_last_reference(nodes: int, tmp_path: Path) -> None:
    with start_cluster(nodes):
        path = str(tmp_path / "runs")
        task = count_and_make.options(resources=FAR)
        refs = [task.remote(path, 0)]
        for i in range(10):
            refs.append(task.remote(path, i, refs[-1]))
        freehold.wait(refs, num_returns=len(refs), timeout=20, fetch_local=False)
        table = state.require().owner.table  # type: ignore[attr-defined]
        assert table.lineage_bytes > 0
        del refs
        gc.collect()
        store_is_empty()
        assert table.lineage_bytes == 0
        eventually(lambda: table.rows == 0, timeout_s=5)


def test_a_lost_object_is_never_waited_for(two: LocalCluster) -> None:
    """The owner of what is wanted died with the node, while somebody waited."""

    @freehold.remote(resources=FAR)
    class Owner:
        def submit(self) -> list[Any]:
            self.ref = never.options(resources={"near": 1}).remote()
            return [self.ref]

    (ref,) = freehold.get(Owner.remote().submit.remote(), timeout=20)
    two.kill_node(1)
    with pytest.raises(ObjectLostError):
        freehold.get(ref, timeout=20)


@freehold.remote
def never() -> None:
    eventually(lambda: False, timeout_s=60)


@pytest.mark.parametrize("kind", ["dynamic", "returned"])
def test_what_the_driver_took_over_with_a_result_comes_back(
    two: LocalCluster, kind: str, tmp_path: Path
) -> None:
    """References in a result are the caller's own; their task makes them again if they are lost."""
    path = str(tmp_path / "runs")

    @freehold.remote(num_cpus=0, num_returns="dynamic" if kind == "dynamic" else 1)
    def generate() -> Any:
        with open(path, "ab", buffering=0) as file:
            file.write(b"x")
        arrays = [np.full(BIG, i, dtype=np.uint8) for i in range(4)]
        return arrays if kind == "dynamic" else [freehold.put(array) for array in arrays]

    refs = list(freehold.get(generate.options(resources=FAR).remote(), timeout=20))
    lose_far(two)
    assert [int(freehold.get(ref, timeout=40)[0]) for ref in refs] == [0, 1, 2, 3]
    assert runs(path) == 2
