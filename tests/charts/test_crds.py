"""The CRDs as texts: nothing made from them is stale, and each explains itself to a user."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from crds import sync

CRDS = [sync.CLUSTER, sync.JOB]
# `kubectl apply` keeps the whole object in an annotation, which the API server limits to this.
ANNOTATIONS_BYTES = 256 << 10


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


def all_fields() -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for path in CRDS:
        definition = yaml.safe_load(path.read_text())["spec"]
        for version in definition["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            found += fields(schema, definition["names"]["kind"])
    return [(path, field) for path, field in found if not path.endswith(".metadata")]


def test_what_is_made_from_the_crds_is_fresh() -> None:
    stale = [
        str(path.relative_to(sync.ROOT))
        for path, text in sync.wanted().items()
        if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run `make chart`"


def test_a_missing_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="there has to be one"):
        sync.template_spec("spec:\n")


def test_a_template_has_no_rules_about_changes() -> None:
    assert "oldSelf" in sync.CLUSTER.read_text()
    assert "oldSelf" not in "\n".join(sync.template_spec(sync.CLUSTER.read_text()))


def test_every_field_explains_itself() -> None:
    assert len(all_fields()) > 150
    silent = [path for path, field in all_fields() if len(field.get("description", "")) < 8]
    assert silent == []


def test_descriptions_of_times_have_their_unit() -> None:
    bare = [
        path
        for path, field in all_fields()
        if path.endswith("Seconds") and "econds" not in field["description"]
    ]
    assert bare == []


def test_descriptions_of_defaults_have_them() -> None:
    bare = [
        path
        for path, field in all_fields()
        if field.get("type") != "object"
        and ("default" in field)
        and ".status" not in path
        and field["default"] != []
        and f"efault {json.dumps(field['default']).strip(chr(34))}" not in field["description"]
    ]
    assert bare == []


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.name)
def test_kubectl_apply_can_keep_it(path: Any) -> None:
    assert len(json.dumps(yaml.safe_load(path.read_text()))) < ANNOTATIONS_BYTES // 2


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.name)
def test_lines_are_short(path: Any) -> None:
    # 8 more where the copy stands deeper than the source.
    assert [line for line in path.read_text().splitlines() if len(line) > 128] == []
