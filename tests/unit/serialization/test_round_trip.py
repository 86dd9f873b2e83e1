"""What goes in comes out: plain values, containers, functions, and bytes that are not a blob."""

from __future__ import annotations

import collections
import datetime as dt
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold._io import serialization
from freehold._io.references import active
from freehold._io.serialization import (
    ALIGNMENT_BYTES,
    BARE_BYTES_OUT_OF_BAND_BYTES,
    OUT_OF_BAND_BYTES,
    Parts,
    dumps,
    dumps_function,
    loads,
)
from freehold.errors import ProtocolError


@pytest.fixture(autouse=True)
def nothing_left_active() -> Iterator[None]:
    yield
    assert (active.collected, active.buffers, active.nested) == (None, None, None)


def joined(value: Any) -> bytes:
    blob, nested = dumps(value)
    assert nested is None
    return blob.join() if isinstance(blob, Parts) else blob


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = st.recursive(
    leaves | st.binary(min_size=5000, max_size=5001) | st.just("__main__"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=60)
@given(values)
def test_plain_values_come_back_equal_from_bytes_and_from_views(value: Any) -> None:
    blob = joined(value)
    assert loads(blob) == value
    assert loads(memoryview(blob)) == value


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3 * OUT_OF_BAND_BYTES), max_size=6))
def test_containers_keep_every_buffer_aligned_and_whole(sizes: list[int]) -> None:
    arrays = [np.arange(size, dtype=np.uint8) for size in sizes]
    blob, _ = dumps(arrays)
    large = [array for array in arrays if array.nbytes >= OUT_OF_BAND_BYTES]
    if not large:
        assert isinstance(blob, bytes)
        return
    assert isinstance(blob, Parts)
    whole = blob.join()
    assert len(whole) == blob.size == len(blob)
    assert whole == b"".join(bytes(piece) for piece in blob.pieces())
    _, buffers = serialization.open_container(whole)
    assert [len(view) for view in buffers] == [array.nbytes for array in large]
    back = loads(whole)
    for array, again in zip(arrays, back, strict=True):
        assert np.array_equal(array, again)
    start = np.frombuffer(whole, np.uint8).ctypes.data
    for array in back:
        if array.nbytes >= OUT_OF_BAND_BYTES:
            assert (array.ctypes.data - start) % ALIGNMENT_BYTES == 0


def test_none_is_no_bytes() -> None:
    assert dumps(None) == (b"", None)
    assert loads(b"") is None
    assert loads(memoryview(b"")) is None


def test_a_small_value_is_one_plain_pickle() -> None:
    value = {"a": [1, 2.5, (None, "x")]}
    assert dumps(value) == (pickle.dumps(value, 5), None)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_read_only_views_of_the_blob(order: Any) -> None:
    array = np.asarray(np.random.default_rng(1).random((64, 64)), order=order)
    blob = joined({"x": array})
    back = loads(blob)["x"]
    assert np.array_equal(back, array)
    assert np.shares_memory(back, np.frombuffer(blob, np.uint8))
    assert not back.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1.0
    assert back.flags[f"{order}_CONTIGUOUS"]


def test_a_writable_store_does_not_make_arrays_writable() -> None:
    store = bytearray(joined(np.ones(4096)))
    assert not loads(memoryview(store)).flags.writeable


def test_an_array_keeps_the_exporter_of_its_memory_alive() -> None:
    class Exporter(bytearray):
        pass

    store = Exporter(joined(np.ones(4096)))
    gone = weakref.ref(store)
    array = loads(memoryview(store))
    del store
    assert gone() is not None
    assert array.sum() == 4096
    del array
    assert gone() is None


def test_slices_and_non_contiguous_arrays_come_back() -> None:
    array = np.arange(20_000).reshape(100, 200)[::2, ::3]
    assert np.array_equal(loads(joined(array)), array)


def test_arrow_tables_are_views_of_the_blob() -> None:
    table = pa.table({"n": list(range(5000)), "s": ["x" * (i % 7) for i in range(5000)]})
    blob = joined(table)
    assert blob[0] == serialization.CONTAINER_FIRST_BYTE
    assert loads(blob).equals(table)


@pytest.mark.parametrize("cls", [bytes, bytearray])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_large_bytes_travel_without_being_pickled(cls: Any, extra: int) -> None:
    value = cls(os.urandom(BARE_BYTES_OUT_OF_BAND_BYTES + extra))
    blob, _ = dumps(value)
    assert isinstance(blob, Parts) == (extra >= 0)
    back = loads(joined(value))
    assert type(back) is cls
    assert back == value
    if isinstance(blob, Parts):
        assert blob.buffers[0].obj is value  # not a copy


def test_parts_can_be_written_by_pwritev_at_an_offset() -> None:
    blob, _ = dumps([np.arange(5000), np.arange(700)])
    assert isinstance(blob, Parts)
    with tempfile.TemporaryFile() as file:
        assert os.pwritev(file.fileno(), blob.pieces(), 128) == blob.size
        assert os.pread(file.fileno(), blob.size, 128) == blob.join()


def test_the_values_memory_is_let_go_after_a_dump() -> None:
    array = np.ones(10_000)
    gone = weakref.ref(array)
    blob, _ = dumps(array)
    del array
    assert gone() is not None  # the parts are views of it
    del blob
    assert gone() is None


def test_a_reduce_that_itself_dumps_mixes_nothing_up() -> None:
    class Outer:
        def __init__(self, array: Any) -> None:
            self.array = array

        def __reduce__(self) -> Any:
            blob, _ = dumps([self.array, self.array])
            assert isinstance(blob, Parts)
            return loads, (blob.join(),)

    small, large = np.ones(1000), np.zeros(2000)
    first, (second, third), fourth = loads(joined((large, Outer(small), large + 1)))
    assert np.array_equal(first, large)
    assert np.array_equal(second, small)
    assert np.array_equal(third, small)
    assert np.array_equal(fourth, large + 1)


def test_functions_lambdas_and_closures_go_by_value() -> None:
    base = 40

    def add(x: int) -> int:
        return x + base

    assert loads(joined(add))(2) == 42
    assert loads(joined([lambda x: x * 2]))[0](4) == 8
    blob, nested = dumps_function(add)
    assert nested is None
    assert loads(blob)(1) == 41


def test_importable_functions_go_by_reference() -> None:
    blob, _ = dumps_function(textwrap.dedent)
    assert len(blob) < 100
    assert loads(blob) is textwrap.dedent


def test_classes_and_functions_of_main_go_by_value_to_another_process(tmp_path: Path) -> None:
    script = tmp_path / "user_program.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from freehold._io.serialization import dumps, dumps_function
        class Point:
            def __init__(self, x): self.x = x
            def double(self): return scale(self.x)
        def scale(x): return x * FACTOR
        FACTOR = 2
        value = [Point(21), scale, "__main__"]
        out = open(sys.argv[1], "wb"); out.write(dumps(value)[0]); out.close()
        out = open(sys.argv[2], "wb"); out.write(dumps_function(Point)[0]); out.close()
        """)
    )
    paths = [tmp_path / "value", tmp_path / "cls"]
    root = str(Path(serialization.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, script, *paths], check=True, env=environment, timeout=30)
    point, scale, text = loads(paths[0].read_bytes())
    assert (point.double(), scale(5), text) == (42, 10, "__main__")
    assert loads(paths[1].read_bytes())(4).double() == 8


def test_other_usual_values() -> None:
    day = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    counter = collections.Counter("abca")
    assert loads(joined([day, counter, {1, 2}, range(3)])) == [day, counter, {1, 2}, range(3)]


def container() -> bytes:
    return joined([np.arange(2000), np.arange(1000)])


@pytest.mark.parametrize("keep", [1, 4, 15, 16, 30, 100, -8, -1])
def test_a_truncated_container_is_refused(keep: int) -> None:
    with pytest.raises(ProtocolError, match="corrupt"):
        loads(container()[:keep])


def test_a_container_with_bytes_after_it_is_refused() -> None:
    with pytest.raises(ProtocolError, match="end at its size"):
        loads(container() + b"\0")


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (1, b"\1"),  # magic
        (4, b"\xff\xff\xff\xff"),  # number of buffers
        (4, b"\1\0\0\0"),
        (8, b"\xff\xff\xff\xff\xff\xff\xff\xff"),  # payload size
        (8, b"\0\0\0\0\0\0\0\0"),
        (16, b"\xff\xff\xff\xff\xff\xff\xff\xff"),  # size of buffer 0
        (32, b"\0"),  # first byte of the payload
    ],
)
def test_a_corrupt_container_is_refused_before_anything_is_unpickled(
    offset: int, value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = bytearray(container())
    blob[offset : offset + len(value)] = value
    unpickled: list[Any] = []
    monkeypatch.setattr(serialization, "_pickle_loads", lambda *a, **k: unpickled.append(a))
    with pytest.raises(ProtocolError, match="corrupt"):
        loads(bytes(blob))
    assert unpickled == []


@settings(max_examples=200)
@given(st.integers(0, 31), st.integers(0, 255))
def test_no_damage_of_a_header_gets_past_as_another_error(offset: int, byte: int) -> None:
    blob = bytearray(container())
    # The first byte tells what it is; a change of a size's lowest byte may vanish in the padding.
    if blob[offset] == byte or offset in (0, 8, 16, 24):
        return
    blob[offset] = byte
    with pytest.raises(ProtocolError):
        loads(bytes(blob))


@pytest.mark.parametrize("blob", [b"\x00abc", b"hello", b"\x80", b"\x80\x05]", b"\x80\x05\x95\x09"])
def test_what_is_no_blob_is_refused(blob: bytes) -> None:
    with pytest.raises(ProtocolError, match="corrupt"):
        loads(blob)


def test_errors_of_unpickling_itself_are_left_as_they_are() -> None:
    blob = pickle.dumps(textwrap.dedent, 5).replace(b"textwrap", b"tixtwrap")
    with pytest.raises(ModuleNotFoundError, match="tixtwrap"):
        loads(blob)
