"""What a node process is told when it starts, by the driver or the command line that starts it.

It comes as JSON on standard input (never by argument or environment, since it may hold a secret).
"""

from __future__ import annotations

import msgspec

from freehold._core.messages import Credentials, NodePlace
from freehold._processes.node.settings import NodeSettings


class NodeStart(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How this node process begins.

    Without `head` it is node process 0: it makes the cluster and runs the control service. With it,
    it joins the cluster `cluster` in `session_path`, whose first node's id is `head`. With
    `is_driver` the process at the other end of the channel gets `Registered` as a driver; else it
    is only the one whose end is the cluster's end.
    """

    settings: NodeSettings
    sys_path: list[str]
    is_driver: bool = True
    namespace: str = ""
    head: str = ""
    cluster: str = ""
    session_path: str = ""
    starter_pid: int = 0
    node: str = ""
    """The node's id, if its credentials name one already; else it draws its own."""
    credentials: Credentials | None = None
    """What it proves itself with to other machines; needed where the setting `host` is given."""
    head_place: NodePlace | None = None
    """Where the first node is reached, if over a network."""


class NodeReady(msgspec.Struct):
    """What a node process answers on its channel: who it is, or why it cannot start."""

    cluster: str = ""
    node: str = ""
    session_path: str = ""
    pid: int = 0
    error: str = ""
    host: str = ""
    port: int = 0
