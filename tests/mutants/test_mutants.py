"""Every mutant in `mutants.toml` is killed: the tests that it names do find the defect.

Each is tried on a copy of the package, in a process of its own, with the tests that it names; a
few run at a time. A mutant that survives means that its rule is tested by nothing.

The same tests are first run on an unchanged copy, where they must pass.

Time proves nothing here: on a slow or busy machine a survivor would look killed. Tests of the pure
core do not wait, so one that hangs because of a mutant uses the CPU for ever. That is what counts
as killed: several times the CPU time within which the same tests must pass without a mutant. If the
clock's time runs out, whoever's fault it is, the mutant is not decided, and its test fails.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import queue
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runtime" / "src" / "freehold"
LIST = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())
MUTANTS: list[dict[str, str]] = LIST["mutant"]
TESTS: dict[str, list[str]] = LIST["tests"]
PARALLEL = 2
SEEDS = 100
"""For those that name the simulation of random programs: a tenth of them for each test of it."""
CONTROL_CPU_S = 60
HANGING_CPU_S = 180
LIMIT_S = 600
LEAST = 25

PLUGIN = """
import os
import resource

from hypothesis import HealthCheck, Phase, settings

cpu_s = int(os.environ["MUTANTS_CPU_S"])
resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
settings.register_profile(
    "mutants",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.generate],
    database=None,
)


def pytest_sessionstart():
    settings.load_profile("mutants")
"""
"""A plugin for the runs. The same examples are drawn each time, so that no mutant is killed by luck
today and survives tomorrow; a failing one is enough, the smallest is not looked for. It is loaded
when the session starts, after `conftest.py` has loaded its own. Beyond its CPU time the run ends by
a signal."""

PASSED = 0
TESTS_FAILED = 1
"""pytest's exit codes; others mean that no test ran, and prove nothing."""
HANGS = -signal.SIGXCPU
OUT_OF_TIME = "from pytest-timeout"
"""What a test says that failed by the clock."""


@dataclass(frozen=True)
class Run:
    """How a run of some tests ended; without a code, if it took too long."""

    code: int | None
    output: str


class Bench:
    """Copies of the package, in which one line at a time is changed, and the runs with them."""

    def __init__(self, folders: list[Path]) -> None:
        self._copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for folder in folders:
            shutil.copytree(
                PACKAGE, folder / "freehold", ignore=shutil.ignore_patterns("__pycache__")
            )
            (folder / "mutants_plugin.py").write_text(PLUGIN)
            # Known by their sources' contents: times and sizes are too coarse for a changed line.
            checked = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(folder, quiet=1, invalidation_mode=checked)
            self._copies.put(folder)

    def control(self, tests: str) -> Run:
        """The tests without a mutant."""
        copy = self._copies.get()
        try:
            return _run(copy, tests, CONTROL_CPU_S)
        finally:
            self._copies.put(copy)

    def trial(self, mutant: dict[str, str]) -> Run:
        """The tests with a mutant."""
        copy = self._copies.get()
        path = copy / "freehold" / "_core" / mutant["file"]
        source = path.read_text()
        try:
            path.write_text(source.replace(mutant["old"], mutant["new"]))
            return _run(copy, mutant["tests"], HANGING_CPU_S)
        finally:
            path.write_text(source)
            self._copies.put(copy)


def _run(copy: Path, tests: str, cpu_s: int) -> Run:
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FREEHOLD_SIM_SEEDS": str(SEEDS),
        "MUTANTS_CPU_S": str(cpu_s),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=line"]
    command += ["-p", "no:cacheprovider", "-p", "mutants_plugin", f"--timeout={LIMIT_S}"]
    command += [str(ROOT / test) for test in TESTS[tests]]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Run(None, "")
    output = done.stdout[-2000:] + done.stderr[-2000:]
    return Run(None if OUT_OF_TIME in done.stdout else done.returncode, output)


def _name(mutant: dict[str, str]) -> str:
    return f"{mutant['file']}: {mutant['new'].strip()[:60]}"


@dataclass(frozen=True)
class Verdicts:
    """The runs of all tests without a mutant and with each, under way a few at a time."""

    controls: dict[str, Future[Run]]
    trials: list[Future[Run]]


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdicts]:
    """All are started at once and run a few at a time."""
    bench = Bench([tmp_path_factory.mktemp("mutant") for _ in range(PARALLEL)])
    with ThreadPoolExecutor(PARALLEL) as pool:
        controls = {tests: pool.submit(bench.control, tests) for tests in TESTS}
        yield Verdicts(controls, [pool.submit(bench.trial, mutant) for mutant in MUTANTS])
        pool.shutdown(cancel_futures=True)


def test_there_are_enough_and_each_line_is_there_once() -> None:
    """The list keeps up with the code: every line it names still stands, and only once."""
    assert len(MUTANTS) >= LEAST
    for mutant in MUTANTS:
        count = (PACKAGE / "_core" / mutant["file"]).read_text().count(mutant["old"])
        assert count == 1, f"{count} times in {mutant['file']}: {mutant['old']!r}"
        assert mutant["old"] != mutant["new"]
        assert "\n" not in mutant["old"] + mutant["new"]


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.module_cluster
@pytest.mark.parametrize("tests", TESTS)
def test_passes_without_a_mutant(tests: str, verdicts: Verdicts) -> None:
    """Else that they fail with one would say nothing."""
    run = verdicts.controls[tests].result()
    assert run.code == PASSED, f"exit code {run.code}\n{run.output}"


@pytest.mark.timeout(2 * LIMIT_S)
@pytest.mark.module_cluster
@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[_name(m) for m in MUTANTS])
def test_is_killed(number: int, verdicts: Verdicts) -> None:
    """The tests that a mutant names fail with it."""
    run = verdicts.trials[number].result()
    if run.code in (TESTS_FAILED, HANGS):
        return
    mutant = MUTANTS[number]
    what = {PASSED: "survived", None: "is not decided: time ran out"}.get(
        run.code, f"broke the tests themselves (exit code {run.code})"
    )
    pytest.fail(f"{_name(mutant)} {what}; {mutant['why']}\n{run.output}", pytrace=False)
