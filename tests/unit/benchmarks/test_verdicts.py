"""The table of the benchmark: which figure is held to which bar, and what counts as its error."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from benchmarks.model import Bar, Row, Sample, SideName
from benchmarks.report import summary
from benchmarks.verdicts import Line, Results, Source, bar_text, figure, lines

BOTH: tuple[SideName, ...] = ("freehold", "ray")


def _results(**figures: Sequence[float | Sample]) -> Results:
    """Results of the row "calls" by source; a number is a sample of that value."""
    results = Results()
    for name, values in figures.items():
        source: Source = name  # type: ignore[assignment]
        for value in values:
            sample = value if isinstance(value, Sample) else Sample(value)
            results.samples["calls", "plain", source].append(sample)
    return results


def _row(*bars: Bar, higher_is_better: bool = True) -> Row:
    return Row("calls", "calls", "/s", bars=bars, higher_is_better=higher_is_better)


def _only(row: Row, results: Results, sides: tuple[SideName, ...] = BOTH) -> Line:
    (line,) = lines([row], results, sides=sides)
    return line


def test_ratio_bar_compares_the_medians_of_both_sides() -> None:
    results = _results(freehold=[1.0, 90.0, 100.0], ray=[10.0, 9.0, 1_000.0])
    line = _only(_row(Bar("ratio", 9)), results)
    assert (line.ratio, line.verdict) == (9.0, "pass")
    assert _only(_row(Bar("ratio", 9.1)), results).verdict == "miss"


def test_ratio_of_a_row_where_less_is_better_is_turned_round() -> None:
    line = _only(_row(Bar("ratio", 2), higher_is_better=False), _results(freehold=[2.0], ray=[4.0]))
    assert (line.ratio, line.verdict) == (2.0, "pass")


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (Bar("at_least", 5), 5.0, "pass"),
        (Bar("at_least", 5), 4.99, "miss"),
        (Bar("at_most", 5), 5.0, "pass"),
        (Bar("at_most", 5), 5.01, "miss"),
        (Bar("at_most", 0), 0.0, "pass"),
        (Bar("at_most", 0), 0.5, "miss"),
    ],
)
def test_bar_of_its_own_holds_at_its_limit(bar: Bar, value: float, verdict: str) -> None:
    assert _only(_row(bar), _results(freehold=[value])).verdict == verdict


def test_baseline_bar_is_a_multiple_of_the_bare_processes() -> None:
    results = _results(freehold=[2.8], baseline=[1.0, 2.0, 9.0])
    assert _only(_row(Bar("baseline", 1.4)), results).verdict == "pass"
    line = _only(_row(Bar("baseline", 1.39)), results)
    assert line.verdict == "miss"
    assert line.bar == "≤ 1.39× of 2 bare"


def test_baseline_bar_without_a_baseline_is_an_error() -> None:
    line = _only(_row(Bar("baseline", 1.4)), _results(freehold=[1.0]))
    assert (line.verdict, line.why) == ("error", "the bare processes gave no figure")


def test_bar_of_another_metric_looks_at_that_metric() -> None:
    samples = [Sample(1.0, {"share": 0.95}), Sample(1.0, {"share": 0.87})]
    row = _row(Bar("at_least", 0.9, metric="share", label="kept"), Bar("at_least", 2))
    share, value = lines([row], _results(freehold=samples), sides=BOTH)
    assert (share.title, share.unit, share.verdict) == ("calls: kept", "", "pass")
    assert (value.unit, value.verdict) == ("/s", "miss")


def test_figure_above_its_ceiling_is_an_error_of_the_benchmark_even_if_the_bar_holds() -> None:
    results = _results(freehold=[101.0], ray=[1.0], ceiling=[100.0])
    line = _only(_row(Bar("ratio", 10)), results)
    assert line.verdict == "error"
    assert "faster than its ceiling of 100" in line.why


def test_figure_below_its_ceiling_is_judged_by_its_bar() -> None:
    results = _results(freehold=[99.0], ray=[1.0], ceiling=[100.0])
    assert _only(_row(Bar("ratio", 10)), results).verdict == "pass"


def test_bar_against_a_side_that_was_not_asked_is_skipped_and_one_that_failed_is_not() -> None:
    row = _row(Bar("ratio", 10))
    assert _only(row, _results(freehold=[1.0]), ("freehold",)).verdict == "skipped"
    assert _only(row, _results(freehold=[1.0])).verdict == "error"
    assert _only(row, _results(ray=[1.0]), ("ray",)).verdict == "skipped"


def test_row_that_failed_is_an_error_with_its_reason() -> None:
    results = _results(ray=[1.0])
    results.errors["calls", "plain", "freehold"] = "it broke"
    line = _only(_row(Bar("ratio", 10)), results)
    assert (line.verdict, line.why) == ("error", "it broke")


def test_failure_of_rays_side_is_no_error_where_ray_is_not_needed() -> None:
    results = _results(freehold=[1.0])
    results.errors["calls", "plain", "ray"] = "it broke"
    assert _only(_row(Bar("at_least", 1)), results).verdict == "pass"


def test_row_without_a_bar_is_shown_and_not_judged() -> None:
    line = _only(_row(), _results(freehold=[3.0]))
    assert (line.bar, line.verdict) == ("", "none")


def test_summary_counts_bars_and_tells_one_failure_once() -> None:
    results = _results(ray=[1.0])
    results.errors["calls", "plain", "freehold"] = "it broke"
    held = Row("other", "other", "/s", bars=(Bar("at_least", 1),))
    results.samples["other", "plain", "freehold"].append(Sample(2.0))
    failed = _row(Bar("at_least", 1), Bar("ratio", 10))
    text = summary(lines([failed, held], results, sides=BOTH))
    assert text.count("it broke") == 1
    assert text.endswith("1 bars hold, 2 do not")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12_345.0, "12,300"), (123.4, "123"), (1.234, "1.23"), (0.01234, "0.0123")],
)
def test_figure_keeps_the_digits_that_matter(value: float, text: str) -> None:
    assert figure(value) == text


def test_bar_text_says_what_is_compared() -> None:
    assert bar_text(Bar("ratio", 10), None) == "≥ 10× Ray"
    assert bar_text(Bar("at_most", 0.5), None) == "≤ 0.5"
