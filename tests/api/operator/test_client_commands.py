"""`freehold job submit --kubernetes` and the example, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.support.tools import ROOT
from tests.api.client import Client
from tests.api.operator.client_kit import (
    CLUSTER,
    JOB,
    driver,
    end,
    files_of,
    is_gone,
    small,
)
from tests.api.operator.scene import WAIT_S, Scene
from tests.api.support.pod_logs import PodLogs

from freehold._processes.driver import function_job

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]


def start(where: dict[str, Any], folder: Path, *words: str) -> subprocess.Popen[str]:
    """`freehold job submit --kubernetes …` in a process of its own."""
    options = ["--kubeconfig", where["kubeconfig"], "--namespace", where["namespace"]]
    command = [sys.executable, "-m", "freehold.cli", "job", "submit", "--kubernetes", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *words], cwd=folder, stdout=pipe, stderr=pipe, text=True)


def test_the_command_line_shows_the_log_and_ends_as_the_job(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--name", "train", "--env", "A=b", "--", "python", "train.py", "-x"]
    with start(where, script.parent, *words) as process:
        assert process.stdout is not None
        pod = driver(one)
        logs.write(pod, "epoch 1")
        assert process.stdout.readline() == "epoch 1\n", "while it runs"
        logs.write(pod, "epoch 2")
        logs.end(pod)
        end(one, 3)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (3, "epoch 2\n")
    assert "job train submitted in namespace" in err
    assert "job train failed with exit code 3: ProgramFailed" in err
    made = one.client.get(JOB, "train", one.namespace)["spec"]
    assert made["command"] == ["python", "train.py", "-x"]
    assert files_of(one, "train")[1] == {"train.py": script.read_bytes()}


def test_the_command_line_in_json(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--format", "json", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        pod = driver(one)
        logs.write(pod, "for people")
        logs.end(pod)
        end(one, 0)
        out, err = process.communicate(timeout=WAIT_S)
    found = json.loads(out)
    assert (process.returncode, found["state"], found["exit_code"]) == (0, "Complete", 0)
    assert found["namespace"] == one.namespace
    assert "for people" in err


def test_the_command_line_does_not_wait_if_told_so(
    api: Client, where: dict[str, Any], script: Path, namespace: str
) -> None:
    words = ["--cluster", "c", "--no-wait", "--format", "json", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        out, _ = process.communicate(timeout=WAIT_S)
    found = json.loads(out)
    assert (process.returncode, found["state"]) == (0, "Pending")
    assert api.find(JOB, found["name"], namespace) is not None
    with start(where, script.parent, "--cluster", "c", "--timeout", "1", "--", "x") as process:
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "has not ended after 1 s and goes on: NotSeen" in err


def test_an_interrupt_leaves_the_job_and_says_how_to_end_it(
    scene: Make, where: dict[str, Any], script: Path
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--name", "train", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        driver(one)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert f"job train goes on; its log: kubectl logs -n {one.namespace}" in err
    assert one.client.find(JOB, "train", one.namespace) is not None


def test_the_example_runs(
    scene: Make, where: dict[str, Any], tmp_path: Path, logs: PodLogs
) -> None:
    """With the namespace of its kubeconfig's context."""
    one = scene()
    config = json.loads(Path(where["kubeconfig"]).read_text())
    config["contexts"][0]["context"]["namespace"] = one.namespace
    (tmp_path / "config").write_text(json.dumps(config))
    example = ROOT / "examples" / "kubernetes" / "client.py"
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
    pipe = subprocess.PIPE
    command = [sys.executable, str(example)]
    with subprocess.Popen(command, env=environment, stdout=pipe, text=True) as process:
        pod = driver(one)
        logs.write(pod, "points: 8000000")
        logs.end(pod)
        end(one, 0, function_job.encoded(3.14))
        out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert out == "points: 8000000\npi is about 3.14\n"
    assert is_gone(one, CLUSTER, "pi")
