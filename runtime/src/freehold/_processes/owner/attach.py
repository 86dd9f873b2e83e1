"""How a process becomes part of a cluster: the first exchange with its node manager."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import frames
from freehold._io.shm import Arena
from freehold._io.transport import ANYONE, connect_socket
from freehold._processes.owner.cluster import ClusterCore
from freehold._processes.owner.context import Context
from freehold.errors import ClusterDiedError

CoreType = TypeVar("CoreType", bound=ClusterCore)


def attach(
    core_type: type[CoreType],
    cluster: str,
    node_manager: Address,
    socket_path: Callable[[Address], str],
    register: m.Register,
    arena: Arena | None,
) -> tuple[CoreType, m.Registered]:
    """Report to a node manager, and build the core under the address it gives.

    A driver gets the arena's descriptor with the answer; a worker has inherited it.

    Raises:
        ClusterDiedError: the node manager is not there or refused.
    """
    sock = connect_socket(socket_path(node_manager))
    hello = m.Hello(cluster, Address(node_manager.node, ANYONE), node_manager, m.PROTOCOL)
    sock.sendall(frames.encode([hello, register]))
    descriptors: list[int] = []
    registered, rest = _read_answer(sock, descriptors)
    if arena is None:
        arena = Arena.attach(descriptors[0], registered.arena_bytes)
    root = Context(registered.root) if registered.root else None
    core = core_type(registered.address, cluster, socket_path, arena, root)
    settings = registered.settings
    core.limit(int(settings["lineage_bytes"]), int(settings["pending_bytes"]))
    core.note_dead(registered.dead)
    with core.reactor.lock:
        core.peers.listen(registered.address)
        core.join_network(registered.network)
        core.peers.adopt(sock, node_manager, rest)
    return core, registered


def report(core: ClusterCore, register: m.Register) -> None:
    """A worker reports to its node manager, listening already: owners may connect at once."""
    address = core.owner.address
    node_manager = core.owner.outbox.node_manager
    with core.reactor.lock:
        core.peers.listen(address)
        sock = connect_socket(core.peers.socket_path(node_manager))
        hello = m.Hello(core.cluster, Address(address.node, ANYONE), node_manager, m.PROTOCOL)
        sock.sendall(frames.encode([hello, register]))
        core.peers.adopt(sock, node_manager)


def _read_answer(sock: socket.socket, descriptors: list[int]) -> tuple[m.Registered, bytes]:
    """The answer to `Register`, and what came behind it."""
    buffer = bytearray()
    while True:
        data, found, _flags, _address = socket.recv_fds(sock, 1 << 16, 4)
        descriptors += found
        if not data:
            raise ClusterDiedError(reason="the node manager closed the connection")
        buffer += data
        if len(buffer) < frames.HEADER_BYTES:
            continue
        end = frames.HEADER_BYTES + frames.body_length(buffer)
        if len(buffer) < end:
            continue
        answer = frames.decode(bytes(buffer[frames.HEADER_BYTES : end]))
        if isinstance(answer[0], m.Refused):
            raise ClusterDiedError(reason=answer[0].reason)
        assert isinstance(answer[0], m.Registered)
        rest = bytes(buffer[end:])
        if len(answer) > 1:
            rest = bytes(frames.encode(answer[1:])) + rest
        return answer[0], rest
