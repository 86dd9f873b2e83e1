"""What the operator's modules must not do, beyond the layers that import-linter keeps."""

from __future__ import annotations

import ast

from tests.tidy import tree

OPERATOR = "operator/src/freehold_operator/"
# kopf's ways that annotate objects, or add finalizers that hang when the operator is gone.
BANNED = ("daemon", "timer", "on.create", "on.update", "on.delete", "on.field", "on.resume")
# The shell; everything else of the operator is pure.
SHELL = frozenset(
    [
        *("__main__", "app", "authority", "cache", "carry", "errors", "events", "handlers", "head"),
        *("health", "kinds", "kube", "liveness", "log", "memory", "metrics", "reconciler"),
        *("settings", "sync", "workqueue"),
    ]
)
CLOCKS = ("now", "utcnow", "today", "time", "monotonic", "perf_counter")


def attribute_calls(name: str) -> set[str]:
    """Every dotted name that is used in a file."""
    return {ast.unparse(n) for n in ast.walk(tree.syntax(name)) if isinstance(n, ast.Attribute)}


def modules() -> list[str]:
    return tree.python_files(OPERATOR)


def test_there_is_an_operator_to_look_at() -> None:
    assert len(modules()) > 20


def test_kopf_only_watches() -> None:
    found = [
        f"{name}: kopf.{banned}"
        for name in modules()
        for banned in BANNED
        if f"kopf.{banned}" in attribute_calls(name)
    ]
    assert found == []


def test_nothing_sets_a_finalizer() -> None:
    found = []
    for name in modules():
        for node in ast.walk(tree.syntax(name)):
            if isinstance(node, ast.Dict):
                keys = [k.value for k in node.keys if isinstance(k, ast.Constant)]
                if "finalizers" in keys:
                    found.append(f"{name}:{node.lineno}")
    assert found == []


def test_the_core_asks_no_clock() -> None:
    """import-linter keeps `time` out; `datetime` is allowed for text, and could tell the time."""
    found = []
    for name in modules():
        if tree.module_name(name).rpartition(".")[2] in SHELL:
            continue
        for used in attribute_calls(name):
            if used.startswith("datetime.") and used.rpartition(".")[2] in CLOCKS:
                found.append(f"{name}: {used}")
    assert found == []


def test_the_core_does_not_act_on_the_order_of_a_set() -> None:
    """A loop or comprehension over a set that is not sorted comes out differently each run."""
    found = []
    for name in modules():
        if tree.module_name(name).rpartition(".")[2] in SHELL:
            continue
        for node in ast.walk(tree.syntax(name)):
            if not isinstance(node, ast.For):
                continue
            over = node.iter
            if isinstance(over, ast.Set | ast.SetComp) or (
                isinstance(over, ast.Call) and ast.unparse(over.func) in ("set", "frozenset")
            ):
                found.append(f"{name}:{node.lineno}")
    assert found == []


def test_every_module_is_shell_or_pure() -> None:
    """The contract in pyproject.toml names the pure modules: a new one is in one of the lists."""
    text = tree.text("pyproject.toml")
    names = {tree.module_name(name).rpartition(".")[2] for name in modules()}
    missing = [
        name
        for name in sorted(names - SHELL - {"freehold_operator"})
        if f'"freehold_operator.{name}"' not in text
    ]
    assert missing == []
