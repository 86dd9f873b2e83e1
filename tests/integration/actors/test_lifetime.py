"""An actor ends when its last handle anywhere is gone, after what was called; not before."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import (
    THERE,
    Recorder,
    actors_alive,
    after_file,
    is_running,
    wait_for_file,
)

import freehold
from freehold.testing import LocalCluster, eventually

pytestmark = pytest.mark.module_cluster


@freehold.remote
class Keeper:
    """Holds what it is given."""

    def __init__(self, held: Any = None) -> None:
        self.held = held

    def hold(self, value: Any) -> None:
        self.held = value

    def drop(self) -> None:
        self.held = None

    def call(self, item: Any) -> int:
        return freehold.get(self.held[0].add.remote(item))

    def give(self) -> Any:
        return self.held

    def pid(self) -> int:
        return os.getpid()


@freehold.remote
def use_later(box: list[Any], gate: str) -> int:
    wait_for_file(gate)
    return freehold.get(box[0].add.remote("late"))


@freehold.remote
def make_one() -> tuple[Any, int]:
    actor = Recorder.remote("made by a task")
    return actor, freehold.get(actor.pid.remote())


@freehold.remote
class Maker:
    def __init__(self) -> None:
        self.made: list[Any] = []

    def make(self) -> tuple[Any, int]:
        self.made.append(Recorder.remote("made by an actor"))
        return self.made[-1], freehold.get(self.made[-1].pid.remote())

    def pid(self) -> int:
        return os.getpid()


def ended(pid: int) -> None:
    gc.collect()
    eventually(lambda: not is_running(pid), timeout_s=10)


def test_the_last_handle_gone_ends_the_process_and_frees_its_name(clean: LocalCluster) -> None:
    actor = Recorder.options(resources=THERE, num_cpus=1, name="short-lived").remote()
    pid = freehold.get(actor.pid.remote())
    assert freehold.available_resources().get("CPU", 0) < freehold.cluster_resources()["CPU"] or (
        eventually(
            lambda: (
                freehold.available_resources().get("CPU", 0) < freehold.cluster_resources()["CPU"]
            )
        )
    )
    del actor
    ended(pid)
    again = Recorder.options(name="short-lived").remote()
    assert freehold.get(again.all.remote()) == []


def test_queued_calls_are_done_first(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Recorder.options(resources=THERE).remote()
    gate = str(tmp_path / "gate")
    refs = [actor.wait_for_file.remote(gate), *(actor.add.remote(i) for i in range(50))]
    seen = actor.all.remote()
    del actor
    gc.collect()
    Path(gate).touch()
    assert freehold.get(seen) == list(range(50))
    assert freehold.get(refs[1:]) == list(range(1, 51))


def test_queued_calls_run_even_if_nobody_holds_their_results(
    clean: LocalCluster, tmp_path: Path
) -> None:
    @freehold.remote
    class Toucher:
        def touch(self, path: str) -> None:
            Path(path).touch()

    for i in range(5):
        Toucher.remote().touch.remote(str(tmp_path / str(i)))
    gc.collect()
    for i in range(5):
        wait_for_file(str(tmp_path / str(i)))


def test_a_call_that_waits_for_an_argument_keeps_the_actor(
    clean: LocalCluster, tmp_path: Path
) -> None:
    gate = str(tmp_path / "gate")
    ref = Recorder.remote().add.remote(after_file.remote(gate, 1))
    gc.collect()
    Path(gate).touch()
    assert freehold.get(ref) == 1


def test_a_handle_inside_a_pending_task_keeps_it(clean: LocalCluster, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    actor = Recorder.remote()
    pid = freehold.get(actor.pid.remote())
    result = use_later.options(resources=THERE).remote([actor], gate)
    del actor
    gc.collect()
    freehold.get(Recorder.remote().all.remote())
    assert is_running(pid)
    Path(gate).touch()
    assert freehold.get(result) == 1
    ended(pid)


def test_a_handle_inside_another_actor_keeps_it(clean: LocalCluster) -> None:
    actor = Recorder.remote()
    pid = freehold.get(actor.pid.remote())
    keeper = Keeper.options(resources=THERE).remote()
    freehold.get(keeper.hold.remote([actor]))
    del actor
    gc.collect()
    assert freehold.get([keeper.call.remote(i) for i in range(3)]) == [1, 2, 3]
    assert is_running(pid)
    freehold.get(keeper.drop.remote())
    ended(pid)


def test_a_handle_given_to_a_constructor_keeps_it(clean: LocalCluster) -> None:
    actor = Recorder.remote()
    pid = freehold.get(actor.pid.remote())
    keeper = Keeper.options(resources=THERE).remote([actor])
    del actor
    gc.collect()
    assert freehold.get(keeper.call.remote("x")) == 1
    del keeper
    ended(pid)


def test_a_handle_inside_a_put_value_keeps_it(clean: LocalCluster) -> None:
    actor = Recorder.options(resources=THERE).remote()
    pid = freehold.get(actor.pid.remote())
    ref = freehold.put({"deep": [actor]})
    del actor
    gc.collect()
    back = freehold.get(ref)["deep"][0]
    assert freehold.get(back.add.remote(1)) == 1
    del back
    gc.collect()
    assert freehold.get(freehold.get(ref)["deep"][0].add.remote(2)) == 2
    del ref
    ended(pid)


def test_a_handle_passed_from_actor_to_actor_outlives_its_first_holders(
    clean: LocalCluster,
) -> None:
    actor = Recorder.remote()
    pid = freehold.get(actor.pid.remote())
    first = Keeper.options(resources=THERE).remote([actor])
    second = Keeper.remote()
    freehold.get(second.hold.remote(first.give.remote()))
    del actor, first
    gc.collect()
    assert freehold.get(second.call.remote("x")) == 1
    assert is_running(pid)
    del second
    ended(pid)


def test_equal_handles_count_as_several(clean: LocalCluster) -> None:
    name = "counted"
    actor = Recorder.options(name=name).remote()
    pid = freehold.get(actor.pid.remote())
    other = freehold.get_actor(name)
    del actor
    gc.collect()
    assert freehold.get(other.add.remote(1)) == 1
    del other
    ended(pid)


def test_a_handle_got_by_name_in_a_worker_keeps_it(clean: LocalCluster) -> None:
    @freehold.remote
    class Finder:
        def find(self, name: str) -> None:
            self.found = freehold.get_actor(name)

        def call(self) -> int:
            return freehold.get(self.found.add.remote(1))

    actor = Recorder.options(name="findable").remote()
    pid = freehold.get(actor.pid.remote())
    finder = Finder.options(resources=THERE).remote()
    freehold.get(finder.find.remote("findable"))
    del actor
    gc.collect()
    assert freehold.get(finder.call.remote()) == 1
    del finder
    ended(pid)


def test_an_actor_made_by_an_actor_ends_with_its_maker(clean: LocalCluster) -> None:
    maker = Maker.options(resources=THERE).remote()
    made, pid = freehold.get(maker.make.remote())
    assert freehold.get(made.all.remote()) == ["made by an actor"]
    maker_pid = freehold.get(maker.pid.remote())
    os.kill(maker_pid, 9)
    ended(pid)
    with pytest.raises(freehold.exceptions.ActorDiedError, match="owner"):
        freehold.get(made.add.remote(1))


def test_an_actor_made_by_a_task_lives_while_its_handle_does(clean: LocalCluster) -> None:
    made, pid = freehold.get(make_one.options(resources=THERE).remote())
    assert freehold.get(made.all.remote()) == ["made by a task"]
    assert is_running(pid)
    del made
    ended(pid)


def test_an_actor_made_and_dropped_before_its_constructor_ran(clean: LocalCluster) -> None:
    for _ in range(20):
        Recorder.remote()
    gc.collect()
    eventually(lambda: not actors_alive(), timeout_s=20)


def test_destructors_and_atexit_run_when_the_last_handle_goes(
    clean: LocalCluster, tmp_path: Path
) -> None:
    @freehold.remote
    class Tidy:
        def __init__(self, folder: str) -> None:
            import atexit

            self.folder = folder
            atexit.register(lambda: Path(folder, "atexit").touch())

        def ping(self) -> int:
            return 1

        def __del__(self) -> None:
            Path(self.folder, "del").touch()

    actor = Tidy.remote(str(tmp_path))
    assert freehold.get(actor.ping.remote()) == 1
    del actor
    gc.collect()
    wait_for_file(str(tmp_path / "del"))
    wait_for_file(str(tmp_path / "atexit"))


@pytest.mark.parametrize("kind", ["plain", "threaded", "async"])
def test_one_whose_last_handle_goes_while_it_is_made_ends_in_order(
    clean: LocalCluster, tmp_path: Path, kind: str
) -> None:
    class Slow:
        def __init__(self, folder: str) -> None:
            import atexit

            atexit.register(lambda: Path(folder, "atexit").touch())
            Path(folder, "began").touch()
            wait_for_file(os.path.join(folder, "go"))

    class SlowAsync(Slow):
        async def ping(self) -> int:
            return 1

    made = freehold.remote(SlowAsync if kind == "async" else Slow)
    actor = made.options(max_concurrency=2 if kind == "threaded" else None).remote(str(tmp_path))
    wait_for_file(str(tmp_path / "began"))
    del actor
    gc.collect()
    eventually(lambda: actors_alive() == [], timeout_s=20)  # as the head sees it
    (tmp_path / "go").touch()
    wait_for_file(str(tmp_path / "atexit"))
