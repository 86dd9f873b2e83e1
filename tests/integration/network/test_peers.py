"""Two machines' processes speak over one port a node, with TLS and without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.network.kit import Machine, Process, authority, done, knows

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import OPENING_BYTES
from freehold._io import network_connection, opening, transport
from freehold._io.network_connection import NetworkConnection
from freehold.testing import eventually


class Pair:
    """Node a with its manager and a worker, node b with the same; nobody knows b's place but b."""

    def __init__(self, folder: Path, *, is_tls: bool) -> None:
        ca = authority() if is_tls else None
        self.a, self.b = (
            Machine(folder, name, ca.credentials(name * 32) if ca is not None else None)
            for name in "ab"
        )
        self.processes: list[Process] = []
        self.manager_a = self.add(self.a, 0)
        self.manager_b = self.add(self.b, 0, self.manager_a.place)
        self.worker_a = self.add(self.a, 7, self.manager_a.place)
        self.worker_b = self.add(self.b, 9, self.manager_a.place)
        for worker, manager in (
            (self.worker_a, self.manager_a),
            (self.worker_b, self.manager_b),
        ):
            worker.send(manager.address, done(0))  # it knows its manager, who may hand over
            knows(manager, 0)
            manager.heard.clear()

    def add(self, machine: Machine, number: int, *places: m.NodePlace) -> Process:
        process = Process(machine, number, *places)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self.processes):
            process.close()


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with contextlib.closing(Pair(tmp_path, is_tls=request.param)) as both:
        yield both


def test_a_worker_reaches_a_worker_by_way_of_its_nodes_port(pair: Pair) -> None:
    pair.worker_b.send(pair.worker_a.address, done(1), done(2))
    knows(pair.worker_a, 1, 2)
    assert pair.worker_a.heard[0][0] == pair.worker_b.address
    # The answer takes the connection that is there: the worker has no other way to know b's place.
    pair.worker_a.send(pair.worker_b.address, done(3))
    knows(pair.worker_b, 3)
    assert pair.manager_a.heard == []


def test_a_node_manager_is_reached_as_well(pair: Pair) -> None:
    pair.worker_b.send(pair.manager_a.address, done(1))
    knows(pair.manager_a, 1)
    pair.manager_b.send(pair.manager_a.address, done(2))
    knows(pair.manager_a, 1, 2)


def test_what_is_said_while_it_opens_arrives_in_order(pair: Pair) -> None:
    for key in range(500):
        pair.worker_b.send(pair.worker_a.address, done(key, 1000))
    knows(pair.worker_a, *range(500))


def test_a_large_message_passes_both_ways(pair: Pair) -> None:
    pair.worker_b.send(pair.worker_a.address, done(1, 30 << 20), done(2))
    knows(pair.worker_a, 1, 2)
    pair.worker_a.send(pair.worker_b.address, done(3, 30 << 20), done(4))
    knows(pair.worker_b, 3, 4)
    assert len(pair.worker_b.heard[0][1].blob) == 30 << 20  # type: ignore[attr-defined]


def test_both_may_connect_at_once(pair: Pair) -> None:
    pair.worker_a.learn(pair.manager_b.place)
    for key in range(50):
        pair.worker_a.send(pair.worker_b.address, done(key))
        pair.worker_b.send(pair.worker_a.address, done(key))
    knows(pair.worker_a, *range(50))
    knows(pair.worker_b, *range(50))


def test_a_node_that_is_not_known_yet_is_waited_for(pair: Pair) -> None:
    pair.worker_a.send(pair.worker_b.address, done(1))
    assert pair.worker_b.keys() == []
    pair.worker_a.learn(pair.manager_b.place)
    knows(pair.worker_b, 1)


def test_a_node_that_never_becomes_known_is_unreachable(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "AWAIT_PLACE_S", 0.1)
    pair.worker_a.send(pair.worker_b.address, done(1))
    ((peer, reason),) = ended(pair.worker_a)
    assert peer == pair.worker_b.address
    assert "waiting to hear where it is" in reason
    assert "node bbbbbbbb" in reason


def test_where_nobody_listens_the_reason_names_node_and_place(pair: Pair) -> None:
    place = pair.manager_a.place
    assert pair.manager_a.gate is not None
    with pair.manager_a.reactor.lock:
        pair.manager_a.gate.close()
        pair.manager_a.gate = None
    pair.worker_b.send(pair.worker_a.address, done(1))
    ((peer, reason),) = ended(pair.worker_b)
    assert peer == pair.worker_a.address
    assert f"node aaaaaaaa at {place.host}:{place.port}, connecting: " in reason
    assert "refused" in reason


def test_a_process_that_is_not_there_is_unreachable(pair: Pair) -> None:
    nobody = Address(pair.a.node, 1234)
    pair.worker_b.send(nobody, done(1))
    ((peer, _reason),) = ended(pair.worker_b)
    assert peer == nobody


def test_a_node_that_takes_connections_and_says_nothing_is_given_up(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold._io import tcp

    monkeypatch.setattr(opening, "OPEN_S", 0.2)
    with tcp.listen("127.0.0.1", 0) as silent:
        place = m.NodePlace("c" * 32, 0, "127.0.0.1", silent.getsockname()[1])
        pair.worker_b.learn(place)
        pair.worker_b.send(Address("c" * 32, 3), done(1))
        ((_, reason),) = ended(pair.worker_b)
    assert "not within 0.2 s" in reason


def test_what_waits_for_a_connection_is_bounded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_connection, "FRAME_BYTES", -OPENING_BYTES + (1 << 20))
    pair.worker_a.send(pair.worker_b.address, *[done(key, 300_000) for key in range(4)])
    ((peer, reason),) = ended(pair.worker_a)
    assert peer == pair.worker_b.address
    assert "wait for it to open" in reason


def test_an_end_is_told_once(pair: Pair) -> None:
    pair.worker_b.send(pair.worker_a.address, done(1))
    knows(pair.worker_a, 1)
    with pair.worker_a.reactor.lock:
        pair.worker_a.peers.close()
    ((peer, reason),) = ended(pair.worker_b)
    assert (peer, reason) == (pair.worker_a.address, "")


def test_credentials_are_replaced_without_a_restart(tmp_path: Path) -> None:
    old, new = authority(), authority()
    pair = Pair(tmp_path, is_tls=True)
    try:
        for process in pair.processes:
            with process.reactor.lock:
                assert process.peers.network is not None
                fresh = new.credentials(process.machine.node)
                process.peers.network.identity.change(fresh)
        pair.worker_b.send(pair.worker_a.address, done(1))
        knows(pair.worker_a, 1)
        with pair.worker_a.reactor.lock:  # one who missed it is refused
            assert pair.worker_a.peers.network is not None
            pair.worker_a.peers.network.identity.change(old.credentials(pair.a.node))
        pair.manager_b.send(pair.worker_a.address, done(2))
        assert ended(pair.manager_b)[0][0] == pair.worker_a.address
        assert pair.worker_a.keys() == [1]
    finally:
        pair.close()


# ---- too many connections ------------------------------------------------------------------------


@pytest.fixture
def crowded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A worker that may have one connection, and forgives no idleness."""
    monkeypatch.setattr(transport, "NETWORK_IDLE_S", 0.0)
    pair.worker_b.peers.most_network = 1
    return pair


def test_the_longest_idle_connection_goes_and_comes_back(crowded: Pair) -> None:
    pair = crowded
    other = pair.add(pair.a, 8, pair.manager_a.place)
    other.send(pair.manager_a.address, done(0))
    knows(pair.manager_a, 0)
    pair.worker_b.send(pair.worker_a.address, done(1))
    knows(pair.worker_a, 1)
    pair.worker_b.send(other.address, done(2))
    knows(other, 2)
    eventually(lambda: far(pair.worker_b) == [other.address] or far(pair.worker_b) == [])
    eventually(lambda: far(pair.worker_a) == [], timeout_s=10)
    assert pair.worker_a.ended == pair.worker_b.ended == []  # nobody took it for a death
    pair.worker_b.send(pair.worker_a.address, done(3))
    knows(pair.worker_a, 1, 3)


def test_what_crosses_a_goodbye_arrives(crowded: Pair) -> None:
    pair = crowded
    pair.worker_b.send(pair.worker_a.address, done(1))
    knows(pair.worker_a, 1)
    with pair.worker_a.reactor.lock:  # it says something while the other bids goodbye
        with pair.worker_b.reactor.lock:
            connection = pair.worker_b.peers.get(pair.worker_a.address)
            assert isinstance(connection, NetworkConnection)
            pair.worker_b.peers._bid_goodbye(connection)
        back = pair.worker_a.peers.get(pair.worker_b.address)
        assert back is not None
        for key in range(5):
            back.send(done(key, 2 << 20))
    knows(pair.worker_b, *range(5))
    eventually(lambda: not pair.worker_b.peers._leaving and not pair.worker_a.peers._leaving)
    assert pair.worker_a.ended == pair.worker_b.ended == []


def test_a_connection_that_is_needed_stays(crowded: Pair) -> None:
    pair = crowded
    pair.worker_b.peers.is_needed = lambda address: address == pair.worker_a.address
    pair.worker_b.send(pair.worker_a.address, done(1))
    knows(pair.worker_a, 1)
    pair.worker_b.send(pair.manager_a.address, done(2))
    knows(pair.manager_a, 2)
    assert far(pair.worker_b) == [pair.worker_a.address, pair.manager_a.address]


def far(process: Process) -> list[Address | None]:
    with process.reactor.lock:
        return [
            connection.peer
            for connection in process.peers.connections()
            if isinstance(connection, NetworkConnection)
        ]


def ended(process: Process) -> list[tuple[Address | None, str]]:
    eventually(lambda: process.ended, timeout_s=10)
    return process.ended
