"""Programs as jobs of a cluster: begun once, ended with their exit code, apart from each other."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cluster.kit import Machines, free_port

import freehold
from freehold._processes.driver import function_job
from freehold.kubernetes import _program
from freehold.testing import eventually

pytestmark = pytest.mark.timeout(180)

WHO = """
import os, sys
import freehold

freehold.init()

@freehold.remote
def who(text):
    print("task says", text, flush=True)
    return os.getpid(), freehold.get_runtime_context().get_job_id()

pids = {}
for pid, job in freehold.get([who.remote(sys.argv[1]) for _ in range(3)]):
    pids[pid] = job
print("RESULT", pids)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "who.py"
    path.write_text(WHO)
    return str(path)


def jobs(machines: Machines) -> list[dict[str, Any]]:
    done = machines.cli("job", "list", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def run(machines: Machines, name: str, attempt: int, *program: str, **variables: str) -> Any:
    words = ("job", "run", "--job", name, "--attempt", str(attempt), "--", *program)
    return machines.cli(*words, timeout_s=120.0, **variables)


def test_a_job_is_begun_once_and_its_exit_code_kept(machines: Machines, program: str) -> None:
    machines.start_head()
    done = run(machines, "nightly", 1, sys.executable, program, "first", "3")
    assert done.returncode == 3, done.stderr
    assert "task says first" in done.stdout + done.stderr
    assert ": 'nightly'" in done.stdout
    again = run(machines, "nightly", 1, sys.executable, program, "again", "0")
    assert again.returncode == 64
    assert "attempt 1 of job 'nightly' has run already" in again.stderr
    assert "again" not in again.stdout
    assert run(machines, "nightly", 2, sys.executable, program, "next", "0").returncode == 0
    found = {(job["job"], job["attempt"]): job["state"] for job in jobs(machines)}
    assert found == {("nightly", 1): "failed", ("nightly", 2): "succeeded"}
    missing = run(machines, "other", 1, "/no/such/program")
    assert missing.returncode == 127
    assert "/no/such/program cannot be run" in missing.stderr


def test_a_job_finds_the_head_under_its_second_address(
    machines: Machines, program: str, tmp_path: Path
) -> None:
    """On a machine without a node, as in a driver's pod while the Service does not answer."""
    machines.start_head()
    word = machines.join_string().replace(f":{machines.port}?", f":{free_port()}?")
    far = {
        "FREEHOLD_DIR": str(tmp_path / "far"),
        "FREEHOLD_ADDRESS": word,
        "FREEHOLD_SECOND_ADDRESS": f"127.0.0.1:{machines.port}",
    }
    (tmp_path / "far").mkdir(mode=0o700)
    done = run(machines, "far", 1, sys.executable, program, "hello", "0", **far)
    assert done.returncode == 0, done.stderr
    assert [(job["job"], job["state"]) for job in jobs(machines)] == [("far", "succeeded")]


def test_jobs_have_processes_and_output_of_their_own(machines: Machines, program: str) -> None:
    machines.start_head("--num-cpus", "2")
    one = run(machines, "one", 1, sys.executable, program, "from-one", "0")
    two = run(machines, "two", 1, sys.executable, program, "from-two", "0")
    for done, own, other in ((one, "one", "two"), (two, "two", "one")):
        assert done.returncode == 0, done.stderr
        assert f"from-{own}" in done.stdout + done.stderr
        assert f"from-{other}" not in done.stdout + done.stderr
    pids = [
        set(eval(line.removeprefix("RESULT ")))
        for done in (one, two)
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]
    assert len(pids) == 2
    assert not pids[0] & pids[1]


def test_a_signal_reaches_the_program(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    path = tmp_path / "wait.py"
    path.write_text(
        "import signal, sys, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "threading.Event().wait(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "freehold.cli", "job", "run", "--", sys.executable, str(path)],
        env=machines.variables(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 9
    eventually(lambda: [job["state"] for job in jobs(machines)] == ["failed"], timeout_s=10.0)


ELSEWHERE = """
import freehold

freehold.init(address=ADDRESS, runtime_env={"working_dir": FOLDER, "env_vars": {"COLOUR": "blue"}})

@freehold.remote
def read():
    import os
    import module_of_the_job
    with open("data.txt") as file:
        return module_of_the_job.NAME, file.read(), os.environ["COLOUR"]

@freehold.remote
class Reader:
    def read(self):
        return freehold.get(read.remote())

print("RESULT", freehold.get(read.remote()), freehold.get(Reader.remote().read.remote()))
"""


def test_a_working_directory_reaches_machines_that_do_not_have_it(
    machines: Machines, tmp_path: Path
) -> None:
    """The driver is on a machine of its own: another session folder, and a node without CPUs."""
    machines.start_head()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "module_of_the_job.py").write_text("NAME = 'of the job'\n")
    (folder / "data.txt").write_text("some data")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = tmp_path / "driver.py"
    words = {"ADDRESS": machines.join_string(), "FOLDER": str(folder)}
    text = ELSEWHERE
    for name, value in words.items():
        text = text.replace(name, repr(value))
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, str(path)],
        env=machines.variables(FREEHOLD_DIR=str(elsewhere), FREEHOLD_HOST="127.0.0.1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("('of the job', 'some data', 'blue')") == 2


@freehold.remote
def power(base: int, exponent: int) -> int:
    return int(base**exponent)


def powers(base: int, count: int) -> dict[str, Any]:
    """What a user would submit: no init, and a remote function of its own module."""
    values = freehold.get([power.remote(base, exponent) for exponent in range(count)])
    return {"values": values, "job": freehold.get_runtime_context().get_job_id()}


def test_a_function_is_attached_to_the_jobs_cluster(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    packed = _program.of(powers, [3, 4], []).files[_program.FUNCTION_FILE]
    (tmp_path / "function.pickle").write_bytes(packed)
    (tmp_path / "message").touch()
    paths = [str(tmp_path / name) for name in ("function.pickle", "message")]
    code = (
        "import sys, pathlib; from freehold._processes.driver import function_job as f; "
        f"sys.exit(f.main([{paths[0]!r}], pathlib.Path({paths[1]!r})))"
    )
    done = run(machines, "function", 1, sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    value = function_job.decoded((tmp_path / "message").read_text())
    assert value == {"values": [1, 3, 9, 27], "job": "function"}
