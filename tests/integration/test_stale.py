"""References and handles of a cluster that has ended: every call says so, and says the same.

Both ways of having ended: no cluster since, and another one since. On one node and on two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import start_cluster

import freehold
from freehold.exceptions import ActorHandleNotFoundError, StaleReferenceError

BIG = 500_000


@freehold.remote
def same(value: Any) -> Any:
    return value


@freehold.remote
class Counter:
    def get(self) -> int:
        return 1


async def awaited(ref: Any) -> Any:
    return await ref


OF_A_REFERENCE: dict[str, Callable[[Any], Any]] = {
    "get": lambda ref: freehold.get(ref, timeout=5),
    "get in a list": lambda ref: freehold.get([ref], timeout=5),
    "wait": lambda ref: freehold.wait([ref], timeout=5),
    "wait that only looks": lambda ref: freehold.wait([ref], timeout=0),
    "wait without fetching": lambda ref: freehold.wait([ref], timeout=5, fetch_local=False),
    "status": lambda ref: ref.status(),
    "future": lambda ref: ref.future(),
    "await": lambda ref: asyncio.run(awaited(ref)),
    "cancel": lambda ref: freehold.cancel(ref),
    "cancel by force": lambda ref: freehold.cancel(ref, force=True),
    "explain": lambda ref: freehold.explain(ref),
}
NEEDING_A_CLUSTER: dict[str, Callable[[Any], Any]] = {
    "argument": lambda ref: same.remote(ref),
    "inside an argument": lambda ref: same.remote([ref]),
    "inside a put": lambda ref: freehold.put([ref]),
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one-node", "two-nodes"])
def left(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Any, str]:
    """References (ready, failed, stored, pending) and a handle of a cluster that has ended."""
    with start_cluster(request.param, num_cpus=1):
        refs = {
            "put": freehold.put(1),
            "result": same.remote(2),
            "stored here": freehold.put(np.zeros(BIG)),
            "stored there": same.options(resources={"far": 1}).remote(np.zeros(BIG)),
            "pending": same.options(resources={"none": 1}).remote(1),
        }
        handle = Counter.remote()
        freehold.get([refs["result"], refs["stored there"], handle.get.remote()], timeout=30)
        name = freehold.get_runtime_context().get_job_id()
    return refs, handle, name


def check_all(
    left: tuple[dict[str, Any], Any, str], calls: dict[str, Callable[[Any], Any]], says: str
) -> None:
    refs, _, name = left
    wrong = []
    for call_name, call in calls.items():
        for ref_name, ref in refs.items():
            try:
                found = call(ref)
            except StaleReferenceError as error:
                good = error.cluster == name and error.object_id == ref.hex() and says in str(error)
                found = None if good else error
                if good:
                    continue
            except BaseException as error:
                found = error
            wrong.append((call_name, ref_name, found))
    assert wrong == []


def check_handle(left: tuple[dict[str, Any], Any, str]) -> None:
    _, handle, name = left
    for method in (handle.get, handle.get.options(num_returns=2)):
        with pytest.raises(StaleReferenceError) as caught:
            method.remote()
        assert caught.value.cluster == name
    with pytest.raises(ActorHandleNotFoundError, match=handle._actor_id.hex()) as of_kill:
        freehold.kill(handle)
    assert isinstance(of_kill.value, ValueError)


def test_without_a_cluster_every_call_says_that_the_reference_is_of_none(
    left: tuple[dict[str, Any], Any, str],
) -> None:
    check_all(left, OF_A_REFERENCE, says="which is gone (there is none now)")
    check_handle(left)
    assert not freehold.is_initialized()


def test_in_another_cluster_every_call_says_that_the_reference_is_of_an_earlier_one(
    left: tuple[dict[str, Any], Any, str],
) -> None:
    with start_cluster(1, num_cpus=1):
        now = freehold.get_runtime_context().get_job_id()
        check_all(left, OF_A_REFERENCE | NEEDING_A_CLUSTER, says=f"(this is {now})")
        check_handle(left)
        assert freehold.get(same.remote(3), timeout=20) == 3
