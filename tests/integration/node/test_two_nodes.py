"""Two node processes on one machine: joining, spilling over, moving objects, dying."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.node import driving
from tests.integration.node.driving import Driver, is_alive

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._io.shm import Arena
from freehold._processes.driver.bootstrap import NodeProcess
from freehold._processes.node.start import NodeReady
from freehold.errors import FreeholdSystemError
from freehold.testing import LocalCluster, eventually
from freehold.testing._local import _Authority

Start = Callable[..., NodeProcess]

ACCELERATOR = (("accelerator", 10_000),)


@pytest.fixture(params=["unix", "tls", "plain"])
def start(request: pytest.FixtureRequest) -> Start:
    """Starts a node of the test's cluster; its nodes speak over unix sockets or over TCP."""
    authority = None if request.param == "unix" else _Authority(request.param == "tls")

    def start_one(**given: Any) -> NodeProcess:
        return driving.start(
            membership=authority.new_member() if authority is not None else None, **given
        )

    return start_one


def alive_nodes(driver: Driver) -> dict[str, bool]:
    driver.send(m.ClusterQuery(1))
    return {info.node: info.is_alive for info in driver.await_message(m.ClusterReply).nodes}


def test_a_node_joins_and_its_death_is_told(start: Start) -> None:
    first = start()
    second = start(join=first)
    try:
        with Driver(first) as driver:
            assert alive_nodes(driver) == {first.node: True, second.node: True}
            second.kill()
            died = driver.await_message(m.NodeDied)
            assert died.node == second.node
            assert alive_nodes(driver) == {first.node: True, second.node: False}
    finally:
        second.stop()
        first.stop()


def test_a_cluster_ends_with_its_first_node(start: Start) -> None:
    first = start()
    second = start(join=first)
    try:
        first.kill()
        eventually(lambda: not is_alive(second.pid))
    finally:
        second.stop()
    assert not os.path.exists(first.sockets)


def test_a_shape_that_only_the_other_node_has_is_spilled_there(start: Start) -> None:
    first = start()
    second = start(join=first, resources={"accelerator": 1})
    try:
        with Driver(first) as driver:
            driver.send(m.LeaseDemand(0, ACCELERATOR, "", 1, 1))
            assert driver.await_message(m.LeaseSpilledBack).node == second.node
    finally:
        second.stop()
        first.stop()


def test_bytes_come_over_from_the_other_node(start: Start) -> None:
    first = start()
    second = start(join=first)
    content = os.urandom(3 << 20) + b"the end"
    try:
        with Driver(first) as here, Driver(second) as there:
            there.send(m.CreateSegment(1, len(content)))
            granted = there.await_message(m.SegmentGranted)
            arena = Arena.attach(os.dup(there.fds[0]), there.registered.arena_bytes)
            arena.allow_writing()
            arena.write(granted.offset, [content])
            arena.close()
            there.send(m.RangeSealed(granted.segment, granted.offset, len(content), there.address))
            where = Location(second.node, granted.segment, granted.offset, len(content))
            eventually(lambda: len(alive_nodes(here)) == 2)
            here.send(m.Pull(5, where))
            pulled = here.await_message(m.Pulled)
            assert pulled.error == ""
            arena = Arena.attach(os.dup(here.fds[0]), here.registered.arena_bytes)
            assert arena.read(pulled.offset, len(content)) == content
            arena.close()
            nowhere = Location(second.node, granted.segment + 1, granted.offset, 10)
            here.send(m.Pull(6, nowhere))
            assert "does not have these bytes" in here.await_message(m.Pulled, request=6).error
            second.kill()
            gone = Location(second.node, granted.segment, granted.offset + 64, 10)
            here.await_message(m.NodeDied)
            here.send(m.Pull(7, gone))
            assert here.await_message(m.Pulled, request=7).error
    finally:
        second.stop()
        first.stop()


def test_a_local_cluster_counts_its_nodes() -> None:
    with LocalCluster(nodes=2, num_cpus=1, prestart_workers=0) as cluster:
        assert len(cluster.nodes) == 2
        with Driver(cluster.nodes[0]) as driver:
            eventually(lambda: len(alive_nodes(driver)) == 2)
            cluster.kill_node(1)
            assert driver.await_message(m.NodeDied).node != cluster.nodes[0].node
            assert driver.address == Address(cluster.nodes[0].node, driver.address.process)


def test_a_node_that_cannot_join_says_why() -> None:
    first = driving.start()
    try:
        gone = NodeReady(first.cluster, "f" * 32, first.sockets, 0)
        nowhere = NodeProcess(gone, 0, socket.socket())
        with pytest.raises(FreeholdSystemError, match="FileNotFoundError"):
            driving.start(join=nowhere)
        nowhere.forget()
    finally:
        first.stop()
