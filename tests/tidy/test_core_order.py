"""`_core` never acts on the order of a set: the same events must give the same effects always.

Best effort, from the syntax alone: an expression counts as a set if it is written as one, or is a
name or attribute that the same module declares or fills as one. `sorted`, `min`, `len`, membership
and the like are fine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.tidy import tree

SET_MAKERS = {"set", "frozenset"}
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
SET_OPERATORS = (ast.Sub, ast.BitAnd, ast.BitOr, ast.BitXor)
ORDER_FREE = {
    "sorted",
    "min",
    "max",
    "sum",
    "any",
    "all",
    "set",
    "frozenset",
    "len",
    "fsum",
    "Counter",
}
ORDERED = {"list", "tuple", "iter", "enumerate", "deque", "map", "filter", "zip", "reversed"}


def annotation_is_set(annotation: ast.expr) -> bool:
    words = ast.unparse(annotation).split("[")[0].split(".")[-1]
    return words in ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet")


class SetNames(ast.NodeVisitor):
    """Collects the names and attributes a module uses for sets."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if annotation_is_set(node.annotation):
            self._note(node.target)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if is_set(node.value, frozenset()):
            for target in node.targets:
                self._note(target)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        if node.annotation is not None and annotation_is_set(node.annotation):
            self.names.add(node.arg)

    def _note(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.names.add(target.id)
        elif isinstance(target, ast.Attribute):
            self.names.add(target.attr)


def is_set(node: ast.expr, names: frozenset[str]) -> bool:
    """Whether an expression is a set, as far as the syntax tells."""
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in SET_MAKERS
        case ast.Call(func=ast.Attribute(attr=method, value=value)):
            return method in SET_METHODS and is_set(value, names)
        case ast.BinOp(left=left, op=op, right=right) if isinstance(op, SET_OPERATORS):
            return any(is_set(side, names) or is_keys(side) for side in (left, right))
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in names
    return False


def is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".keys")


def ordered_uses(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of each place that takes the elements of a set one by one."""
    collector = SetNames()
    collector.visit(module)
    names = frozenset(collector.names)
    free = {
        id(argument)
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ORDER_FREE
        for argument in node.args
    }
    for node in ast.walk(module):
        taken: list[ast.expr] = []
        match node:
            case ast.For(iter=source) | ast.AsyncFor(iter=source) | ast.Starred(value=source):
                taken = [source]
            case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
                taken = [] if id(node) in free else [g.iter for g in node.generators]
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in ORDERED:
                taken = [] if id(node) in free else list(arguments)
            case ast.Call(func=ast.Attribute(attr="pop", value=value), args=[]):
                taken = [value]
        for source in taken:
            if is_set(source, names):
                yield source.lineno, ast.unparse(node).splitlines()[0][:100]


def test_the_search_finds_what_it_is_for() -> None:
    sample = ast.parse(
        "class A:\n"
        "    def f(self) -> None:\n"
        "        self.x: set[int] = set()\n"
        "        for a in self.x: pass\n"
        "        b = [c for c in {1, 2}]\n"
        "        d = self.x.pop()\n"
        "        e = list(self.x - {1})\n"
        "        ok = sorted(self.x), sorted(g for g in self.x), len(self.x), 1 in self.x\n"
    )
    assert sorted({line for line, _ in ordered_uses(sample)}) == [4, 5, 6, 7]


def test_core_never_takes_the_order_of_a_set() -> None:
    found = [
        f"{name}:{line}: {shown}"
        for name in tree.source_files()
        if "/freehold/_core/" in name
        for line, shown in ordered_uses(tree.syntax(name))
    ]
    assert found == []
