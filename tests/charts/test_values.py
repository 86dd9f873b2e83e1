"""The chart's values against their schema, and the chart against the project."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from charts.readme import rows
from crds.sync import CHART, ROOT

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from objects(inner, f"{path}.{name}")


def keys(values: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """What values.yaml has, as far as the schema says what it is."""
    for name, value in values.items():
        yield f"{path}.{name}"
        inner = schema["properties"].get(name, {})
        if isinstance(value, dict) and "properties" in inner:
            yield from keys(value, inner, f"{path}.{name}")


def merged(values: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result = dict(values)
    for name, value in change.items():
        is_inner = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = merged(result[name], value) if is_inner else value
    return result


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_defaults_are_allowed() -> None:
    jsonschema.validate(VALUES, SCHEMA, jsonschema.Draft7Validator)


def test_schema_and_defaults_name_the_same_values() -> None:
    listed = {path for path, _ in objects(SCHEMA) if path and path != ".global"}
    assert listed == set(keys(VALUES, SCHEMA))


def test_every_value_explains_itself() -> None:
    assert [path for path, inner in objects(SCHEMA) if "description" not in inner] == []
    assert len(list(rows(VALUES, SCHEMA))) > 20


def test_unknown_values_are_refused_at_every_level() -> None:
    loose = [
        path
        for path, inner in objects(SCHEMA)
        if "properties" in inner and inner.get("additionalProperties") is not False
    ]
    assert loose == []


@pytest.mark.parametrize(
    "change",
    [
        {"watchNamespaces": ["a", "b"]},
        {"image": {"tag": "x", "pullSecrets": [{"name": "registry"}]}},
        {"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}},
        {"tolerations": [{"key": "a", "operator": "Exists"}], "nodeSelector": {"a": "b"}},
        {"extraEnv": [{"name": "FREEHOLD_OPERATOR_RESYNC_S", "value": "60"}]},
        {"global": {"anything": 1}},
    ],
    ids=str,
)
def test_accepted(change: dict[str, Any]) -> None:
    jsonschema.validate(merged(VALUES, change), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "change",
    [
        {"imag": {"tag": "x"}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"image": {"pullSecrets": ["registry"]}},
        {"watchNamespaces": "a"},
        {"watchNamespaces": ["A"]},
        {"crds": {"install": "yes"}},
        {"log": {"level": "verbose"}},
        {"metrics": {"serviceMonitor": {"interval": "often"}}},
        {"extraEnv": [{"value": "60"}]},
        {"fullnameOverride": "x" * 41},
    ],
    ids=str,
)
def test_refused(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(merged(VALUES, change), SCHEMA, jsonschema.Draft7Validator)


def test_versions_are_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (project, project)
    assert chart["kubeVersion"] == ">=1.29.0-0"
