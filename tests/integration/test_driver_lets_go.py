"""What a driver keeps of a cluster whose node process was killed: nothing, though it lives on."""

from __future__ import annotations

import os
import signal

import pytest
from benchmarks import proc

import freehold
from freehold.exceptions import ClusterDiedError
from freehold.testing import eventually

LARGE = bytes(10_000_000)


def _held() -> list[str]:
    found = proc.descriptors(os.getpid())
    return [x for x in found if x.startswith(("socket:", "/memfd:freehold"))]


def test_driver_of_a_killed_node_holds_no_socket_and_no_memory_of_it() -> None:
    before = _held()
    freehold.init(num_cpus=1)
    try:
        ref = freehold.put(LARGE)
        assert freehold.get(ref) == LARGE
        assert len(_held()) > len(before)
        os.kill(proc.node_process(os.getpid()).pid, signal.SIGKILL)
        eventually(lambda: _held() == before, timeout_s=5)
        with open("/proc/self/maps") as maps:
            assert "freehold-arena" not in maps.read()
        with pytest.raises(ClusterDiedError):
            freehold.get(ref)
        with pytest.raises(ClusterDiedError):
            freehold.put(LARGE)
    finally:
        freehold.shutdown()
    freehold.init(num_cpus=1)
    try:
        assert freehold.get(freehold.put(LARGE)) == LARGE
    finally:
        freehold.shutdown()
