"""What there is in the cluster, as lists of dicts: tasks, actors, nodes, and sums of them.

Made from what the processes keep (each the events of its last 2,000 tasks), when asked. Arguments
are Ray's; `address` can only be that of the cluster this process is part of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from freehold._api import state
from freehold._api.cluster import node_records
from freehold._api.suggest import did_you_mean
from freehold._api.task_records import task_records
from freehold.errors import NotSupportedYetError

if TYPE_CHECKING:
    from freehold._core.messages import ActorInfo

Filter = tuple[str, str, Any]
Record = dict[str, Any]

_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda found, wanted: bool(found == wanted or str(found).lower() == str(wanted).lower()),
    "!=": lambda found, wanted: not _TESTS["="](found, wanted),
}


def list_tasks(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
) -> list[Record]:
    """The last tasks, oldest first: `task_id`, `name`, `state`, times in milliseconds, `detail`.

    Args:
        address: None or "auto": this process's cluster.
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most, the last ones.
        timeout: seconds to wait for the answer.
        detail: not built yet.

    Returns:
        A dict a task; `state` is PENDING, RUNNING, FINISHED or FAILED.

    Example:
        >>> from freehold.util.state import list_tasks
        >>> isinstance(list_tasks(filters=[("state", "=", "FINISHED")], limit=10), list)
        True
    """
    _check("list_tasks", address, timeout, detail)
    return _last(_filtered(task_records(state.require().task_events(timeout)), filters), limit)


def list_actors(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
) -> list[Record]:
    """The actors of all namespaces, the last dead ones too.

    Args:
        address: None or "auto": this process's cluster.
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most, the last ones.
        timeout: seconds to wait for the answer.
        detail: `max_restarts`, `is_detached` and `owner` (a process) too.

    Returns:
        A dict an actor: `actor_id`, `class_name`, `state` (PENDING, ALIVE, RESTARTING, DEAD),
        `name`, `namespace`, `node_id`, `restarts`, `death_cause`.

    Example:
        >>> from freehold.util.state import list_actors
        >>> alive = list_actors(filters=[("state", "=", "ALIVE")])
        >>> {actor["state"] for actor in alive} <= {"ALIVE"}
        True
    """
    _check("list_actors", address, timeout)
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
        | (_details(info) if detail else {})
        for info in state.require().list_actors(None, timeout)
    ]
    return _last(_filtered(records, filters), limit)


def list_nodes(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = 100,
    timeout: float = 30,
    detail: bool = False,
) -> list[Record]:
    """The nodes: `node_id`, `state` (ALIVE, DEAD), `is_head_node`, `resources_total`, …

    Args:
        address: None or "auto": this process's cluster.
        filters: `(field, "=" or "!=", value)` each; all must hold.
        limit: how many at the most.
        timeout: seconds to wait for the answer.
        detail: not built yet.

    Example:
        >>> from freehold.util.state import list_nodes
        >>> [node["state"] for node in list_nodes(filters=[("is_head_node", "=", True)])]
        ['ALIVE']
    """
    _check("list_nodes", address, timeout, detail)
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
        for node in node_records(timeout)
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


def _details(info: ActorInfo) -> Record:
    return {
        "max_restarts": info.options.max_restarts,
        "is_detached": info.options.detached,
        "owner": str(info.owner.address),
    }


def _check(call: str, address: str | None, timeout: Any, detail: bool = False) -> None:
    if address not in (None, "auto"):
        raise NotSupportedYetError(
            feature=f"{call}(address={address!r})",
            instead="leave it out: it is about the cluster that this process is part of",
        )
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ValueError(f"timeout of {call} must be more than 0 seconds, not {timeout!r}")
    if detail:
        raise NotSupportedYetError(
            feature=f"{call}(detail=True)", instead="leave it out: there is no more to tell"
        )


def _counted(records: list[Record], key: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for record in records:
        states = found.setdefault(record[key], {})
        states[record["state"]] = states.get(record["state"], 0) + 1
    return found


def _filtered(records: list[Record], filters: Sequence[Filter] | None) -> list[Record]:
    for field, predicate, value in filters or ():
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
