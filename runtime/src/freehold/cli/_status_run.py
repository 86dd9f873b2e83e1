"""What ``freehold status`` asks, and how its table looks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from google.protobuf import json_format

from freehold._core.where import NODE_ID_LABEL, NODE_NAME_LABEL
from freehold._processes.driver import joining
from freehold._proto import control_pb2 as pb
from freehold.cli import _nodes
from freehold.errors import ClusterUnreachableError

_STATES = {
    pb.NODE_STATE_ALIVE: ("alive", "green"),
    pb.NODE_STATE_DRAINING: ("draining", "yellow"),
    pb.NODE_STATE_DRAINED: ("drained", "yellow"),
    pb.NODE_STATE_DEAD: ("dead", "red"),
}
_BYTES = ("memory", "object_store_memory")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


_AUTOMATIC_LABELS = frozenset({NODE_ID_LABEL, NODE_NAME_LABEL})
"""What every node has by itself; it stands in columns of its own."""


def run(address: str | None, format_: str, *, watch: bool, with_labels: bool) -> int:
    """Show the cluster, once or until ^C.

    Args:
        with_labels: the automatic ones, too.
    """
    hidden = frozenset[str]() if with_labels else _AUTOMATIC_LABELS

    def show(state: pb.ClusterState) -> None:
        if format_ == "json":
            _print_json(state)
        else:
            _print_text(state, hidden)

    with _nodes.control_calls(address) as calls:
        if not watch:
            show(calls.call("GetCluster", pb.GetClusterRequest()))
            return 0
        for state in calls.stream("WatchCluster", pb.WatchClusterRequest(period_ms=1000)):
            if format_ == "text":
                click.clear()
            show(state)
    return 0


def print_join_string(address: str | None) -> int:
    """The word that other machines join with."""
    settings = _nodes.network_settings(address=address)
    node = joining.local_node(settings, joining.control_address(settings))
    if node is None:
        raise ClusterUnreachableError(address=address or joining.AUTO, reason=joining.NO_NODE)
    click.echo(node.control.join_string())
    return 0


def _print_json(state: pb.ClusterState) -> None:
    click.echo(
        json_format.MessageToJson(
            state, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )


def _print_text(state: pb.ClusterState, hidden: Collection[str]) -> None:
    living = [node for node in state.nodes if node.state != pb.NODE_STATE_DEAD]
    count = f"{len(living)} node{'' if len(living) == 1 else 's'}"
    click.echo(f"Cluster {state.cluster}: {count}{_totals(living)}\n")
    rows = [["NODE", "NAME", "STATE", "CPU", "GPU", "MEMORY", "STORE", "OTHER"]]
    rows += [_row(node, hidden) for node in sorted(state.nodes, key=_order)]
    if not any(row[4] != "-" for row in rows[1:]):
        rows = [[*row[:4], *row[5:]] for row in rows]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    _print_table(rows, dict(_STATES.values()))
    click.echo("")
    if not state.demand:
        click.echo("Nothing waits.")
        return
    waiting = [["WAITING", "RUNNING", "FOR", "OLDEST", ""]]
    waiting += [_demand_row(demand) for demand in state.demand]
    _print_table(waiting, {})


def _order(node: pb.Node) -> tuple[bool, bool, str]:
    return node.state == pb.NODE_STATE_DEAD, not node.is_head, node.name


def _totals(nodes: list[pb.Node]) -> str:
    total = sum(node.total.get("CPU", 0.0) for node in nodes)
    free = sum(node.available.get("CPU", 0.0) for node in nodes)
    return f", {total - free:g} of {total:g} CPUs in use"


def _row(node: pb.Node, hidden: Collection[str]) -> list[str]:
    name = f"{node.name} (head)" if node.is_head else node.name
    state = _STATES.get(node.state, ("?", ""))[0]
    if node.state == pb.NODE_STATE_DEAD:
        return [node.id[:8], name, state, "-", "-", "-", "-", node.reason]
    other = [
        f"{key} {_use(node, key)}"
        for key in sorted(node.total)
        if key not in ("CPU", "GPU", "memory")
    ]
    labels = sorted(node.labels.items())
    other += [f"{key}={value}" for key, value in labels if key not in hidden]
    if node.reason:
        other.append(node.reason)
    return [
        node.id[:8],
        name,
        state,
        _use(node, "CPU"),
        _use(node, "GPU"),
        _use(node, "memory"),
        f"{_bytes(node.store_bytes)}/{_bytes(node.store_total_bytes)}",
        ", ".join(other),
    ]


def _use(node: pb.Node, key: str) -> str:
    """In use and total."""
    total = node.total.get(key, 0.0)
    if not total:
        return "-"
    used = total - node.available.get(key, 0.0)
    if key in _BYTES:
        return f"{_bytes(used)}/{_bytes(total)}"
    return f"{used:g}/{total:g}"


def _demand_row(demand: pb.Demand) -> list[str]:
    amounts = {
        key: _bytes(value) if key in _BYTES else f"{value:g}"
        for key, value in demand.resources.items()
    }
    shape = ", ".join(f"{key} {amounts[key]}" for key in sorted(amounts)) or "nothing"
    oldest = f"{demand.oldest_s:.0f} s" if demand.oldest_s else ""
    note = f"fits nowhere: {demand.reason}" if demand.infeasible else ""
    return [str(demand.queued), str(demand.running), shape, oldest, note]


def _bytes(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError


def _print_table(rows: list[list[str]], colors: dict[str, str]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells: list[Any] = []
        for cell, width in zip(row, widths, strict=True):
            padded = cell.ljust(width)
            if number == 0:
                padded = click.style(padded, bold=True)
            elif cell in colors:
                padded = click.style(padded, fg=colors[cell])
            cells.append(padded)
        click.echo("  ".join(cells).rstrip())
