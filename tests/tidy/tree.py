"""The tree as the tidy tests see it: which files there are, and their syntax trees, read once.

Only what git tracks or would track counts, so that an environment or a build folder is never looked
at.
"""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("runtime/src/", "operator/src/")
GENERATED = "/_proto/"


@functools.cache
def tracked_files() -> tuple[str, ...]:
    """Every file git tracks or would track, relative to the root, sorted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    names = {name for name in listed.decode().split("\0") if name}
    return tuple(sorted(name for name in names if (ROOT / name).is_file()))


def python_files(*prefixes: str) -> list[str]:
    """The hand-written Python files, below one of the prefixes if any are given."""
    return [
        name
        for name in tracked_files()
        if name.endswith(".py")
        and GENERATED not in name
        and (not prefixes or name.startswith(prefixes))
    ]


def source_files() -> list[str]:
    """The hand-written Python files that are shipped."""
    return python_files(*SOURCE_ROOTS)


@functools.cache
def text(name: str) -> str:
    """A file's text; undecodable bytes are replaced."""
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


@functools.cache
def syntax(name: str) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(text(name), filename=name)


def module_name(name: str) -> str:
    """A shipped file's dotted name: `runtime/src/freehold/errors.py` is `freehold.errors`."""
    inner = name.split("/src/", 1)[1].removesuffix(".py").removesuffix("/__init__")
    return inner.replace("/", ".")


FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def functions(name: str) -> Iterator[tuple[str, FunctionNode]]:
    """Every function of a file with its qualified name, nested ones too."""

    def walk(node: ast.AST, path: str) -> Iterator[tuple[str, FunctionNode]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, FunctionNode):
                yield f"{path}{child.name}", child
                yield from walk(child, f"{path}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{path}{child.name}.")
            else:
                yield from walk(child, path)

    yield from walk(syntax(name), "")
