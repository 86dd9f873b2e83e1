"""Between machines: who a node is, where others are, and how a connection opens and is let go."""

from __future__ import annotations

from freehold._core.messages.parts import FrozenPlain, Message


class Credentials(FrozenPlain, frozen=True):
    """What a node proves itself with; its processes get it over their unix connections alone.

    With TLS the three texts, in PEM: whom to believe, who this node is, and the key to show it
    with. Without TLS `secret`, which every node derives from the cluster's token.
    """

    ca_pem: str = ""
    certificate_pem: str = ""
    key_pem: str = ""
    secret: bytes = b""


class NodePlace(FrozenPlain, frozen=True):
    """Where a node's peer plane is reached; no host: on this machine alone."""

    node: str
    incarnation: int
    host: str
    port: int


class NetworkStart(FrozenPlain, frozen=True):
    """All that a process needs to speak to processes of other machines."""

    credentials: Credentials
    is_tls: bool
    places: list[NodePlace] = []


class CredentialsChanged(Message, tag=150):
    """Node manager to its processes: use these from now on. Connections that are open stay."""

    credentials: Credentials


class PlacesChanged(Message, tag=151):
    """Node manager to its processes: nodes that came, or are elsewhere than they were."""

    places: list[NodePlace]


class HandedOver(Message, tag=152):
    """Node manager to a process of its node: somebody connected to you; the socket comes along.

    Second in the first frame of a connection of its own. `is_tls` is what the stranger's preamble
    says; nothing else of it was read.
    """

    is_tls: bool


class Challenge(Message, tag=153):
    """Acceptor to whoever connected without TLS: prove with this that you know the secret."""

    nonce: bytes


class Welcome(Message, tag=154):
    """Acceptor to whoever connected without TLS: proof that it knows the secret, too."""

    proof: bytes


class Goodbye(Message, tag=155):
    """This connection has long been idle and goes; nothing comes behind this. No death is meant."""


class OpenBulk(Message, tag=156):
    """Node manager to node manager, behind the Hello: this connection is for stored bytes alone."""
