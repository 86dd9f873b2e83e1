"""docs/ray_compatibility.md against Ray's names as last seen, and against Freehold.

Ray itself is not needed: `make bench` runs benchmarks/ray/check_names.py, which refreshes the
names.json beside it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "ray" / "check_names.py"


def _load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_names", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["check_names"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


check_names = _load_script()
NAMES: dict[str, str] = json.loads(check_names.NAMES.read_text())["names"]
ROWS = check_names.read_table()
THERE = [row for row in ROWS if row.status in ("same", "better")]
VALUES = [row for row in ROWS if check_names.is_value_row(row)]
OPTIONS = [row for row in THERE if " option " in row.name]


def test_table_names_everything_ray_has_with_its_signature() -> None:
    assert check_names.differences(NAMES, ROWS) == []


def test_differences_finds_a_missing_name_another_signature_and_a_name_ray_lacks() -> None:
    row = check_names.TableRow("ray.get", "freehold.get", "same", "", "(refs)", 1)
    gone = check_names.TableRow("ray.gone", "", "no", "why", "", 2)
    found = check_names.differences({"ray.get": "(object_refs)", "ray.put": "(value)"}, [row, gone])
    assert "missing from the table: ray.put" in found
    assert any("signature of ray.get" in line for line in found)
    assert any("Ray has no ray.gone" in line for line in found)


def test_rows_that_are_there_name_freeholds_own_path() -> None:
    assert [row.name for row in THERE if not row.freehold.startswith("freehold")] == []


@pytest.mark.parametrize("path", sorted({row.freehold for row in THERE}))
def test_a_name_marked_same_or_better_exists(path: str) -> None:
    _resolve(path)


@pytest.mark.parametrize(
    "row", [r for r in THERE if r.signature.startswith("(")], ids=lambda r: r.name
)
def test_freehold_takes_the_parameters_of_ray_or_the_page_says_not(row: Any) -> None:
    if row.name == "ray.init":
        pytest.skip("each argument of init has a row of its own")
    ours = inspect.signature(_resolve(row.freehold)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in ours.values()):
        return
    lacking = [
        name
        for name in _parameter_names(row.signature)
        if name not in ours and f"`{name}`" not in row.why
    ]
    assert lacking == []


@pytest.mark.parametrize("row", OPTIONS, ids=lambda row: row.name)
def test_an_option_marked_same_or_better_takes_rays_default(row: Any) -> None:
    kind, _, name = row.name.partition(" option ")
    _declare(kind, {name: ast.literal_eval(row.signature.removeprefix("="))})


@pytest.mark.parametrize("row", VALUES, ids=lambda row: row.name)
@pytest.mark.usefixtures("_no_cluster")
def test_a_value_that_is_not_built_yet_is_refused(row: Any) -> None:
    from freehold.exceptions import NotSupportedYetError

    kind, _, source = row.name.partition(": ")
    with pytest.raises(NotSupportedYetError):
        _carry_out(kind, source)


@pytest.mark.parametrize("row", [r for r in ROWS if r.status == "not yet"], ids=lambda r: r.name)
def test_an_option_that_is_not_built_yet_has_a_value_that_is_tried(row: Any) -> None:
    kind, _, name = row.name.partition(" option ")
    if not name or name == "placement_group":  # a placement group cannot be made at all
        return
    assert any(value.name.startswith(f"{kind}: {name}=") for value in VALUES)


@pytest.fixture
def _no_cluster() -> Iterator[None]:
    """A value of `init` that is wrongly taken must not leave a cluster behind."""
    yield
    import freehold

    if freehold.is_initialized():
        freehold.shutdown()


def _resolve(path: str) -> Any:
    """The object at a dotted path: the longest part that is a module, then its attributes."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise ModuleNotFoundError(path)


def _parameter_names(signature: str) -> list[str]:
    """Public parameters of a signature without annotations, `self`, `cls` and stars left out."""
    text = signature
    for opaque in ("<factory>", "<type>"):
        text = text.replace(opaque, "None")
    arguments = ast.parse(f"def f{text}: pass").body[0]
    assert isinstance(arguments, ast.FunctionDef)
    every = [*arguments.args.posonlyargs, *arguments.args.args, *arguments.args.kwonlyargs]
    return [a.arg for a in every if a.arg not in ("self", "cls") and not a.arg.startswith("_")]


def _carry_out(kind: str, source: str) -> None:
    if kind == "call":
        eval(source, {"util": importlib.import_module("freehold.util")})
    else:
        _declare(kind, _keywords(source))


def _keywords(source: str) -> dict[str, Any]:
    """The options as written; strategies are made of the classes a user imports."""
    strategies = importlib.import_module("freehold.util.scheduling_strategies")
    options: dict[str, Any] = eval(f"dict({source})", dict(vars(strategies)))
    return options


def _declare(kind: str, options: dict[str, Any]) -> None:
    """Give the options where a user gives them."""
    import freehold

    class Example:
        def method(self) -> None: ...

    if kind == "init":
        freehold.init(**options)
    elif kind == "method":
        freehold.remote(
            type("Declared", (), {"method": freehold.method(**options)(Example.method)})
        )
    elif kind == "actor":
        freehold.remote(**options)(Example)
    else:
        freehold.remote(**options)(lambda: None)
