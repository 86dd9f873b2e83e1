"""Certificates that hold for ten seconds: who was there before they ended is still believed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from tests.integration.cluster.kit import Machines

import freehold
from freehold._processes.node.settings import NodeSettings
from freehold.testing import eventually

LIFE_S = 10


@freehold.remote(num_cpus=0)
class Process:
    """A process of some node."""

    def node(self) -> str:
        return freehold.get_runtime_context().get_node_id()

    def ask(self, other: Any) -> str:
        return str(freehold.get(other.node.remote(), timeout=20))


def test_old_and_new_processes_believe_each_other_after_the_first_certificates_end(
    machines: Machines,
) -> None:
    started = time.time()
    head = machines.start_head("--resources", '{"a": 9}', FREEHOLD_CERTIFICATE_LIFE_S=str(LIFE_S))
    node = machines.start_node("--resources", '{"b": 9}')
    joined = time.time()
    freehold.init("auto", log_to_driver=False)
    try:
        old = [Process.options(resources={name: 1}).remote() for name in ("a", "b")]
        assert freehold.get([one.node.remote() for one in old]) == [head.node, node.node]
        eventually(lambda: time.time() > joined + LIFE_S + 1, timeout_s=LIFE_S + 10)
        assert time.time() - started > LIFE_S
        # Nobody of these has spoken to any other before: each is a handshake of its own, of either
        # node's certificates in either role.
        new = [Process.options(resources={name: 1}).remote() for name in ("a", "b")]
        for asking, asked in ((0, 1), (1, 0)):
            for source, target in ((old, new), (new, old), (new, new), (old, old)):
                found = freehold.get(source[asking].ask.remote(target[asked]), timeout=30)
                assert found == (head.node, node.node)[asked]
    finally:
        freehold.shutdown()
    assert set(machines.states().values()) == {"alive"}


def test_a_life_that_cannot_be_renewed_in_time_is_refused() -> None:
    with pytest.raises(ValueError, match=r"certificate_life_s is 1\.0 but must be at least 10 s"):
        NodeSettings(certificate_life_s=1.0)
