"""What import-linter does not say: who may import the root, and that no module is dead."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy import exemptions, tree

# May import the public API from the root: the layers above `testing`.
ABOVE_TESTING = ("cli", "dashboard", "jobs", "integrations", "kubernetes", "shuffle", "util")
# Imported by users, not by us.
PUBLIC_PATHS = (
    "freehold.exceptions",
    "freehold.testing",
    "freehold.util.",
    "freehold.integrations.",
)


def imported_names(name: str) -> Iterator[str]:
    """Every dotted name a file imports, absolute; `from a import b` gives `a` and `a.b`."""
    module = tree.module_name(name) if name.startswith(tree.SOURCE_ROOTS) else ""
    package = module if name.endswith("__init__.py") else module.rpartition(".")[0]
    for node in ast.walk(tree.syntax(name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_lower_layers_do_not_import_the_root() -> None:
    found = []
    for name in tree.source_files():
        parts = tree.module_name(name).split(".")
        if parts[0] != "freehold" or len(parts) == 1 or parts[1] in ABOVE_TESTING:
            continue
        if "freehold" in set(imported_names(name)):
            found.append(name)
    assert found == []


def test_every_module_is_used() -> None:
    """A module that only tests import is dead. Those started by name are found in strings."""
    sources = tree.source_files()
    used: set[str] = set()
    for name in sources:
        own = tree.module_name(name)
        used |= {other for other in imported_names(name) if other != own}
        for node in ast.walk(tree.syntax(name)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= {word for word in node.value.split() if word.startswith("freehold")}
    dead = [
        name
        for name in sources
        if not name.endswith(("__init__.py", "__main__.py"))
        and tree.module_name(name) not in used
        and not tree.module_name(name).startswith(PUBLIC_PATHS)
        and name not in exemptions.UNIMPORTED
    ]
    assert dead == []
