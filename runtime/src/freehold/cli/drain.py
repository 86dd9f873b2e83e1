"""``freehold drain``: empties a node, so that it can be taken away."""

from __future__ import annotations

import click


@click.command(short_help="Empty a node, so that it can be taken away.")
@click.argument("node")
@click.option("--address", help="HOST:PORT or join string.  [default: this machine's node]")
@click.option(
    "--timeout",
    "deadline_s",
    type=click.FloatRange(0.0),
    default=0.0,
    help="Seconds that running tasks may take.  [default: the node's own setting]",
)
@click.option("--if-idle", is_flag=True, help="Only if nothing runs or is kept there.")
@click.option("--message", default="", help="Why, for people: shown by freehold status.")
def command(node: str, address: str | None, deadline_s: float, if_idle: bool, message: str) -> int:
    """Empty NODE, so that it can be taken away: a node's name, its id, or the id's beginning.

    It gets no new work; what its store keeps and what its processes own moves to other nodes;
    running tasks finish. This returns at once; `freehold status` tells when it is drained.
    Exit code 1 if it is refused.

    \b
        freehold drain worker-3
        freehold drain 4f1c09ab --timeout 600 --message "kernel update"
    """
    from freehold._proto import control_pb2 as pb
    from freehold.cli import _nodes

    reason = pb.DrainNodeRequest.REASON_IDLE if if_idle else pb.DrainNodeRequest.REASON_REQUESTED
    request = pb.DrainNodeRequest(node=node, reason=reason, deadline_s=deadline_s, message=message)
    with _nodes.control_calls(address) as calls:
        answer = calls.call("DrainNode", request)
    if not answer.accepted:
        click.echo(f"node {node} is not drained: {answer.refusal}", err=True)
        return 1
    click.echo(f"node {node} is being drained; freehold status tells when it is done")
    return 0
