"""``freehold settings``: every setting, its value here, and where that came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from freehold._processes.settings import Described


@click.command()
@click.option("--changed", is_flag=True, help="Only what is not at its default.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: a list with name, value, source and text of each.",
)
def command(changed: bool, format_: str) -> None:
    """Print every setting, its value, where it came from and what it is for.

    \b
    A setting is given by a variable or an argument:
        FREEHOLD_NUM_CPUS=4 freehold settings --changed
        freehold.init(_system_config={"idle_worker_s": 60})
    """
    from freehold._processes.node.settings import NodeSettings
    from freehold._processes.settings import describe, resolve

    settings, sources = resolve(NodeSettings, {})
    described = [
        setting
        for setting in map(_without_token, describe(NodeSettings, settings, sources))
        if not changed or setting.source != "default"
    ]
    if format_ == "json":
        click.echo(json.dumps([setting._asdict() for setting in described], indent=2))
        return
    for setting in described:
        value = click.style(repr(setting.value), bold=setting.source != "default")
        click.echo(f"{setting.name} = {value}  ({setting.source})")
        click.echo(f"    {setting.text}")


def _without_token(setting: Described) -> Described:
    """A join string is a secret, and this is what people paste into reports."""
    if setting.name == "address" and str(setting.value).startswith("freehold://"):
        return setting._replace(value="freehold://…@" + str(setting.value).rpartition("@")[2])
    return setting
