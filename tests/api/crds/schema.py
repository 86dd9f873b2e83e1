"""The CRDs as data: every place of their schemas, by path.

A path is written as in `kubectl explain`, with `[]` behind a list whose items are meant and `{}`
behind a map whose values are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from e2e.support.tools import ROOT

Schema = dict[str, Any]
KINDS = {"FuturesCluster": "futuresclusters", "FuturesJob": "futuresjobs"}


@dataclass(frozen=True)
class Place:
    """One field of a kind, with its schema."""

    kind: str
    path: str
    schema: Schema

    @property
    def is_copied(self) -> bool:
        """Whether it is FuturesCluster's, in a job's template; a tidy test compares those."""
        return self.path.startswith("spec.clusterTemplate.spec.")

    def __str__(self) -> str:
        return f"{self.kind}.{self.path}"


@dataclass(frozen=True)
class Rule:
    """One of x-kubernetes-validations."""

    kind: str
    path: str
    message: str


@functools.cache
def definition(kind: str) -> Schema:
    """The CRD of a kind."""
    path = ROOT / "crds" / f"{KINDS[kind]}.freehold.dev.yaml"
    found: Schema = yaml.safe_load(path.read_text())
    return found


def root(kind: str) -> Schema:
    """The schema of a kind's only version."""
    (version,) = definition(kind)["spec"]["versions"]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def _walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(inner, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _walk(schema["additionalProperties"], f"{path}{{}}")


def places(kind: str, under: str = "") -> list[Place]:
    """Every place of a kind, the root (path "") first."""
    return [
        Place(kind, path, schema)
        for path, schema in _walk(root(kind), "")
        if path == under or not under or path.startswith((f"{under}.", f"{under}[", f"{under}{{"))
    ]


def rules() -> list[Rule]:
    """Every CEL rule of both kinds."""
    return [
        Rule(kind, place.path, rule["message"])
        for kind in KINDS
        for place in places(kind)
        for rule in place.schema.get("x-kubernetes-validations", ())
    ]
