"""What a node has beside the rest when its cluster spans machines: a server, or a link to it.

Place in the flow: `run` prepares it before the `NodeManager` is made (a node that joins must know
its cluster and incarnation first) and hands it over; the node manager begins and ends it. It is
imported only then: a cluster of one machine has neither grpc nor cryptography.

Both kinds have `credentials`, which are what this node shows to others now.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol

from freehold._core import messages as m
from freehold._core.limits import (
    JOIN_PAUSE_FIRST_S,
    JOIN_PAUSE_GROWTH,
    JOIN_PAUSE_MOST_S,
    JOIN_TOLD_S,
    LEAF_LOOK_S,
    STRANGER_S,
)
from freehold._io import certificates, hosts, join_string
from freehold._io.credentials import Credentials
from freehold._io.join_string import ControlAddress
from freehold._io.reactor import Reactor
from freehold._io.rpc.calls import ControlCalls, Enrolled, Trust, find
from freehold._io.rpc.link import ControlLink
from freehold._io.rpc.runtime import Loop, Mailbox
from freehold._io.rpc.server import ControlServer
from freehold._io.rpc.streams import NodeStreams
from freehold._io.state_db import StateDb
from freehold._processes.control.desk import ControlDesk
from freehold._processes.control.secrets import ClusterSecrets, TokenFiles, read_file
from freehold._processes.control.service import ControlService
from freehold._processes.node.settings import NodeSettings, state_folder
from freehold._processes.node.start import NodeStart
from freehold.errors import AuthenticationError, ClusterUnreachableError

if TYPE_CHECKING:
    from freehold._processes.node.service import NodeManager


class ControlPlane(Protocol):
    """A head's or another node's part in the control plane."""

    @property
    def cluster(self) -> str:
        """The cluster's id."""

    @property
    def incarnation(self) -> int:
        """Of this node, as the control service granted it."""

    @property
    def credentials(self) -> Credentials:
        """What this node shows to others of its cluster; renewed while it runs."""

    def peer_credentials(self) -> m.Credentials:
        """The same as the peer plane has them."""

    @property
    def host(self) -> str:
        """This machine's address, as others of the cluster reach it."""

    @property
    def control(self) -> ControlAddress:
        """Where the control service is, with what lets others in."""

    @property
    def ca_pem(self) -> bytes:
        """The cluster's CA."""

    @property
    def is_ready(self) -> bool:
        """Whether the node has a place in its cluster."""

    @property
    def refusals(self) -> dict[str, int]:
        """Calls that were not let in, by kind; of a head."""

    @property
    def frames(self) -> dict[str, int]:
        """Frames "sent" to the control service and "received" from it; of a node that joined."""

    def begin(self, node: NodeManager, joined: m.NodeJoined) -> None:
        """Serve, or join; on the reactor's thread, before it runs."""

    def close(self, reason: str) -> None:
        """Say that this node ends, and end the thread."""


class HeadPlane:
    """Serves the control plane, in the process that has the control service.

    Raises:
        OSError, ValueError: the folders or the port cannot be used.
    """

    def __init__(self, start: NodeStart, node: str) -> None:
        settings = start.settings
        self._version = start.version
        self._secrets = ClusterSecrets(settings)
        self._settings = settings
        self.cluster = self._secrets.cluster
        self.incarnation = 0
        self._authority = self._secrets.authority
        self.host = settings.host or hosts.own_host()
        self._loop = Loop()
        self._mailbox: Mailbox | None = None
        self._server: ControlServer | None = None
        self._streams: NodeStreams | None = None
        self._own_node = node
        self.credentials = self._authority.enroll_own(node, self.incarnation)
        self.port = settings.control_port

    def peer_credentials(self) -> m.Credentials:
        """See `ControlPlane`."""
        return _for_peers(self.credentials, self.control.token)

    @property
    def control(self) -> ControlAddress:
        """See `ControlPlane`."""
        return ControlAddress(
            host=self.host,
            port=self.port,
            token=self._secrets.tokens.current(),
            ca_sha256=certificates.fingerprint(self._authority.ca_pem),
        )

    @property
    def ca_pem(self) -> bytes:
        """See `ControlPlane`."""
        return self._authority.ca_pem

    @property
    def is_ready(self) -> bool:
        """See `ControlPlane`."""
        return self._server is not None

    @property
    def refusals(self) -> dict[str, int]:
        """Calls that were not let in, by kind."""
        return dict(self._server.refusals.by_kind) if self._server is not None else {}

    @property
    def frames(self) -> dict[str, int]:
        """See `ControlPlane`; its own node's go through no stream."""
        return {}

    def serve(self, reactor: Reactor, own_node: str) -> ControlService:
        """The control service, as it was when an earlier head of the cluster ended.

        Raises:
            HeadStateError: what that kept cannot be used.
        """
        db = StateDb(reactor, state_folder(self._settings))
        return ControlService(
            reactor,
            own_node,
            db=db,
            cluster=self.cluster,
            head_incarnation=self._secrets.starts,
        )

    def begin(self, node: NodeManager, joined: m.NodeJoined) -> None:
        """See `ControlPlane`."""
        assert node.control is not None
        self._mailbox = Mailbox(node.reactor)
        desk = ControlDesk(node.reactor, node.control)
        self._streams = desk.streams = NodeStreams(node.reactor, desk, os.urandom(8).hex())
        server = ControlServer(
            self._loop,
            self._mailbox,
            self._authority,
            self._secrets.tokens.all,
            (desk, self._streams, node.hub.node),
            self._version,
        )
        desk.on_change = server.cluster_changed
        try:
            bind = hosts.bind_address(self.host)
            self.port = server.start(bind, self._settings.control_port)
        except OSError as error:
            raise ValueError(
                f"control_port {self._settings.control_port} cannot be listened on "
                f"({error.strerror}): stop what uses it (freehold stop, if it is a node of yours), "
                "or give another: --port"
            ) from None
        self._server = server
        self._look_after_leaf(node)

    def _look_after_leaf(self, node: NodeManager) -> None:
        """Sign a new one for the own node at half the life of the last, for it and its processes;
        again and again."""
        life_s = self._authority.lifetime_s
        if self.credentials.expires_unix_s - time.time() < life_s / 2:
            self.credentials = self._authority.enroll_own(self._own_node, self.incarnation)
            node.network.change(self.peer_credentials())
        look_s = min(LEAF_LOOK_S, life_s / 8)
        node.reactor.call_later(look_s, partial(self._look_after_leaf, node))

    def close(self, reason: str) -> None:
        """See `ControlPlane`."""
        if self._streams is not None:
            self._streams.close()
        if self._server is not None:
            self._server.stop()
        self._loop.close()
        if self._mailbox is not None:
            self._mailbox.close()
        self._secrets.close()


class MemberPlane:
    """Has a place in another machine's cluster; enrolled when this is made.

    Raises:
        ClusterUnreachableError: the head was away for `join_timeout_s`.
        AuthenticationError, JoinRefusedError: it does not take this node.
    """

    def __init__(self, start: NodeStart, node: str) -> None:
        assert start.join is not None
        self._version = start.version
        self._address = start.join
        settings = start.settings
        self._token, self._known_ca = _ways_in(settings, start.join)
        self._ways = join_string.places(start.join, settings.second_address)
        self._loop = Loop()
        try:
            self._trust, enrolled = self._enroll(node, settings.join_timeout_s)
        except BaseException:
            self._loop.close()
            raise
        self.cluster = enrolled.cluster
        self.incarnation = enrolled.incarnation
        self._first_credentials = enrolled.credentials
        self.host = settings.host or hosts.own_host(start.join.host)
        self.has_joined = False
        self._mailbox: Mailbox | None = None
        self.link: ControlLink | None = None

    def _enroll(self, node: str, timeout_s: float) -> tuple[Trust, Enrolled]:
        """Find out whom to trust, and have a certificate made; tries until the head is there.

        A folder of secrets is how Kubernetes says whom to trust, where the address is a Service's.
        Until its rules have reached this machine's kernel somebody else may answer there, such as a
        proxy for all that leaves the cluster: so a stranger is asked again for a while. So is the
        head itself when it refuses a token, which may just be on its way to becoming another.
        """
        began, pause_s, is_told = time.monotonic(), JOIN_PAUSE_FIRST_S, False
        deadline = began + timeout_s
        refused_until: float | None = None
        while True:
            try:
                return self._try_to_enroll(node)
            except (ClusterUnreachableError, AuthenticationError) as error:
                now, until = time.monotonic(), deadline
                if isinstance(error, AuthenticationError):
                    if not self._known_ca:
                        raise
                    if refused_until is None:
                        refused_until = now + STRANGER_S
                    until = min(deadline, refused_until)
                if now + pause_s > until:
                    raise
                if not is_told and now - began > JOIN_TOLD_S:
                    is_told = True
                    left_s = round(until - now, 1)
                    print(f"freehold: {error}; trying for {left_s:g} s", file=sys.stderr)  # noqa: T201 - the log
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(JOIN_PAUSE_GROWTH * pause_s, JOIN_PAUSE_MOST_S)

    def _try_to_enroll(self, node: str) -> tuple[Trust, Enrolled]:
        place, trust = find(self._ways, self._known_ca)
        calls = ControlCalls(self._loop, place, trust, self._token())
        try:
            return trust, calls.enroll(node, self._version)
        finally:
            calls.close()

    @property
    def credentials(self) -> Credentials:
        """See `ControlPlane`."""
        return self.link.credentials if self.link is not None else self._first_credentials

    def peer_credentials(self) -> m.Credentials:
        """See `ControlPlane`."""
        return _for_peers(self.credentials, self.control.token)

    @property
    def control(self) -> ControlAddress:
        """See `ControlPlane`."""
        return ControlAddress(
            host=self._address.host,
            port=self._address.port,
            token=self._token(),
            ca_sha256=certificates.fingerprint(self._trust.ca_pem),
        )

    @property
    def ca_pem(self) -> bytes:
        """See `ControlPlane`."""
        return self._trust.ca_pem

    @property
    def is_ready(self) -> bool:
        """See `ControlPlane`."""
        return self.link is not None and self.has_joined

    @property
    def refusals(self) -> dict[str, int]:
        """See `ControlPlane`."""
        return {}

    @property
    def frames(self) -> dict[str, int]:
        """See `ControlPlane`."""
        if self.link is None:
            return {}
        return {"sent": self.link.frames_sent, "received": self.link.frames_received}

    def begin(self, node: NodeManager, joined: m.NodeJoined) -> None:
        """See `ControlPlane`."""
        self._node, self._joined = node, joined
        self._mailbox = Mailbox(node.reactor)
        self.link = ControlLink(
            (node.reactor, self._loop, self._mailbox),
            [place.target for place in self._ways],
            self._trust,
            self._token,
            self._first_credentials,
            self,
        )
        self.link.version = self._version
        node.hub.to_control = node.head_desk.send
        self.link.start()

    def close(self, reason: str) -> None:
        """See `ControlPlane`."""
        if self.link is not None:
            self.link.close(m.ShutDown(reason))
        self._loop.close()
        if self._mailbox is not None:
            self._mailbox.close()

    # ---- LinkListener ----------------------------------------------------------------------------

    def on_control(self, message: m.Message) -> None:
        """See `LinkListener`."""
        self._node.head_desk.on_control(message)
        self._node.from_control(message)

    def standing(self) -> list[m.Message]:
        """See `LinkListener`."""
        return self._node.head_desk.standing()

    def on_connected(self, head_node: str) -> None:
        """See `LinkListener`."""
        assert self.link is not None
        self._node.head = head_node
        self._node.head_desk.connect(self.link.send)
        self.has_joined = True

    def on_disconnected(self, reason: str) -> None:
        """See `LinkListener`; what runs here goes on."""

    def on_renewed(self) -> None:
        """See `LinkListener`; the processes of this node show the new certificate, too."""
        self._node.network.change(self.peer_credentials())

    def on_refused(self, reason: str) -> None:
        """See `LinkListener`."""
        self._node.fenced(reason)


def _for_peers(credentials: Credentials, token: str) -> m.Credentials:
    return m.Credentials(
        credentials.ca_pem.decode(),
        credentials.certificate_pem.decode(),
        credentials.key_pem.decode(),
        blake2b(token.encode(), digest_size=32, person=b"freehold-peers").digest(),
    )


def _ways_in(settings: NodeSettings, address: ControlAddress) -> tuple[Callable[[], str], bytes]:
    """How to get the token that is good now, and the CA if it is known.

    Raises:
        ValueError: there is neither a join string nor a folder with the token.
    """
    if settings.auth_dir:
        tokens = TokenFiles(settings.auth_dir)
        return tokens.current, read_file(os.path.join(settings.auth_dir, "ca.crt"), "auth_dir")
    if address.token:
        token = address.token
        return (lambda: token), b""
    raise ValueError(
        f"address is {address.target}, which names no token: give the join string that the head "
        "printed (freehold status --join-string shows it there), or auth_dir"
    )
