"""The public names are pinned: adding or dropping one is a decision, seen in a review."""

from __future__ import annotations

import ast
import importlib

import pytest
from tests.tidy import tree

INIT = "runtime/src/freehold/__init__.py"
PINNED = "tests/tidy/public_names.txt"

pytestmark = pytest.mark.skipif(
    not (tree.ROOT / INIT).exists(), reason="the package has no public names yet"
)


def declared_names() -> list[str]:
    """`__all__` as written."""
    for node in tree.syntax(INIT).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.expr() as value):
                return [str(name) for name in ast.literal_eval(value)]
            case ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value):
                return [str(name) for name in ast.literal_eval(value)]
    pytest.fail(f"{INIT} has no literal __all__")


def test_the_public_names_are_sorted_and_pinned() -> None:
    names = declared_names()
    assert names == sorted(names)
    assert names == tree.text(PINNED).split()


def test_every_public_name_exists() -> None:
    package = importlib.import_module("freehold")
    missing = [name for name in declared_names() if not hasattr(package, name)]
    assert missing == []
