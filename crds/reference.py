"""docs/kubernetes/reference.md, made from the CRDs: every field with type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Schema = dict[str, Any]

HEAD = """\
# Reference: FuturesCluster and FuturesJob

<!-- Made by `make chart` from crds/: change the descriptions there. -->

API group `freehold.dev`, version `v1alpha1`: what `kubectl explain fc.spec` and
`kubectl explain fj.spec` say, on one page. A field without a default may be left out; what then
holds is in its description. Unknown fields are an error, and what cannot work is refused with the
messages listed below each kind.
"""

# FuturesCluster's spec is described once, and links stand for it.
ELSEWHERE = {
    ("FuturesJob", "spec.clusterTemplate.spec"): "As [FuturesCluster.spec](#futuresclusterspec)."
}


def _range(schema: Schema, low: str, high: str, unit: str = "") -> str:
    least, most = schema.get(low), schema.get(high)
    if least is None and most is None:
        return ""
    if least is None:
        return f", at most {most:,}{unit}"
    return f", {least:,} to {most:,}{unit}" if most is not None else f", at least {least:,}{unit}"


def type_of(schema: Schema) -> str:
    """A field's type and bounds, in words."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    kind = schema.get("type", "")
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if kind == "integer":
        return "integer" + _range(schema, "minimum", "maximum")
    if kind == "string":
        if schema.get("format") == "date-time":
            return "time"
        return "text" + _range(schema, "minLength", "maxLength", " characters")
    if kind == "array":
        return f"list of {type_of(schema['items'])}" + _range(schema, "minItems", "maxItems")
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        values = type_of(schema["additionalProperties"])
        return f"map to {values}" + _range(schema, "minProperties", "maxProperties")
    return kind


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return "`" + yaml.safe_dump(value, default_flow_style=True).split("\n")[0].strip() + "`"


def _inner(schema: Schema) -> Schema:
    """The object whose fields a field has, if any: of a list that of its items."""
    found: Schema = schema.get("items", schema)
    return found


def _sections(kind: str, path: str, schema: Schema) -> Iterator[str]:
    properties = _inner(schema).get("properties", {})
    if not properties:
        return
    yield f"\n### {kind}.{path}\n\n{schema.get('description', '')}\n"
    yield "\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n"
    required = _inner(schema).get("required", ())
    for name, field in properties.items():
        text = ELSEWHERE.get((kind, f"{path}.{name}"), field.get("description", ""))
        default = "required" if name in required else _default(field)
        meaning = text.replace("|", "\\|")
        yield f"| `{name}` | {type_of(field)} | {default} | {meaning} |\n"
    for name, field in properties.items():
        if (kind, f"{path}.{name}") not in ELSEWHERE:
            marks = "[]" if field.get("type") == "array" else ""
            yield from _sections(kind, f"{path}.{name}{marks}", field)


def _rules(path: str, schema: Schema, kind: str) -> Iterator[str]:
    if (kind, path) in ELSEWHERE:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"- `{path or 'metadata.name'}`: {rule['message']}\n"
    for name, field in _inner(schema).get("properties", {}).items():
        marks = "[]" if field.get("type") == "array" else ""
        yield from _rules(f"{path}.{name}{marks}" if path else name, field, kind)
    if "items" in schema:
        yield from _rules(path, {**schema["items"], "properties": {}}, kind)


def page(crds: list[Path]) -> str:
    """The whole page."""
    parts = [HEAD]
    for path in crds:
        definition = yaml.safe_load(path.read_text())
        kind, names = definition["spec"]["names"]["kind"], definition["spec"]["names"]
        (version,) = definition["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        parts.append(f"\n## {kind}\n\n{schema['description']}\n")
        parts.append(f"\nShort name `{names['shortNames'][0]}`. `kubectl get` shows:\n\n")
        for column in version["additionalPrinterColumns"]:
            wide = " (with `-o wide`)" if column.get("priority") else ""
            text = column.get("description", "How long ago it was created.")
            parts.append(f"- **{column['name'].upper()}**{wide}: {text}\n")
        parts.append("\nRefused, with what to do instead:\n\n")
        parts.extend(_rules("", schema, kind))
        for part in ("spec", "status"):
            parts.extend(_sections(kind, part, schema["properties"][part]))
    return "".join(parts)
