"""What actors and methods can be asked for: returns, limits, resources; and what is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import THERE, Recorder, after_file, kill_process

import freehold
from freehold.exceptions import (
    ActorUnschedulableError,
    NotSupportedYetError,
    PendingCallsLimitExceeded,
)
from freehold.testing import LocalCluster, eventually
from freehold.util import ActorPool
from freehold.util.queue import Empty, Full, Queue

pytestmark = pytest.mark.module_cluster


@freehold.remote
class Returns:
    """Methods with any number of results."""

    @freehold.method(num_returns=2)
    def pair(self) -> tuple[int, int]:
        return 1, 2

    @freehold.method(num_returns=0)
    def nothing(self, path: str) -> None:
        Path(path).touch()

    def many(self, n: int) -> list[int]:
        return list(range(n))

    def short(self) -> list[int]:
        return [1]

    @freehold.method(num_returns="dynamic")
    def dynamic(self, n: int) -> Iterator[int]:
        yield from range(n)

    def generate(self) -> Iterator[int]:
        yield 1

    @freehold.method(name="renamed")
    def name(self) -> str | None:
        return freehold.get_runtime_context().get_task_name()

    def slow(self, path: str) -> str:
        eventually(Path(path).exists, timeout_s=30)
        return path

    def keywords(self, a: int, *rest: int, b: int = 2, **more: int) -> Any:
        return a, rest, b, more


@freehold.remote
class AsyncReturns:
    async def generate(self) -> AsyncIterator[int]:
        yield 1

    @freehold.method(num_returns="dynamic")
    async def dynamic(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @freehold.method(num_returns=3)
    async def three(self) -> tuple[str, str, str]:
        return "a", "b", "c"


# ---- results -----------------------------------------------------------------------------------


def test_num_returns(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Returns.options(resources=THERE).remote()
    first, second = actor.pair.remote()
    assert freehold.get([first, second]) == [1, 2]
    assert freehold.get(actor.many.options(num_returns=5).remote(5)) == [0, 1, 2, 3, 4]
    assert freehold.get(actor.many.options(num_returns=100).remote(100)) == list(range(100))
    assert actor.nothing.remote(str(tmp_path / "touched")) is None
    eventually((tmp_path / "touched").exists)
    for ref in actor.short.options(num_returns=2).remote():
        with pytest.raises(ValueError, match="num_returns=2 but returned 1"):
            freehold.get(ref)


def test_dynamic_returns(clean: LocalCluster) -> None:
    actor = Returns.options(resources=THERE).remote()
    assert [freehold.get(ref) for ref in freehold.get(actor.dynamic.remote(4))] == [0, 1, 2, 3]
    other = AsyncReturns.remote()
    assert [freehold.get(ref) for ref in freehold.get(other.dynamic.remote(3))] == [0, 1, 2]
    assert freehold.get(other.three.remote()) == ["a", "b", "c"]


def test_generators_without_dynamic_are_refused(clean: LocalCluster) -> None:
    actor, other = Returns.remote(), AsyncReturns.remote()
    for method in (actor.generate, other.generate):
        with pytest.raises(NotSupportedYetError, match="dynamic"):
            method.remote()
    assert len(list(freehold.get(actor.generate.options(num_returns="dynamic").remote()))) == 1


def test_method_options_and_arguments(clean: LocalCluster) -> None:
    actor = Returns.remote()
    assert freehold.get(actor.keywords.remote(1, 5, 6, b=3, c=4)) == (1, (5, 6), 3, {"c": 4})
    with pytest.raises(TypeError, match="keywords"):
        actor.keywords.remote()
    with pytest.raises(TypeError):
        actor.keywords()
    with pytest.raises(ValueError, match="num_return"):
        actor.keywords.options(num_return=3)


def test_a_timeout_of_a_coroutine(clean: LocalCluster) -> None:
    @freehold.remote
    class Sleeper:
        async def sleep(self, seconds: float) -> str:
            import asyncio

            await asyncio.sleep(seconds)
            return "slept"

    actor = Sleeper.remote()
    short = actor.sleep.options(timeout_s=0.2).remote(30)
    with pytest.raises(freehold.exceptions.TaskTimeoutError):
        freehold.get(short, timeout=3)  # not only when something else wakes the event loop
    assert freehold.get(actor.sleep.options(timeout_s=20).remote(0.01)) == "slept"


def test_a_coroutine_that_polls_times_out_in_time(clean: LocalCluster) -> None:
    """What it reads itself may be word of its own timer, which its event loop must hear of."""

    @freehold.remote
    class Poller:
        async def poll(self, other: list[Any]) -> str:
            import asyncio

            freehold.wait(other, timeout=0)
            await asyncio.sleep(30)
            return "slept"

        async def never(self) -> None:
            import asyncio

            await asyncio.sleep(60)

    actor = Poller.remote()
    pending = actor.never.remote()
    for _ in range(3):
        started_at = time.monotonic()
        with pytest.raises(freehold.exceptions.TaskTimeoutError):
            freehold.get(actor.poll.options(timeout_s=0.3).remote([pending]), timeout=10)
        assert time.monotonic() - started_at < 0.9
    freehold.kill(actor)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_timeout_of_a_plain_method(clean: LocalCluster, tmp_path: Path, threads: int) -> None:
    actor = Returns.options(max_concurrency=threads).remote()
    slow = actor.slow.options(timeout_s=0.2).remote(str(tmp_path / "gate"))
    with pytest.raises(freehold.exceptions.TaskTimeoutError):
        freehold.get(slow, timeout=10)
    assert freehold.get(actor.many.remote(2), timeout=10) == [0, 1]
    (tmp_path / "gate").touch()
    assert freehold.get(actor.slow.options(timeout_s=20).remote(str(tmp_path))) == str(tmp_path)


def test_unknown_methods_name_the_nearest(clean: LocalCluster) -> None:
    actor = Recorder.remote()
    with pytest.raises(AttributeError, match=r"no method 'ad'.*add"):
        actor.ad.remote(1)


def test_builtin_methods(clean: LocalCluster) -> None:
    actor = Recorder.remote("x")
    assert freehold.get(actor.__ray_ready__.remote()) is True
    assert freehold.get(actor.__ray_call__.remote(lambda self, n: self.seen * n, 2)) == ["x", "x"]


def test_unpicklable_arguments_and_results(clean: LocalCluster) -> None:
    actor = Recorder.remote()
    with pytest.raises(freehold.exceptions.SerializationError, match="lock"):
        actor.add.remote({"lock": threading.Lock()})
    with pytest.raises(Exception, match="lock"):
        freehold.get(actor.__ray_call__.remote(lambda self: threading.Lock()))
    assert freehold.get(actor.add.remote(1)) == 1


# ---- limits ------------------------------------------------------------------------------------


def test_max_pending_calls(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Returns.options(max_pending_calls=3, resources=THERE).remote()
    gate = str(tmp_path / "gate")
    refs = [actor.slow.remote(gate) for _ in range(3)]
    with pytest.raises(PendingCallsLimitExceeded, match="3"):
        actor.slow.remote(gate)
    Path(gate).touch()
    assert freehold.get(refs) == [gate] * 3
    assert freehold.get(actor.slow.remote(gate)) == gate


def test_max_pending_calls_holds_for_borrowed_handles(clean: LocalCluster, tmp_path: Path) -> None:
    @freehold.remote
    def overrun(actor: Any, gate: str) -> str:
        refs = []
        try:
            for _ in range(10):
                refs.append(actor.slow.remote(gate))
        except PendingCallsLimitExceeded:
            Path(gate).touch()
            return f"{len(freehold.get(refs))} calls"
        Path(gate).touch()
        return "no limit"

    actor = Returns.options(max_pending_calls=2).remote()
    assert freehold.get(overrun.remote(actor, str(tmp_path / "gate"))) == "2 calls"


# ---- constructors' arguments -------------------------------------------------------------------


def test_constructor_arguments_by_reference(clean: LocalCluster, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    pending = after_file.remote(gate, "late")
    actor = Recorder.options(resources=THERE).remote(pending)
    ref = actor.all.remote()
    ready, _ = freehold.wait([ref], timeout=0.2)
    assert ready == []
    Path(gate).touch()
    assert freehold.get(ref) == ["late"]
    nested = Recorder.options(resources=THERE).remote({"ref": freehold.put("inside")})
    inside = freehold.get(nested.all.remote())[0]["ref"]
    assert freehold.get(inside) == "inside"
    big = freehold.put(b"b" * 2_000_000)
    assert (
        len(freehold.get(Recorder.options(resources=THERE).remote(big).all.remote())[0])
        == 2_000_000
    )


def test_a_restart_has_its_constructor_arguments_again(clean: LocalCluster) -> None:
    big = freehold.put(b"b" * 2_000_000)
    actor = Recorder.options(max_restarts=1, resources=THERE).remote(big)
    pid = freehold.get(actor.pid.remote())
    del big
    kill_process(pid)
    eventually(lambda: is_back(actor))
    assert len(freehold.get(actor.all.remote())[0]) == 2_000_000


def is_back(actor: Any) -> bool:
    try:
        return bool(freehold.get(actor.was_restarted.remote(), timeout=20))
    except freehold.exceptions.ActorUnavailableError:
        return False


# ---- resources ---------------------------------------------------------------------------------


def test_actors_run_without_a_cpu_unless_they_ask(clean: LocalCluster) -> None:
    actors = [Recorder.remote() for _ in range(12)]  # more than there are CPUs
    assert freehold.get([actor.add.remote(1) for actor in actors], timeout=30) == [1] * 12
    total = freehold.cluster_resources()["CPU"]
    eventually(lambda: freehold.available_resources().get("CPU") == total)


def test_actors_that_ask_wait_for_their_turn(clean: LocalCluster) -> None:
    total = int(freehold.cluster_resources()["CPU"])
    actors = [Recorder.options(num_cpus=1).remote() for _ in range(total)]
    freehold.get([actor.add.remote(1) for actor in actors], timeout=30)
    eventually(lambda: not freehold.available_resources().get("CPU"))
    late = Recorder.options(num_cpus=1).remote()
    ref = late.add.remote(1)
    ready, _ = freehold.wait([ref], timeout=0.3)
    assert ready == []
    freehold.kill(actors.pop())
    assert freehold.get(ref, timeout=20) == 1


def test_assigned_resources(clean: LocalCluster) -> None:
    actor = Recorder.options(num_cpus=0.5, resources=THERE).remote()
    found = freehold.get(
        actor.__ray_call__.remote(
            lambda self: freehold.get_runtime_context().get_assigned_resources()
        )
    )
    assert found == {"CPU": 0.5, "there": 0.01}


def test_an_infeasible_actor_says_what_is_lacking(clean: LocalCluster) -> None:
    actor = Recorder.options(num_cpus=1000).remote()
    with pytest.raises(ActorUnschedulableError, match="CPU: 1000 needed") as caught:
        freehold.get(actor.add.remote(1), timeout=20)
    assert caught.value.actor_id == actor._actor_id.hex()
    with pytest.raises(ActorUnschedulableError, match=r"actor Recorder .* is infeasible"):
        freehold.get(actor.add.remote(2), timeout=20)  # a call made after it is known, too
    odd = Recorder.options(resources={"moonstone": 1}).remote()
    with pytest.raises(ActorUnschedulableError, match="moonstone"):
        freehold.get(odd.add.remote(1), timeout=20)


def test_a_call_of_an_actor_that_waits_for_room_explains_what_each_node_lacks(
    clean: LocalCluster,
) -> None:
    holder = Recorder.options(resources={"there": 60}).remote()
    freehold.get(holder.add.remote(1), timeout=20)
    waiting = Recorder.options(resources={"there": 60}, name="waits").remote()
    ref = waiting.add.remote(1)
    behind = waiting.add.remote(2)
    by_name = freehold.get_actor("waits").add.remote(3)
    for call in (ref, behind, by_name):
        said = eventually(lambda call=call: _lacking(freehold.explain(call)), timeout_s=20)  # type: ignore[misc]
        assert "lacks there (needs 60, has 40 free of 100)" in said
        assert "is pending" in said
        assert len([line for line in said.splitlines() if line.startswith("node ")]) == len(
            [node for node in freehold.nodes() if node["Alive"]]
        )
    assert "waits here behind 1 calls" in freehold.explain(behind)
    assert "actor Recorder" in freehold.explain(ref)
    freehold.kill(holder)
    assert freehold.get(ref, timeout=20) == 1


def _lacking(said: str) -> str:
    return said if "has 40 free of 100" in said else ""


def test_a_call_of_a_living_actor_explains_whether_it_runs_or_waits(
    clean: LocalCluster, tmp_path: Path
) -> None:
    actor = Recorder.remote()
    freehold.get(actor.add.remote(1), timeout=20)
    go = tmp_path / "go"
    first = actor.wait_for_file.remote(str(go))
    second = actor.add.remote(2)
    third = actor.add.options(name="third").remote(3)
    late = actor.add.remote(first)
    assert "Recorder.wait_for_file was sent to actor Recorder" in freehold.explain(first)
    assert "runs there" in freehold.explain(first)
    assert "waits there behind 1 calls" in freehold.explain(second)
    assert "its call third" in freehold.explain(third)
    assert "waits there behind 2 calls" in freehold.explain(third)
    assert "waits for 1 arguments" in freehold.explain(late)
    go.touch()
    freehold.get([first, second, third, late], timeout=20)
    assert freehold.explain(third).endswith("is ready")


# ---- util --------------------------------------------------------------------------------------


def test_actor_pool(clean: LocalCluster) -> None:
    pool = ActorPool([Recorder.remote(), Recorder.options(resources=THERE).remote()])
    results = list(pool.map(lambda actor, x: actor.add.remote(x), range(20)))
    assert sum(results) >= 20
    unordered = list(pool.map_unordered(lambda actor, x: actor.add.remote(x), range(20)))
    assert len(unordered) == 20


def test_queue(clean: LocalCluster) -> None:
    queue = Queue(maxsize=2)

    @freehold.remote
    def produce(queue: Any, count: int) -> None:
        for i in range(count):
            queue.put(i)

    produced = produce.options(resources=THERE).remote(queue, 10)
    assert [queue.get(timeout=20) for _ in range(10)] == list(range(10))
    freehold.get(produced)
    with pytest.raises(Empty):
        queue.get(block=False)
    queue.put(1)
    queue.put(2)
    with pytest.raises(Full):
        queue.put(3, block=False)
    with pytest.raises(Full):
        queue.put(3, timeout=0.1)
    queue.shutdown()


def test_an_actor_makes_another_of_its_own_class() -> None:
    """A class that travels by value, and in it, by way of a method, itself as an actor class."""

    @freehold.remote(num_cpus=0)
    class Branch:
        def __init__(self, depth: int, *, leaf: str = "") -> None:
            self.depth, self.leaf = depth, leaf

        def height(self) -> int:
            if not self.depth:
                return len(self.leaf)
            below = Branch.remote(self.depth - 1, leaf=self.leaf)
            return 1 + int(freehold.get(below.height.remote(), timeout=30))

    assert freehold.get(Branch.remote(2, leaf="x").height.remote(), timeout=30) == 3
