"""Who is let in, who is not, and that either is told why: tokens, CAs, versions, proofs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.integration.cluster.kit import Machines, free_port

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import certificates, join_string
from freehold._io.join_string import ControlAddress
from freehold._io.rpc import calls as rpc_calls
from freehold._io.rpc import runtime, server, wire
from freehold._io.rpc.calls import ControlCalls, own_version, probe
from freehold._io.rpc.runtime import Loop, secure_channel
from freehold._proto import control_pb2 as pb
from freehold._proto import nodes_pb2
from freehold.errors import AuthenticationError, ClusterUnreachableError, JoinRefusedError
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def head(pair: Machines) -> ControlAddress:
    return join_string.parse(pair.join_string())


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


def start_with(pair: Machines, address: ControlAddress, **variables: str) -> str:
    """What `freehold start` says that is not let in."""
    done = pair.cli("start", "--address", "-", given=address.join_string(), **variables)
    assert done.returncode == 1
    assert address.token not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def changed(address: ControlAddress, **fields: Any) -> ControlAddress:
    values = {"host": address.host, "port": address.port, "token": address.token}
    return ControlAddress(**{**values, "ca_sha256": address.ca_sha256, **fields})


def test_a_wrong_token_is_refused_and_counted(pair: Machines, head: ControlAddress) -> None:
    text = start_with(pair, changed(head, token=TOKEN))
    assert "a wrong token" in text
    assert "attach with the join string of this cluster" in text
    record = next(node for node in pair.nodes() if node.is_head)
    assert pair.log(record).count("a wrong token (said once)") == 1
    assert len(pair.states()) == 2


def test_another_ca_is_refused_before_the_token_is_sent(
    pair: Machines, head: ControlAddress
) -> None:
    text = start_with(pair, changed(head, ca_sha256="0" * 64))
    assert "its CA is not the one with SHA-256 0000000000000000…" in text


def test_an_impostor_hears_no_token(pair: Machines, head: ControlAddress, tmp_path: Path) -> None:
    """Somebody else's server at the head's address, with a CA of its own, sees a TLS handshake."""
    other = Machines(tmp_path)
    other.start_head()
    there = next(node for node in other.nodes() if node.control.port == other.port)
    try:
        text = start_with(pair, changed(head, port=other.port))
        assert "its CA is not the one" in text
        assert "refused" not in other.log(there)
    finally:
        other.cli("stop", "--address", there.control.target)


def test_files_of_another_cluster_are_refused(
    pair: Machines, head: ControlAddress, tmp_path: Path
) -> None:
    ca_pem, _ = certificates.make_authority("ab" * 6)
    (tmp_path / "ca.crt").write_bytes(ca_pem)
    (tmp_path / "token").write_text(head.token)
    done = pair.cli("start", "--address", head.target, "--auth-dir", str(tmp_path))
    assert done.returncode == 1
    assert "this is another cluster" in done.stderr


def test_files_let_a_machine_see_the_cluster(pair: Machines, head: ControlAddress) -> None:
    """As in Kubernetes: an address, and a folder with the token and the CA."""
    auth = os.path.join(pair.state_dir, "auth")
    done = pair.cli("status", "--address", head.target, "--format", "json", FREEHOLD_AUTH_DIR=auth)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["nodes"]) == 2


def test_an_address_alone_is_not_enough(pair: Machines, tmp_path: Path) -> None:
    elsewhere = {"FREEHOLD_DIR": str(tmp_path)}  # a machine without a node
    done = pair.cli("start", "--address", f"127.0.0.1:{pair.port}", **elsewhere)
    assert done.returncode == 1
    assert "give the join string" in done.stderr
    done = pair.cli("status", "--address", f"127.0.0.1:{pair.port}", **elsewhere)
    assert done.returncode == 1
    assert "does not say whose certificate to trust" in done.stderr
    shutil.rmtree(tmp_path)


def test_a_head_that_is_away_is_tried_and_named(pair: Machines, head: ControlAddress) -> None:
    away = changed(head, port=free_port())
    text = start_with(pair, away, FREEHOLD_JOIN_TIMEOUT_S="0.5")
    assert f"the head of the cluster at {away.target} cannot be reached: Connection refused" in text


def test_what_speaks_no_tls_is_named(pair: Machines, head: ControlAddress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")
                connection.recv(100)

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(ClusterUnreachableError, match="does not speak TLS"):
            probe(changed(head, port=listener.getsockname()[1]))
        thread.join()


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHON", "3.10"), ("PROTOCOL", 99)], ids=["python", "protocol"]
)
def test_another_version_is_refused_naming_both(
    head: ControlAddress, loop: Loop, monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    monkeypatch.setattr(rpc_calls, name, value)
    calls = ControlCalls(loop, head, probe(head), head.token)
    with pytest.raises(JoinRefusedError) as caught:
        calls.enroll(os.urandom(16).hex(), "0.0.9")
    calls.close()
    theirs = f"Freehold 0.0.9 (protocol {rpc_calls.PROTOCOL}) on Python {rpc_calls.PYTHON}"
    ours = f"(protocol {m.PROTOCOL}) on Python {runtime.PYTHON}"
    assert theirs in str(caught.value)
    assert ours in str(caught.value)


def test_get_info_alone_needs_no_token(head: ControlAddress, loop: Loop) -> None:
    trust = probe(head)
    calls = ControlCalls(loop, head, trust, "")
    assert calls.check_version("x").cluster == trust.cluster
    for method in pb.DESCRIPTOR.services_by_name["Control"].methods:
        if method.name not in ("GetInfo", "WatchCluster"):
            with pytest.raises(AuthenticationError, match="no token"):
                calls.call(method.name, getattr(pb, method.input_type.name)())
    with pytest.raises(AuthenticationError, match="no token"):
        next(calls.stream("WatchCluster", pb.WatchClusterRequest()))
    calls.close()


def test_the_name_of_another_cluster_is_not_taken(head: ControlAddress, loop: Loop) -> None:
    """The CA alone does not make a control service: its certificate must be for that name."""
    trust = probe(head)._replace(cluster="ab" * 6)
    calls = ControlCalls(loop, head, trust, head.token)
    with pytest.raises(AuthenticationError, match="its certificate is not of this cluster"):
        calls.call("GetInfo", pb.GetInfoRequest())
    calls.close()


def test_an_old_token_is_good_while_it_is_replaced(
    pair: Machines, head: ControlAddress, loop: Loop
) -> None:
    folder = Path(pair.state_dir) / "auth"
    trust = probe(head)
    (folder / "token.previous").write_text(head.token)
    (folder / "token").write_text(TOKEN)
    try:

        def is_good(token: str) -> bool:
            calls = ControlCalls(loop, head, trust, token)
            try:
                return bool(calls.call("GetCluster", pb.GetClusterRequest()).cluster)
            except AuthenticationError:
                return False
            finally:
                calls.close()

        eventually(lambda: is_good(TOKEN), timeout_s=15.0, interval_s=0.5)
        assert is_good(head.token)
    finally:
        (folder / "token").write_text(head.token)
        (folder / "token.previous").unlink()


# ---- a node shows which node it is ---------------------------------------------------------------


class Joiner:
    """A node manager's side of `Join`, in steps that a test can spoil."""

    def __init__(self, loop: Loop, head: ControlAddress) -> None:
        self.loop, self.head = loop, head
        self.trust = probe(head)
        self.node = os.urandom(16).hex()
        calls = ControlCalls(loop, head, self.trust, head.token)
        self.enrolled = calls.enroll(self.node, "test")
        calls.close()

    def join(
        self,
        spoil: Callable[[nodes_pb2.Proof], None] = lambda proof: None,
        then: tuple[m.Message, ...] = (),
    ) -> tuple[Any, str]:
        """Open a stream, prove, say something; the status with which it ends."""
        return self.loop.run(self._join(spoil, then), 30.0)

    async def _join(
        self, spoil: Callable[[nodes_pb2.Proof], None], then: tuple[m.Message, ...]
    ) -> tuple[Any, str]:
        name = certificates.control_name(self.trust.cluster)
        credentials = self.enrolled.credentials
        async with secure_channel(self.head.target, self.trust.ca_pem, name) as channel:
            call = channel.stream_stream(
                "/freehold.v1.Nodes/Join",
                nodes_pb2.FromNode.SerializeToString,
                nodes_pb2.ToNode.FromString,
            )(metadata=(("authorization", f"Bearer {self.head.token}"),))
            nonce = (await call.read()).challenge.nonce
            statement = server.join_statement(self.trust.cluster, nonce)
            proof = nodes_pb2.Proof(
                version=own_version("test"),
                certificate_pem=credentials.certificate_pem,
                signature=certificates.sign(credentials.key_pem, statement),
            )
            spoil(proof)
            await call.write(nodes_pb2.FromNode(proof=proof))
            try:
                await call.read()
                if then:
                    packed = [wire.from_node.pack(message) for message in then]
                    await call.write(nodes_pb2.FromNode(first=1, messages=packed))
                    while await call.read() is not grpc.aio.EOF:
                        pass
                await call.done_writing()
            except grpc.aio.AioRpcError:
                pass
            return await call.code(), await call.details()


def test_a_proof_by_another_key_is_refused(head: ControlAddress, loop: Loop) -> None:
    key_pem, _ = certificates.make_request()

    def spoil(proof: nodes_pb2.Proof) -> None:
        proof.signature = certificates.sign(key_pem, b"what a thief of the certificate has")

    code, details = Joiner(loop, head).join(spoil)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert details == "its proof is not its key's"


def test_a_certificate_of_another_ca_is_refused(head: ControlAddress, loop: Loop) -> None:
    joiner = Joiner(loop, head)
    ca_pem, key_pem = certificates.make_authority(joiner.trust.cluster)
    foreign = certificates.Authority(ca_pem, key_pem, joiner.trust.cluster)
    own = foreign.enroll_own(joiner.node, 0)

    def spoil(proof: nodes_pb2.Proof) -> None:
        proof.certificate_pem = own.certificate_pem

    code, details = joiner.join(spoil)
    assert (code, details) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "its certificate is of another CA",
    )


def test_a_node_speaks_for_itself_alone(head: ControlAddress, loop: Loop) -> None:
    other = m.NodeInfo(os.urandom(16).hex(), 0, {}, {})
    joiner = Joiner(loop, head)
    code, details = joiner.join(then=(m.NodeJoined(other),))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"speaks for node {other.node[:8]}" in details
    asked = m.FromProcess(Address(other.node, 3), m.ClusterQuery(1))
    code, details = joiner.join(then=(asked,))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"its FromProcess speaks for node {other.node[:8]}" in details


def test_incarnations_of_a_node_only_grow(head: ControlAddress, loop: Loop) -> None:
    joiner = Joiner(loop, head)
    assert joiner.enrolled.incarnation == 0
    # It has joined, and says that it ends: that incarnation is over.
    joined = m.NodeJoined(m.NodeInfo(joiner.node, 0, {}, {}))
    joiner.join(then=(joined, m.ShutDown("the test is over")))
    code, details = joiner.join()
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "declared dead" in details
    calls = ControlCalls(loop, head, joiner.trust, head.token)
    found = [calls.enroll(joiner.node, "test") for _ in range(2)]
    calls.close()
    assert 0 < found[0].incarnation < found[1].incarnation
    pem = found[1].credentials.certificate_pem
    identity = certificates.check_node(pem, joiner.trust.ca_pem)
    assert identity == (joiner.trust.cluster, joiner.node, found[1].incarnation)


def test_a_malformed_request_is_refused(head: ControlAddress, loop: Loop) -> None:
    joiner = Joiner(loop, head)
    calls = ControlCalls(loop, head, joiner.trust, head.token)
    request = pb.EnrollRequest(version=own_version("x"), node=joiner.node)
    for pem in (b"", b"x" * 100_000):
        request.signing_request_pem = pem
        with pytest.raises(JoinRefusedError):
            calls.call("Enroll", request)
    calls.close()
