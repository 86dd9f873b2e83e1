"""Turns messages into protobuf and back, by field name and type: no pair is written by hand.

For each Struct there is a message of the same name in `nodes.proto` with the same fields:

| Python | protobuf |
|---|---|
| `int`, `float`, `str`, `bool`, `bytes` | `int64`, `double`, `string`, `bool`, `bytes` |
| `X | None` of those | `optional` |
| a Struct, or a Struct or None | a message; not set is None |
| `list[X]`, `tuple[X, ...]`, also or None | `repeated`; empty is None where that may be |
| `list[X] | None` where both mean something | a message with `repeated X items` |
| a tuple of pairs of `str` | `repeated Pair` |
| `dict[str, X]` | `map` |
| `Shape` | `Shape`, whose map comes back as a sorted tuple |
| `X | Y` of Structs | `oneof` by the field's name, each part by its class's: `find_actor` |
| a list of those | `repeated` messages with a `oneof kind` |
| `int | str` | `oneof` by the field's name: `at_int`, `at_str` |

Alternatives rejected: bytes of msgspec in an envelope (nobody but this version of Freehold could
read them, and "versioned" would be a word), pairs of functions by hand (a field that is forgotten
in one of them is lost in silence). Converters are built once for each Struct, when first met.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from freehold._proto import nodes_pb2
from freehold.errors import ProtocolError

_SCALARS: dict[type, str] = {
    inspect.IntType: "int",
    inspect.FloatType: "float",
    inspect.StrType: "str",
    inspect.BoolType: "bool",
    inspect.BytesType: "bytes",
}

Into = Callable[[Any, Any], None]
"""Writes a Python value into a protobuf message (the field's owner)."""
From = Callable[[Any], Any]
"""Reads it from there."""


class _Field(NamedTuple):
    name: str
    into: Into
    read: From


class _Item(NamedTuple):
    """How one element is turned: as it is, or by a Struct's converter."""

    is_message: bool
    into: Callable[[Any, Any], None]
    read: Callable[[Any], Any]


def to_proto(struct: msgspec.Struct) -> Any:
    """The protobuf message of a Struct.

    Raises:
        ValueError: a value does not fit its field (an integer beyond 64 bits).
    """
    message = proto_class(type(struct))()
    _fill(struct, message)
    return message


def from_proto(message: Any, kind: type[msgspec.Struct]) -> Any:
    """The Struct of a protobuf message.

    Raises:
        ProtocolError: something that must be there is not, or has the wrong type.
    """
    try:
        return _read(message, kind)
    except (ValueError, TypeError) as error:
        raise ProtocolError(reason=f"a {kind.__name__} does not fit: {error}") from None


def proto_class(kind: type[msgspec.Struct]) -> Any:
    """The protobuf class that mirrors a Struct.

    Raises:
        TypeError: there is none.
    """
    found = getattr(nodes_pb2, kind.__name__, None)
    if found is None:
        raise TypeError(f"{kind.__name__} has no message in nodes.proto")
    return found


def snake_case(name: str) -> str:
    """`FindActor` as `find_actor`: what a class is called in a oneof."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _fill(struct: Any, message: Any) -> None:
    for name, into, _ in _fields(type(struct)):
        into(message, getattr(struct, name))


def _read(message: Any, kind: type[msgspec.Struct]) -> Any:
    return kind(**{name: read(message) for name, _, read in _fields(kind)})


_known: dict[type, tuple[_Field, ...]] = {}


def _fields(kind: type[Any]) -> tuple[_Field, ...]:
    found = _known.get(kind)
    if found is None:
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        descriptor = proto_class(kind).DESCRIPTOR
        found = _known[kind] = tuple(
            _field(field.name, field.type, descriptor.fields_by_name.get(field.name))
            for field in info.fields
        )
    return found


def _field(name: str, type_: inspect.Type, target: Any) -> _Field:
    is_optional = False
    if isinstance(type_, inspect.UnionType):
        parts = [part for part in type_.types if not isinstance(part, inspect.NoneType)]
        is_optional = len(parts) < len(type_.types)
        if len(parts) > 1:
            return _one_of(name, parts, is_optional)
        type_ = parts[0]
    if isinstance(type_, inspect.DictType):
        return _map(name)
    if is_shape(type_) or isinstance(type_, inspect.StructType):
        return _message(name, type_, is_optional)
    if isinstance(type_, inspect.ListType | inspect.VarTupleType):
        if target is not None and not target.is_repeated:
            return _boxed(name, _repeated("items", type_, False))
        return _repeated(name, type_, is_optional)
    if type(type_) not in _SCALARS:
        raise TypeError(f"{name}: there is no way to turn {type_} into protobuf")
    return _scalar(name, is_optional)


def is_shape(type_: inspect.Type) -> bool:
    """Whether this is `Shape`: a tuple of any number of pairs of a name and a number."""
    return (
        isinstance(type_, inspect.VarTupleType)
        and isinstance(type_.item_type, inspect.TupleType)
        and isinstance(type_.item_type.item_types[1], inspect.IntType)
    )


def _scalar(name: str, is_optional: bool) -> _Field:
    def into(message: Any, value: Any) -> None:
        if value is not None:
            _set(message, name, value)

    def read(message: Any) -> Any:
        if is_optional and not message.HasField(name):
            return None
        return getattr(message, name)

    return _Field(name, into, read)


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except UnicodeEncodeError:  # half a surrogate pair, of a file's name or a line of a log
        setattr(message, name, value.encode("utf-8", "replace").decode())


def _map(name: str) -> _Field:
    def into(message: Any, value: Any) -> None:
        getattr(message, name).update(value)

    def read(message: Any) -> Any:
        return dict(getattr(message, name))

    return _Field(name, into, read)


def _item(type_: inspect.Type) -> _Item:
    """How a message is filled and read that holds one value of this type."""
    if is_shape(type_):
        return _Item(
            True,
            lambda value, message: message.amounts.update(dict(value)),
            lambda message: tuple(sorted(message.amounts.items())),
        )
    if isinstance(type_, inspect.StructType):
        kind = type_.cls
        return _Item(True, _fill, lambda message: _read(message, kind))
    if isinstance(type_, inspect.UnionType):
        one_of = _one_of("kind", list(type_.types), False)
        return _Item(True, lambda value, message: one_of.into(message, value), one_of.read)
    if isinstance(type_, inspect.TupleType):
        return _Item(True, _fill_pair, lambda message: (message.name, message.value))
    return _Item(False, lambda value, message: None, lambda value: value)


def _fill_pair(value: tuple[str, str], message: Any) -> None:
    message.name, message.value = value


def _boxed(name: str, items: _Field) -> _Field:
    """A list in a message of its own: none is not the same as one without anything in it."""

    def into(message: Any, value: Any) -> None:
        if value is not None:
            inner = getattr(message, name)
            inner.SetInParent()
            items.into(inner, value)

    def read(message: Any) -> Any:
        return items.read(getattr(message, name)) if message.HasField(name) else None

    return _Field(name, into, read)


def _message(name: str, type_: inspect.Type, is_optional: bool) -> _Field:
    item = _item(type_)

    def into(message: Any, value: Any) -> None:
        if value is not None:
            inner = getattr(message, name)
            inner.SetInParent()
            item.into(value, inner)

    def read(message: Any) -> Any:
        if message.HasField(name):
            return item.read(getattr(message, name))
        if is_optional:
            return None
        raise ValueError(f"{name} is missing")

    return _Field(name, into, read)


def _repeated(
    name: str, type_: inspect.ListType | inspect.VarTupleType, is_optional: bool
) -> _Field:
    item = _item(type_.item_type)
    make: Callable[[Any], Any] = list if isinstance(type_, inspect.ListType) else tuple

    def into(message: Any, value: Any) -> None:
        if not value:
            return
        target = getattr(message, name)
        if not item.is_message:
            try:
                target.extend(value)
            except UnicodeEncodeError:
                target.extend(text.encode("utf-8", "replace").decode() for text in value)
            return
        for part in value:
            item.into(part, target.add())

    def read(message: Any) -> Any:
        found = make(item.read(part) for part in getattr(message, name))
        return None if is_optional and not found else found

    return _Field(name, into, read)


def _one_of(name: str, parts: list[inspect.Type], is_optional: bool) -> _Field:
    by_class: dict[type, tuple[str, _Item]] = {}
    for part in parts:
        if isinstance(part, inspect.StructType):
            by_class[part.cls] = (snake_case(part.cls.__name__), _item(part))
        else:
            scalar = _SCALARS[type(part)]
            python = {"int": int, "float": float, "str": str, "bool": bool, "bytes": bytes}[scalar]
            by_class[python] = (f"{name}_{scalar}", _item(part))
    by_name = dict(by_class.values())

    def into(message: Any, value: Any) -> None:
        if value is None:
            return
        chosen, item = by_class[type(value)]
        if item.is_message:
            inner = getattr(message, chosen)
            inner.SetInParent()
            item.into(value, inner)
        else:
            _set(message, chosen, value)

    def read(message: Any) -> Any:
        chosen = message.WhichOneof(name)
        if chosen is None:
            if is_optional:
                return None
            raise ValueError(f"{name} is missing")
        return by_name[chosen].read(getattr(message, chosen))

    return _Field(name, into, read)
