"""What each kind of bound in a schema lets pass and refuses, and objects with one value set.

The values follow from the schema itself, so that a new field's bounds are tried without a new case;
patterns and enumerations are the exception: theirs are listed here by hand, and a test fails for a
pattern that is not.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from tests.api.client import Manifest
from tests.api.crds.objects import cluster, job
from tests.api.crds.schema import Place

QUANTITIES = (["1", 1, "500m", "0.5", "1.5Gi", "10k"], ["", "1 Gi", "-1", "1gb", "Gi", "1e3"])
SIZES = (["1", "10Gi", "1.5Gi", "20M"], ["", "1 Gi", "-1", "01", "1gb", "1m"])
# By pattern: what it is to match, and what not.
PATTERNS: dict[str, tuple[list[Any], list[Any]]] = {
    r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$": QUANTITIES,
    r"^(0|[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?)$": (["0", *SIZES[0]], SIZES[1]),
    r"^[1-9][0-9]*(\.[0-9]+)?(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$": (SIZES[0], ["0", *SIZES[1]]),
    r"^\S+$": (["x", "host:5000/a/b@sha256:00"], ["", "a b", "x\n"]),
    r"^[a-z]([-a-z0-9]*[a-z0-9])?$": (
        ["a", "a-1", "gpu-a100-80gb"],
        ["A", "1a", "a-", "a.b", "-a"],
    ),
    r"^[-._a-zA-Z][-._a-zA-Z0-9]*$": (["A", "_a.b-1"], ["1A", "A=B", "A B"]),
    r"^/": (["/", "/srv/app"], ["srv", "./srv"]),
}

# Of two fields only one may be there: what to remove for a path that begins so.
EXCLUDES = {
    "spec.command": "entrypoint",
    "spec.clusterTemplate": "clusterRef",
}
# With autoscaling each group says how far it may grow.
BOUNDED_GROUP = {"name": "a", "maxReplicas": 100}


def base(place: Place) -> Manifest:
    """A valid object into which a value at the place fits."""
    if place.kind == "FuturesJob":
        made = job()
        for start, excluded in EXCLUDES.items():
            if place.path.startswith(start):
                made["spec"].pop(excluded)
        if place.path.startswith("spec.clusterTemplate"):
            made["spec"]["clusterTemplate"] = {"spec": cluster()["spec"]}
        return made
    if place.path.startswith("spec.autoscaling"):
        return cluster(workerGroups=[dict(BOUNDED_GROUP)])
    return cluster()


def with_value(place: Place, value: Any) -> Manifest:
    """A valid object but for the value."""
    made = copy.deepcopy(base(place))
    _set(made, place.path.split("."), value)
    return made


def _set(into: Manifest, steps: list[str], value: Any) -> None:
    step, rest = steps[0], steps[1:]
    name = step.rstrip("[]{}")
    inner: Any = value
    if step.endswith("{}"):
        inner = {"cpu": value}
        assert not rest
    elif step.endswith("[]"):
        inner = [value]
        if rest:
            items = into.get(name) or [{"name": "A"}]
            _set(items[0], rest, value)
            inner = items
    elif rest:
        inner = into.get(name, {})
        _set(inner, rest, value)
    into[name] = inner


def _of_length(place: Place, length: int) -> str:
    """A string of a length that the place's pattern lets pass."""
    pattern = place.schema.get("pattern", "")
    for letter in ("a", "1"):
        for text in (letter * length, "/" + letter * (length - 1)):
            if len(text) == length and re.search(pattern, text):
                return text
    return "a" * length


def _items(place: Place, count: int) -> list[Any]:
    if place.schema["items"]["type"] == "object":
        letters = "abcdefghijklmnopqrstuvwxyz"
        return [{"name": letters[n // 26] + letters[n % 26]} for n in range(count)]
    return ["x"] * count


def _properties(place: Place, count: int) -> dict[str, Any]:
    inner = place.schema.get("additionalProperties", {})
    value: Any = "1" if inner.get("type") == "string" or "anyOf" in inner else {}
    return {f"key{n}": value for n in range(count)}


def bounds(place: Place) -> Iterator[tuple[str, Any, Any]]:
    """Per bound of a place its name, a value just within it and one just outside."""
    found = place.schema
    if "minimum" in found:
        yield "minimum", found["minimum"], found["minimum"] - 1
    if "maximum" in found:
        yield "maximum", found["maximum"], found["maximum"] + 1
    if "minLength" in found:
        least = found["minLength"]
        yield "minLength", _of_length(place, least), _of_length(place, least)[:-1]
    if "maxLength" in found:
        most = found["maxLength"]
        yield "maxLength", _of_length(place, most), _of_length(place, most + 1)
    if "minItems" in found:
        yield "minItems", _items(place, found["minItems"]), _items(place, found["minItems"] - 1)
    if "maxItems" in found:
        yield "maxItems", _items(place, found["maxItems"]), _items(place, found["maxItems"] + 1)
    if "maxProperties" in found:
        most = found["maxProperties"]
        yield "maxProperties", _properties(place, most), _properties(place, most + 1)


def choices(place: Place) -> Iterator[tuple[Any, bool]]:
    """Values of an enumeration or a pattern, and whether they are to pass."""
    if "enum" in place.schema:
        yield from ((value, True) for value in place.schema["enum"])
        yield from ((value, False) for value in ("", "Other", place.schema["enum"][0].lower()))
    if "pattern" in place.schema:
        good, bad = PATTERNS[place.schema["pattern"]]
        yield from ((value, True) for value in good)
        yield from ((value, False) for value in bad)
