"""``freehold stop``: ends the nodes that `freehold start` started on this machine."""

from __future__ import annotations

import click


@click.command(short_help="End the nodes that `freehold start` started here.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1),
    default=30.0,
    show_default=True,
    help="Seconds they may take; then they are killed, with their workers.",
)
@click.option("--address", help="Only the nodes of this cluster: HOST:PORT of its head.")
def command(timeout_s: float, address: str | None) -> int:
    """End the nodes that `freehold start` started here at once, with what runs on them.

    To have what they keep moved to other nodes first, `freehold drain` them, or send their
    processes SIGTERM.

    Nodes are known by the records that they keep in the session's folder; a process is ended only
    if its number and its start time are those of the record. Nodes that belong to a driver end with
    that. Exit code 0 if there is nothing left, also if there was nothing.

    \b
        freehold stop
        freehold stop --timeout 120      # tasks may take a while to end
    """
    from freehold._io.session import make_root, sweep
    from freehold._processes.driver import joining
    from freehold._processes.node.settings import session_base
    from freehold._processes.node.start import CHILD
    from freehold.cli import _nodes
    from freehold.cli._ending import end_all

    settings = _nodes.network_settings(address=address)
    wanted = joining.control_address(settings)
    nodes = [node for node in _nodes.running(settings) if node.mode != CHILD]
    if wanted is not None:
        nodes = [node for node in nodes if joining.is_same(node.control, wanted)]
    if not nodes:
        click.echo("no node that `freehold start` started runs here")
        return 0
    killed = end_all([(node.pid, node.started) for node in nodes], timeout_s)
    for node in nodes:
        how = f"killed after {timeout_s:g} s" if node.pid in killed else "ended"
        what = "head" if node.is_head else "node"
        click.echo(f"{what} {node.node[:8]} of cluster {node.cluster} (pid {node.pid}): {how}")
    sweep(make_root(session_base(settings)))  # of those that could not do it themselves
    return 0
