"""What `make bench` runs: Freehold and Ray side by side, held to the bars.

Place in the flow: picks the rows, makes Ray's environment, runs the rounds interleaved (ceiling,
Freehold, Ray, ceiling, …: one process works at a time, the others wait), prints the table, writes
the JSON, and exits 1 when a bar is missed, 2 when the benchmark itself went wrong. The names of
Ray's interface are compared first.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import report
from benchmarks.ceilings import CeilingPeer
from benchmarks.host import RAY_PYTHON, ROOT, Host, SideProcess
from benchmarks.model import BenchError, Row, Sample, SideName, Variant
from benchmarks.rows import all_rows
from benchmarks.verdicts import Results, Source, lines

NUM_CPUS = 2
INIT_TIMEOUT_S = 120.0
RESULTS = ROOT / "benchmarks" / "results"

EPILOG = """\
examples (make bench BENCH_ARGS='…' passes the same):
  make bench                                            all rows, five rounds
  python benchmarks/run.py --list                       the rows and their bars
  python benchmarks/run.py --rows 'tasks_*,put_small'   some rows
  python benchmarks/run.py --no-ray --quick             Freehold alone, short rounds
  python benchmarks/run.py --sides ray --rounds 1       what Ray does here

exit code: 0 all bars hold, 1 a bar is missed, 2 the benchmark itself went wrong.

Ray lives in benchmarks/.venv-ray, made from benchmarks/ray/requirements.lock when it is missing.
Figures are medians (least-most) of interleaved rounds. Nothing else should run on the machine."""


@dataclass(slots=True)
class Run:
    """The state of one run: which sides, how many rounds, and what was measured."""

    host: Host
    sides: tuple[SideName, ...]
    rounds: int
    results: Results = field(default_factory=Results)
    shared: dict[SideName, SideProcess] = field(default_factory=dict)
    peer: CeilingPeer | None = None

    def measure(self, row: Row) -> None:
        """All rounds of a row, in every variant."""
        rounds = min(self.rounds, row.max_rounds or self.rounds)
        for variant in row.variants:
            if row.where == "shared" and row.warm_up:
                for side in self._sides_of(row):
                    self._attempt(row, variant, side, warm_up=True)
            for _ in range(rounds):
                self._ceiling(row, variant)
                self._baseline(row, variant)
                for side in self._sides_of(row):
                    self._attempt(row, variant, side, warm_up=False)

    def close(self) -> None:
        for side in self.shared.values():
            side.end()
        if self.peer is not None:
            self.peer.close()
        self.host.close()

    def _sides_of(self, row: Row) -> list[SideName]:
        return [side for side in self.sides if side in row.sides]

    def _ceiling(self, row: Row, variant: Variant) -> None:
        if row.ceiling is None:
            return
        if self.peer is None:
            self.peer = CeilingPeer()
        rate = self.peer.rate(row.ceiling, variant, self.host.seconds / 2)
        self._keep(row, variant, "ceiling", Sample(rate))

    def _baseline(self, row: Row, variant: Variant) -> None:
        if row.baseline is None or (row.key, variant, "baseline") in self.results.errors:
            return
        try:
            self._keep(row, variant, "baseline", row.baseline(self.host))
        except BenchError as error:
            self.results.errors[row.key, variant, "baseline"] = str(error)
            print(f"  {row.title}: its baseline FAILED: {error}", file=sys.stderr, flush=True)

    def _attempt(self, row: Row, variant: Variant, side: SideName, *, warm_up: bool) -> None:
        """One round on one side. A side that fails a row is started anew and not asked for that
        row again."""
        if (row.key, variant, side) in self.results.errors:
            return
        try:
            sample = self._round(row, variant, side, 0.1 if warm_up else self.host.seconds)
            if row.check is not None:
                row.check(self.host, side)
        except BenchError as error:
            self.results.errors[row.key, variant, side] = str(error)
            print(f"  {row.title} [{variant}] {side}: FAILED: {error}", file=sys.stderr, flush=True)
            if side in self.shared:
                self.shared.pop(side).kill()
            return
        if not warm_up:
            self._keep(row, variant, side, sample)

    def _round(self, row: Row, variant: Variant, side: SideName, seconds: float) -> Sample:
        if row.host_program is not None:
            return row.host_program(self.host)
        if row.where == "fresh":
            process = self.host.start(side, row.environment)
            try:
                return process.round(row, variant, seconds)
            finally:
                process.end()
        if side not in self.shared:
            process = self.host.start(side)
            self.shared[side] = process
            process.ask(INIT_TIMEOUT_S, do="init", num_cpus=NUM_CPUS)
        for other, process in self.shared.items():
            if other != side:
                process.await_rest()
        return self.shared[side].round(row, variant, seconds)

    def _keep(self, row: Row, variant: Variant, source: Source, sample: Sample) -> None:
        self.results.samples[row.key, variant, source].append(sample)
        title = row.title if variant == "plain" else f"{row.title}, {variant}"
        more = "  ".join(f"{name} {value:.4g}" for name, value in sample.metrics.items())
        print(
            report.progress(title, source, sample.value, row.unit), more, sample.notes, flush=True
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args(arguments)
    rows = _chosen(all_rows(), options.rows)
    if options.list:
        print(_listing(rows))
        return 0
    sides: tuple[SideName, ...] = tuple(options.sides.split(","))
    if options.no_ray:
        sides = ("freehold",)
    if "ray" in sides:
        _prepare_ray()
    host = Host.make()
    host.quick = options.quick
    host.seconds = options.seconds or (0.3 if options.quick else 1.0)
    rounds = options.rounds or (2 if options.quick else 5)
    run = Run(host, sides, rounds)
    started = time.monotonic()
    try:
        for row in sorted(rows, key=lambda row: row.where != "shared"):
            if any(side in row.sides for side in sides):
                run.measure(row)
            if row is _last_shared(rows):
                _end_shared(run)
    finally:
        run.close()
    measured = [row for row in rows if any(side in row.sides for side in sides)]
    table_lines = lines(measured, run.results, sides=sides)
    print("\n" + report.table(table_lines) + "\n\n" + report.summary(table_lines))
    path = options.json or RESULTS / f"{time.strftime('%Y-%m-%d-%H%M', time.gmtime())}.json"
    report.write_json(
        path, table_lines, run.results,
        {"rounds": rounds, "seconds": host.seconds, "sides": sides, "rows": options.rows},
    )  # fmt: skip
    print(f"{path} written; {(time.monotonic() - started) / 60:.1f} minutes")
    verdicts = {line.verdict for line in table_lines}
    return 2 if "error" in verdicts else 1 if "miss" in verdicts else 0


def _last_shared(rows: Sequence[Row]) -> Row | None:
    shared = [row for row in rows if row.where == "shared"]
    return shared[-1] if shared else None


def _end_shared(run: Run) -> None:
    """No later row may run beside the idle processes of the shared ones."""
    for side in run.shared.values():
        side.end()
    run.shared.clear()


def _prepare_ray() -> None:
    """Make Ray's environment when it is missing, and compare the names of its interface with our
    table."""
    environment = os.environ | {"PYTHON": sys.executable}
    make = ROOT / "benchmarks" / "ray" / "make_env.sh"
    if subprocess.run([str(make)], check=False, env=environment).returncode:
        raise SystemExit(f"{make.name} could not make Ray's environment; --no-ray runs without it")
    check = ROOT / "benchmarks" / "ray" / "check_names.py"
    done = subprocess.run([str(RAY_PYTHON), str(check)], check=False)
    if done.returncode:
        raise SystemExit(
            "docs/ray_compatibility.md does not say what Ray's interface is; see above"
        )


def _chosen(rows: list[Row], patterns: str) -> list[Row]:
    wanted = [pattern.strip() for pattern in patterns.split(",")]
    for pattern in wanted:
        if not any(fnmatch.fnmatch(row.key, pattern) for row in rows):
            known = ", ".join(row.key for row in rows)
            raise SystemExit(f"no row is called {pattern!r}; there are: {known}")
    return [row for row in rows if any(fnmatch.fnmatch(row.key, p) for p in wanted)]


def _listing(rows: Sequence[Row]) -> str:
    from benchmarks.verdicts import bar_text

    text = []
    for row in rows:
        bars = "; ".join(f"{bar_text(bar, None)} {bar.label}".strip() for bar in row.bars)
        text.append(f"{row.key:<22} {row.title:<48} {row.unit:<9} {bars}")
    return "\n".join(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Freehold and Ray side by side, held to the bars of the project.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rows",
        default="*",
        help="names or patterns, separated by commas (default: all; see --list)",
    )
    parser.add_argument("--rounds", type=int, help="rounds a row (default 5, with --quick 2)")
    parser.add_argument("--seconds", type=float, help="length of a round (default 1, --quick 0.3)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="short rounds and small sizes: a look, not a measurement",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the JSON goes")
    parser.add_argument(
        "--no-ray", action="store_true", help="Freehold alone; bars against Ray are skipped"
    )
    parser.add_argument(
        "--sides", default="freehold,ray", metavar="A,B", help="which sides to run, in this order"
    )
    parser.add_argument(
        "--list", action="store_true", help="list the rows and their bars, run nothing"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
