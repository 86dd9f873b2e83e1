"""``freehold job``: programs that a cluster runs, and what became of them."""

from __future__ import annotations

import click


@click.group(short_help="Run a program as a job of a cluster, and see what became of jobs.")
def command() -> None:
    """Programs that are run on a cluster, each under a name.

    \b
        freehold job run --address HOST:7400 -- python train.py
        freehold job list
    """


@command.command(short_help="Run a program here as a job of a cluster.")
@click.option("--address", help="HOST:PORT or join string.  [default: this machine's node]")
@click.option("--job", "name", help="The job's name.  [default: one of its own]")
@click.option(
    "--attempt",
    type=click.IntRange(0),
    default=0,
    help="Which run of the job this is: each is begun once, whoever starts it.",
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(address: str | None, name: str | None, attempt: int, program: tuple[str, ...]) -> int:
    """Run PROGRAM here, attached to a cluster: `freehold.init()` in it finds the cluster.

    This machine gets a node without CPUs for it, unless it has one of that cluster. What its tasks
    write is shown here. SIGTERM and ^C are passed on. The exit code is the program's; 64 if this
    attempt of the job has been run before; 1 if the cluster cannot be reached.

    \b
        freehold job run --address head:7400 --job nightly --attempt 2 -- python nightly.py --all
    """
    from freehold.cli import _job_run

    return _job_run.run(address, name, attempt, list(program))


@command.command("list", short_help="What runs, and what has ended lately.")
@click.option("--address", help="HOST:PORT or join string.  [default: this machine's node]")
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="For people, or for programs.",
)
def list_jobs(address: str | None, output: str) -> int:
    """List the jobs of a cluster: those that run, and the last that ended."""
    from freehold.cli import _job_run

    return _job_run.list_jobs(address, is_json=output == "json")
