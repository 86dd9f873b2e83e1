"""ActorPool, Queue and the small helpers, over a core that runs calls at once."""

# mypy does not see what a class decorator returns.
# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import pytest
from tests.unit.api.fake_core import FakeCore

import freehold
from freehold.errors import NotSupportedYetError
from freehold.util import ActorPool, as_completed, map_unordered
from freehold.util.placement_group import (
    PlacementGroup,
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from freehold.util.queue import Empty, Full, Queue, _QueueActor


@freehold.remote
class Doubler:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def double(self, x: int) -> int:
        self.seen.append(x)
        if x < 0:
            raise ValueError("negative")
        return 2 * x


def double(actor: Any, x: int) -> Any:
    return actor.double.remote(x)


@pytest.fixture
def pool(core: FakeCore) -> ActorPool:
    return ActorPool([Doubler.remote(), Doubler.remote()])


def test_pool_maps_in_order_and_uses_all_its_actors(core: FakeCore, pool: ActorPool) -> None:
    assert list(pool.map(double, range(5))) == [0, 2, 4, 6, 8]
    assert sorted(pool.map_unordered(double, range(5))) == [0, 2, 4, 6, 8]
    assert all(instance.seen for instance in core.actors.values())


def test_pool_gives_waiting_calls_to_actors_that_are_done(pool: ActorPool) -> None:
    for x in range(3):
        pool.submit(double, x)
    assert not pool.has_free()
    assert pool.pop_idle() is None
    assert [pool.get_next(), pool.get_next_unordered(), pool.get_next()] == [0, 2, 4]
    assert not pool.has_next()
    assert pool.has_free()
    with pytest.raises(StopIteration):
        pool.get_next()


def test_pool_goes_on_after_a_call_that_raised(pool: ActorPool) -> None:
    for x in (-1, 1):
        pool.submit(double, x)
    with pytest.raises(ValueError, match="negative"):
        pool.get_next()
    assert pool.get_next() == 2
    pool.submit(double, -1)
    assert list(pool.map(double, [4])) == [8]


def test_pool_times_out(core: FakeCore, pool: ActorPool) -> None:
    pool.submit(lambda actor, x: core.pending(), 0)
    with pytest.raises(TimeoutError, match="not ready after 0"):
        pool.get_next(timeout=0)
    with pytest.raises(TimeoutError, match="no result"):
        pool.get_next_unordered(timeout=0)
    assert pool.has_next()
    assert pool.get_next(timeout=0, ignore_if_timedout=True) is None
    assert not pool.has_next()


def test_pool_takes_and_gives_actors(pool: ActorPool) -> None:
    actor = pool.pop_idle()
    assert pool.pop_idle() is not None
    assert pool.pop_idle() is None
    pool.submit(double, 4)
    assert not pool.has_next()
    pool.push(actor)
    assert pool.get_next() == 8
    with pytest.raises(ValueError, match="in the pool already"):
        pool.push(actor)


def test_as_completed_and_map_unordered(core: FakeCore) -> None:
    square = freehold.remote(lambda x: x * x)
    refs = [square.remote(x) for x in range(25)]
    assert sorted(as_completed(refs)) == [x * x for x in range(25)]
    assert list(as_completed(refs[:1], yield_obj_refs=True)) == refs[:1]
    assert list(map_unordered(square, range(25), backpressure_size=10)) == [
        x * x for x in range(25)
    ]
    with pytest.raises(ValueError, match="at least chunk_size"):
        list(map_unordered(square, [1], backpressure_size=5))
    with pytest.raises(ValueError, match="chunk_size must be"):
        list(as_completed(refs, chunk_size=0))
    with pytest.raises(TypeError, match="must be a remote function"):
        list(map_unordered(len, [1]))


def test_map_unordered_takes_items_as_it_goes(core: FakeCore) -> None:
    taken = []

    def items() -> Any:
        for x in range(100):
            taken.append(x)
            yield x

    results = map_unordered(
        freehold.remote(lambda x: x), items(), backpressure_size=3, chunk_size=1
    )
    assert next(results) == 0
    assert len(taken) <= 4


def test_queue_actor_keeps_order_and_limits() -> None:
    async def main() -> None:
        queue = _QueueActor(2)
        await queue.put(1, None)
        await queue.put_nowait_batch([2])
        with pytest.raises(Full, match="there is room for 0"):
            await queue.put_nowait_batch([3])
        with pytest.raises(Full, match="no room after"):
            await queue.put(3, 0.01)
        assert await queue.qsize() == 2
        assert [await queue.get(None), *await queue.get_nowait_batch(1)] == [1, 2]
        with pytest.raises(Empty, match="1 items were asked for; there are 0"):
            await queue.get_nowait_batch(1)
        with pytest.raises(Empty, match="no item after"):
            await queue.get(0.01)

    asyncio.run(main())


def test_queue_gives_up_no_item_to_a_caller_that_timed_out() -> None:
    async def main() -> None:
        queue = _QueueActor(0)
        with pytest.raises(Empty):
            await queue.get(0.01)
        await queue.put("kept", None)
        assert await queue.get(1) == "kept"

    asyncio.run(main())


def test_queue_makes_its_actor_with_the_options(core: FakeCore) -> None:
    queue = Queue(maxsize=3, actor_options={"name": "q"})
    assert (core.actor_options().name, core.actor_options().is_async) == ("q", True)
    with pytest.raises(ValueError, match="timeout must be"):
        queue.get(timeout=-1)
    with pytest.raises(ValueError, match="num_items must be"):
        queue.get_nowait_batch(-1)
    with pytest.raises(TypeError, match="not the string"):
        queue.put_nowait_batch("ab")
    queue.shutdown()
    assert core.calls[-1][0] != "kill"
    queue.shutdown(force=True)
    assert core.calls[-1] == ("kill", queue.actor._ref, True)


def test_placement_groups_are_not_supported_yet() -> None:
    for call in (
        lambda: placement_group([{"CPU": 1}]),
        lambda: get_placement_group("x"),
        lambda: remove_placement_group(None),
        lambda: placement_group_table(object()),
        lambda: PlacementGroup("x"),
    ):
        with pytest.raises(NotSupportedYetError, match="ask for resources"):
            call()
    assert get_current_placement_group() is None
    assert placement_group_table() == {}


def test_inspect_serializability_is_there() -> None:
    said = io.StringIO()
    ok, failures = freehold.util.inspect_serializability({"a": threading.Lock()}, print_file=said)
    assert (ok, len(failures)) == (False, 1)
    assert "cannot be pickled" in said.getvalue()
    assert freehold.util.check_serialize.FailureTuple.__name__ == "FailureTuple"
