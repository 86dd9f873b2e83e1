"""``freehold job``: programs that a cluster runs, and what became of them."""

from __future__ import annotations

from typing import Any

import click


def _pairs(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """NAME=VALUE words as a dict."""
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{word!r} is not NAME=VALUE")
        found[name] = value
    return found


@click.group(short_help="Run a program as a job of a cluster, and see what became of jobs.")
def command() -> None:
    """Programs that are run on a cluster, each under a name.

    \b
        freehold job run --address HOST:7400 -- python train.py
        freehold job submit --kubernetes --workers 2 -- python train.py
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


@command.command(short_help="Run a program on Kubernetes, and follow it.")
@click.option(
    "--kubernetes",
    "is_kubernetes",
    is_flag=True,
    help="Submit to Kubernetes, as a FuturesJob: there is no other place yet.",
)
@click.option("-n", "--namespace", help="Where.  [default: the context's]")
@click.option("--context", help="Of the kubeconfig.  [default: the current one]")
@click.option("--kubeconfig", type=click.Path(exists=True, dir_okay=False), help="[KUBECONFIG]")
@click.option("--name", help="The job's name.  [default: after the program]")
@click.option("--cluster", help="Run on this FuturesCluster.  [default: one of the job's own]")
@click.option("--image", help="Of a cluster of its own.  [default: the operator's]")
@click.option("--workers", type=click.IntRange(0), help="Of a cluster of its own.  [default: 1]")
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="One more file for the folder that the program starts in.",
)
@click.option("--env", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="A variable.")
@click.option("--no-wait", is_flag=True, help="Return once it is submitted.")
@click.option("--timeout", type=click.FloatRange(0), help="Seconds to wait; the job goes on.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="For people, or for programs: a line of JSON on stdout, the log on stderr.",
)
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def submit(program: tuple[str, ...], is_kubernetes: bool, **options: Any) -> int:
    """Run PROGRAM on Kubernetes: `freehold.init()` in it is attached to the cluster.

    Its script (the first word that is a .py file here) and what --file names are sent along, 1 MiB
    at the most. What it and its tasks write is shown here while it runs. ^C ends only the showing:
    the job goes on. Needs the operator (helm install) and `pip install kubernetes`.

    Exit codes: the program's; 1 if it failed without one, if --timeout passed, or if the cluster
    cannot be reached; 2 for wrong usage; 130 after ^C.

    \b
    On a cluster of its own, which goes with the job:
        freehold job submit --kubernetes --workers 4 -- python train.py --epochs 3
    On one that is there (kubectl get fc):
        freehold job submit --kubernetes --cluster small -- python train.py
    In a script:
        freehold job submit --kubernetes --no-wait --format json -- python train.py
    """
    if not is_kubernetes:
        raise click.UsageError(
            "say --kubernetes: jobs are submitted there alone (`freehold job run` runs a program "
            "on this machine, attached to a cluster)"
        )
    from freehold.cli import _job_submit

    return _job_submit.run(list(program), options)


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
