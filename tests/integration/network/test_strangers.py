"""Who may not speak over TCP: each is refused and counted, and nothing of it is passed on.

What a stranger says behind its Hello is a `Done` that the process would hear, so that a check that
is gone shows at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.network.kit import (
    CLUSTER,
    SECRET,
    Caller,
    Machine,
    Process,
    authority,
    done,
    knows,
)

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import HELLO_BYTES, STRANGERS
from freehold._io import frames, gate, strangers, tcp
from freehold._io.identity import Identity
from freehold._io.unix import connect_socket
from freehold.testing import eventually

STRANGER = Address("b" * 32, 5)
WORDS = {
    "magic": (b"FREEHOLT", m.PROTOCOL, 1, 0),
    "protocol": (b"FREEHOLD", m.PROTOCOL + 1, 1, 0),
    "flags": (b"FREEHOLD", m.PROTOCOL, 3, 0),
    "incarnation": (b"FREEHOLD", m.PROTOCOL, 1, 1),
}


class Node:
    """Node a's manager and one worker; `target` is the one that strangers try to speak to."""

    def __init__(self, folder: Path, which: str, credentials: m.Credentials | None) -> None:
        self.machine = Machine(folder, "a", credentials)
        self.manager = Process(self.machine, 0)
        self.worker = Process(self.machine, 3, self.manager.place)
        self.worker.send(self.manager.address, done(0))
        knows(self.manager, 0)
        self.manager.heard.clear()
        self.target = self.worker if which == "worker" else self.manager

    def call(self) -> Caller:
        return Caller(self.manager.place)

    def refused(self) -> int:
        return self.manager.peers.refused + self.worker.peers.refused

    def close(self) -> None:
        self.worker.close()
        self.manager.close()


@pytest.fixture
def ca() -> Any:
    return authority()


@pytest.fixture(params=["manager", "worker"])
def node(request: pytest.FixtureRequest, tmp_path: Path, ca: Any) -> Iterator[Node]:
    """With TLS; at its end, a peer that belongs here is still heard."""
    with contextlib.closing(Node(tmp_path, request.param, ca.credentials("a" * 32))) as found:
        yield found
        assert found.target.keys() == []
        assert_heard(found, ca)


@pytest.fixture(params=["manager", "worker"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    with contextlib.closing(Node(tmp_path, request.param, None)) as found:
        yield found


def assert_heard(node: Node, ca: Any) -> None:
    with contextlib.closing(node.call()) as caller:
        target = node.target.address
        caller.preamble(target, is_tls=True)
        assert caller.shake(ca.ca_pem, ca.credentials(STRANGER.node))
        caller.hello(STRANGER, target, done(99))
        knows(node.target, 99)


@contextlib.contextmanager
def is_refused(node: Node) -> Iterator[Caller]:
    """What happens in here is refused, counted once, and hung up on."""
    before = node.refused()
    with contextlib.closing(node.call()) as caller:
        yield caller
        assert caller.is_hung_up_on()
        eventually(lambda: node.refused() == before + 1, timeout_s=10)
    assert node.target.keys() == []


# ---- before the handshake ------------------------------------------------------------------------


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(range(256))])
def test_what_is_no_preamble(node: Node, words: bytes) -> None:
    with is_refused(node) as caller:
        caller.say(words)


@pytest.mark.parametrize("name", WORDS)
def test_a_preamble_with_another(node: Node, ca: Any, name: str) -> None:
    """All the rest is as it should be."""
    magic, protocol, flags, incarnation = WORDS[name]
    target = node.target.address
    with is_refused(node) as caller:
        caller.say(struct.pack("<8sHHII", magic, protocol, flags, target.process, incarnation))
        if caller.shake(ca.ca_pem, ca.credentials(STRANGER.node)):
            caller.hello(STRANGER, target, done(1))


def test_a_preamble_for_nobody(node: Node) -> None:
    with is_refused(node) as caller:
        caller.preamble(Address(node.machine.node, 77), is_tls=True)


def test_half_a_preamble(node: Node) -> None:
    with is_refused(node) as caller:
        caller.say(tcp.encode_preamble(node.target.address, is_tls=True)[:11])
        caller.sock.shutdown(socket.SHUT_WR)


def test_one_that_says_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "PREAMBLE_S", 0.2)
    with is_refused(node):
        pass


def test_one_that_says_nothing_behind_the_preamble(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "HELLO_S", 0.2)
    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=True)


def test_one_that_says_nothing_behind_the_handshake(
    node: Node, ca: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "HELLO_S", 0.3)
    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=True)
        assert caller.shake(ca.ca_pem, ca.credentials(STRANGER.node))


@pytest.mark.parametrize("says_preamble", [False, True])
def test_too_many_of_them(
    node: Node, ca: Any, says_preamble: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PREAMBLE_S", 60.0)  # it is their number that is too large
    monkeypatch.setattr(strangers, "HELLO_S", 60.0)
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS + 20):
            caller = stack.enter_context(contextlib.closing(node.call()))
            if says_preamble:
                caller.preamble(node.target.address, is_tls=True)
        eventually(lambda: node.refused() >= 20, timeout_s=10)
        assert_heard(node, ca)  # the newest gets in
        node.target.heard.clear()


def test_without_tls(node: Node) -> None:
    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=False)
        caller.hello(STRANGER, node.target.address, done(1))


# ---- by its certificate --------------------------------------------------------------------------


def shaken(node: Node, caller: Caller, ca: Any, credentials: m.Credentials | None) -> None:
    """Go as far as a client can, and say something."""
    caller.preamble(node.target.address, is_tls=True)
    if caller.shake(ca.ca_pem, credentials):
        caller.hello(STRANGER, node.target.address, done(1))


def test_another_authoritys_certificate(node: Node, ca: Any) -> None:
    with is_refused(node) as caller:
        shaken(node, caller, ca, authority().credentials(STRANGER.node))


def test_no_certificate(node: Node, ca: Any) -> None:
    with is_refused(node) as caller:
        shaken(node, caller, ca, None)


@pytest.mark.parametrize(
    "certificate",
    [
        lambda ca: ca.credentials(STRANGER.node, cluster="beef00000000"),
        lambda ca: ca.credentials("d" * 32),
        lambda ca: ca.credentials(STRANGER.node, 1),
    ],
    ids=["of another cluster", "of another node", "of another incarnation"],
)
def test_a_certificate(node: Node, ca: Any, certificate: Callable[[Any], m.Credentials]) -> None:
    with is_refused(node) as caller:
        shaken(node, caller, ca, certificate(ca))


def test_an_older_tls(node: Node, ca: Any, tmp_path: Path) -> None:
    import ssl

    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(cadata=ca.ca_pem)
        credentials = ca.credentials(STRANGER.node)
        path = tmp_path / "certificate"
        path.write_text(credentials.key_pem + credentials.certificate_pem)
        context.load_cert_chain(path)
        with contextlib.suppress(ssl.SSLError, OSError):
            caller.sock = context.wrap_socket(caller.sock)
            caller.hello(STRANGER, node.target.address, done(1))


# ---- by its first frame --------------------------------------------------------------------------


def raw(body: bytes) -> bytes:
    return struct.pack("<IHH", len(body), frames.MAGIC, 0) + body


FIRST = {
    "too large": lambda node: frames.encode([hello(node), done(1, HELLO_BYTES)]),
    "over every limit": lambda node: struct.pack("<IHH", 0xFFFF_FFFF, frames.MAGIC, 0),
    "wrong magic": lambda node: struct.pack("<IHH", 8, 0x1234, 0) + bytes(8),
    "malformed": lambda node: raw(b"\x91\x92\x01\xc3"),
    "a pickle": lambda node: raw(b"\x80\x04N."),
    "no hello": lambda node: frames.encode([done(1)]),
    "empty": lambda node: frames.encode([]),
    "cut": lambda node: frames.encode([hello(node)])[:-1],
    "other cluster": lambda node: frames.encode([hello(node, cluster="0" * 12), done(1)]),
    "other target": lambda node: frames.encode([hello(node, target=STRANGER), done(1)]),
    "other protocol": lambda node: frames.encode([hello(node, protocol=77), done(1)]),
    "to register": lambda node: frames.encode(
        [hello(node, source=Address(STRANGER.node, 0xFFFF_FFFF)), m.Register(1), done(1)]
    ),
    "to hand over": lambda node: frames.encode([hello(node), m.HandedOver(True), done(1)]),
}


def hello(node: Node, **changes: Any) -> m.Hello:
    told: dict[str, Any] = {
        "cluster": CLUSTER,
        "source": STRANGER,
        "target": node.target.address,
        "protocol": m.PROTOCOL,
    }
    return m.Hello(**{**told, **changes})


@pytest.mark.parametrize("name", FIRST)
def test_a_first_frame_that_is(node: Node, ca: Any, name: str) -> None:
    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=True)
        assert caller.shake(ca.ca_pem, ca.credentials(STRANGER.node))
        caller.say(FIRST[name](node))
        if name == "cut":
            caller.sock.close()
            caller.sock = socket.socket()
            caller.sock.close()
            caller.is_hung_up_on = lambda: True  # type: ignore[method-assign]


def test_a_node_that_was_declared_dead(node: Node, ca: Any) -> None:
    with node.target.reactor.lock:
        node.target.peers.node_died(STRANGER.node, 0)
    with is_refused(node) as caller:
        shaken(node, caller, ca, ca.credentials(STRANGER.node))
    with node.target.reactor.lock:
        assert node.target.peers.network is not None
        node.target.peers.network.book._dead.clear()


def test_a_dead_nodes_open_connections_end(node: Node, ca: Any) -> None:
    with contextlib.closing(node.call()) as caller:
        caller.preamble(node.target.address, is_tls=True)
        assert caller.shake(ca.ca_pem, ca.credentials(STRANGER.node))
        caller.hello(STRANGER, node.target.address, done(5))
        knows(node.target, 5)
        with node.target.reactor.lock:
            node.target.peers.node_died(STRANGER.node, 0)
        assert caller.is_hung_up_on()
        node.target.heard.clear()
        with node.target.reactor.lock:
            assert node.target.peers.network is not None
            node.target.peers.network.book._dead.clear()


def test_stored_bytes_from_a_process_that_keeps_none(node: Node, ca: Any) -> None:
    with is_refused(node) as caller:
        caller.preamble(node.target.address, is_tls=True)
        assert caller.shake(ca.ca_pem, ca.credentials(STRANGER.node))
        caller.hello(STRANGER, node.target.address, m.OpenBulk())


# ---- whom we call --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "certificate",
    [
        lambda ca: ca.credentials("d" * 32),
        lambda ca: ca.credentials("a" * 32, 1),
        lambda ca: ca.credentials("a" * 32, cluster="beef00000000"),
        lambda ca: authority().credentials("a" * 32),
    ],
    ids=["another node", "another incarnation", "another cluster", "another authority"],
)
def test_a_callee_that_is_somebody_else_hears_nothing(
    tmp_path: Path, ca: Any, certificate: Callable[[Any], m.Credentials]
) -> None:
    theirs = certificate(ca)
    node = Node(tmp_path, "manager", theirs)
    mine = Machine(tmp_path, "b", ca.credentials("b" * 32))
    caller = Process(mine, 5, node.manager.place)
    try:
        # Let the callee believe in the caller, so that only the caller's own check is left.
        with node.manager.reactor.lock:
            assert node.manager.peers.network is not None
            believing = m.Credentials(ca.ca_pem, theirs.certificate_pem, theirs.key_pem)
            node.manager.peers.network.identity.change(believing)
        caller.send(node.manager.address, done(1))
        eventually(lambda: caller.ended, timeout_s=10)
        assert "shaking hands" in caller.ended[0][1]
        assert node.manager.keys() == []
    finally:
        caller.close()
        node.close()


# ---- without TLS ---------------------------------------------------------------------------------


def test_who_knows_the_secret_is_heard(plain: Node) -> None:
    with contextlib.closing(plain.call()) as caller:
        answer(plain, caller, SECRET)
        knows(plain.target, 1)


def answer(node: Node, caller: Caller, secret: bytes, **changes: Any) -> bytes:
    """Answer the challenge; returns the proof that was given."""
    target = node.target.address
    caller.preamble(target, is_tls=False)
    challenge = caller.message()
    assert isinstance(challenge, m.Challenge)
    prover = Identity(CLUSTER, m.Credentials(secret=secret), is_tls=False)
    nonce = b"n" * 32
    proof = prover.prove("hello", challenge.nonce + nonce, STRANGER, target)
    told = {"nonce": nonce, "proof": proof, **changes}
    caller.hello(STRANGER, target, done(1), **told)
    return proof


def test_another_secret(plain: Node) -> None:
    with is_refused(plain) as caller:
        answer(plain, caller, b"x" * 32)


@pytest.mark.parametrize("proof", [b"", bytes(32)])
def test_no_proof(plain: Node, proof: bytes) -> None:
    with is_refused(plain) as caller:
        answer(plain, caller, SECRET, proof=proof)


def test_a_proof_said_twice(plain: Node) -> None:
    with contextlib.closing(plain.call()) as caller:
        proof = answer(plain, caller, SECRET)
        knows(plain.target, 1)
    plain.target.heard.clear()
    with is_refused(plain) as caller:
        answer(plain, caller, SECRET, proof=proof)


def test_a_proof_for_somebody_else(plain: Node) -> None:
    with is_refused(plain) as caller:
        target = plain.target.address
        caller.preamble(target, is_tls=False)
        challenge = caller.message()
        assert isinstance(challenge, m.Challenge)
        prover = Identity(CLUSTER, m.Credentials(secret=SECRET), is_tls=False)
        proof = prover.prove("hello", challenge.nonce, STRANGER, Address("e" * 32, 1))
        caller.hello(STRANGER, target, done(1), proof=proof)


def test_tls_where_there_is_none(plain: Node) -> None:
    with is_refused(plain) as caller:
        caller.preamble(plain.target.address, is_tls=True)


def test_a_callee_without_the_secret_is_not_heard(tmp_path: Path) -> None:
    """It lets everybody in, and answers; what it says must not be passed on."""
    mine = Machine(tmp_path, "b")
    with tcp.listen("127.0.0.1", 0) as listener:
        listener.setblocking(True)
        place = m.NodePlace("a" * 32, 0, "127.0.0.1", listener.getsockname()[1])
        caller = Process(mine, 5, place)
        try:
            caller.send(Address("a" * 32, 3), done(1))
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 16)  # its preamble
                sock.sendall(frames.encode([m.Challenge(bytes(32))]))
                sock.recv(1 << 16)  # its hello
                sock.sendall(frames.encode([m.Welcome(bytes(32))]) + frames.encode([done(2)]))
                eventually(lambda: caller.ended, timeout_s=10)
        finally:
            caller.close()
    assert "does not know the cluster's secret" in caller.ended[0][1]
    assert caller.heard == []


# ---- sockets that are handed over ----------------------------------------------------------------


def test_only_the_node_manager_hands_sockets_over(node: Node) -> None:
    """A process of this user that says it were the node manager, and is not by its pid."""
    target, manager = node.worker, node.manager.address
    path = node.machine.socket_path(target.address)
    frame = frames.encode(
        [m.Hello(CLUSTER, manager, target.address, m.PROTOCOL), m.HandedOver(False)]
    )
    before = target.peers.refused
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with connect_socket(path) as sock:
            socket.send_fds(sock, [frame], [read])
            sock.recv(100)
            os._exit(0)
    os.waitpid(pid, 0)
    eventually(lambda: target.peers.refused == before + 1, timeout_s=10)
    os.close(read)
    with pytest.raises(BrokenPipeError):  # the descriptor that came along was closed
        os.write(write, b"x")
    os.close(write)


def test_a_descriptor_that_nobody_asked_for_is_closed(node: Node) -> None:
    target = node.target
    read, write = os.pipe()
    with connect_socket(node.machine.socket_path(target.address)) as sock:
        hello = m.Hello(CLUSTER, STRANGER, target.address, m.PROTOCOL)
        socket.send_fds(sock, [frames.encode([hello, done(7)])], [read])
        knows(target, 7)
        os.close(read)
        with pytest.raises(BrokenPipeError):
            os.write(write, b"x")
    os.close(write)
    target.heard.clear()


def test_a_process_that_was_stopped_does_not_stop_its_node_manager(node: Node, ca: Any) -> None:
    """Its backlog is full: nobody waits for it."""
    path = node.machine.socket_path(Address(node.machine.node, 8))
    with contextlib.ExitStack() as stack:
        stopped = stack.enter_context(socket.socket(socket.AF_UNIX))
        stopped.bind(path)
        stopped.listen(0)
        with contextlib.suppress(BlockingIOError):
            for _ in range(3):
                stack.enter_context(connect_socket(path, waits=False))
        before = node.manager.peers.refused
        caller = stack.enter_context(contextlib.closing(node.call()))
        caller.preamble(Address(node.machine.node, 8), is_tls=True)
        assert caller.is_hung_up_on()
        eventually(lambda: node.manager.peers.refused == before + 1, timeout_s=10)
