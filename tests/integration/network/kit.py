"""Processes of two machines, as far as the peer plane goes: real sockets, no workers."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import frames, tcp
from freehold._io.connection import Connection
from freehold._io.gate import Gate
from freehold._io.network import Network
from freehold._io.reactor import Reactor
from freehold._io.throwaway_authority import ThrowawayAuthority
from freehold._io.transport import Peers
from freehold.testing import eventually

CLUSTER = "c0ffee000000"
SECRET = b"s" * 32


class Machine:
    """A node id, its credentials, and the folder of its unix sockets."""

    def __init__(self, folder: Path, name: str, credentials: m.Credentials | None = None) -> None:
        self.node = name * 32
        self.credentials = credentials if credentials is not None else m.Credentials(secret=SECRET)
        self.is_tls = not self.credentials.secret
        self.folder = folder / name
        self.folder.mkdir()

    def socket_path(self, address: Address) -> str:
        return str(self.folder / f"{address.process}.sock")

    def network(self, *places: m.NodePlace) -> m.NetworkStart:
        return m.NetworkStart(self.credentials, self.is_tls, list(places))


class Process:
    """One process: its peers, and what they said. A thread of its own leads its reactor."""

    def __init__(self, machine: Machine, number: int, *places: m.NodePlace) -> None:
        self.machine = machine
        self.address = Address(machine.node, number)
        self.heard: list[tuple[Address | None, m.Message]] = []
        self.ended: list[tuple[Address | None, str]] = []
        self.reactor = Reactor()
        self.peers = Peers(
            self.reactor, CLUSTER, machine.socket_path, self._on_messages, self._on_closed
        )
        self.gate: Gate | None = None
        self.place = m.NodePlace(machine.node, 0, "", 0)
        network = machine.network(*places)
        with self.reactor.lock:
            self.peers.network = Network(self.reactor, CLUSTER, machine.node, network)
            self.peers.listen(self.address)
            if number == 0:
                self.gate = Gate(self.peers, "127.0.0.1", 0)
                self.place = m.NodePlace(machine.node, 0, self.gate.host, self.gate.port)
        self.reactor.start_background()

    def _on_messages(self, connection: Connection, messages: list[m.Message]) -> None:
        self.heard += [(connection.peer, message) for message in messages]

    def _on_closed(self, connection: Connection, reason: str) -> None:
        self.ended.append((connection.peer, reason))

    def send(self, target: Address, *messages: m.Message) -> None:
        with self.reactor.lock:
            for message in messages:
                self.peers.connect(target).send(message)
            self.reactor.flush()

    def learn(self, *places: m.NodePlace) -> None:
        with self.reactor.lock:
            assert self.peers.network is not None
            self.peers.network.learn(places)

    def keys(self) -> list[int]:
        """The keys of the `Done` messages that came."""
        return [message.key for _, message in self.heard if isinstance(message, m.Done)]

    def close(self) -> None:
        with self.reactor.lock:
            if self.gate is not None:
                self.gate.close()
            self.peers.close()
        self.reactor.stop()
        self.reactor.close()


def done(key: int, size: int = 0) -> m.Done:
    return m.Done(key, 0, 0, bytes(size))


class Caller:
    """A client of the plain kind: a blocking socket, and nothing that would keep it from lying."""

    def __init__(self, place: m.NodePlace) -> None:
        self.sock: Any = socket.create_connection((place.host, place.port), timeout=10)

    def say(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            pass

    def preamble(self, target: Address, *, is_tls: bool) -> None:
        self.say(tcp.encode_preamble(target, is_tls=is_tls))

    def shake(self, ca_pem: str, credentials: m.Credentials | None) -> bool:
        """Whether this side believes the handshake to be over."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=ca_pem)
        if credentials is not None:
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(credentials.key_pem + credentials.certificate_pem)
                file.flush()
                context.load_cert_chain(file.name)
        try:
            self.sock = context.wrap_socket(self.sock)
        except (ssl.SSLError, OSError):
            return False
        return True

    def hello(self, source: Address, target: Address, *behind: m.Message, **changes: Any) -> None:
        told = {"cluster": CLUSTER, "protocol": m.PROTOCOL, "pid": os.getpid(), **changes}
        hello = m.Hello(source=source, target=target, **told)
        self.say(frames.encode([hello, *behind]))

    def message(self) -> m.Message:
        """The one message of the next frame."""
        header = self._exactly(frames.HEADER_BYTES)
        (message,) = frames.decode(self._exactly(frames.body_length(bytearray(header))))
        return message

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.sock.recv(size - len(data))
            if not piece:
                raise ConnectionError("it hung up")
            data += piece
        return data

    def is_hung_up_on(self) -> bool:
        """Reads to the end; a Refused before it is fine."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass  # reset, or closed by a handshake that failed
        return True

    def close(self) -> None:
        self.sock.close()


def authority() -> ThrowawayAuthority:
    return ThrowawayAuthority(CLUSTER)


def knows(process: Process, *keys: int) -> None:
    """Wait until these came, and nothing else."""
    eventually(lambda: process.keys() == list(keys), timeout_s=10)
