"""How the settings of every process are resolved: default < `FREEHOLD_*` variable < argument.

A process's settings are a frozen struct in its own `settings.py`; here is what they share. They are
resolved once, where a cluster is started (`init`, the command line), checked as a whole, and handed
to the node process as they are: no process below reads `FREEHOLD_*` again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from freehold.errors import SettingsError

PREFIX = "FREEHOLD_"
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")
"""What a kubelet puts into pods beside a Service whose name begins with `freehold`."""

T = TypeVar("T", bound=msgspec.Struct)


class Described(NamedTuple):
    """One setting as `freehold settings` shows it."""

    name: str
    value: Any
    source: str
    text: str


class Resolved(NamedTuple):
    """Settings and, by name, where each value came from."""

    settings: Any
    sources: dict[str, str]


def environment() -> dict[str, str]:
    """This process's environment variables."""
    return dict(os.environ)


def resolve(
    kind: type[T], given: Mapping[str, Any], variables: Mapping[str, str] | None = None
) -> tuple[T, dict[str, str]]:
    """The settings of `kind` from their defaults, `FREEHOLD_*` variables and `given` values.

    Args:
        given: values by name that win over variables; None means not given.
        variables: the environment to read; by default this process's.

    Returns:
        The settings, and the source of each by name.

    Raises:
        SettingsError: an unknown name (the message names the nearest) or a value that is not valid.
    """
    variables = os.environ if variables is None else variables
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    sources = dict.fromkeys(fields, "default")
    for variable, text in variables.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable[len(PREFIX) :].lower()
        if SERVICE_LINK.search(variable) and (name not in fields or "://" in text):
            continue
        if name not in fields:
            raise SettingsError(setting=variable, reason=_unknown(name, fields, PREFIX))
        values[name] = _parse(variable, text, fields[name].type)
        sources[name] = f"variable {variable}"
    for name, value in given.items():
        if name not in fields:
            raise SettingsError(setting=name, reason=_unknown(name, fields, ""))
        if value is not None:
            values[name] = _convert(name, value, fields[name].type)
            sources[name] = "argument"
    try:
        return kind(**values), sources
    except (ValueError, TypeError) as error:
        raise SettingsError(setting=blamed(str(error), kind), reason=str(error)) from None


def describe(kind: type[T], settings: T, sources: Mapping[str, str]) -> list[Described]:
    """Every setting with its value, where that came from, and what it is for."""
    texts = field_texts(kind)
    return [
        Described(
            field.name,
            getattr(settings, field.name),
            sources.get(field.name, "default"),
            texts.get(field.name, ""),
        )
        for field in msgspec.structs.fields(kind)
    ]


def field_texts(kind: type) -> dict[str, str]:
    """The string below each field in the class's source."""
    import ast
    import inspect
    import textwrap

    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def _parse(variable: str, text: str, type_: Any) -> Any:
    """A variable's text as the field's type: JSON, or the bare text of a string."""
    try:
        return msgspec.convert(text, type_, strict=False)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.json.decode(text, type=type_, strict=False)
    except msgspec.MsgspecError:
        raise SettingsError(
            setting=variable, reason=f"{text!r} is not {_type_name(type_)}"
        ) from None


def _convert(name: str, value: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError:
        raise SettingsError(setting=name, reason=f"{value!r} is not {_type_name(type_)}") from None


def _type_name(type_: Any) -> str:
    text = getattr(type_, "__name__", None) if isinstance(type_, type) else None
    return text or str(type_).replace(" | None", "")


def _unknown(name: str, fields: Mapping[str, Any], prefix: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, fields, 1, 0.5)
    shown = prefix + (near[0].upper() if prefix else near[0]) if near else ""
    return "there is no such setting" + (f"; did you mean {shown}?" if near else "")


def blamed(reason: str, kind: type) -> str:
    """The setting that a check's message begins with."""
    first = reason.partition(" ")[0]
    fields = {field.name for field in msgspec.structs.fields(kind)}
    return first if first in fields else "combination"
