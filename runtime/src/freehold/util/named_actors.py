"""The names that actors have."""

from __future__ import annotations

from typing import Any

from freehold._api import state


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the living actors that have one.

    Args:
        all_namespaces: those of every namespace, and not of this job's alone.

    Returns:
        Names; with `all_namespaces`, dicts with `name` and `namespace`.

    Example:
        >>> @freehold.remote
        ... class Worker:
        ...     def ping(self):
        ...         return 1
        >>> worker = Worker.options(name="listed-worker").remote()
        >>> freehold.get(worker.ping.remote())
        1
        >>> "listed-worker" in freehold.util.list_named_actors()
        True
    """
    core = state.require()
    namespace = None if all_namespaces else core.namespace
    named = [
        info.options
        for info in core.list_actors(namespace)
        if info.options.name and info.state != "dead"
    ]
    if all_namespaces:
        return [{"name": found.name, "namespace": found.namespace} for found in named]
    return [found.name for found in named]
