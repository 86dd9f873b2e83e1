"""From samples to lines of the table: medians, ratios, bars held or missed, ceilings respected.

Place in the flow: `run.py` fills a `Results` while it measures; this module turns it into `Line`s
for the table and the JSON. Pure: it measures and prints nothing.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.model import Bar, Row, Sample, SideName, Variant

Source = Literal["freehold", "ray", "ceiling", "baseline"]
Verdict = Literal["pass", "miss", "none", "error", "skipped"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of a metric over the rounds, with the least and the most."""

    median: float
    least: float
    most: float
    rounds: int

    def text(self) -> str:
        if self.rounds == 1:
            return figure(self.median)
        return f"{figure(self.median)} ({figure(self.least)}–{figure(self.most)})"


@dataclass(slots=True)
class Results:
    """Every sample of a run, by row, variant and where it came from, and the errors."""

    samples: dict[tuple[str, Variant, Source], list[Sample]] = field(
        default_factory=lambda: defaultdict(list)
    )
    errors: dict[tuple[str, Variant, Source], str] = field(default_factory=dict)

    def spread(self, row: str, variant: Variant, source: Source, metric: str) -> Spread | None:
        samples = self.samples.get((row, variant, source), [])
        values = [s.value if metric == "value" else s.metrics.get(metric) for s in samples]
        known = [value for value in values if value is not None]
        if not known:
            return None
        return Spread(statistics.median(known), min(known), max(known), len(known))


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: one bar of one variant of a row (or the row's figure, if it has no
    bar)."""

    row: str
    variant: Variant
    title: str
    unit: str
    freehold: Spread | None
    ray: Spread | None
    ceiling: Spread | None
    ratio: float | None
    bar: str
    verdict: Verdict
    why: str = ""


def lines(rows: Iterable[Row], results: Results, *, sides: Sequence[SideName]) -> list[Line]:
    """The table, in the order of the rows; a row without a bar has one line, verdict "none"."""
    table: list[Line] = []
    for row in rows:
        for variant in row.variants:
            bars: tuple[Bar | None, ...] = row.bars or (None,)
            table.extend(_line(row, variant, bar, results, sides) for bar in bars)
    return table


def _line(
    row: Row, variant: Variant, bar: Bar | None, results: Results, sides: Sequence[SideName]
) -> Line:
    metric = bar.metric if bar else "value"
    ours = results.spread(row.key, variant, "freehold", metric)
    rays = results.spread(row.key, variant, "ray", metric)
    ceiling = results.spread(row.key, variant, "ceiling", "value") if metric == "value" else None
    base = results.spread(row.key, variant, "baseline", "value")
    better = row.higher_is_better
    ratio = _ratio(ours, rays, higher_is_better=better)
    title = (
        row.title
        + {"plain": "", "argument": ", 1 KiB argument", "result": ", 1 KiB result"}[variant]
    )
    if bar and bar.label:
        title += f": {bar.label}"
    error = next(
        (
            text
            for (key, its_variant, source), text in results.errors.items()
            if key == row.key and its_variant == variant and source != "ray"
        ),
        "",
    )
    verdict: Verdict = "none"
    why = error
    if error:
        verdict = "error"
    elif ours is not None and ceiling is not None and ours.median > ceiling.median:
        verdict = "error"
        why = (
            f"faster than its ceiling of {figure(ceiling.median)}: the row does not measure a call"
        )
    elif bar is not None:
        verdict, why = _verdict(bar, ours, ratio, base, sides)
    shown = base if bar is not None and bar.kind == "baseline" else ceiling
    return Line(
        row.key, variant, title, row.unit if metric == "value" else "", ours, rays, shown, ratio,
        bar_text(bar, base), verdict, why,
    )  # fmt: skip


def _ratio(ours: Spread | None, rays: Spread | None, *, higher_is_better: bool) -> float | None:
    if ours is None or rays is None:
        return None
    top, bottom = (ours, rays) if higher_is_better else (rays, ours)
    return top.median / bottom.median if bottom.median else None


def _verdict(
    bar: Bar,
    ours: Spread | None,
    ratio: float | None,
    base: Spread | None,
    sides: Sequence[SideName],
) -> tuple[Verdict, str]:
    if "freehold" not in sides:
        return "skipped", "Freehold was not run"
    if ours is None:
        return "error", "nothing was measured"
    if bar.kind == "ratio":
        if "ray" not in sides:
            return "skipped", "Ray was not run"
        if ratio is None:
            return "error", "Ray gave no figure"
        return _held(ratio >= bar.limit)
    if bar.kind == "baseline":
        if base is None:
            return "error", "the bare processes gave no figure"
        return _held(ours.median <= bar.limit * base.median)
    if bar.kind == "at_least":
        return _held(ours.median >= bar.limit)
    return _held(ours.median <= bar.limit)


def _held(held: bool) -> tuple[Verdict, str]:
    return ("pass" if held else "miss"), ""


def bar_text(bar: Bar | None, base: Spread | None) -> str:
    if bar is None:
        return ""
    limit = figure(bar.limit)
    if bar.kind == "ratio":
        return f"≥ {limit}× Ray"
    if bar.kind == "baseline":
        of = f" of {figure(base.median)}" if base else ""
        return f"≤ {limit}×{of} bare"
    return f"{'≥' if bar.kind == 'at_least' else '≤'} {limit}"


def figure(value: float) -> str:
    """A figure with three digits that matter: 12,300 · 123 · 1.23 · 0.0123."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{round(value, -2):,.0f}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
