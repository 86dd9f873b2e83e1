"""The table of values in the chart's README, made from values.yaml and values.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

BEGIN, END = "<!-- begin values: made by `make chart` -->", "<!-- end values -->"


def rows(values: Any, schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of every value that has no values below it."""
    for name, field in schema.get("properties", {}).items():
        if name not in values:
            continue
        if "properties" in field and values[name]:
            yield from rows(values[name], field, f"{prefix}{name}.")
            continue
        allowed = f" One of {', '.join(field['enum'])}." if "enum" in field else ""
        yield f"{prefix}{name}", json.dumps(values[name]), field["description"] + allowed


def readme(chart: Path) -> str:
    """The README with its table made anew."""
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    lines = ["| Value | Default | Meaning |", "|---|---|---|"]
    lines += [
        f"| `{n}` | `{d}` | {m.replace('|', chr(92) + '|')} |" for n, d, m in rows(values, schema)
    ]
    text = (chart / "README.md").read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"
