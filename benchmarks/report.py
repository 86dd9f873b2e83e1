"""How a run is shown: the table on the terminal, the JSON beside it, and what a run was measured
on.

Place in the flow: the last step of `run.py`. The JSON names no machine: cores, memory, kernel and
versions only.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.verdicts import Line, Results, figure

HEADER = ("row", "unit", "Freehold", "Ray", "ratio", "bar", "")


def table(table_lines: Sequence[Line]) -> str:
    """The table, in columns; figures are medians (least–most)."""
    cells = [HEADER, *(_cells(line) for line in table_lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(HEADER))]
    text = []
    for number, row in enumerate(cells):
        text.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        if number == 0:
            text.append("  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.title,
        line.unit,
        line.freehold.text() if line.freehold else "–",
        line.ray.text() if line.ray else "–",
        f"{line.ratio:.1f}×" if line.ratio is not None else "",
        line.bar,
        {"none": "", "skipped": "not asked"}.get(line.verdict, line.verdict.upper()),
    )


def summary(table_lines: Sequence[Line]) -> str:
    """What was missed and what went wrong, one line each, and the count of bars that hold."""
    held = sum(line.verdict == "pass" for line in table_lines)
    skipped = sum(line.verdict == "skipped" for line in table_lines)
    text: list[str] = []
    bad = 0
    told: set[tuple[str, str, str]] = set()
    for line in table_lines:
        bad += line.verdict in ("miss", "error")
        if line.verdict == "miss":
            figures = line.freehold.text() if line.freehold else "–"
            ratio = f" = {line.ratio:.2f}× Ray" if line.ratio is not None else ""
            text.append(f"missed: {line.title}: {figures} {line.unit}{ratio}, bar {line.bar}")
        elif line.verdict == "error" and (line.row, line.variant, line.why) not in told:
            told.add((line.row, line.variant, line.why))
            text.append(f"error: {line.title}: {line.why}")
    tail = f", {skipped} need a side that was not run" if skipped else ""
    text.append(f"{held} bars hold, {bad} do not{tail}")
    return "\n".join(text)


def write_json(
    path: Path, table_lines: Sequence[Line], results: Results, options: dict[str, Any]
) -> None:
    """Everything measured, with every round, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = document(table_lines, results, options)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def document(
    table_lines: Sequence[Line], results: Results, options: dict[str, Any]
) -> dict[str, Any]:
    """Everything measured, with every round, and on what."""
    return {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {
            "cpus": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "options": options,
        "lines": [
            {**dataclasses.asdict(line), "ratio": _rounded(line.ratio)} for line in table_lines
        ],
        "rounds": [
            {
                "row": row,
                "variant": variant,
                "source": source,
                "rounds": [{"value": s.value, **s.metrics} for s in samples],
            }
            for (row, variant, source), samples in results.samples.items()
        ],
        "ray_errors": {
            f"{row} {variant}": text
            for (row, variant, source), text in results.errors.items()
            if source == "ray"
        },
    }


def progress(title: str, side: str, value: float, unit: str) -> str:
    return f"  {title:<52} {side:<9} {figure(value):>10} {unit}"


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
