"""Tests wait for a condition (`eventually`), never for a time.

Programs that tests submit as tasks may sleep: they are nested functions or module-level ones with
other names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy import tree


def own_nodes(function: tree.FunctionNode) -> Iterator[ast.AST]:
    """The nodes of a function's own flow: not of functions, lambdas and classes defined in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def is_sleep(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")


def bare_sleeps(name: str) -> list[str]:
    return [
        f"{name}:{node.lineno} in {qualified}"
        for qualified, function in tree.functions(name)
        if function.name.startswith("test_")
        for node in own_nodes(function)
        if isinstance(node, ast.Call) and is_sleep(node)
    ]


def test_no_test_sleeps() -> None:
    found = [line for name in tree.python_files("tests/", "e2e/") for line in bare_sleeps(name)]
    assert found == []
