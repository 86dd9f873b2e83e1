"""Processes that a task put into a session of their own: no signal to their worker's group reaches
them. They outlive the worker, but not the cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from tests.integration.failures.kit import gone, is_alive

import freehold
from freehold.testing import LocalCluster, eventually

SHUT_DOWN_S = 2.5
"""Below the 3 s after which a node gives up waiting for its children."""


@freehold.remote
def start_daemons() -> list[int]:
    """One of a session of its own, and one with a child that comes to the node process later."""
    alone = subprocess.Popen(["sleep", "600"], start_new_session=True)
    parent = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!; wait"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    return [os.getpid(), alone.pid, parent.pid, int(parent.stdout.readline())]


@pytest.mark.parametrize("nodes", [1, 2])
def test_daemons_outlive_their_worker_and_not_the_cluster(nodes: int) -> None:
    with LocalCluster(nodes=nodes, num_cpus=1):
        worker, *daemons = freehold.get(start_daemons.remote(), timeout=30)
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not is_alive(worker), timeout_s=10)
        assert all(map(is_alive, daemons))
        *_, last = freehold.get(start_daemons.remote(), timeout=30)
        started = time.monotonic()
    assert time.monotonic() - started < SHUT_DOWN_S
    gone([*daemons, last])


def test_daemons_end_when_the_driver_is_killed() -> None:
    program = """
        import os, signal, subprocess
        import freehold

        @freehold.remote
        def start():
            return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

        freehold.init(num_cpus=1)
        print(freehold.get(start.remote()), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=40,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    gone([int(run.stdout.split()[0])])
