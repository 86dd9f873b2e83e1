"""What a row of the benchmark is: its program, its variants and the bars it is held to.

Place in the flow: the modules in `rows/` make `Row` values out of plain functions; `side.py` runs
their programs inside one process a side; `run.py` collects `Sample`s and asks `verdicts.py` about
the bars. It deliberately knows neither Ray nor Freehold: programs reach either through
`adapter.Bench`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.adapter import Bench
    from benchmarks.host import Host

SideName = Literal["freehold", "ray"]
SIDES: tuple[SideName, ...] = ("freehold", "ray")

# The variants of a call row: nothing, a 1 KiB argument, a 1 KiB result.
Variant = Literal["plain", "argument", "result"]
CALL_VARIANTS: tuple[Variant, ...] = ("plain", "argument", "result")
PAYLOAD_BYTES = 1024

Ceiling = Literal["round_trip", "frames"]
Where = Literal["shared", "fresh", "host"]


class BenchError(Exception):
    """The benchmark itself is wrong: a result that is not the right one, a task in the driver's
    process, a row faster than its ceiling. Never a missed bar."""


@dataclass(slots=True)
class Sample:
    """One round of one row on one side: its figure, further figures by name, and what was seen on
    the way."""

    value: float
    metrics: dict[str, float] = field(default_factory=dict)
    task_pids: list[int] = field(default_factory=list)
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """What must hold, of the median over the rounds of `metric` ("value": the row's own figure).

    - `ratio`: at least `limit` times as good as Ray's median of the same metric;
    - `at_least`, `at_most`: Freehold's own figure against `limit`;
    - `baseline`: at most `limit` times the row's baseline (bare processes), lower being better.
    """

    kind: Literal["ratio", "at_least", "at_most", "baseline"]
    limit: float
    metric: str = "value"
    label: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the bars: a program, where it runs, how often, and what it must reach.

    `where` is "shared" (in the long-living process of the side, after its one `init`), "fresh" (in
    a process of its own each round, which calls `init` itself) or "host" (in the benchmark's own
    process, which starts and kills what it needs; Freehold only). `check` looks at what a round
    left, off the clock, and raises `BenchError`; `baseline` measures bare processes beside each
    round.
    """

    key: str
    title: str
    unit: str
    program: Callable[[Bench, Variant], Sample] | None = None
    host_program: Callable[[Host], Sample] | None = None
    baseline: Callable[[Host], Sample] | None = None
    check: Callable[[Host, str], None] | None = None
    variants: tuple[Variant, ...] = ("plain",)
    bars: tuple[Bar, ...] = ()
    ceiling: Ceiling | None = None
    where: Where = "shared"
    sides: tuple[SideName, ...] = SIDES
    higher_is_better: bool = True
    max_rounds: int | None = None
    warm_up: bool = True
    timeout_s: float = 180.0
    environment: dict[str, str] = field(default_factory=dict)
