"""The head is killed, stopped, restarted: its nodes go on, and are back when it is."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cluster.kit import Machines, free_port, until_gone

import freehold
from freehold._processes.driver.service import attach_driver
from freehold._processes.node.record import NodeRecord
from freehold.testing import eventually


@pytest.fixture
def head_and_worker(machines: Machines) -> Iterator[tuple[NodeRecord, NodeRecord]]:
    """This process is a driver of the node that is not the head."""
    from freehold._api import state

    head = machines.start_head("--num-cpus", "0")
    node = machines.start_node("--num-cpus", "2")
    core = attach_driver(node, "test", shows_logs=False)
    state.set_core(core)
    yield head, node
    state.set_core(None)
    core.shutdown()


@freehold.remote
def double(x: int) -> int:
    return 2 * x


@freehold.remote
class Keeper:
    def __init__(self) -> None:
        self.kept: list[int] = []

    def keep(self, x: int) -> int:
        self.kept.append(x)
        return len(self.kept)


def is_away(machines: Machines, node: NodeRecord) -> bool:
    return "is away" in machines.log(node)


@pytest.mark.timeout(120)
def test_work_goes_on_while_the_head_is_gone_and_its_nodes_come_back(
    machines: Machines, head_and_worker: tuple[NodeRecord, NodeRecord]
) -> None:
    head, node = head_and_worker
    keeper = Keeper.remote()
    assert freehold.get(keeper.keep.remote(1), timeout=20) == 1
    os.kill(head.pid, signal.SIGKILL)
    until_gone(head)
    assert freehold.get([double.remote(x) for x in range(50)], timeout=30) == [
        2 * x for x in range(50)
    ]
    assert freehold.get(keeper.keep.remote(2), timeout=20) == 2
    # What needs the head waits for it …
    late = Keeper.options(name="late").remote
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor() as pool:
        made = pool.submit(late)
        listed = pool.submit(freehold.nodes)
        assert freehold.get(double.remote(4), timeout=20) == 8
        assert not made.done()
        assert not listed.done()
        back = machines.start_head("--num-cpus", "0")
        # … and is answered when it is back, though it asked another process.
        handle = made.result(timeout=30)
        assert {entry["NodeID"] for entry in listed.result(timeout=30)} >= {node.node}
    assert freehold.get(handle.keep.remote(1), timeout=30) == 1
    assert freehold.get(keeper.keep.remote(3), timeout=20) == 3
    states = {head.node: "dead", back.node: "alive", node.node: "alive"}
    eventually(lambda: machines.states() == states, timeout_s=15.0)


@pytest.mark.timeout(120)
def test_a_head_that_hangs_is_noticed_and_nothing_is_lost(
    machines: Machines, head_and_worker: tuple[NodeRecord, NodeRecord]
) -> None:
    """SIGSTOP: the connection stays open, only its pings are not answered."""
    head, node = head_and_worker
    os.kill(head.pid, signal.SIGSTOP)
    eventually(lambda: is_away(machines, node), timeout_s=12.0)
    late = Keeper.remote()
    assert freehold.get(double.remote(4), timeout=20) == 8
    os.kill(head.pid, signal.SIGCONT)
    assert freehold.get(late.keep.remote(1), timeout=30) == 1
    assert machines.states() == {head.node: "alive", node.node: "alive"}


@pytest.mark.timeout(120)
def test_a_node_that_was_declared_dead_joins_again_as_another(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    node = machines.start_node("--node-name", "sleeper")
    os.kill(node.pid, signal.SIGSTOP)
    eventually(lambda: machines.states()[node.node] == "dead", timeout_s=40.0, interval_s=0.5)
    os.kill(node.pid, signal.SIGCONT)

    def names() -> list[str]:
        return [
            found["name"]
            for found in machines.status()["nodes"]
            if found["state"] == "NODE_STATE_ALIVE" and not found["is_head"]
        ]

    eventually(lambda: names() == ["sleeper"], timeout_s=20.0, interval_s=0.5)
    assert not Path(node.session_path, node.node[:8]).exists()
    (again,) = [found for found in machines.nodes() if not found.is_head]
    assert again.pid == node.pid
    assert again.node != node.node


def joins(machines: Machines, word: str, second: str) -> None:
    """A node that is given these two addresses comes in."""
    head = next(one for one in machines.nodes() if one.is_head)
    done = machines.cli("start", "--address", "-", given=word, FREEHOLD_SECOND_ADDRESS=second)
    assert done.returncode == 0, done.stderr
    (node,) = [one for one in machines.nodes() if not one.is_head]
    assert machines.states() == {head.node: "alive", node.node: "alive"}


def test_a_second_address_that_nobody_has_does_no_harm(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    joins(machines, machines.join_string(), "nobody.invalid:7400")


@pytest.mark.parametrize("first", ["refuses", "is silent"])
def test_the_head_is_found_under_its_second_address(machines: Machines, first: str) -> None:
    """As a Service does not answer yet, and the head's pod does."""
    machines.start_head("--num-cpus", "0")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = free_port() if first == "refuses" else silent.getsockname()[1]
        word = machines.join_string().replace(f":{machines.port}?", f":{port}?")
        joins(machines, word, f"127.0.0.1:{machines.port}")


def test_a_second_address_that_is_none_is_named(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    word = machines.join_string()
    done = machines.cli("start", "--address", "-", given=word, FREEHOLD_SECOND_ADDRESS="a b")
    assert done.returncode != 0
    assert "second_address" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_tries_again_where_a_stranger_answers_at_first(
    machines: Machines, tmp_path: Path
) -> None:
    """As before a Service's rules are in place, and the node has the CA from a folder."""
    machines.start_head()
    auth = os.path.join(machines.state_dir, "auth")
    assert machines.cli("stop").returncode == 0
    stranger = Machines(tmp_path / "stranger")
    stranger.port = machines.port
    other = stranger.start_head()
    target = f"127.0.0.1:{machines.port}"
    node = machines.start_blocking("--address", target, "--auth-dir", auth, "--num-cpus", "0")
    assert node.stdout is not None
    assert "this is another cluster" in node.stdout.readline()
    os.kill(other.pid, signal.SIGTERM)
    until_gone(other)
    machines.start_head()
    # The head before it, whose state this one has, is listed as dead.
    eventually(
        lambda: sorted(machines.states().values()) == ["alive", "alive", "dead"], timeout_s=20
    )
