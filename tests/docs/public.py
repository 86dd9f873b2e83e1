"""What the documentation promises: every public docstring, every runnable block of the pages.

Public is what `freehold.__all__` names, and the public names of `freehold.util.*`,
`freehold.testing`, `freehold.shuffle` and `freehold.kubernetes`. A page's block is runnable unless
its fence says `no-run`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PUBLIC_MODULES = (
    "freehold",
    "freehold.testing",
    "freehold.shuffle",
    "freehold.util",
    "freehold.kubernetes",
)
FENCE = re.compile(r"^```python([^\n`]*)\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class PublicObject:
    """One public name: where users find it, and what it is."""

    name: str
    value: object

    @property
    def docstring(self) -> str:
        return inspect.getdoc(self.value) or ""


@dataclass(frozen=True)
class Block:
    """One runnable block of a page, with the line its code starts at."""

    page: str
    line: int
    code: str


def modules() -> Iterator[ModuleType]:
    """The public modules that exist; `freehold.util` with everything below it."""
    if not (ROOT / "runtime/src/freehold/__init__.py").exists():
        return
    for name in PUBLIC_MODULES:
        if importlib.util.find_spec(name) is None:
            continue
        module = importlib.import_module(name)
        yield module
        if name == "freehold.util":
            for found in pkgutil.walk_packages(module.__path__, "freehold.util."):
                if not any(part.startswith("_") for part in found.name.split(".")):
                    yield importlib.import_module(found.name)


def public_names(module: ModuleType) -> list[str]:
    """`__all__`, or without one the functions and classes written in the module itself."""
    declared: list[str] | None = getattr(module, "__all__", None)
    if declared is not None:
        return list(declared)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def public_objects() -> list[PublicObject]:
    """Each public function and class once, under the first name users find it by."""
    found: dict[int, PublicObject] = {}
    for module in modules():
        for name in public_names(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.setdefault(id(value), PublicObject(f"{module.__name__}.{name}", value))
    return list(found.values())


def blocks() -> list[Block]:
    """The runnable blocks of README.md and docs/, in order."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found: list[Block] = []
    for page in pages:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for match in FENCE.finditer(text):
            if "no-run" not in match[1]:
                line = text.count("\n", 0, match.start(2)) + 1
                found.append(Block(str(page.relative_to(ROOT)), line, match[2]))
    return found
