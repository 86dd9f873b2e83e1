"""Whole clusters whose nodes speak over the network, and one-machine ones that must not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import freehold
from freehold.shuffle import record_files
from freehold.shuffle.generate import RecordRange
from freehold.shuffle.sort import generate_files, sort_files, validate_files
from freehold.testing import LocalCluster

FAR = {"far": 1}


def two(**settings: Any) -> LocalCluster:
    return LocalCluster(nodes=2, num_cpus=2, resources=[{}, {"far": 100}], **settings)


def tcp_ports(pid: int) -> set[int]:
    """Where a process listens on TCP."""
    found = psutil.Process(pid).net_connections("tcp")
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


@freehold.remote(num_cpus=0)
class Where:
    def listens(self) -> set[int]:
        return tcp_ports(os.getpid())

    def has_loaded(self, module: str) -> bool:
        return module in sys.modules

    def call(self, other: Any) -> set[int]:
        found: set[int] = freehold.get(other.listens.remote())
        return found


def test_one_port_a_node_and_none_for_workers() -> None:
    with two(network="tcp") as cluster:
        near, far = Where.remote(), Where.options(resources=FAR).remote()
        # One after the other: each waits for the other's answer.
        assert freehold.get(near.call.remote(far), timeout=20) == set()
        assert freehold.get(far.call.remote(near), timeout=20) == set()
        for node in cluster.nodes:
            assert tcp_ports(node.pid) == {node.port}
        assert tcp_ports(os.getpid()) == set()
        del near, far


def test_a_cluster_on_one_machine_opens_no_port_and_imports_no_ssl() -> None:
    program = """
import sys
import freehold
from tests.integration.network.test_clusters import Where, tcp_ports

with freehold.init(num_cpus=1):
    core = freehold._api.state.require()
    where = Where.remote()
    assert freehold.get(where.has_loaded.remote("freehold")), "the question is a good one"
    assert not freehold.get(where.has_loaded.remote("ssl"))
    assert not freehold.get(where.has_loaded.remote("cryptography"))
    assert tcp_ports(core.node.pid) == set()
    maps = open(f"/proc/{core.node.pid}/maps").read()
    assert "msgspec" in maps and "_ssl" not in maps and "libssl" not in maps
    del where
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_a_sort_over_two_nodes(tls: bool, tmp_path: Path) -> None:
    with two(network="tcp", tls=tls):
        for name in ("in", "out"):
            (tmp_path / name).mkdir()
        summary = generate_files(tmp_path / "in", RecordRange(0, 200_000), 8)
        sort_files(record_files(tmp_path / "in"), tmp_path / "out", 8)
        found = validate_files(record_files(tmp_path / "out"))
    assert (found.records, found.checksum) == (200_000, summary.checksum)


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(freehold.exceptions.SettingsError, match=r"host is '192\.0\.2\.1'"):
        two(network="tcp", host="192.0.2.1")


def test_a_host_without_credentials_is_refused() -> None:
    with pytest.raises(freehold.exceptions.SettingsError, match="no credentials"):
        freehold.init(num_cpus=1, _system_config={"host": "127.0.0.1"})
