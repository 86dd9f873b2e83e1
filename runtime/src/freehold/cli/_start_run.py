"""What ``freehold start`` does, once its options are known."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import msgspec

from freehold._io import join_string
from freehold._processes.driver import bootstrap, joining
from freehold._processes.node.settings import NodeSettings
from freehold._processes.node.start import DAEMON, FOREGROUND, NodeReady, NodeStart
from freehold.cli import _nodes

HEALTH_PORT = 7402
PEER_PORT = 7401


def run(head: bool, address: str | None, block: bool, options: dict[str, Any]) -> int:
    """Start a node, and say how to go on."""
    if address == "-":
        address = sys.stdin.readline().strip()
    settings, sources = _nodes.with_sources({"address": address, **options})
    is_health_optional = sources["health_port"] == "default"
    if is_health_optional:
        settings = msgspec.structs.replace(settings, health_port=HEALTH_PORT)
    is_peer_port_optional = sources["peer_port"] == "default"
    if is_peer_port_optional:
        settings = msgspec.structs.replace(settings, peer_port=PEER_PORT)
    if head and address:
        raise click.UsageError("--head begins a cluster and --address joins one: give one of them")
    if not head and not settings.address:
        raise click.UsageError(
            "say --head to begin a cluster, or --address with what its head printed to join one"
        )
    join = None if head else joining.control_address(settings)
    if not head and join is None:
        raise click.UsageError("--address auto is for drivers: a node needs the head's address")
    start = NodeStart(
        settings=_without_secrets(settings, join),
        sys_path=bootstrap.absolute(sys.path),
        is_driver=False,
        mode=FOREGROUND if block else DAEMON,
        is_networked=head,
        join=join,
        version=joining.freehold_version(),
        is_health_optional=is_health_optional,
        is_peer_port_optional=is_peer_port_optional,
    )
    if block:
        bootstrap.become_node(start)
    node = bootstrap.launch(start).wait()
    node.forget()
    _say_started(node.ready, is_head=head)
    return 0


def _without_secrets(
    settings: NodeSettings, join: join_string.ControlAddress | None
) -> NodeSettings:
    """The settings as they may be shown: the token is in `NodeStart.join` alone."""
    address = join.target if join is not None else ""
    return msgspec.structs.replace(settings, address=address)


def _say_started(ready: NodeReady, *, is_head: bool) -> None:
    what = "the head" if is_head else "a node"
    click.echo(
        f"This machine is {what} of cluster {ready.cluster} now "
        f"(node {ready.node[:8]}, pid {ready.pid})."
    )
    ports = [f"{ready.port} for processes of other machines"]
    if is_head:
        ports.insert(0, f"{ready.address.rpartition(':')[2]} for the control service")
    if ready.health_port:
        ports.append(f"{ready.health_port} for health and metrics")
    click.echo(f"It listens at {ready.host} on the ports {', '.join(ports)}.")
    for note in ready.notes:
        click.echo(f"note: {note}")
    log = os.path.join(ready.session_path, ready.node[:8], "logs", "node.log")
    if is_head:
        click.echo("\nJoin it from another machine with this word, which is a secret:\n")
        click.echo(f"    freehold start --address '{ready.join_string}'\n")
    click.echo('Use it:   freehold.init(address="auto")   in any program on this machine')
    click.echo("See it:   freehold status")
    click.echo("End it:   freehold stop")
    click.echo(f"Its log:  {log}")
