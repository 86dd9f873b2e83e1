"""put, get, wait, cancel and explain: what they are given, and what they say to the wrong thing."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.api.fake_core import FakeCore

import freehold
from freehold._api import state
from freehold.errors import NotSupportedYetError, StaleReferenceError


@freehold.remote(max_retries=0)
def fail() -> None:
    raise KeyError("no")


@freehold.remote
def one() -> int:
    return 1


def test_get_of_one_and_of_many(core: FakeCore) -> None:
    ref = freehold.put({"a": 1})
    assert freehold.get(ref) == {"a": 1}
    assert freehold.get([ref, ref], timeout=3) == [{"a": 1}] * 2
    assert core.last("get") == ("get", 2, 3)
    assert freehold.get((ref,)) == [{"a": 1}]
    assert freehold.get([]) == []


def test_get_can_return_exceptions(core: FakeCore) -> None:
    with pytest.raises(KeyError):
        freehold.get(fail.remote())
    error, value = freehold.get([fail.remote(), one.remote()], return_exceptions=True)
    assert (type(error), value) == (KeyError, 1)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (1, "get takes an ObjectRef or a list of them, not int 1"),
        ("ref", "not str 'ref'"),
        (None, "not NoneType None"),
        ({"a": 1}, r"not dict .*; use get\(list\(….values\(\)\)\)"),
        ({1}, r"not set .*; use get\(list\(…\)\)"),
        (iter([1]), r"use get\(list\(…\)\)"),
        (one, r"not RemoteFunction .*; call \.remote\(…\) first"),
        ([1], "get takes ObjectRefs; item 0 of the list is int 1"),
    ],
)
def test_get_of_something_else(core: FakeCore, given: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        freehold.get(given)


def test_item_that_is_no_reference_is_named(core: FakeCore) -> None:
    with pytest.raises(TypeError, match="item 1 of the list is list"):
        freehold.get([freehold.put(1), [freehold.put(2)]])  # type: ignore[arg-type]


@pytest.mark.parametrize("call", [freehold.get, freehold.wait])
def test_bad_timeouts(core: FakeCore, call: Any) -> None:
    refs = [freehold.put(1)]
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="must be 0 or more seconds, or None; not"):
            call(refs, timeout=timeout)
    for wrong in ("1", True):
        with pytest.raises(TypeError, match="must be seconds or None"):
            call(refs, timeout=wrong)
    call(refs, timeout=0)


def test_put_of_a_reference_is_refused(core: FakeCore) -> None:
    with pytest.raises(TypeError, match="is a reference already"):
        freehold.put(freehold.put(1))
    with pytest.raises(NotSupportedYetError, match="owner"):
        freehold.put(1, owner=object())


def test_wait_tells_ready_from_pending(core: FakeCore) -> None:
    refs = [core.pending(), one.remote(), fail.remote()]
    ready, pending = freehold.wait(refs, num_returns=2, timeout=0, fetch_local=False)
    assert (ready, pending) == (refs[1:], refs[:1])
    assert core.last("wait") == ("wait", 2, 0, False)
    assert freehold.wait(refs) == ([refs[1]], [refs[0], refs[2]])


def test_wait_tells_succeeded_from_failed(core: FakeCore) -> None:
    refs = [fail.remote(), one.remote(), core.pending()]
    found = freehold.wait(refs, num_returns=3, timeout=0, separate_failures=True)
    assert found == ([refs[1]], [refs[0]], [refs[2]])
    assert freehold.wait([], separate_failures=True) == ([], [], [])
    assert [ref.status() for ref in refs] == ["failed", "ready", "pending"]


def test_outputs_of_one_task_are_different_references(core: FakeCore) -> None:
    first, second = freehold.remote(num_returns=2)(lambda: (1, 2)).remote()
    assert freehold.wait([first, second], num_returns=2) == ([first, second], [])


def test_wait_checks_what_it_is_given(core: FakeCore) -> None:
    ref, other = freehold.put(1), freehold.put(2)
    with pytest.raises(TypeError, match=r"a list of references, not one: use wait\(\[ObjectRef"):
        freehold.wait(ref)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="twice; give each reference once"):
        freehold.wait([other, ref, ref])
    for count in (0, 3):
        with pytest.raises(
            ValueError, match=rf"from 1 to 2, the number of references; not {count}"
        ):
            freehold.wait([ref, other], num_returns=count)
    with pytest.raises(TypeError, match="num_returns must be an int"):
        freehold.wait([ref], num_returns=1.0)  # type: ignore[arg-type]


def test_cancel_and_explain(core: FakeCore) -> None:
    ref = one.remote()
    freehold.cancel(ref, force=True, recursive=False)
    assert core.calls[-1] == ("cancel", ref, True, False)
    assert freehold.explain(ref) == f"object {ref.hex()} is ready"
    with pytest.raises(TypeError, match="cancel takes a reference, not int 1; kill ends actors"):
        freehold.cancel(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="explain takes a reference"):
        freehold.explain([ref])  # type: ignore[arg-type]


def test_reference_without_a_cluster_is_stale(core: FakeCore) -> None:
    ref = freehold.put(1)
    state.set_core(None)
    for call in (
        lambda: freehold.get(ref),
        lambda: freehold.get([ref]),
        lambda: freehold.wait([ref]),
        lambda: freehold.cancel(ref),
        lambda: freehold.explain(ref),
    ):
        with pytest.raises(StaleReferenceError, match=r"of cluster fake-cluster, .*there is none"):
            call()
    assert freehold.get([]) == []
