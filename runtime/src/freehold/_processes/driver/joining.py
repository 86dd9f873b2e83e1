"""How a driver or the command line comes to a cluster that is there already.

An address is `auto` (the node that runs on this machine), `HOST:PORT`, or a join string. A machine
that has a node of that cluster needs no token: the node's record has it, readable by its user
alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from freehold._io import join_string
from freehold._io.join_string import ControlAddress
from freehold._processes.driver.bootstrap import NodeProcess, absolute, launch
from freehold._processes.node import record
from freehold._processes.node.record import NodeRecord
from freehold._processes.node.settings import NodeSettings
from freehold._processes.node.start import CHILD, NodeStart
from freehold.errors import ClusterUnreachableError, SettingsError

if TYPE_CHECKING:
    from freehold._io.rpc.calls import ControlCalls

AUTO = "auto"
NO_NODE = "no node of yours runs on this machine (freehold start --help)"


def freehold_version() -> str:
    """This installation's version."""
    from importlib.metadata import version  # 20 ms that no start on one machine should wait for

    return version("freehold")


def control_address(settings: NodeSettings) -> ControlAddress | None:
    """The address that the settings name; None for `auto` and none.

    Raises:
        SettingsError: it is malformed; the message does not repeat it.
    """
    if settings.address in ("", AUTO):
        return None
    try:
        return join_string.parse(settings.address)
    except ValueError as error:
        raise SettingsError(setting="address", reason=str(error)) from None


def local_node(settings: NodeSettings, address: ControlAddress | None) -> NodeRecord | None:
    """This machine's node of that cluster; without an address of whichever there is.

    Raises:
        SettingsError: there are nodes of several clusters, and it does not say which is meant.
    """
    # One that ends with another driver is that driver's alone.
    found = [node for node in record.find(settings) if node.mode != CHILD]
    if address is not None:
        found = [node for node in found if is_same(node.control, address)]
    clusters = {node.cluster: node.control.target for node in found}
    if len(clusters) > 1:
        raise SettingsError(
            setting="address",
            reason="nodes of several clusters run on this machine, whose heads are at "
            f"{', '.join(sorted(clusters.values()))}: name one of them",
        )
    # The head's own first: what is asked of the control service has the shortest way there.
    return min(found, key=lambda node: not node.is_head, default=None)


def is_same(ours: ControlAddress, theirs: ControlAddress) -> bool:
    """Whether both mean the same control service."""
    if theirs.ca_sha256:
        return ours.ca_sha256 == theirs.ca_sha256
    return (ours.host, ours.port) == (theirs.host, theirs.port)


def node_of(settings: NodeSettings, address: str) -> NodeRecord | None:
    """The node of this machine to attach to; None if the cluster has none here.

    Raises:
        ClusterUnreachableError: `auto`, and there is no node.
        SettingsError: see `local_node`.
    """
    wanted = control_address(msgspec.structs.replace(settings, address=address))
    found = local_node(settings, wanted)
    if found is None and wanted is None:
        raise ClusterUnreachableError(address=AUTO, reason=NO_NODE)
    return found


def start_own_node(
    settings: NodeSettings, address: str, namespace: str, *, is_for_job: bool = False
) -> NodeProcess:
    """A node without CPUs that joins the cluster at an address, and ends with this process.

    Args:
        is_for_job: whether drivers that this process starts are to find it.

    Raises:
        ClusterUnreachableError, AuthenticationError, JoinRefusedError, SettingsError.
    """
    join = control_address(msgspec.structs.replace(settings, address=address))
    assert join is not None
    nothing = {"num_cpus": 0, "num_gpus": 0, "memory": 0}
    settings = msgspec.structs.replace(settings, address=join.target, **nothing)
    start = NodeStart(
        settings=settings,
        sys_path=absolute(sys.path),
        is_driver=not is_for_job,
        starter_pid=0 if is_for_job else os.getpid(),
        is_for_job=is_for_job,
        namespace=namespace,
        join=join,
        version=freehold_version(),
    )
    return launch(start).wait()


@contextlib.contextmanager
def connect(settings: NodeSettings) -> Iterator[ControlCalls]:
    """A connection to the control service that the settings mean, or this machine's node's.

    Raises:
        ClusterUnreachableError, AuthenticationError, JoinRefusedError, SettingsError.
    """
    address = control_address(settings)
    node = local_node(settings, address)
    ca_pem = b""
    if node is not None:
        address, ca_pem = node.control, node.ca_pem.encode()
    elif address is None:
        raise ClusterUnreachableError(address=AUTO, reason=NO_NODE)
    token = address.token
    from freehold._io.rpc.calls import ControlCalls, find
    from freehold._io.rpc.runtime import Loop

    if settings.auth_dir and node is None:
        from freehold._processes.control.secrets import read_file, read_token

        token = read_token(os.path.join(settings.auth_dir, "token"))
        ca_pem = read_file(os.path.join(settings.auth_dir, "ca.crt"), "auth_dir")
    try:
        ways = join_string.places(address, settings.second_address)
    except ValueError as error:
        raise SettingsError(setting="second_address", reason=str(error)) from None
    address, trust = find(ways, ca_pem)
    loop = Loop()
    try:
        calls = ControlCalls(loop, address, trust, token)
        try:
            yield calls
        finally:
            calls.close()
    finally:
        loop.close()
