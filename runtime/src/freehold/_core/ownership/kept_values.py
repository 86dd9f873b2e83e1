"""Small values that lineage alone holds: part of the table.

A task that may be executed again has them among its arguments, and no task can make them again, so
they stay in their rows. The references inside them are held as they are themselves: by a lineage
count, so that values may go that can be had again, but not the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.ids import ACTOR_HANDLE_INDEX, Location
from freehold._core.ownership.reference import make_reference
from freehold._core.ownership.row import LOST, Packed, Row, stored_ranges

if TYPE_CHECKING:
    from freehold._core.ownership.table import OwnershipTable


def keep_small_values(table: OwnershipTable, row: Row) -> None:
    """A row left scope that no task makes, and lineage holds it: what is stored goes.

    So does a value with an actor's handle inside: lineage does not keep actors.
    """
    value = row.value
    if type(value) is Packed or type(value) is Location:
        table.release_value(row)
        return
    nested, row.nested = row.nested or {}, None
    values = [value] if row.counts is None else value
    table.released += [*stored_ranges(values), *table.stale.pop(row, ())]
    left = [None if type(value) is Location else value for value in values]
    kept = {}
    for index, (refs, inside) in nested.items():
        if any(ref._row.first_index == ACTOR_HANDLE_INDEX for ref in inside):
            left[index] = None
        elif left[index] is not None:
            kept[index] = (refs, [(ref._row, ref._index) for ref in inside])
            for ref in inside:
                ref._row.lineage += 1
    row.value = left[0] if row.counts is None else left
    if row.value is None:
        row.state = LOST
    if kept:
        table.inside_kept[row] = kept


def restore_inside(table: OwnershipTable, row: Row) -> None:
    """A row is in scope again, and with it what its small values refer to."""
    again = [row]
    while again:
        row = again.pop()
        for at, (refs, inside) in table.inside_kept.pop(row, {}).items():
            row.nested = row.nested or {}
            row.nested[at] = (refs, [make_reference(*entry) for entry in inside])
            for inner, index in inside:
                inner.lineage -= 1
                inner.count += 1
                if inner.counts is not None:
                    inner.counts[index] += 1
                again.append(inner)
