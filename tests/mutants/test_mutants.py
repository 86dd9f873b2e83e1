"""Every mutant in `mutants.toml` is killed: the property tests and the simulation do find defects.

Each is tried on a copy of the package, in a process of its own, with the tests that it names; a
few run at a time. A mutant that survives means that its rule is tested by nothing.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runtime" / "src" / "freehold"
LIST = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text())
MUTANTS: list[dict[str, str]] = LIST["mutant"]
PARALLEL = 2
TIMEOUT_S = 120
LEAST = 25

PROFILE = """
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.generate], database=None)
settings.load_profile("mutants")
"""
"""A plugin for the runs: a failing example is enough, the smallest one is not looked for."""

TESTS_FAILED = 1
"""pytest's exit code; others mean that no test ran, and prove nothing."""


def _name(mutant: dict[str, str]) -> str:
    return f"{mutant['file']}: {mutant['new'].strip()[:60]}"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Any]]:
    """The run of each mutant, under way; all are started at once and run a few at a time."""
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for _ in range(PARALLEL):
        copy = tmp_path_factory.mktemp("mutant")
        shutil.copytree(PACKAGE, copy / "freehold", ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "mutants_profile.py").write_text(PROFILE)
        copies.put(copy)
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {i: pool.submit(_try, mutant, copies) for i, mutant in enumerate(MUTANTS)}
        pool.shutdown(cancel_futures=True)


def _try(mutant: dict[str, str], copies: queue.SimpleQueue[Path]) -> tuple[int, str]:
    copy = copies.get()
    path = copy / "freehold" / "_core" / mutant["file"]
    source = path.read_text()
    try:
        path.write_text(source.replace(mutant["old"], mutant["new"]))
        environment = os.environ | {
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
            "FREEHOLD_SIM_SEEDS": "1500",
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-p",
            "mutants_profile",
        ]
        command += ["-k", "not replays and not faults_happen", "--no-header", "--tb=line"]
        command += [str(ROOT / test) for test in LIST["tests"][mutant["tests"]]]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout[-2000:] + done.stderr[-2000:]
    except subprocess.TimeoutExpired:
        return TESTS_FAILED, "it hangs"
    finally:
        path.write_text(source)
        copies.put(copy)


def test_there_are_enough_and_each_line_is_there_once() -> None:
    """The list keeps up with the code: every line it names still stands, and only once."""
    assert len(MUTANTS) >= LEAST
    for mutant in MUTANTS:
        count = (PACKAGE / "_core" / mutant["file"]).read_text().count(mutant["old"])
        assert count == 1, f"{count} times in {mutant['file']}: {mutant['old']!r}"
        assert mutant["old"] != mutant["new"]
        assert "\n" not in mutant["old"] + mutant["new"]


@pytest.mark.timeout(600)
@pytest.mark.module_cluster
@pytest.mark.parametrize("number", range(len(MUTANTS)), ids=[_name(m) for m in MUTANTS])
def test_is_killed(number: int, verdicts: dict[int, Any]) -> None:
    """The tests that a mutant names fail with it."""
    code, output = verdicts[number].result()
    if code == TESTS_FAILED:
        return
    mutant = MUTANTS[number]
    what = "survived" if code == 0 else f"broke the tests themselves (exit code {code})"
    pytest.fail(f"{_name(mutant)} {what}; {mutant['why']}\n{output}", pytrace=False)
