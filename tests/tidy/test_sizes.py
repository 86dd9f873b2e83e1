"""Files and functions stay small enough to read: the figures of the house's rules, as gates."""

from __future__ import annotations

import ast
import statistics

import pytest
from tests.tidy import exemptions, tree

FILE_LINES_MAX = 600
FILE_LINES_LOOK_AGAIN = 400
FILE_LINES_MEDIAN = 200
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 6


def line_count(name: str) -> int:
    return tree.text(name).count("\n")


def body_lines(node: tree.FunctionNode) -> int:
    """Lines from `def` to the end, without the docstring: a public one is to be long."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameter_count(node: tree.FunctionNode) -> int:
    """Named parameters, without self or cls."""
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    own = 1 if names[:1] in (["self"], ["cls"]) else 0
    return len(names) - own + len(node.args.kwonlyargs)


def test_no_file_is_longer_than_the_limit() -> None:
    too_long = {n: line_count(n) for n in tree.python_files() if line_count(n) > FILE_LINES_MAX}
    assert too_long == {}


def test_long_files_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    long = {
        n: line_count(n)
        for n in tree.python_files()
        if FILE_LINES_LOOK_AGAIN < line_count(n) <= FILE_LINES_MAX
    }
    if long:
        with capsys.disabled():
            print(f"\nlonger than {FILE_LINES_LOOK_AGAIN} lines, look again:")
            for name, lines in sorted(long.items(), key=lambda item: -item[1]):
                print(f"  {lines} {name}")
    assert all(lines <= FILE_LINES_MAX for lines in long.values())


def test_the_median_source_file_is_short() -> None:
    sizes = [line_count(n) for n in tree.source_files() if tree.text(n).strip()]
    assert not sizes or statistics.median(sizes) <= FILE_LINES_MEDIAN


def test_functions_are_short() -> None:
    found = {
        f"{name}::{qualified}": body_lines(node)
        for name in tree.python_files()
        for qualified, node in tree.functions(name)
        if body_lines(node) > FUNCTION_LINES_MAX
    }
    assert {k: v for k, v in found.items() if k not in exemptions.LONG_FUNCTIONS} == {}
    assert set(exemptions.LONG_FUNCTIONS) <= set(found), "an exemption is no longer needed"


def test_functions_take_few_parameters() -> None:
    found = {
        f"{name}::{qualified}": parameter_count(node)
        for name in tree.source_files()
        for qualified, node in tree.functions(name)
        if parameter_count(node) > PARAMETERS_MAX
    }
    assert {k: v for k, v in found.items() if k not in exemptions.MANY_PARAMETERS} == {}
    assert set(exemptions.MANY_PARAMETERS) <= set(found), "an exemption is no longer needed"
