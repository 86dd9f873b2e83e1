"""What a task is called: in its context, in errors, in lists; and what its errors are."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.integration.conftest import FAR, NEAR, PLACES

import freehold
from freehold._core.limits import TASK_EVENTS
from freehold.exceptions import (
    DeserializationError,
    PendingLimitError,
    TaskCancelledError,
    TaskError,
)
from freehold.testing import eventually
from freehold.util.state import list_tasks

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]


def names_here() -> tuple[str | None, str | None]:
    context = freehold.get_runtime_context()
    return context.get_task_name(), context.get_task_function_name()


@freehold.remote
def names() -> Any:
    return names_here()


@freehold.remote
def sleep_long() -> None:
    eventually(lambda: False, timeout_s=60)


@freehold.remote
def raise_it(make: Any, *args: Any) -> None:
    raise make(*args)


@freehold.remote
class Named:
    @freehold.method(name="declared")
    def declared(self) -> Any:
        return names_here()

    def plain(self) -> Any:
        return names_here()

    def fail(self) -> None:
        raise KeyError("no")

    async def long(self) -> None:
        await asyncio.Event().wait()


@freehold.remote
class InTurn:
    """Runs one call after the other."""

    def wait_for(self, path: str) -> None:
        eventually(lambda: os.path.exists(path), timeout_s=50)

    def plain(self, _needed: Any = None) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Unreadable:
    """Pickles, and raises when it is unpickled."""

    def __init__(self, size: int = 0) -> None:
        self.padding = np.zeros(size)

    def __reduce__(self) -> Any:
        return read, (self.padding,)


def read(_padding: Any) -> None:
    raise ImportError("no module named neverland")


# ---- names ---------------------------------------------------------------------------------------


def test_a_task_knows_its_name_and_its_functions() -> None:
    assert freehold.get(names.remote(), timeout=20) == ("names", "names")
    assert freehold.get(names.options(name="nick").remote(), timeout=20) == ("nick", "names")


@pytest.mark.parametrize("place", PLACES)
def test_a_method_call_has_the_name_that_was_asked_for(place: Any) -> None:
    actor = Named.options(resources=place).remote()
    calls = [actor.plain, actor.plain.options(name="opt"), actor.declared]
    found = freehold.get([call.remote() for call in calls], timeout=20)
    assert found == [
        ("Named.plain", "Named.plain"),
        ("opt", "Named.plain"),
        ("declared", "Named.declared"),
    ]
    listed = [record["name"] for record in list_tasks(limit=1000)]
    assert {"Named.plain", "opt", "declared"} <= set(listed)
    with pytest.raises(KeyError, match="task mybad") as caught:
        freehold.get(actor.fail.options(name="mybad").remote(), timeout=20)
    assert isinstance(caught.value, TaskError)
    assert caught.value.task_name == "mybad"


def test_job_id_is_that_of_the_driver_everywhere() -> None:
    here = freehold.get_runtime_context().get_job_id()

    @freehold.remote
    def there() -> str:
        return freehold.get_runtime_context().get_job_id()

    ids = [there.options(resources=place).remote() for place in (NEAR, FAR)]
    assert freehold.get(ids, timeout=20) == [here, here]


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_cancelled_task_that_was_pending_says_its_name() -> None:
    never = sleep_long.options(resources=NEAR, num_cpus=4, max_retries=0)
    running = never.remote()
    line = [never.remote(), never.options(name="nick").remote()]
    for ref, name in zip(line, ("sleep_long", "nick"), strict=True):
        freehold.cancel(ref)
        with pytest.raises(TaskCancelledError, match=f"task {name} .{ref.task_id().hex()}"):
            freehold.get(ref, timeout=20)
    freehold.cancel(running, force=True)


def test_a_cancelled_call_that_was_pending_says_its_name(tmp_path: Path) -> None:
    go = tmp_path / "go"
    made = InTurn.remote()
    running = made.wait_for.remote(str(go))
    waiting = [made.plain.remote(), made.plain.options(name="nick").remote()]
    held_up = made.plain.remote(running)  # not sent before its argument is there
    freehold.wait([names.remote()], timeout=20)
    for ref, name in zip(
        [*waiting, held_up], ("InTurn.plain", "nick", "InTurn.plain"), strict=True
    ):
        freehold.cancel(ref)
        with pytest.raises(TaskCancelledError, match=f"task {name} "):
            freehold.get(ref, timeout=20)
    go.touch()
    freehold.get(running, timeout=20)


def test_force_is_refused_for_the_call_of_an_actor() -> None:
    actor = Named.remote()
    running = actor.long.remote()
    with pytest.raises(ValueError, match=r"end the actor that runs Named\.long"):
        freehold.cancel(running, force=True)
    assert freehold.get(actor.plain.remote(), timeout=20)[0] == "Named.plain"  # it lives
    freehold.cancel(running)
    with pytest.raises(TaskCancelledError):
        freehold.get(running, timeout=20)


# ---- errors --------------------------------------------------------------------------------------


def test_a_memory_error_is_caught_as_one() -> None:
    with pytest.raises(MemoryError) as caught:
        freehold.get(raise_it.options(max_retries=0).remote(MemoryError, "full"), timeout=20)
    assert isinstance(caught.value, TaskError)
    assert caught.value.args == ("full",)


def test_an_error_that_refuses_attributes_is_caught_by_its_own_class() -> None:
    with pytest.raises(Frozen) as caught:
        freehold.get(raise_it.options(max_retries=0).remote(Frozen, 3), timeout=20)
    assert isinstance(caught.value, TaskError)
    assert caught.value.code == 3


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [0, 500_000], ids=["inline", "stored"])
def test_a_result_that_cannot_be_unpickled_says_whose_it_is(size: int, place: Any) -> None:
    @freehold.remote
    def make() -> Any:
        return Unreadable(size)

    ref = make.options(resources=place).remote()
    with pytest.raises(DeserializationError, match=r"neverland.*import here") as caught:
        freehold.get(ref, timeout=20)
    assert isinstance(caught.value.__cause__, ImportError)
    assert caught.value.object_id == ref.hex()
    assert ref.task_id().hex() in str(caught.value)
    [first, second] = freehold.get([ref, freehold.put(2)], timeout=20, return_exceptions=True)
    assert isinstance(first, DeserializationError)
    assert second == 2
    with pytest.raises(DeserializationError):
        ref.future().result(timeout=20)
    assert ref.status() == "ready"  # the task itself ended well


def test_a_full_line_of_arguments_on_an_event_loop_says_so_readably() -> None:
    from freehold._api import state

    core: Any = state.core
    before, core.pending_limit_bytes = core.pending_limit_bytes, 0
    try:

        async def submit() -> None:
            held = sleep_long.options(resources=NEAR, num_cpus=4)
            refs = [held.remote()]
            try:
                refs.append(raise_it.options(num_cpus=4).remote(KeyError, "x" * 1000))
                names.remote()
            finally:
                for ref in refs:
                    freehold.cancel(ref, force=True)

        with pytest.raises(PendingLimitError, match=r"event loop must not wait.*await") as caught:
            asyncio.run(submit())
    finally:
        core.pending_limit_bytes = before
    assert caught.value.is_on_event_loop
    assert "e-0" not in str(caught.value)


# ---- the ring of task events ---------------------------------------------------------------------


def test_events_of_a_process_are_bounded_and_the_last_ones_stay() -> None:
    counter = Named.remote()
    more = TASK_EVENTS + 50
    calls = [counter.plain.options(name=f"bounded-{i}").remote() for i in range(more)]
    freehold.get(calls, timeout=50)
    found = [r["name"] for r in list_tasks(limit=1 << 31) if r["name"].startswith("bounded-")]
    assert len(found) == TASK_EVENTS
    assert found[-1] == f"bounded-{more - 1}"
    assert "bounded-0" not in found
