"""What there is in the cluster, as lists of dicts: tasks, actors, nodes, and sums of them.

Made from what the processes keep (each its last 10,000 task events), when asked. Ray's `address`,
`timeout` and `explain` arguments have nothing to say here and are not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from freehold._api import state
from freehold._api.cluster import nodes
from freehold._api.suggest import did_you_mean
from freehold._api.task_records import task_records

Filter = tuple[str, str, Any]
Record = dict[str, Any]

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, wanted: bool(found == wanted or str(found).lower() == str(wanted).lower()),
    "!=": lambda found, wanted: not _TESTS["="](found, wanted),
}


def list_tasks(*, filters: Sequence[Filter] = (), limit: int = 100) -> list[Record]:
    """The last tasks, oldest first: `task_id`, `name`, `state`, times in milliseconds, `detail`.

    Args:
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most, the last ones.

    Returns:
        A dict a task; `state` is PENDING, RUNNING, FINISHED or FAILED.

    Example:
        >>> from freehold.util.state import list_tasks
        >>> isinstance(list_tasks(filters=[("state", "=", "FINISHED")], limit=10), list)
        True
    """
    return _last(_filtered(task_records(state.require().task_events()), filters), limit)


def list_actors(*, filters: Sequence[Filter] = (), limit: int = 100) -> list[Record]:
    """The actors of all namespaces, the last dead ones too.

    Args:
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most, the last ones.

    Returns:
        A dict an actor: `actor_id`, `class_name`, `state` (PENDING, ALIVE, RESTARTING, DEAD),
        `name`, `namespace`, `node_id`, `restarts`, `death_cause`.

    Example:
        >>> from freehold.util.state import list_actors
        >>> alive = list_actors(filters=[("state", "=", "ALIVE")])
        >>> {actor["state"] for actor in alive} <= {"ALIVE"}
        True
    """
    records = [
        {
            "actor_id": info.actor[:16].hex(),
            "class_name": info.options.class_name,
            "state": info.state.upper(),
            "name": info.options.name,
            "namespace": info.options.namespace,
            "node_id": info.address.node if info.address is not None else None,
            "restarts": info.restarts,
            "death_cause": info.reason,
        }
        for info in state.require().list_actors(None)
    ]
    return _last(_filtered(records, filters), limit)


def list_nodes(*, filters: Sequence[Filter] = (), limit: int = 100) -> list[Record]:
    """The nodes: `node_id`, `state` (ALIVE, DEAD), `is_head_node`, `resources_total`, …

    Args:
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most.

    Example:
        >>> from freehold.util.state import list_nodes
        >>> [node["state"] for node in list_nodes(filters=[("is_head_node", "=", True)])]
        ['ALIVE']
    """
    records = [
        {
            "node_id": node["NodeID"],
            "node_name": node["NodeName"],
            "state": "ALIVE" if node["Alive"] else "DEAD",
            "is_head_node": node["IsHead"],
            "resources_total": node["Resources"],
            "resources_available": node["Available"],
            "object_store_bytes": node["object_store"]["in_use"],
            "pid": node["NodeManagerPid"],
        }
        for node in nodes()
    ]
    return _last(_filtered(records, filters), limit)


def summarize_tasks() -> dict[str, dict[str, int]]:
    """How many of the last tasks are in which state, by name.

    Example:
        >>> from freehold.util.state import summarize_tasks
        >>> isinstance(summarize_tasks(), dict)
        True
    """
    return _counted(task_records(state.require().task_events()), "name")


def summarize_actors() -> dict[str, dict[str, int]]:
    """How many actors are in which state, by class.

    Example:
        >>> from freehold.util.state import summarize_actors
        >>> isinstance(summarize_actors(), dict)
        True
    """
    return _counted(list_actors(limit=1 << 31), "class_name")


def _counted(records: list[Record], key: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for record in records:
        states = found.setdefault(record[key], {})
        states[record["state"]] = states.get(record["state"], 0) + 1
    return found


def _filtered(records: list[Record], filters: Sequence[Filter]) -> list[Record]:
    for field, predicate, value in filters:
        test = _TESTS.get(predicate)
        if test is None:
            raise ValueError(f'filters compare with "=" or "!=", not {predicate!r}')
        if records and field not in records[0]:
            raise ValueError(f"there is no field {field!r}{did_you_mean(field, records[0])}")
        records = [record for record in records if test(record[field], value)]
    return records


def _last(records: list[Record], limit: int) -> list[Record]:
    if limit < 1:
        raise ValueError(f"limit must be 1 or more, not {limit}")
    return records[-limit:]
