"""What ``freehold job`` does, once its options are known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from freehold._proto import control_pb2 as pb
from freehold.cli import _nodes

if TYPE_CHECKING:
    from freehold._processes.node.settings import NodeSettings

ALREADY_RUN = 64
"""Exit code when the attempt has been begun before: the next one must have another number."""

CANNOT_RUN = 127
"""Exit code when there is no such program, as a shell has it."""

_STATES = {1: "running", 2: "succeeded", 3: "failed"}
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(address: str | None, name: str | None, attempt: int, program: list[str]) -> int:
    """Run a program as one attempt of a job; its exit code."""
    from freehold._processes.driver import joining

    settings = _nodes.network_settings(address=address)
    name = name or settings.job or f"job-{os.urandom(6).hex()}"
    with _node(settings) as node, joining.connect(settings) as calls:
        request = pb.BeginJobRequest(
            id=name, attempt=attempt, node=node, entrypoint=" ".join(program)
        )
        answer = calls.call("BeginJob", request)
        if not answer.accepted:
            click.echo(f"job {name}, attempt {attempt}, does not begin: {answer.refusal}", err=True)
            return ALREADY_RUN
        code, message = _execute(program, {"FREEHOLD_JOB": name, "FREEHOLD_JOB_ATTEMPT": attempt})
        _tell_end(
            calls, pb.EndJobRequest(id=name, attempt=attempt, exit_code=code, message=message)
        )
    return code


@contextlib.contextmanager
def _node(settings: NodeSettings) -> Iterator[str]:
    """This machine's node of the cluster, or one that is there for as long as the job; its id."""
    from freehold._processes.driver import joining

    found = joining.node_of(settings, settings.address or joining.AUTO)
    if found is not None:
        yield found.node
        return
    node = joining.start_own_node(settings, settings.address, "", is_for_job=True)
    try:
        yield node.node
    finally:
        node.stop()


def _execute(program: list[str], variables: dict[str, Any]) -> tuple[int, str]:
    """Run it, pass signals on, and wait; its exit code and what there is to say of it."""
    environment = {**_environment(), **{key: str(value) for key, value in variables.items()}}
    environment["FREEHOLD_ADDRESS"] = "auto"
    received: list[int] = []
    try:
        child = subprocess.Popen(program, env=environment)
    except OSError as error:
        text = f"{program[0]} cannot be run: {error.strerror}"
        click.echo(text, err=True)
        return CANNOT_RUN, text

    def pass_on(number: int, _frame: object) -> None:
        received.append(number)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    if os.isatty(0):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C reaches the program by itself
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code >= 0:
        return code, ""
    killer = signal.Signals(-code).name
    why = f"killed by {killer}" + (", as it was told to end" if -code in received else "")
    return 128 - code, why


def _environment() -> dict[str, str]:
    from freehold._processes.settings import environment

    return environment()


def _tell_end(calls: Any, request: pb.EndJobRequest) -> None:
    """Have it kept; a head that is away is waited for a while, and the exit code stands anyway."""
    from freehold.errors import FreeholdError

    for pause_s in (0.2, 0.4, 0.8, 1.6, 3.2, 0.0):
        try:
            calls.call("EndJob", request)
            return
        except FreeholdError as error:
            if not pause_s:
                text = f"the cluster was not told how job {request.id} ended: {error}"
                click.echo(text, err=True)
        time.sleep(pause_s)


def list_jobs(address: str | None, *, is_json: bool) -> int:
    """Show the jobs of a cluster."""
    with _nodes.control_calls(address) as calls:
        jobs = calls.call("GetCluster", pb.GetClusterRequest()).jobs
    rows = [
        {
            "job": job.id,
            "attempt": job.attempt,
            "state": _STATES.get(job.state, "unknown"),
            "message": job.message,
            "started_unix_ms": job.started_unix_ms,
            "ended_unix_ms": job.ended_unix_ms,
        }
        for job in jobs
    ]
    if is_json:
        click.echo(json.dumps(rows))
        return 0
    if not rows:
        click.echo("No job has run here yet.")
        return 0
    width = max(len(str(row["job"])) for row in rows)
    for row in rows:
        until = row["ended_unix_ms"] or int(time.time() * 1000)
        seconds = (int(until) - int(row["started_unix_ms"])) / 1000
        text = f"{row['job']:<{width}}  {row['attempt']:>3}  {row['state']:<9}  {seconds:>8.1f} s"
        click.echo(f"{text}  {row['message']}".rstrip())
    return 0
