"""The generated code is what the .proto files say, and they mirror the messages in `_core`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
import pytest
from msgspec import inspect
from tests.tidy import tree

from freehold._core import messages as m
from freehold._io.rpc import convert, wire

SCALARS: dict[type, str] = {
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BoolType: "bool",
    inspect.BytesType: "bytes",
}
BOXED = {"NodeGroup": "NodeGroups"}
"""Lists in a message of their own, where none at all is not the same as an empty one."""
UNIONS = {frozenset({"ActorStarted", "ActorEnded", "PlacementFailed", "ActorLeft"}): "ActorReport"}
"""What a repeated union is called."""
KINDS = {"int64": "int", "double": "float", "string": "str", "bool": "bool", "bytes": "bytes"}


def generator() -> ModuleType:
    path = tree.ROOT / "runtime/proto/generate.py"
    spec = importlib.util.spec_from_file_location("generate_proto", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_code_is_up_to_date() -> None:
    found = generator()
    for folder, names in found.targets(tree.ROOT).items():
        made = found.generate(names)
        there = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        assert there.keys() == made.keys()
        assert [name for name in made if made[name] != there[name]] == [], "run make proto"


def test_the_operator_has_the_clients_interface_alone() -> None:
    names = {n.rsplit("/", 1)[1] for n in tree.tracked_files() if "freehold_operator/_proto/" in n}
    assert names == {"__init__.py", "control_pb2.py", "control_pb2.pyi"}


# ---- messages and their mirror -------------------------------------------------------------------


def structs() -> dict[str, type[msgspec.Struct]]:
    """Every Struct that passes between machines, with all that it is made of."""
    found: dict[str, type[msgspec.Struct]] = {}

    def visit(type_: Any) -> None:
        if isinstance(type_, inspect.StructType) and type_.cls.__name__ not in found:
            found[type_.cls.__name__] = type_.cls
            for field in type_.fields:
                visit(field.type)
        for part in getattr(type_, "types", ()):
            visit(part)
        if isinstance(type_, inspect.TupleType):
            return
        if hasattr(type_, "item_type") and not convert.is_shape(type_):
            visit(type_.item_type)

    for kind in (*wire.FROM_NODE, *wire.TO_NODE):
        visit(inspect.type_info(kind))
    return found


def python_fields(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """(name, kind) as the protobuf message must have them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        type_: Any = field.type
        optional = ""
        if isinstance(type_, inspect.UnionType):
            parts = [part for part in type_.types if not isinstance(part, inspect.NoneType)]
            optional = "optional " if len(parts) < len(type_.types) else ""
            if len(parts) > 1:
                for part in parts:
                    name = one_name(part)
                    is_struct = isinstance(part, inspect.StructType)
                    own = convert.snake_case(name) if is_struct else f"{field.name}_{name}"
                    yield own, f"one of {field.name}: {name}"
                continue
            type_ = parts[0]
        if isinstance(type_, inspect.DictType):
            yield field.name, f"map {one_name(type_.key_type)} {one_name(type_.value_type)}"
        elif isinstance(type_, inspect.ListType | inspect.VarTupleType) and not convert.is_shape(
            type_
        ):
            boxed = BOXED.get(one_name(type_.item_type)) if optional else None
            yield field.name, boxed or f"repeated {one_name(type_.item_type)}"
        else:
            name = one_name(type_)
            yield field.name, f"{optional if type(type_) in SCALARS else ''}{name}"


def one_name(type_: Any) -> str:
    if convert.is_shape(type_):
        return "Shape"
    if isinstance(type_, inspect.StructType):
        return type_.cls.__name__
    if isinstance(type_, inspect.TupleType):
        return "Pair"
    if isinstance(type_, inspect.UnionType):
        return UNIONS[frozenset(one_name(part) for part in type_.types)]
    return SCALARS[type(type_)]


def proto_fields(descriptor: Any) -> Iterator[tuple[str, str]]:
    """The same of a protobuf message."""
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields
            yield field.name, f"map {proto_name(key)} {proto_name(value)}"
        elif field.is_repeated:
            yield field.name, f"repeated {proto_name(field)}"
        elif field.containing_oneof is not None and field.containing_oneof.name[0] != "_":
            yield field.name, f"one of {field.containing_oneof.name}: {proto_name(field)}"
        else:
            is_optional = field.containing_oneof is not None
            yield field.name, f"{'optional ' if is_optional else ''}{proto_name(field)}"


def proto_name(field: Any) -> str:
    if field.message_type is not None:
        return str(field.message_type.name)
    names = {v: k for k, v in vars(type(field)).items() if k.startswith("TYPE_")}
    return KINDS[names[field.type].removeprefix("TYPE_").lower()]


@pytest.mark.parametrize("name", sorted(structs()))
def test_a_message_has_its_mirror(name: str) -> None:
    kind = structs()[name]
    assert list(proto_fields(convert.proto_class(kind).DESCRIPTOR)) == list(python_fields(kind))


@pytest.mark.parametrize(
    ("ways", "kinds"),
    [(wire.from_node, wire.FROM_NODE), (wire.to_node, wire.TO_NODE)],
    ids=["from-node", "to-node"],
)
def test_an_envelope_holds_what_goes_its_way(
    ways: wire.Messages, kinds: tuple[type[m.Message], ...]
) -> None:
    descriptor: Any = type(ways.pack(m.ShutDown())).DESCRIPTOR
    held = [(field.name, field.message_type.name) for field in descriptor.fields]
    assert held == [(convert.snake_case(kind.__name__), kind.__name__) for kind in kinds]


def test_the_test_sees_a_field_that_is_missing() -> None:
    """Guards the gate itself: a message with a field more than its mirror is found."""
    longer = msgspec.defstruct("NodeDied", [("node", str), ("incarnation", int), ("why", str)])
    mirror = convert.proto_class(m.NodeDied).DESCRIPTOR
    assert list(proto_fields(mirror)) != list(python_fields(longer))
    assert sys.modules["freehold._proto.nodes_pb2"].NodeDied.DESCRIPTOR is mirror
