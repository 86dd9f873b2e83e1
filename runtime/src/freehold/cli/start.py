"""``freehold start``: makes this machine a cluster's head, or one of its nodes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from freehold.cli._sizes import Amount

if TYPE_CHECKING:
    _AnyType = click.ParamType[Any]
else:
    _AnyType = click.ParamType  # generic only since click 8.4


class _Json(_AnyType):
    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.fail(f'{value!r} is not an object of JSON, like {{"accelerator": 2}}', param, ctx)
        return found


@click.command(short_help="Make this machine the head of a cluster, or a node of one.")
@click.option("--head", is_flag=True, help="Begin a cluster: run its control service here.")
@click.option(
    "--address",
    metavar="ADDRESS",
    help="Join one: the word that the head printed, HOST:PORT with --auth-dir, or - to read it "
    "from standard input.  [FREEHOLD_ADDRESS]",
)
@click.option("--block", is_flag=True, help="Stay in the foreground, as a container needs it.")
@click.option("--port", "control_port", type=int, help="The head's port.  [default: 7400]")
@click.option("--peer-port", type=int, help="Port for other machines' processes.  [default: 7401]")
@click.option(
    "--health-port", type=int, help="Port of /healthz, /readyz, /metrics.  [default: 7402]"
)
@click.option("--host", help="How other machines reach this one.  [default: found]")
@click.option("--node-name", help="What to call it.  [default: the host's name]")
@click.option("--num-cpus", type=float, help="CPUs to give to tasks.  [default: all]")
@click.option("--num-gpus", type=int, help="GPUs to give to tasks.  [default: all]")
@click.option("--memory", type=Amount("size", "B"), help="Bytes of the resource `memory`.")
@click.option("--object-store-memory", type=Amount("size", "B"), help="Bytes of the object store.")
@click.option("--resources", type=_Json(), help='Custom ones: {"accelerator": 2}')
@click.option("--labels", type=_Json(), help='For tasks that ask for them: {"zone": "a"}')
@click.option("--state-dir", help="The head's folder for what must survive it.")
@click.option("--auth-dir", help="Folder with `token` and `ca.crt`, made elsewhere.")
@click.option("--ca-dir", help="Folder with the CA's `ca.crt` and `ca.key`, for the head.")
def command(head: bool, address: str | None, block: bool, **options: Any) -> int:
    """Make this machine the head of a cluster, or a node of one.

    \b
    On the first machine; it prints a word to join with:
        freehold start --head
    On each other one (the word is a secret, so read it from a file rather than type it):
        freehold start --address - < join.txt
    Then, on any of them:
        freehold status
        python program.py            # freehold.init(address="auto")
        freehold stop

    Every option has a setting of the same name: FREEHOLD_NUM_CPUS=4 (freehold settings).
    Ports: 7400 control (the head), 7401 peers, 7402 health; all but the last speak TLS alone.
    """
    from freehold.cli import _start_run

    return _start_run.run(head, address, block, options)
