"""Compares the interface of the installed Ray with what docs/ray_compatibility.md says of it.

Place in the flow: `make bench` runs it with Ray's own interpreter (benchmarks/.venv-ray) before it
measures. It writes names.json, which is checked in, so that tests/tidy/test_ray_names.py can
compare the page without Ray. It fails on a name that the page lacks, on one the page has and Ray
has not, and on another signature. It deliberately does not import Freehold: whether a name marked
*same* exists here is the test's business.

    .venv-ray/bin/python ray/check_names.py             compare, and rewrite names.json
    .venv-ray/bin/python ray/check_names.py --missing   print table rows for what is missing
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAMES = HERE / "names.json"
TABLE = HERE.parent.parent / "docs" / "ray_compatibility.md"

STATUSES = ("same", "better", "not yet", "no")
# Rows of the page that are ours to write: values of options, which Ray's code does not list
# anywhere.
VALUE_KINDS = ("task", "actor", "method", "init", "call")

# Modules of which each public name has a row; of every other module of ray and ray.util the module
# has one.
MODULES = (
    "ray.util.actor_pool",
    "ray.util.check_serialize",
    "ray.util.helpers",
    "ray.util.metrics",
    "ray.util.multiprocessing",
    "ray.util.placement_group",
    "ray.util.queue",
    "ray.util.scheduling_strategies",
    "ray.util.serialization",
    "ray.util.state",
    "ray.runtime_env",
    "ray.job_config",
)
# Subpackages that ray imports when they are first asked for; they want more than Ray Core's
# dependencies.
SUBPACKAGES = ("autoscaler", "data", "workflow")
# Classes of which each public member has a row, by the name a user has for them.
CLASSES = (
    ("ray.ObjectRef", "ray:ObjectRef"),
    ("ray.ObjectRefGenerator", "ray:ObjectRefGenerator"),
    ("ray.remote_function.RemoteFunction", "ray.remote_function:RemoteFunction"),
    ("ray.actor.ActorClass", "ray.actor:ActorClass"),
    ("ray.actor.ActorMethod", "ray.actor:ActorMethod"),
    ("ray.actor.ActorHandle", "ray.actor:ActorHandle"),
    ("ray.runtime_context.RuntimeContext", "ray.runtime_context:RuntimeContext"),
    ("ray.util.ActorPool", "ray.util:ActorPool"),
    ("ray.util.queue.Queue", "ray.util.queue:Queue"),
    ("ray.util.placement_group.PlacementGroup", "ray.util.placement_group:PlacementGroup"),
)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of the page: Ray's name, ours, how they compare, why, and Ray's signature."""

    name: str
    freehold: str
    status: str
    why: str
    signature: str
    line: int


def introspect() -> dict[str, str]:
    """Every name of Ray Core's interface with its signature ("" for what cannot be called)."""
    ray = importlib.import_module("ray")
    names: dict[str, str] = {}
    for name in sorted(set(ray.__all__)):
        names[f"ray.{name}"] = "" if name in SUBPACKAGES else _signature(getattr(ray, name, None))
    for package in ("ray", "ray.util"):
        module = importlib.import_module(package)
        for found in pkgutil.iter_modules(module.__path__):
            if not found.name.startswith("_"):
                names.setdefault(f"{package}.{found.name}", "")
    util = importlib.import_module("ray.util")
    for name in util.__all__:
        names[f"ray.util.{name}"] = _signature(getattr(util, name, None))
    for name, value in vars(importlib.import_module("ray.exceptions")).items():
        if inspect.isclass(value) and value.__module__ == "ray.exceptions" and name[0] != "_":
            names[f"ray.exceptions.{name}"] = ""
    for path in MODULES:
        for name, value in _public(importlib.import_module(path)):
            names[f"{path}.{name}"] = _signature(value)
    actor = importlib.import_module("ray.actor")
    for name in ("exit_actor", "ActorClass", "ActorHandle", "ActorMethod"):
        value = getattr(actor, name)
        names[f"ray.actor.{name}"] = "" if inspect.isclass(value) else _signature(value)
    for shown, where in CLASSES:
        module_name, _, class_name = where.partition(":")
        cls = getattr(importlib.import_module(module_name), class_name)
        for member in dir(cls):
            if not member.startswith("_"):
                names[f"{shown}.{member}"] = _signature(inspect.getattr_static(cls, member))
    names.update(_options())
    return dict(sorted(names.items()))


def _options() -> dict[str, str]:
    """Options of tasks and actors and arguments of `init` with their defaults, fields of
    runtime_env."""
    options = importlib.import_module("ray._common.ray_option_utils")
    runtime_env = importlib.import_module("ray.runtime_env")
    ray = importlib.import_module("ray")
    names: dict[str, str] = {}
    for kind, table in (("task", options.task_options), ("actor", options.actor_options)):
        for name, option in table.items():
            if not name.startswith("_"):
                names[f"{kind} option {name}"] = f"={_value(option.default_value)}"
    for name, parameter in inspect.signature(ray.init).parameters.items():
        if not name.startswith("_") and parameter.kind is not parameter.VAR_KEYWORD:
            names[f"init argument {name}"] = f"={_value(parameter.default)}"
    for name in runtime_env.RuntimeEnv.known_fields:
        if not name.startswith("_"):
            names[f"runtime_env field {name}"] = ""
    return names


def _public(module: Any) -> Iterator[tuple[str, Any]]:
    for name in getattr(module, "__all__", None) or sorted(vars(module)):
        value = getattr(module, name)
        own = getattr(value, "__module__", "").startswith("ray")
        listed = hasattr(module, "__all__") or getattr(value, "__module__", "") == module.__name__
        if not name.startswith("_") and own and listed and not inspect.ismodule(value):
            yield name, value


def _signature(value: Any) -> str:
    """Parameters and defaults, without annotations; "" for what has none or is made in C."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property) or inspect.ismodule(value) or not callable(value):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [
        parameter.replace(
            annotation=parameter.empty,
            default=parameter.empty
            if parameter.default is parameter.empty
            else _Shown(_value(parameter.default)),
        )
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


class _Shown:
    """A default that prints as the text it was made with."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _value(default: Any) -> str:
    """A default's repr, if it is the same in every run; else the name of its class."""
    text = repr(default)
    if re.search(r"0x[0-9a-f]{4,}|/", text) or "|" in text or "\n" in text or len(text) > 60:
        return f"<{type(default).__name__}>"
    return text


def read_table(path: Path = TABLE) -> list[TableRow]:
    """The rows of every table of the page that has the five columns.

    Raises:
        ValueError: a row that is not well formed, or stands there twice.
    """
    rows: dict[str, TableRow] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("| `") or len(cells) != 5:
            continue
        name, freehold, status, why, signature = cells
        row = TableRow(
            name.strip("`"), freehold.strip("`"), status, why, signature.strip("`"), number
        )
        if status not in STATUSES:
            raise ValueError(f"{path.name}:{number}: status {status!r} is none of {STATUSES}")
        if status != "same" and not why:
            raise ValueError(f"{path.name}:{number}: {row.name} is {status!r} and does not say why")
        if row.name in rows:
            raise ValueError(f"{path.name}:{number}: {row.name} is there twice")
        rows[row.name] = row
    return list(rows.values())


def is_value_row(row: TableRow) -> bool:
    """Whether the row is of one value of an option (`task: num_returns="streaming"`)."""
    return row.name.partition(": ")[0] in VALUE_KINDS


def differences(names: dict[str, str], rows: list[TableRow]) -> list[str]:
    """What the page says wrongly or not at all, one line each."""
    table = {row.name: row for row in rows if not is_value_row(row)}
    found = [f"missing from the table: {name}" for name in names if name not in table]
    for name, row in table.items():
        if name not in names:
            found.append(f"{TABLE.name}:{row.line}: Ray has no {name}")
        elif row.signature != names[name]:
            found.append(
                f"{TABLE.name}:{row.line}: the signature of {name} is {names[name]!r}, "
                f"the table says {row.signature!r}"
            )
    return found


def table_row(name: str, freehold: str, status: str, why: str, signature: str) -> str:
    shown = f"`{signature}`" if signature else ""
    ours = f"`{freehold}`" if freehold else "–"
    return f"| `{name}` | {ours} | {status} | {why} | {shown} |"


def main() -> int:
    """Compare the installed Ray with the page; 1 if they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missing", action="store_true", help="print table rows for missing names")
    options = parser.parse_args()
    names = introspect()
    ray = importlib.import_module("ray")
    rows = read_table() if TABLE.exists() else []
    if options.missing:
        known = {row.name for row in rows}
        for name in names:
            if name not in known:
                print(table_row(name, name.replace("ray.", "freehold.", 1), "?", "", names[name]))
        return 0
    document = {"ray": ray.__version__, "names": names}
    NAMES.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    found = differences(names, rows)
    print("\n".join(found) or f"ray {ray.__version__}: {len(names)} names, all as the table says")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
