"""Where tasks go: resources, spill-back, what never fits, GPUs, and what `explain` says."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import FAR, start_cluster

import freehold
from freehold.exceptions import TaskUnschedulableError
from freehold.testing import LocalCluster, eventually
from freehold.util.state import list_tasks

pytestmark = pytest.mark.module_cluster


@pytest.fixture(scope="module", autouse=True)
def two() -> Iterator[LocalCluster]:
    with start_cluster(2, num_cpus=[1, 3], num_gpus=2) as running:
        yield running


@freehold.remote
def where() -> str:
    return freehold.get_runtime_context().get_node_id()


@freehold.remote
def hold(folder: str, name: str) -> str:
    (Path(folder) / f"{name}-started").touch()
    eventually(lambda: os.path.exists(f"{folder}/go"), timeout_s=40)
    return freehold.get_runtime_context().get_node_id()


def started(folder: Path) -> int:
    return len(list(folder.glob("*-started")))


def test_a_task_that_fits_only_elsewhere_goes_there(two: LocalCluster) -> None:
    assert freehold.get(where.options(num_cpus=3).remote(), timeout=20) == two.nodes[1].node
    assert freehold.get(where.options(resources=FAR).remote(), timeout=20) == two.nodes[1].node
    near = where.options(resources={"near": 0.5})
    assert freehold.get(near.remote(), timeout=20) == two.nodes[0].node


def test_tasks_spill_over_when_a_node_is_full(two: LocalCluster, tmp_path: Path) -> None:
    refs = [hold.remote(str(tmp_path), str(i)) for i in range(4)]
    eventually(lambda: started(tmp_path) == 4, timeout_s=20)
    (tmp_path / "go").touch()
    found = freehold.get(refs, timeout=20)
    assert sorted(found.count(node.node) for node in two.nodes) == [1, 3]


def test_no_more_run_at_once_than_resources_allow(tmp_path: Path) -> None:
    task = hold.options(num_cpus=0, resources={"far": 400})
    refs = [task.remote(str(tmp_path), str(i)) for i in range(4)]
    eventually(lambda: started(tmp_path) == 2, timeout_s=20)
    with pytest.raises(AssertionError):
        eventually(lambda: started(tmp_path) > 2, timeout_s=0.5)
    wanted = "lacks far (needs 400, has 200 free of 1000)"
    eventually(lambda: wanted in freehold.explain(refs[3]), timeout_s=5)
    (tmp_path / "go").touch()
    freehold.get(refs, timeout=20)


def test_fractions_add_up(tmp_path: Path) -> None:
    task = hold.options(num_cpus=0.1)
    refs = [task.remote(str(tmp_path), str(i)) for i in range(12)]
    eventually(lambda: started(tmp_path) == 12, timeout_s=30)
    (tmp_path / "go").touch()
    freehold.get(refs, timeout=20)
    with pytest.raises((ValueError, TypeError), match=r"0\.0001"):
        where.options(num_cpus=0.00001).remote()
    with pytest.raises(ValueError, match="the most"):
        where.options(memory=1 << 60).remote()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_cpus": 100}, "CPU"),
        ({"resources": {"nothing": 1}}, "nothing"),
        ({"num_gpus": 3}, "GPU"),
        ({"memory": 1 << 48}, "memory"),
        ({"resources": {"near": 1, "far": 1}}, "near|far"),
    ],
)
def test_what_never_fits_is_an_error_that_says_why(options: Any, said: str) -> None:
    started_at = time.monotonic()
    with pytest.raises(TaskUnschedulableError, match=said):
        freehold.get(where.options(**options).remote(), timeout=20)
    assert time.monotonic() - started_at < 5


def test_explain_says_why_a_task_is_pending(tmp_path: Path) -> None:
    holding = hold.options(num_cpus=0, resources={"far": 1000}).remote(str(tmp_path), "a")
    eventually(lambda: started(tmp_path) == 1, timeout_s=20)
    waiting = hold.options(num_cpus=0, resources={"far": 1}).remote(str(tmp_path), "b")
    after = where.options(name="after").remote()
    wanted = "lacks far (needs 1, has 0 free of 1000)"
    eventually(lambda: wanted in freehold.explain(waiting), timeout_s=5)
    assert "runs there" in freehold.explain(holding)
    assert "ready" in freehold.explain(freehold.put(1))
    (tmp_path / "go").touch()
    freehold.get([holding, waiting, after], timeout=20)
    assert "is ready" in freehold.explain(waiting)


def test_resources_are_counted_and_come_back(tmp_path: Path) -> None:
    total = freehold.cluster_resources()
    assert (total["CPU"], total["GPU"], total["near"], total["far"]) == (4, 4, 1000, 1000)
    ref = hold.options(resources={"far": 10.5}).remote(str(tmp_path), "a")
    eventually(lambda: freehold.available_resources().get("far") == 989.5, timeout_s=10)
    (tmp_path / "go").touch()
    freehold.get(ref, timeout=20)
    eventually(lambda: freehold.available_resources().get("far") == 1000, timeout_s=10)
    eventually(lambda: freehold.available_resources().get("CPU") == 4, timeout_s=10)


# ---- GPUs --------------------------------------------------------------------------------------


@freehold.remote(num_gpus=1)
def gpu(folder: str, name: str) -> tuple[list[int], str | None, int, str]:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    (Path(folder) / f"{name}-started").touch()
    eventually(lambda: os.path.exists(f"{folder}/go"), timeout_s=40)
    context = freehold.get_runtime_context()
    return freehold.get_gpu_ids(), seen, os.getpid(), context.get_node_id()


def test_gpus_are_assigned_by_index(tmp_path: Path) -> None:
    task = gpu.options(num_cpus=0, resources=FAR)
    refs = [task.remote(str(tmp_path), str(i)) for i in range(2)]
    eventually(lambda: started(tmp_path) == 2, timeout_s=20)
    (tmp_path / "go").touch()
    found = freehold.get(refs, timeout=20)
    assert sorted(ids for ids, *_ in found) == [[0], [1]]
    assert [seen for _, seen, *_ in found] == [str(ids[0]) for ids, *_ in found]


def test_a_gpu_is_given_again_only_after_its_process_is_dead(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    pids = []
    for i in range(3):
        ids, seen, pid, _node = freehold.get(
            gpu.options(num_gpus=2, num_cpus=0, resources=FAR).remote(str(tmp_path), str(i)),
            timeout=20,
        )
        assert sorted(ids) == [0, 1]
        assert sorted(str(seen).split(",")) == ["0", "1"]
        assert not any(os.path.exists(f"/proc/{old}") for old in pids)
        pids.append(pid)
    assert len(set(pids)) == 3


def test_fractions_of_a_gpu_share_one(tmp_path: Path) -> None:
    task = gpu.options(num_gpus=0.5, num_cpus=0, resources=FAR)
    refs = [task.remote(str(tmp_path), str(i)) for i in range(4)]
    eventually(lambda: started(tmp_path) == 4, timeout_s=30)
    (tmp_path / "go").touch()
    found = sorted(ids[0] for ids, *_ in freehold.get(refs, timeout=20))
    assert found == [0, 0, 1, 1]


def test_a_task_without_gpus_sees_none() -> None:
    @freehold.remote
    def look() -> tuple[list[int], str | None]:
        return freehold.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    assert freehold.get(look.remote(), timeout=20) == ([], "")


def test_an_actor_has_its_gpus() -> None:
    @freehold.remote(num_gpus=1, num_cpus=0)
    class OnGpu:
        def look(self) -> tuple[list[int], str | None]:
            return freehold.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES")

    actor = OnGpu.remote()
    ids, seen = freehold.get(actor.look.remote(), timeout=20)
    assert len(ids) == 1
    assert seen == str(ids[0])


# ---- what ran ------------------------------------------------------------------------------------


def test_task_events_tell_what_ran(tmp_path: Path) -> None:
    @freehold.remote(max_retries=0, name="named-task")
    def named(fails: bool) -> None:
        if fails:
            raise ValueError("on purpose")

    good, bad = named.remote(False), named.options(resources=FAR).remote(True)
    freehold.wait([good, bad], num_returns=2, timeout=20)
    running = hold.remote(str(tmp_path), "running")
    eventually(lambda: started(tmp_path) == 1, timeout_s=20)

    def states() -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in list_tasks(limit=10_000)}

    def is_told() -> bool:
        found = states()
        return (
            found.get(good.task_id().hex()) == "FINISHED"
            and found.get(bad.task_id().hex()) == "FAILED"
            and found.get(running.task_id().hex()) == "RUNNING"
        )

    eventually(is_told, timeout_s=10, interval_s=0.2)
    (tmp_path / "go").touch()
    freehold.get(running, timeout=20)
    names = {task["name"] for task in list_tasks(limit=10_000)}
    assert "named-task" in names
