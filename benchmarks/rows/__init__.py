"""The rows of the benchmark, in the order of the issue's table; `all_rows()` is what `run.py` and
`side.py` use."""

from __future__ import annotations

from benchmarks.model import Row


def all_rows() -> list[Row]:
    """Every row, by the order of the bars. Imported late so that `--help` needs none of them."""
    from benchmarks.rows import (
        actors,
        control,
        failures,
        memory,
        objects,
        robustness,
        scheduling,
        signals,
        sort,
        startup,
        tasks,
        transfer,
    )

    groups = (
        tasks,
        actors,
        objects,
        transfer,
        startup,
        memory,
        scheduling,
        sort,
        failures,
        control,
        robustness,
        signals,
    )
    rows = [row for group in groups for row in group.ROWS]
    keys = [row.key for row in rows]
    assert len(set(keys)) == len(keys), "two rows have one key"
    return rows


def programs() -> dict[str, Row]:
    """Rows by key, with those that only lend their program to a row of the host."""
    from benchmarks.rows import failures, robustness

    return {row.key: row for row in [*all_rows(), *robustness.LENT, *failures.LENT]}
