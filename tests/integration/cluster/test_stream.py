"""A node's stream and its two ends, in this process: breaks, renewals, limits, watchers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io import certificates
from freehold._io.certificates import Authority, Identity
from freehold._io.join_string import ControlAddress
from freehold._io.reactor import Reactor
from freehold._io.rpc import link as link_module
from freehold._io.rpc import pipe as pipe_module
from freehold._io.rpc.calls import ControlCalls, Enrolled, Trust, probe
from freehold._io.rpc.link import ControlLink
from freehold._io.rpc.runtime import Loop, Mailbox
from freehold._io.rpc.server import CallRefused, ControlServer
from freehold._io.rpc.streams import NodeSession, NodeStreams
from freehold._proto import control_pb2 as pb
from freehold.errors import JoinRefusedError
from freehold.testing import eventually

CLUSTER = "ab" * 6
TOKEN = "token-of-the-tests"
NODE = "cd" * 16


class Head:
    """A server with a desk that only notes what it hears."""

    def __init__(self, authority: Authority, port: int = 0) -> None:
        self.reactor = Reactor()
        self.loop = Loop()
        self.mailbox = Mailbox(self.reactor)
        self.heard: list[m.Message] = []
        self.overflown: list[str] = []
        self.refusal = ""
        self.session: NodeSession | None = None
        self.states = 0
        self.streams = NodeStreams(self.reactor, self, os.urandom(8).hex())
        self.server = ControlServer(
            self.loop, self.mailbox, authority, lambda: (TOKEN,), (self, self.streams, "h"), "1"
        )
        self._thread = threading.Thread(target=self.reactor.run_forever)
        self._thread.start()
        self.port = self.server.start("127.0.0.1", port)
        self.address = ControlAddress(
            host="127.0.0.1",
            port=self.port,
            token=TOKEN,
            ca_sha256=certificates.fingerprint(authority.ca_pem),
        )

    def stop(self) -> None:
        with self.reactor.lock:
            self.streams.close()
        self.server.stop()
        self.loop.close()
        self.reactor.stop()
        self._thread.join()
        self.mailbox.close()
        self.reactor.close()

    def say(self, *messages: m.Message) -> None:
        assert self.session is not None
        with self.reactor.lock:
            for message in messages:
                self.session.send(message)
        self.reactor.kick()

    # NodeListener
    def admits(self, identity: Identity) -> str:
        return self.refusal

    def on_message(self, session: NodeSession, message: m.Message) -> None:
        self.session = session
        self.heard.append(message)

    def on_heard(self, session: NodeSession) -> None:
        self.session = session

    def on_disconnected(self, session: NodeSession) -> None:
        pass

    def on_overflow(self, session: NodeSession, reason: str) -> None:
        self.overflown.append(reason)

    # Desk
    def next_incarnation(self, node: str) -> int:
        return 0

    def cluster_state(self) -> pb.ClusterState:
        self.states += 1
        return pb.ClusterState(cluster=CLUSTER, head_incarnation=self.states)

    def drain_node(self, request: pb.DrainNodeRequest, then: Callable[[Any], None]) -> None:
        raise CallRefused("UNIMPLEMENTED", "not here")

    def node_ended(self, request: pb.NodeEndedRequest, then: Callable[[Any], None]) -> None:
        then(pb.NodeEndedResponse())

    def set_groups(self, request: pb.SetGroupsRequest, then: Callable[[Any], None]) -> None:
        raise ValueError("a defect of the desk")

    def begin_job(self, request: pb.BeginJobRequest, then: Callable[[Any], None]) -> None:
        self.reactor.call_later(0.1, lambda: then(pb.BeginJobResponse(accepted=True)))

    def end_job(self, request: pb.EndJobRequest, then: Callable[[Any], None]) -> None:
        then(pb.EndJobResponse())


class Node:
    """A link with a listener that only notes what it hears."""

    def __init__(self, address: ControlAddress) -> None:
        self.reactor = Reactor()
        self.loop = Loop()
        self.mailbox = Mailbox(self.reactor)
        self.heard: list[m.Message] = []
        self.connected: list[str] = []
        self.disconnected: list[str] = []
        self.refused: list[str] = []
        self.renewed: list[int] = []
        """When each new certificate expires."""
        self.again: list[m.Message] = []
        trust, enrolled = enroll(self.loop, address)
        self.link = ControlLink(
            (self.reactor, self.loop, self.mailbox),
            [address.target],
            trust,
            lambda: TOKEN,
            enrolled.credentials,
            self,
        )
        self._thread = threading.Thread(target=self.reactor.run_forever)
        self._thread.start()
        with self.reactor.lock:
            self.link.start()

    def stop(self) -> None:
        with self.reactor.lock:
            self.link.close()
        self.loop.close()
        self.reactor.stop()
        self._thread.join()
        self.mailbox.close()
        self.reactor.close()

    def say(self, *messages: m.Message) -> None:
        with self.reactor.lock:
            for message in messages:
                self.link.send(message)
        self.reactor.kick()

    def on_control(self, message: m.Message) -> None:
        self.heard.append(message)

    def standing(self) -> list[m.Message]:
        return [m.NodeJoined(m.NodeInfo(NODE, 0, {}, {})), *self.again]

    def on_connected(self, head_node: str) -> None:
        self.connected.append(head_node)

    def on_disconnected(self, reason: str) -> None:
        self.disconnected.append(reason)

    def on_renewed(self) -> None:
        self.renewed.append(self.link.credentials.expires_unix_s)

    def on_refused(self, reason: str) -> None:
        self.refused.append(reason)


def enroll(loop: Loop, address: ControlAddress) -> tuple[Trust, Enrolled]:
    trust = probe(address)
    calls = ControlCalls(loop, address, trust, address.token)
    try:
        return trust, calls.enroll(NODE, "1")
    finally:
        calls.close()


Make = Callable[..., Any]


@pytest.fixture
def authority() -> Authority:
    return Authority(*certificates.make_authority(CLUSTER), CLUSTER)


@pytest.fixture
def started() -> Iterator[list[Any]]:
    """Everything that was started; stopped in the reverse order."""
    found: list[Any] = []
    yield found
    for part in reversed(found):
        part.stop()


@pytest.fixture
def head(authority: Authority, started: list[Any]) -> Head:
    started.append(Head(authority))
    found: Head = started[-1]
    return found


@pytest.fixture
def node(head: Head, started: list[Any]) -> Node:
    started.append(Node(head.address))
    found: Node = started[-1]
    eventually(lambda: head.session is not None)
    return found


def gone(number: int) -> m.ProcessGone:
    return m.ProcessGone(Address(NODE, number), m.ExitCause(code=0))


def numbers(heard: list[m.Message]) -> list[int]:
    return [message.address.process for message in heard if isinstance(message, m.ProcessGone)]


def reasons(heard: list[m.Message]) -> list[str]:
    return [message.reason for message in heard if isinstance(message, m.ShutDown)]


def test_both_sides_hear_each_other_in_order(head: Head, node: Node) -> None:
    node.say(*map(gone, range(1, 1001)))
    head.say(*(m.ShutDown(str(x)) for x in range(1000)))
    eventually(lambda: numbers(head.heard) == list(range(1, 1001)))
    eventually(lambda: reasons(node.heard) == [str(x) for x in range(1000)])
    assert isinstance(head.heard[0], m.NodeJoined)
    assert node.connected == ["h"]


def test_a_stream_that_breaks_loses_and_repeats_nothing(head: Head, node: Node) -> None:
    for round_ in range(4):
        node.say(*map(gone, range(10 * round_ + 1, 10 * round_ + 6)))
        head.say(*(m.ShutDown(f"{round_}.{x}") for x in range(5)))
        assert head.session is not None
        with head.reactor.lock:
            head.session.cut()
        node.say(*map(gone, range(10 * round_ + 6, 10 * round_ + 11)))
        head.say(m.ShutDown(f"{round_}.5"))
    eventually(lambda: numbers(head.heard) == list(range(1, 41)), timeout_s=20.0)
    said = [f"{round_}.{x}" for round_ in range(4) for x in range(6)]
    eventually(lambda: reasons(node.heard) == said, timeout_s=20.0)
    assert sum(isinstance(message, m.NodeJoined) for message in head.heard) == 1


def test_a_new_head_is_told_all_that_it_must_know(
    authority: Authority, head: Head, node: Node, started: list[Any]
) -> None:
    asker = Address(NODE, 3)
    asked, late = (m.FromProcess(asker, m.ClusterQuery(x)) for x in (1, 2))
    node.say(asked, gone(4))
    eventually(lambda: len(head.heard) == 3)
    started.remove(head)
    head.stop()
    node.again = [asked, late]
    # What is in `standing` is said once, as it is then; the rest of what waited comes behind it.
    node.say(late, gone(7), m.Heartbeat(5), m.DriverAttached(asker))
    started.insert(0, Head(authority, head.port))
    second: Head = started[0]
    eventually(lambda: len(second.heard) >= 4, timeout_s=20.0)
    assert isinstance(second.heard[0], m.NodeJoined)
    assert second.heard[1:] == [asked, late, m.DriverAttached(asker)]
    second.say(m.ToProcess(asker, m.ClusterReply(1, [])))
    eventually(lambda: len(node.heard) == 1)


def test_reports_are_told_at_most_twice_a_second_and_the_last_counts(
    head: Head, node: Node
) -> None:
    began = time.monotonic()
    for x in range(300):
        node.say(m.NodeReported(NODE, {"CPU": x}, {}))
    last = m.NodeReported(NODE, {"CPU": 299}, {})
    eventually(lambda: head.heard[-1] == last)
    told = sum(isinstance(message, m.NodeReported) for message in head.heard)
    assert told <= 2 + (time.monotonic() - began) / link_module.REPORT_PERIOD_S
    assert 0 < node.link.frames_sent <= len(head.heard) + (time.monotonic() - began)


def test_a_report_that_waits_goes_along_with_a_heartbeat(head: Head, node: Node) -> None:
    first, second = (m.NodeReported(NODE, {"CPU": x}, {}) for x in (1, 2))
    node.say(first)
    eventually(lambda: head.heard[-1] == first)
    before = node.link.frames_sent
    node.say(second, m.Heartbeat(7))
    eventually(lambda: head.heard[-2:] == [second, m.Heartbeat(7)])
    assert node.link.frames_sent == before + 1
    node.say(first)
    eventually(lambda: head.heard[-1] == first)


def test_a_silent_node_is_heard_all_the_same(
    head: Head, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    monkeypatch.setattr(head, "on_heard", lambda session: heard.append(time.monotonic()))
    eventually(lambda: len(heard) >= 2, timeout_s=10.0)
    before = node.link.heard_at
    eventually(lambda: node.link.heard_at > before, timeout_s=10.0)
    assert node.disconnected == []


def test_a_node_that_is_refused_does_not_try_again(head: Head, node: Node) -> None:
    head.refusal = "it was declared dead"
    assert head.session is not None
    with head.reactor.lock:
        head.session.cut()
    eventually(lambda: node.refused == ["it was declared dead"])
    assert head.server.refusals.by_kind["incarnation"] == 1


def test_a_nodes_leaf_is_renewed_at_half_its_life(
    authority: Authority, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.2)
    authority.lifetime_s = 6.0
    started.append(Head(authority))
    started.append(Node(started[0].address))
    head, node = started
    first = node.link.credentials
    eventually(lambda: node.link.credentials is not first, timeout_s=15.0)
    assert node.link.credentials.key_pem != first.key_pem
    identity = certificates.check_node(node.link.credentials.certificate_pem, authority.ca_pem)
    assert identity == (CLUSTER, NODE, 0)
    assert node.link.credentials.expires_unix_s > first.expires_unix_s
    eventually(lambda: node.renewed)
    assert node.renewed[0] > first.expires_unix_s
    assert node.disconnected == []
    # With the new one it comes in again, also when the first has expired.
    eventually(lambda: time.time() > first.expires_unix_s + 1, timeout_s=15.0)
    with head.reactor.lock:
        head.session.cut()
    eventually(lambda: len(node.connected) == 2, timeout_s=15.0)


def test_the_servers_leaf_is_renewed_without_a_restart(
    authority: Authority, started: list[Any]
) -> None:
    authority.lifetime_s = 3.0
    started.append(Head(authority))
    loop = Loop()
    address = started[0].address
    expires = time.time() + 4.0
    eventually(lambda: time.time() > expires)
    trust = probe(address)
    calls = ControlCalls(loop, address, trust, TOKEN)
    assert calls.call("GetInfo", pb.GetInfoRequest()).cluster == CLUSTER
    calls.close()
    loop.close()


def test_who_does_not_read_is_cut_and_loses_nothing(
    head: Head, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_module, "STREAM_WRITE_S", 0.5)
    # The node's reactor is held, so that it takes no frame; the control service goes on.
    body = "x" * 500_000
    said = []
    with node.reactor.lock:
        assert head.session is not None
        for x in range(100):
            said.append(f"{x} {body}")
            head.say(m.ShutDown(said[-1]))
        eventually(lambda: head.session is not None and not head.session.is_connected)
    eventually(lambda: reasons(node.heard) == said, timeout_s=30.0)
    assert len(node.connected) >= 2


def test_a_message_that_fits_nowhere_is_lost_alone(
    head: Head, node: Node, capfd: pytest.CaptureFixture[str]
) -> None:
    node.say(m.PlacementFailed(b"a", 1 << 64, ""), gone(1))
    eventually(lambda: numbers(head.heard) == [1])
    assert "a PlacementFailed to the control service is lost" in capfd.readouterr().err


def test_a_node_that_confirms_nothing_is_given_up(
    head: Head, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold._io.rpc import streams as streams_module

    monkeypatch.setattr(streams_module, "UNCONFIRMED_MESSAGES", 10)
    with node.reactor.lock:
        head.say(*(m.ShutDown(str(x)) for x in range(12)))
        eventually(lambda: head.overflown[:1] == ["it confirmed none of 10 messages"])


# ---- clients -------------------------------------------------------------------------------------


@pytest.fixture
def calls(head: Head) -> Iterator[ControlCalls]:
    loop = Loop()
    found = ControlCalls(loop, head.address, probe(head.address), TOKEN)
    yield found
    found.close()
    loop.close()


def test_a_watched_cluster_is_shown_now_and_after_changes(head: Head, calls: ControlCalls) -> None:
    shown = calls.stream("WatchCluster", pb.WatchClusterRequest(period_ms=50))
    assert next(shown).head_incarnation == 1
    for _ in range(500):
        head.server.cluster_changed()
    assert next(shown).head_incarnation == 2
    head.server.cluster_changed()
    assert next(shown).head_incarnation <= 4  # 500 changes were two frames at the most
    shown.close()
    eventually(lambda: not head.server._watchers)


def test_a_watched_cluster_at_rest_is_shown_again(
    head: Head, calls: ControlCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold._io.rpc import server as server_module

    monkeypatch.setattr(server_module, "WATCH_SILENCE_S", 0.5)
    shown = calls.stream("WatchCluster", pb.WatchClusterRequest())
    assert [next(shown).head_incarnation for _ in range(3)] == [1, 2, 3]
    shown.close()


def test_what_a_desk_refuses_is_told(head: Head, calls: ControlCalls) -> None:
    with pytest.raises(JoinRefusedError, match="not here"):
        calls.call("DrainNode", pb.DrainNodeRequest())
    assert calls.call("BeginJob", pb.BeginJobRequest()).accepted


def test_a_defect_of_a_desk_is_that_calls_alone(head: Head, calls: ControlCalls) -> None:
    with pytest.raises(JoinRefusedError):
        calls.call("SetGroups", pb.SetGroupsRequest())
    assert calls.call("BeginJob", pb.BeginJobRequest()).accepted
