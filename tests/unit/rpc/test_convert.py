"""Messages to protobuf and back: every kind of field, both ways, and what is malformed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._io.rpc import convert, wire
from freehold._proto import nodes_pb2
from freehold.errors import ProtocolError

ADDRESS = Address("a" * 32, 3, 1)
OWNER = m.OwnerInfo(ADDRESS, (m.Supervisor(ADDRESS, b"task", 7),))
REFS = m.Refs([OWNER], b"\0\1" * 11)
SPEC = m.ActorSpec(
    actor=b"actor",
    owner=OWNER,
    options=m.ActorOptions(name="n", max_restarts=-1, concurrency_groups={"io": 2}, is_async=True),
    shape=(("CPU", 10_000), ("disk", 1)),
    env="",
    class_blob=b"\x80code",
    payload=b"",
    args=[
        m.Arg(0, REFS, blob=b""),
        m.Arg("key", REFS, location=Location("b" * 32, 1, 2, 3), nested=REFS),
    ],
    nested=None,
    get_if_exists=True,
    placement_shape=(),
)
INFO = m.NodeInfo("a" * 32, 2, {"CPU": 5}, {}, is_alive=False, labels={"zone": "b"}, port=7401)


def there_and_back(message: m.Message, ways: wire.Messages) -> Any:
    packed = ways.pack(message)
    return ways.unpack(type(packed).FromString(packed.SerializeToString()))


@pytest.mark.parametrize(
    "message",
    [
        m.NodeJoined(INFO),
        m.FromProcess(ADDRESS, m.RegisterActor(1, SPEC)),
        m.FromProcess(ADDRESS, m.ListActors(2, None)),
        m.FromProcess(ADDRESS, m.ListActors(2, "")),
        m.FromProcess(ADDRESS, m.ClusterQuery(0)),
        m.ProcessGone(ADDRESS, m.ExitCause(code=0, log=["last", ""]), was_driver=True),
        m.ProcessGone(ADDRESS, m.ExitCause(code=None, signal=9)),
        m.ShutDown(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_a_node_says_comes_back_as_it_was(message: m.Message) -> None:
    assert there_and_back(message, wire.from_node) == message


@pytest.mark.parametrize(
    "message",
    [
        m.ClusterView([INFO, INFO]),
        m.PlaceActor(SPEC, 3),
        m.ToProcess(ADDRESS, m.ActorFound(1, None)),
        m.ToProcess(
            ADDRESS,
            m.ActorState(m.ActorInfo(b"a", OWNER, m.ActorOptions(), "dead", cause=m.ExitCause())),
        ),
        m.ToProcess(ADDRESS, m.ClusterReply(1, [])),
        m.Fenced(1, "why"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_the_control_service_says_comes_back_as_it_was(message: m.Message) -> None:
    assert there_and_back(message, wire.to_node) == message


@given(
    st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 1 << 62)),
        unique_by=lambda pair: pair[0],
    )
)
def test_shapes_come_back_sorted(pairs: list[tuple[str, int]]) -> None:
    spec = msgspec.structs.replace(SPEC, shape=tuple(sorted(pairs)))
    message = m.PlaceActor(spec, 0)
    assert there_and_back(message, wire.to_node) == message


def test_no_shape_is_told_from_an_empty_one() -> None:
    for shape in (None, ()):
        spec = msgspec.structs.replace(SPEC, placement_shape=shape)
        assert there_and_back(m.PlaceActor(spec, 0), wire.to_node).spec.placement_shape == shape


def test_half_a_surrogate_is_replaced() -> None:
    cause = m.ExitCause(reason="\udcff", log=["ok", "x\udcff"])
    found = there_and_back(m.ProcessGone(ADDRESS, cause), wire.from_node)
    assert found.cause.reason == "?"
    assert found.cause.log == ["ok", "x?"]


def test_an_integer_beyond_64_bits_is_refused_whole() -> None:
    with pytest.raises(ValueError):
        wire.from_node.pack(m.NodeReported("a", {"CPU": 1 << 63}, {}))


def test_what_must_be_there_is_asked_for() -> None:
    with pytest.raises(ProtocolError, match="info is missing"):
        wire.from_node.unpack(nodes_pb2.NodeMessage(node_joined=nodes_pb2.NodeJoined()))
    envelope = nodes_pb2.NodeMessage()
    envelope.from_process.source.node = "a"
    with pytest.raises(ProtocolError, match="message is missing"):
        wire.from_node.unpack(envelope)


def test_a_message_of_a_later_version_is_passed_over() -> None:
    assert wire.from_node.unpack(nodes_pb2.NodeMessage()) is None


def test_a_message_that_does_not_go_this_way_is_refused() -> None:
    with pytest.raises(TypeError, match="a ClusterView does not go between machines"):
        wire.from_node.pack(m.ClusterView([]))


def test_a_type_without_a_way_is_named() -> None:
    class NodeJoined(msgspec.Struct):
        info: complex

    with pytest.raises(TypeError, match="info: there is no way"):
        convert.to_proto(NodeJoined(1j))
