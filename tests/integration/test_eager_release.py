"""Arguments that a running task drops are let go of at once: the store has room for what follows.

The store holds one of two values: a task that drops the first and puts the second goes on only if
the first is freed while it runs. All of it on one node, and with the value on another node than its
caller. (No reference is made inside an `assert`: pytest keeps the parts of one.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster, store_is_empty

import freehold
from freehold.exceptions import ObjectStoreFullError, TaskError
from freehold.testing import LocalCluster

BIG = 50_000_000
ROOM = 80 << 20


@pytest.fixture(scope="module", params=[1, 2], ids=["one-node", "two-nodes"])
def small(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A store with room for one big value, but not for two."""
    nodes = request.param
    with start_cluster(nodes, object_store_memory=ROOM, full_timeout_s=2.0) as running:
        yield running
        store_is_empty()


pytestmark = pytest.mark.module_cluster


@freehold.remote(resources=FAR)
def make(path: str = "") -> Any:
    if path:
        with open(path, "ab", buffering=0) as file:
            file.write(b"x")
    return np.ones(BIG, dtype=np.uint8)


def another() -> int:
    """Put as much again: waits until there is room."""
    ref = freehold.put(np.full(BIG, 2, dtype=np.uint8))
    return int(freehold.get(ref)[-1])


@freehold.remote(resources=FAR)
def drops(x: Any) -> int:
    first = int(x[0])
    del x
    return first + another()


@freehold.remote(resources=FAR)
def keeps(x: Any) -> int:
    second = another()
    return int(x[0]) + second


def has_no_room(result: Any) -> bool:
    """Whether the task ends with the store's error. (`pytest.raises` would keep its frames.)"""
    try:
        freehold.get(result, timeout=30)
    except TaskError as error:
        return isinstance(error.cause, ObjectStoreFullError)
    return False


def test_a_dropped_argument_makes_room_while_the_task_runs(small: LocalCluster) -> None:
    """It can be made again, as the task that made it is kept."""
    found = freehold.get(drops.remote(make.remote()), timeout=30)
    assert found == 3


def test_a_kept_argument_does_not(small: LocalCluster) -> None:
    result = keeps.remote(make.remote())
    assert has_no_room(result)


def test_what_is_put_goes_if_the_task_has_no_retries(small: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    def put_there() -> list[Any]:
        return [freehold.put(np.ones(BIG, dtype=np.uint8))]

    (ref,) = freehold.get(put_there.remote(), timeout=30)
    result = drops.options(max_retries=0).remote(ref)
    del ref
    found = freehold.get(result, timeout=30)
    assert found == 3


def test_what_is_put_stays_while_the_task_may_be_retried(small: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    def put_there() -> list[Any]:
        return [freehold.put(np.ones(BIG, dtype=np.uint8))]

    (ref,) = freehold.get(put_there.remote(), timeout=30)
    result = drops.remote(ref)
    del ref
    assert has_no_room(result)


def test_who_else_holds_it_keeps_it(small: LocalCluster) -> None:
    ref = make.remote()
    result = drops.remote(ref)
    assert has_no_room(result)
    assert int(freehold.get(ref, timeout=30)[0]) == 1


def test_by_keyword_by_rebinding_and_the_last_view(small: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    def rebinds(_none: Any, *, x: Any, **others: Any) -> int:
        x = x[5:10]
        first = int(x[0])
        x = others
        return first + another()

    found = freehold.get(rebinds.remote(None, x=make.remote(), other=1), timeout=30)
    assert found == 3


def test_of_many_arguments_each_goes_by_itself(small: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    def part(value: int) -> Any:
        return np.full(BIG // 5, value, dtype=np.uint8)

    @freehold.remote(resources=FAR)
    def folds(*parts: Any) -> list[int]:
        left, found = list(parts), []
        del parts
        while left:
            first = int(left.pop(0)[0])
            found.append(first)
        return [*found, another()]

    result = folds.remote(*[part.remote(value) for value in range(5)])
    found = freehold.get(result, timeout=30)
    assert found == [0, 1, 2, 3, 4, 2]


def test_a_nested_reference_goes_when_it_is_dropped(small: LocalCluster) -> None:
    @freehold.remote(resources=FAR)
    def takes(box: dict[str, Any]) -> int:
        first = int(freehold.get(box["ref"])[0])
        del box["ref"]
        return first + another()

    found = freehold.get(takes.remote({"ref": make.remote()}), timeout=30)
    assert found == 3


def test_a_retry_finds_what_was_dropped(small: LocalCluster, tmp_path: Path) -> None:
    """The worker dies after the release: the argument is made again, and held from then on."""
    made, tried = str(tmp_path / "made"), str(tmp_path / "tried")

    @freehold.remote(resources=FAR, max_retries=3)
    def dies_twice(x: Any) -> int:
        with open(tried, "ab", buffering=0) as file:
            file.write(b"x")
        first = int(x[0])
        attempts = os.path.getsize(tried)
        if attempts == 1:
            del x
            another()  # so it was let go of
        if attempts < 3:
            os._exit(1)
        return first + attempts

    found = freehold.get(dies_twice.remote(make.remote(made)), timeout=60)
    assert found == 4
    assert os.path.getsize(made) == 2
    assert os.path.getsize(tried) == 3


def test_a_retried_exception_finds_it_too(small: LocalCluster, tmp_path: Path) -> None:
    tried = str(tmp_path / "tried")

    @freehold.remote(resources=FAR, max_retries=1, retry_exceptions=True)
    def raises_once(x: Any) -> int:
        first = int(x[0])
        del x
        first += another()
        if not os.path.exists(tried):
            with open(tried, "wb"):
                pass
            raise ValueError
        return first

    found = freehold.get(raises_once.remote(make.remote()), timeout=60)
    assert found == 3


def test_a_copied_value_is_not_held_at_all(small: LocalCluster) -> None:
    """A list has no views: it is copied out of the store, and the copy is the task's own."""

    @freehold.remote(resources=FAR)
    def words() -> list[bytes]:
        return [b"x" * 1000 for _ in range(40_000)]

    @freehold.remote(resources=FAR)
    def counts(given: list[bytes]) -> int:
        return len(given) + another()

    found = freehold.get(counts.remote(words.remote()), timeout=30)
    assert found == 40_002


def test_methods_of_actors_drop_arguments_too(small: LocalCluster) -> None:
    class Plain:
        def drops(self, x: Any) -> int:
            first = int(x[0])
            del x
            return first + another()

    class Async:
        async def drops(self, x: Any) -> int:
            await freehold.put(b"")
            first = int(x[0])
            del x
            return first + another()

    for cls, options in ((Plain, {}), (Plain, {"max_concurrency": 2}), (Async, {})):
        actor = freehold.remote(num_cpus=0, resources=FAR)(cls).options(**options).remote()
        found = freehold.get(actor.drops.remote(make.remote()), timeout=30)
    assert found == 3


def test_a_caller_that_borrows_lets_go_with_its_task(small: LocalCluster) -> None:
    """The value is the driver's; a task passes it on to one that drops it."""

    @freehold.remote(num_cpus=0, resources=FAR)
    def passes_on(box: list[Any]) -> int:
        result = drops.options(max_retries=0).remote(box.pop())
        return int(freehold.get(result))

    found = freehold.get(passes_on.remote([make.remote()]), timeout=30)
    assert found == 3
