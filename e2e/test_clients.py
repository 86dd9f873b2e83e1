"""Clusters and jobs by each of the clients: YAML, Python, the command line."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster
from e2e.support.tools import ROOT

import freehold
from freehold._processes.driver import function_job
from freehold.errors import ClusterNotReadyError, JobFailedError
from freehold.kubernetes import FuturesCluster, FuturesJob
from freehold.testing import eventually

EXAMPLE = ROOT / "examples" / "kubernetes" / "job-working-dir.yaml"
DRIVER = {"template": {"spec": {"containers": [{"name": "freehold", "resources": fh.SMALL}]}}}
WAIT_S = 60.0


@pytest.fixture(scope="module")
def where(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """How the Python client reaches the file's namespace."""
    return {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace}


@pytest.fixture(scope="module")
def small(where: dict[str, Any], release: None) -> Iterator[FuturesCluster]:
    """A cluster made by the Python client, for all tests."""
    spec = fh.cluster_spec(fh.workers(), replicas=1)
    with FuturesCluster("small", spec=spec, timeout_s=90.0, **where) as made:
        yield made


@freehold.remote
def square(number: int) -> int:
    return number * number


def total(count: int) -> int:
    """A job's function, with a remote one of its own module."""
    sys.stdout.write("adding\n")
    return sum(freehold.get([square.remote(number) for number in range(count)]))


def broken() -> None:
    raise LookupError("no such table")


JOBS: list[tuple[Any, tuple[int, ...]]] = [(total, (10,)), (broken, ())]


def has_our_python(cluster: Cluster, namespace: str) -> bool:
    """Whether the image has the Python of this process, so that functions can be sent."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = cluster.execute("small-head-0", namespace, "python", "-c", code)
    return found.strip() == function_job.python_version()


def test_functions_give_values_and_errors(
    cluster: Cluster, namespace: str, small: FuturesCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"driver": DRIVER}
    good, bad = (FuturesJob.submit(f, *a, cluster=small, spec=spec) for f, a in JOBS)
    if not has_our_python(cluster, namespace):
        for job in (good, bad):
            with pytest.raises(JobFailedError, match="this function was pickled by Python"):
                job.result(WAIT_S)
        return
    assert good.result(WAIT_S, logs=True) == 285
    assert "adding\n" in capsys.readouterr().out
    with pytest.raises(JobFailedError) as caught:
        bad.result(WAIT_S)
    assert (caught.value.reason, caught.value.exit_code) == ("ProgramFailed", 1)
    assert "LookupError: no such table (in broken" in caught.value.detail
    assert "LookupError: no such table" in caught.value.last_log_lines


def test_a_jobs_files_go_with_it(cluster: Cluster, namespace: str, small: FuturesCluster) -> None:
    job = FuturesJob.submit(total, 1, cluster=small, spec={"suspend": True})
    [config_map] = cluster.objects("configmap", namespace, labels=f"freehold.dev/job={job.name}")
    job.delete()
    name = config_map["metadata"]["name"]
    eventually(lambda: cluster.find("configmap", name, namespace) is None, WAIT_S, interval_s=0.5)


def test_a_script_is_followed_while_it_runs(small: FuturesCluster, tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text(
        "import sys, time\n"
        "for number in range(int(sys.argv[1])):\n"
        "    print('step', number, flush=True)\n"
        "    time.sleep(1)\n"
    )
    job = FuturesJob.submit(script, 3, cluster=small, spec={"driver": DRIVER})
    came = {line: time.monotonic() for line in job.logs(follow=True)}
    assert [line for line in came if line.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert came["step 2"] - came["step 0"] > 1.0, "not all at the end"
    assert job.result(WAIT_S) is None


def test_scaling_waits_for_the_workers(
    cluster: Cluster, namespace: str, small: FuturesCluster
) -> None:
    small.scale(2)
    fh.await_ready(cluster, namespace, 2)
    assert small.status["readyReplicas"] == 2
    assert any(line.startswith("[small-head-0] ") for line in small.logs(tail=5))


def test_what_cannot_come_up_is_raised_and_taken_away(
    cluster: Cluster, namespace: str, where: dict[str, Any], release: None
) -> None:
    spec = fh.cluster_spec(fh.workers(), replicas=1, image="freehold/none-such:1")
    bad = FuturesCluster("bad", spec=spec, patience_s=5.0, timeout_s=45.0, **where)
    with pytest.raises(ClusterNotReadyError, match="none-such") as caught, bad:
        pytest.fail("it is not ready")
    assert caught.value.reason in ("ErrImagePull", "ImagePullBackOff")
    assert cluster.find("fc", "bad", namespace) is None


def test_the_command_line_ends_as_the_program(
    cluster: Cluster, namespace: str, small: FuturesCluster, tmp_path: Path
) -> None:
    (tmp_path / "leave.py").write_text("print('leaving')\nraise SystemExit(7)\n")
    options = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
    command = [sys.executable, "-m", "freehold.cli", "job", "submit", "--kubernetes", *options]
    finished = subprocess.run(
        [*command, "--cluster", "small", "--name", "leave", "--", "python", "leave.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert finished.returncode == 7, finished.stderr
    assert "leaving\n" in finished.stdout
    assert "job leave failed with exit code 7: ProgramFailed" in finished.stderr


def test_yaml_does_the_same(cluster: Cluster, namespace: str, small: FuturesCluster) -> None:
    """The example, on a cluster that is there: each of its own would take the file's time."""
    program, job = yaml.safe_load_all(EXAMPLE.read_text())
    del job["spec"]["clusterTemplate"]
    job["spec"] |= {"clusterRef": {"name": "small"}, "driver": DRIVER}
    cluster.apply(program, job, namespace=namespace)
    assert fh.await_end(cluster, "squares", namespace) == "Complete"
    assert str(sum(number * number for number in range(100))) in fh.driver_log(
        cluster, "squares", namespace
    )
    by_python = FuturesJob.attach(
        "squares", kubeconfig=str(cluster.kubeconfig), namespace=namespace
    )
    assert by_python.result() is None
