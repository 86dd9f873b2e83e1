"""What ``freehold job submit`` does, once its options are known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from freehold.kubernetes import FuturesJob, JobStatus


def run(program: list[str], options: dict[str, Any]) -> int:
    """Submit a program, follow it unless told otherwise; its exit code."""
    try:
        from freehold.kubernetes import FuturesJob
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    wait, is_json = not options.pop("no_wait"), options.pop("output") == "json"
    timeout_s = options.pop("timeout")
    _check_script(program)
    try:
        job = FuturesJob.submit(program, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    where = f"in namespace {job.namespace}"
    if not wait:
        if is_json:
            _print_json(job, None)
        else:
            click.echo(f"job {job.name} submitted {where}; {_commands(job)}")
        return 0
    click.echo(f"job {job.name} submitted {where}; ^C leaves it running", err=True)
    try:
        status = _follow(job, timeout_s, is_json=is_json)
    except KeyboardInterrupt:
        click.echo(f"\njob {job.name} goes on; {_commands(job)}", err=True)
        raise
    if is_json:
        _print_json(job, status)
    return _ended(job, status)


def _check_script(program: list[str]) -> None:
    """A script that is named and not here is a mistake nobody wants to see minutes later."""
    interpreter = Path(program[0]).name
    if interpreter.startswith("python") and len(program) > 1:
        script = program[1]
        if script.endswith(".py") and "/" not in script and not Path(script).is_file():
            raise click.UsageError(
                f"there is no {script} here: go to its folder, or name one of the image by its "
                "whole path"
            )


def _follow(job: FuturesJob, timeout_s: float | None, *, is_json: bool) -> JobStatus:
    from freehold.kubernetes._progress import ProgressLine

    def write(line: str) -> None:
        click.echo(line, err=is_json)

    progress = ProgressLine(f"job {job.name}", has_lines=True)
    return job.wait_with(write, progress, timeout_s)


def _commands(job: FuturesJob) -> str:
    scope = f"-n {job.namespace}"
    return (
        f"its log: kubectl logs {scope} -f -l freehold.dev/job={job.name}; "
        f"end it: kubectl delete {scope} fj/{job.name}"
    )


def _print_json(job: FuturesJob, status: JobStatus | None) -> None:
    status = job.status if status is None else status
    found = {
        "name": job.name,
        "namespace": job.namespace,
        "state": status.state,
        "reason": status.reason,
        "message": status.message,
        "exit_code": status.exit_code,
        "attempts": status.attempts,
    }
    click.echo(json.dumps(found))


def _ended(job: FuturesJob, status: JobStatus) -> int:
    """Say how it ended; the exit code."""
    sys.stdout.flush()
    if status.state == "Complete":
        click.echo(f"job {job.name} is complete", err=True)
        return 0
    # Its log was shown already.
    code = "" if status.exit_code is None else f" with exit code {status.exit_code}"
    words = f"job {job.name} failed{code}: {status.reason}: {status.message}"
    click.echo(f"{click.style('error', fg='red', bold=True)}: {words}", err=True)
    return status.exit_code or 1
