"""Calls of one caller run in the order they were made, whoever and wherever the caller is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import THERE, Recorder, after_file

import freehold
from freehold.testing import LocalCluster

pytestmark = pytest.mark.module_cluster


@freehold.remote
def add_many(recorder: Any, name: str, count: int) -> int:
    refs = [recorder.add.remote((name, i)) for i in range(count)]
    freehold.get(refs)
    return count


@freehold.remote
class Relay:
    def __init__(self, box: dict[str, Any]) -> None:
        self.target = box["target"]

    def add_many(self, name: str, count: int) -> int:
        return len(freehold.get([self.target.add.remote((name, i)) for i in range(count)]))

    def target_of(self) -> dict[str, list[Any]]:
        return {"nested": [self.target]}


def of(seen: list[tuple[str, int]], name: str) -> list[int]:
    return [i for who, i in seen if who == name]


def test_a_thousand_pipelined_calls_run_in_order(clean: LocalCluster) -> None:
    recorder = Recorder.options(resources=THERE).remote()
    refs = [recorder.add.remote(i) for i in range(1000)]
    assert freehold.get(refs) == list(range(1, 1001))
    assert freehold.get(recorder.all.remote()) == list(range(1000))


def test_a_call_waits_behind_an_earlier_one_whose_argument_is_slow(
    clean: LocalCluster, tmp_path: Path
) -> None:
    recorder = Recorder.options(resources=THERE).remote()
    gate = str(tmp_path / "gate")
    first = recorder.add.remote(after_file.remote(gate, "slow"))
    second = recorder.add.remote("quick")
    ready, _ = freehold.wait([second], timeout=0.3)
    assert ready == []
    Path(gate).touch()
    assert freehold.get([first, second]) == [1, 2]
    assert freehold.get(recorder.all.remote()) == ["slow", "quick"]


def test_an_argument_that_failed_fails_its_call_alone(clean: LocalCluster) -> None:
    @freehold.remote
    def broken() -> None:
        raise KeyError("argument")

    recorder = Recorder.remote()
    before, failed, after = (
        recorder.add.remote(1),
        recorder.add.remote(broken.remote()),
        recorder.add.remote(2),
    )
    assert freehold.get([before, after]) == [1, 2]
    with pytest.raises(KeyError):
        freehold.get(failed)
    assert freehold.get(recorder.all.remote()) == [1, 2]


def test_callers_in_tasks_threads_and_actors_each_keep_their_order(clean: LocalCluster) -> None:
    recorder = Recorder.remote()
    relay = Relay.options(resources=THERE).remote({"target": recorder})
    work = [add_many.options(num_cpus=0.5).remote(recorder, f"task{n}", 100) for n in range(3)]
    work.append(add_many.options(resources=THERE).remote(recorder, "there", 100))
    work.append(relay.add_many.remote("relay", 100))

    def call(name: str) -> None:
        freehold.get([recorder.add.remote((name, i)) for i in range(100)])

    threads = [threading.Thread(target=call, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert freehold.get(work) == [100] * 5
    seen = freehold.get(recorder.all.remote())
    assert len(seen) == 900
    for name in {who for who, _ in seen}:
        assert of(seen, name) == list(range(100)), name


def test_calls_before_a_handle_is_passed_on_come_first(clean: LocalCluster) -> None:
    """What the driver called has been answered before the task is sent: a plain happens-before."""
    recorder = Recorder.remote()
    freehold.get([recorder.add.remote(("driver", i)) for i in range(10)])
    freehold.get(add_many.remote(recorder, "task", 10))
    freehold.get(recorder.add.remote(("driver", 10)))
    seen = freehold.get(recorder.all.remote())
    assert [who for who, _ in seen] == ["driver"] * 10 + ["task"] * 10 + ["driver"]


def test_a_handle_comes_back_out_of_a_result(clean: LocalCluster) -> None:
    recorder = Recorder.remote()
    relay = Relay.options(resources=THERE).remote({"target": recorder})
    back = freehold.get(relay.target_of.remote())["nested"][0]
    assert back == recorder
    freehold.get(back.add.remote("came back"))
    assert freehold.get(recorder.all.remote()) == ["came back"]


def test_results_of_calls_are_arguments_of_calls(clean: LocalCluster) -> None:
    first, second = Recorder.remote(), Recorder.options(resources=THERE).remote()
    ref = first.add.remote("x")
    for _ in range(20):
        ref = second.add.remote(first.add.remote(ref))
    assert freehold.get(ref) == 20
    assert freehold.get(second.all.remote()) == list(range(2, 22))


def test_large_arguments_and_results_pass_the_store(clean: LocalCluster) -> None:
    recorder = Recorder.options(resources=THERE).remote()
    data = b"z" * 3_000_000
    shared = freehold.put(data)
    freehold.get([recorder.add.remote(data), recorder.add.remote(shared)])
    assert freehold.get(recorder.all.remote()) == [data, data]


def test_a_handle_pickled_with_a_bound_method_is_the_same_actor(clean: LocalCluster) -> None:
    recorder = Recorder.remote()

    @freehold.remote
    def call(method: Any) -> int:
        return freehold.get(method.remote("from a task"))

    assert freehold.get(call.remote(recorder.add)) == 1
