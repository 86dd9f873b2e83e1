"""What a node process is told when it starts, by the driver or the command line that starts it.

It comes as JSON on standard input (never by argument or environment, since it may hold a secret).
"""

from __future__ import annotations

import msgspec

from freehold._core.messages import Credentials, NodePlace
from freehold._io.join_string import ControlAddress
from freehold._processes.node.settings import NodeSettings

CHILD = "child"
"""It ends when the channel to its starter closes."""
DAEMON = "daemon"
"""It stays when its starter has gone; `freehold stop` ends it."""
FOREGROUND = "foreground"
"""It *is* what was started: its output is the terminal's or the container's, signals end it."""


class NodeStart(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How this node process begins.

    Without `head` and `join` it is a cluster's first node: it runs the control service, and with
    `is_networked` lets other machines join. With `head` it joins the cluster `cluster` in
    `session_path` on this machine, whose first node's id is `head`; with `join` the one whose
    control service is there. With `is_driver` the process at the other end of the channel gets
    `Registered` as a driver; else it is only the one whose end is the cluster's end.
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
    mode: str = CHILD
    is_for_job: bool = False
    """Whether drivers of a job shall find it, though it ends with its starter."""
    is_networked: bool = False
    join: ControlAddress | None = None
    version: str = ""
    """Freehold's own, to be named when versions do not fit."""
    is_peer_port_optional: bool = False
    """Take another port than `peer_port` if that is taken: nobody asked for it."""
    is_health_optional: bool = False
    """Go on without the health port if it is taken: nobody asked for it."""

    @property
    def is_first(self) -> bool:
        """Whether it runs the control service."""
        return not self.head and self.join is None

    @property
    def has_network(self) -> bool:
        """Whether it is, or may become, one of several machines."""
        return self.is_networked or self.join is not None


class NodeReady(msgspec.Struct):
    """What a node process answers on its channel: who it is, or why it cannot start."""

    cluster: str = ""
    node: str = ""
    session_path: str = ""
    pid: int = 0
    error: str = ""
    host: str = ""
    port: int = 0
    """Where processes of other machines reach this node's."""
    health_port: int = 0
    address: str = ""
    """`host:port` of the control service, if other machines can join."""
    join_string: str = ""
    """Of a head: a secret."""
    notes: list[str] = []
    """What its starter should know, though it works."""
