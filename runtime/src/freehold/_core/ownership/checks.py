"""The invariants of the ownership table, for tests and the simulation (docs/invariants.md)."""

from __future__ import annotations

from freehold._core.invariants import check
from freehold._core.ownership.row import PENDING, RECREATING, Row, stored_ranges
from freehold._core.ownership.table import OwnershipTable


def check_invariants(table: OwnershipTable, rows: list[Row]) -> None:
    """Check `rows` (every row of the table that the caller knows of) against OWN-1 … OWN-6."""
    for row in rows:
        _check_row(table, row)
    for id_, (row, index) in table.by_id.items():
        check(row.object_id(index) == id_, "OWN-4", f"{row!r} known by a wrong id")
        check(
            row.count > 0 or row.lineage > 0 or (row.state == PENDING and row.info is None),
            "OWN-4",
            f"{row!r} known though nothing holds it",
        )


def _check_row(table: OwnershipTable, row: Row) -> None:
    check(row.count >= 0, "OWN-1", f"{row!r}: negative count")
    if row.counts is not None:
        check(
            sum(row.counts) == row.count and min(row.counts) >= 0,
            "OWN-1",
            f"{row!r}: counts {list(row.counts)} do not add up",
        )
    if row.state == PENDING and row.info is None:
        check(row.task is not None, "OWN-2", f"{row!r}: pending without a task")
    if row.count == 0 and row.state != PENDING:
        check(not stored_ranges(row.value), "OWN-3", f"{row!r}: out of scope with a stored value")
    if row.task is not None:
        for argument, _ in row.task.arguments or ():
            is_running = row.state == PENDING and row.info is None
            kept = argument.count if is_running else argument.lineage
            check(kept > 0, "OWN-5", f"{row!r}: argument {argument!r} not held")
        for argument, _ in row.task.dropped or ():
            check(argument.lineage > 0, "OWN-5", f"{row!r}: {argument!r} not kept")
    for _, inside in table.inside_kept.get(row, {}).values():
        check(row.count == 0, "OWN-5", f"{row!r}: in scope without what is inside its value")
        for argument, _ in inside:
            check(argument.lineage > 0, "OWN-5", f"{row!r}: {argument!r} in it not kept")
    if row.registration == RECREATING and row.info is not None and row.state == PENDING:
        check(row in table.holders, "OWN-6", f"{row!r}: no task is to make it again")
