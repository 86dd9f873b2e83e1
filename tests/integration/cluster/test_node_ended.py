"""The head is told that a node's process has ended, by somebody who has seen it."""

from __future__ import annotations

import os
import signal
import time

import pytest
from tests.integration.cluster.kit import Machines, until_gone

from freehold._core.limits import DEATH_SILENCE_S
from freehold._proto import control_pb2 as pb
from freehold.cli._nodes import control_calls
from freehold.testing import eventually

REASON = "its container ended with exit code 137 (OOMKilled)"


def tell_ended(machines: Machines, node: str) -> None:
    with control_calls(machines.join_string()) as calls:
        calls.call("NodeEnded", pb.NodeEndedRequest(node=node, reason=REASON))


def test_a_node_whose_end_was_seen_is_dead_before_its_silence_says_so(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    node = machines.start_node()
    os.kill(node.pid, signal.SIGKILL)
    until_gone(node)
    killed_at = time.monotonic()
    assert machines.states()[node.node] == "alive"  # as far as the head can know
    for _ in range(2):  # whoever repeats it does no harm
        tell_ended(machines, node.node)
        eventually(lambda: machines.states()[node.node] == "dead", timeout_s=DEATH_SILENCE_S / 2)
        (found,) = [one for one in machines.status()["nodes"] if one["id"] == node.node]
        assert found["reason"] == REASON
    assert time.monotonic() - killed_at < DEATH_SILENCE_S / 2


def test_a_node_that_lives_all_the_same_joins_again_as_another(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    node = machines.start_node("--node-name", "survivor")
    tell_ended(machines, node.node)

    def ids() -> list[str]:
        return [
            found["id"]
            for found in machines.status()["nodes"]
            if found["state"] == "NODE_STATE_ALIVE" and found["name"] == "survivor"
        ]

    eventually(lambda: ids() != [node.node] and len(ids()) == 1, timeout_s=20.0, interval_s=0.5)


def test_the_heads_own_node_has_not_ended(machines: Machines) -> None:
    head = machines.start_head("--num-cpus", "0")
    with pytest.raises(Exception, match="the head sees its process"):
        tell_ended(machines, head.node)
    assert machines.states() == {head.node: "alive"}


def test_a_node_that_nobody_knows_is_an_error(machines: Machines) -> None:
    machines.start_head("--num-cpus", "0")
    with pytest.raises(LookupError, match="no node has the id 'nobody'"):
        tell_ended(machines, "nobody")
