"""References inside values travel in a list beside the blob."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from freehold._io.references import active, nested_reference
from freehold._io.serialization import (
    Parts,
    dumps,
    dumps_function,
    loads,
    reduce_reference,
    register_reference_type,
)
from freehold.errors import ProtocolError, SerializationError, TaskError


class Ref:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return reduce_reference(self)


class Handle(Ref):
    pass


class Unregistered:
    def __reduce__(self) -> Any:
        return reduce_reference(self)


pinned: list[str] = []


def pin(ref: Ref) -> Any:
    pinned.append(ref.name)
    return Ref, (ref.name,)


register_reference_type(Ref, pin)


def through(value: Any) -> tuple[Any, list[Any] | None]:
    blob, nested = dumps(value)
    return loads(blob.join() if isinstance(blob, Parts) else blob, nested), nested


def test_references_come_back_as_the_objects_of_the_list() -> None:
    a, b = Ref("a"), Handle("b")
    blob, nested = dumps({"x": [a, b], "y": (a, 5)})
    assert nested == [a, b]
    assert isinstance(blob, bytes)
    assert b"Ref" not in blob
    theirs = ["first", "second"]
    assert loads(blob, theirs) == {"x": ["first", "second"], "y": ("first", 5)}


def test_a_reference_that_is_the_whole_value() -> None:
    ref = Ref("a")
    back, nested = through(ref)
    assert back is ref
    assert nested == [ref]


def test_references_beside_large_buffers() -> None:
    ref, array = Ref("a"), np.arange(5000)
    (one, two, three), nested = through((array, ref, array + 1))
    assert (two, nested) == (ref, [ref])
    assert np.array_equal(one, array)
    assert np.array_equal(three, array + 1)
    assert not one.flags.writeable


def test_references_are_listed_once_when_cloudpickle_takes_over() -> None:
    ref = Ref("a")
    function, nested = through((ref, lambda: ref))
    assert nested == [ref]
    assert function[0] is function[1]() is ref
    _, nested = through((ref, "__main__", np.ones(4096)))
    assert nested == [ref]


def test_references_captured_by_a_function() -> None:
    ref = Ref("a")

    def use() -> Ref:
        return ref

    blob, nested = dumps_function(use)
    assert nested == [ref]
    assert loads(blob, ["theirs"])() == "theirs"


def test_values_without_references_have_no_list() -> None:
    assert dumps([1, 2])[1] is None
    assert dumps_function(lambda: 1)[1] is None


def test_ten_thousand_references_keep_their_order() -> None:
    refs = [Ref(str(n)) for n in range(10_000)]
    back, nested = through(refs)
    assert nested == refs
    assert back == refs


def test_pickled_outside_a_call_the_hook_of_its_class_or_base_is_asked() -> None:
    pinned.clear()
    assert pickle.loads(pickle.dumps([Ref("x"), Handle("y")]))[0].name == "x"
    assert copy.copy(Ref("z")).name == "z"
    assert pinned == ["x", "y", "z"]
    with pytest.raises(TypeError, match="not registered"):
        pickle.dumps(Unregistered())


def test_neither_a_call_nor_a_failed_one_is_pickled_outside() -> None:
    pinned.clear()
    through(Ref("x"))
    with pytest.raises(SerializationError):
        dumps([Ref("y"), threading.Lock()])
    assert pinned == []
    assert active.collected is None


def test_threads_do_not_see_each_others_lists() -> None:
    inside, go_on = threading.Event(), threading.Event()
    results: list[Any] = []

    class Slow:
        def __reduce__(self) -> Any:
            inside.set()
            assert go_on.wait(10)
            return str, ()

    thread = threading.Thread(target=lambda: results.append(dumps([Ref("slow"), Slow()])[1]))
    thread.start()
    assert inside.wait(10)
    assert dumps(Ref("mine"))[1] is not None
    assert active.collected is None
    pickle.dumps(Ref("outside"))
    go_on.set()
    thread.join(10)
    assert [ref.name for ref in results[0]] == ["slow"]


def test_a_dump_within_a_dump_has_its_own_list() -> None:
    inner_lists: list[Any] = []

    class Outer:
        def __reduce__(self) -> Any:
            inner_lists.append(dumps([Ref("inner")])[1])
            return str, ()

    _, nested = dumps([Ref("before"), Outer(), Ref("after")])
    assert nested is not None
    assert [ref.name for ref in nested] == ["before", "after"]
    assert [ref.name for ref in inner_lists[-1]] == ["inner"]


def test_references_inside_the_cause_of_a_task_error() -> None:
    ref = Ref("a")
    error, nested = through([TaskError(cause=ValueError("v", ref), cause_text="…")])
    assert nested is not None
    assert ref in nested
    assert error[0].cause.args == ("v", ref)


def test_a_blob_without_its_list_is_refused() -> None:
    blob, _ = dumps([Ref("a")])
    assert isinstance(blob, bytes)
    with pytest.raises(ProtocolError, match="nested reference 0"):
        loads(blob)
    with pytest.raises(ProtocolError, match="nested reference 3"):
        nested_reference(3)
