"""``freehold status``: the nodes of a cluster, what they have free, and what waits."""

from __future__ import annotations

import click


@click.command(short_help="Show a cluster's nodes, what they have free, and what waits.")
@click.option("--address", help="HOST:PORT or join string.  [default: this machine's node]")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: all there is to know, for programs.",
)
@click.option(
    "--labels", is_flag=True, help="Show all labels, also those that every node has by itself."
)
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until ^C.")
@click.option(
    "--join-string", is_flag=True, help="Only print the word to join with, which is a secret."
)
def command(address: str | None, format_: str, labels: bool, watch: bool, join_string: bool) -> int:
    """Show a cluster's nodes, what they have free, and what waits.

    \b
        freehold status                         # of the cluster that this machine is part of
        freehold status --address head:7400     # with FREEHOLD_AUTH_DIR, or a join string
        freehold status --format json
        freehold status --join-string > join.txt
    """
    from freehold.cli import _status_run

    if join_string:
        return _status_run.print_join_string(address)
    return _status_run.run(address, format_, watch=watch, with_labels=labels)
