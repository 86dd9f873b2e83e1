"""Where a task or an actor may run, beyond what it needs: labels, a node, spreading.

A label selector is a mapping of label names to conditions, written as Ray writes them: `"a"`,
`"!a"`, `"in(a, b)"`, `"!in(a, b)"`, and ours `"exists()"`, `"!exists()"`. A negated condition also
holds for a node that lacks the label. The text travels as it was written, so that whoever reads of
it (a person, the operator) sees what the user wrote.

It decides about one node; which of the nodes that may serve is taken is the policies' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

NODE_ID_LABEL = "freehold.dev/node-id"
"""The label that every node has by itself: its id."""

NODE_NAME_LABEL = "freehold.dev/node-name"
"""The same for the name that its starter gave it."""


class Where(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A placement that is not the default one; hashable, since tasks queue by it.

    `labels` must hold, `preferred` had better. `node` is an id: that node alone, or with `is_soft`
    any other that serves when that one cannot.
    """

    labels: tuple[tuple[str, str], ...] = ()
    preferred: tuple[tuple[str, str], ...] = ()
    node: str = ""
    is_soft: bool = False
    is_spread: bool = False

    def __str__(self) -> str:
        """As messages to users say it."""
        parts = [f"{name}={text}" for name, text in self.labels]
        if self.node:
            parts.append(f"node {self.node[:8]}" + (" if possible" if self.is_soft else ""))
        return ", ".join(parts)


ANYWHERE = Where()


def make_selector(given: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    """A label selector, checked.

    Raises:
        ValueError: a label's name is empty, or a condition is none of the forms above.
    """
    for name, text in given.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"a label's name must be a non-empty string, not {name!r}")
        if not isinstance(text, str):
            raise ValueError(f"the condition on label {name!r} must be a string, not {text!r}")
        _parse(name, text)
    return tuple(sorted(given.items()))


def _parse(name: str, text: str) -> tuple[bool, tuple[str, ...] | None]:
    """Whether the condition is negated, and the values it names (None: any value)."""
    negated = text.startswith("!")
    rest = text[1:] if negated else text
    head, bracket, inner = rest.partition("(")
    if not bracket:
        if rest and not set(rest) & set("()!, "):
            return negated, (rest,)
    elif inner.endswith(")"):
        values = tuple(part.strip() for part in inner[:-1].split(","))
        if head == "in" and all(values):
            return negated, values
        if head == "exists" and inner == ")":
            return negated, None
    raise ValueError(
        f"the condition {text!r} on label {name!r} is not one of a, !a, in(a, b), !in(a, b), "
        "exists(), !exists()"
    )


def holds(selector: Iterable[tuple[str, str]], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels meets every condition."""
    for name, text in selector:
        negated, values = _parse(name, text)
        value = labels.get(name)
        found = value is not None if values is None else value in values
        if found == negated:
            return False
    return True


def allows(where: Where | None, node: str, labels: Mapping[str, str]) -> bool:
    """Whether what is to run at `where` may run on this node at all."""
    if where is None:
        return True
    if where.node and not where.is_soft and where.node != node:
        return False
    return not where.labels or holds(where.labels, labels)


def prefers(where: Where | None, node: str, labels: Mapping[str, str]) -> bool:
    """Whether this node is one that `where` had rather than others."""
    if where is None:
        return False
    if where.node:
        return where.node == node
    return bool(where.preferred) and holds(where.preferred, labels)
