"""What a worker wrote last is told: with its death, and when the driver leaves; on any node."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest
from tests.integration.conftest import FAR

import freehold
from freehold.exceptions import WorkerCrashedError

pytestmark = pytest.mark.module_cluster


@freehold.remote(max_retries=0, resources=FAR)
def die(turn: int) -> None:
    print(f"last words {turn}", flush=True)
    os._exit(3)


@pytest.mark.usefixtures("cluster")
def test_the_last_lines_of_each_of_many_deaths_are_in_its_error() -> None:
    for turn in range(15):
        with pytest.raises(WorkerCrashedError, match=f"last words {turn}"):
            freehold.get(die.remote(turn), timeout=20)


@pytest.mark.parametrize("nodes", [1, 2])
def test_what_was_written_just_before_the_driver_leaves_is_shown(
    nodes: int, run_script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    program = f"""
        import freehold
        from freehold.testing import LocalCluster

        resources = [{{}} for _ in range({nodes})]
        resources[-1]["far"] = 1
        with LocalCluster(nodes={nodes}, resources=resources, num_cpus=1):
            @freehold.remote(resources={{"far": 1}})
            def talk(turn):
                print("line number", turn)

            for turn in range(10):
                freehold.get(talk.remote(turn))
    """
    run = run_script(program)
    assert run.returncode == 0, run.stderr
    shown = run.stdout + run.stderr
    assert [turn for turn in range(10) if f"line number {turn}" not in shown] == []
