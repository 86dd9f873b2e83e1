"""The network of `NamespaceCluster` by itself: its links, its cuts, and either way to make them.

What the kernel has of its own (netem, tbf, iptables) is used where it is there; the other way works
on any kernel, and is tried here in any case.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.integration.network.namespaces import needs_namespaces

from freehold.testing import NamespaceCluster
from freehold.testing._network import Network

pytestmark = needs_namespaces

SIZE = 2_000_000

SERVER = """
import socket
server = socket.create_server(("", 9000))
print("up", flush=True)
while True:
    caller, _ = server.accept()
    size = 0
    while data := caller.recv(1 << 20):
        size += len(data)
    caller.sendall(str(size).encode())
    caller.close()
"""

CLIENT = f"""
import socket, sys, time
began = time.monotonic()
caller = socket.create_connection((sys.argv[1], 9000), timeout=1)
connected_s = time.monotonic() - began
caller.settimeout(20)
caller.sendall(bytes({SIZE}))
caller.shutdown(socket.SHUT_WR)
print(caller.recv(100).decode(), connected_s, time.monotonic() - began)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    """Two nodes; a server on the second counts bytes."""
    with Network() as made:
        for _ in range(2):
            made.add()
        place = made.nodes[1]
        argv = place.argv([sys.executable, "-I", "-c", SERVER])
        with subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=place.fds) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            yield made
            server.kill()


def send(network: Network) -> tuple[float, float] | None:
    """Send to the second node: seconds until connected, and until the end; None if out of reach."""
    place = network.nodes[0]
    done = subprocess.run(
        place.argv([sys.executable, "-I", "-c", CLIENT, network.address(1)]),
        capture_output=True,
        text=True,
        pass_fds=place.fds,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        assert "TimeoutError" in done.stderr, done.stderr  # silent: neither refused nor unreachable
        return None
    size, connected_s, took_s = done.stdout.split()
    assert int(size) == SIZE
    return float(connected_s), float(took_s)


def shaped(network: Network, **link: float) -> tuple[float, float]:
    network.shape(1, **link)
    sent = send(network)
    assert sent is not None
    return sent


@pytest.mark.parametrize("is_own", [True, False], ids=["as-the-kernel-can", "without-tc"])
def test_a_link_delays_limits_and_loses(network: Network, *, is_own: bool) -> None:
    if not is_own:
        network.has_netem = network.has_tbf = False
    assert send(network) is not None
    assert shaped(network, delay_ms=20)[0] > 0.039
    assert shaped(network, delay_ms=0, rate_mbit=40)[1] > 0.25
    assert shaped(network, delay_ms=5, rate_mbit=80)[1] > 0.1
    assert shaped(network, delay_ms=0, rate_mbit=0, loss_percent=1)
    network.shape(1, loss_percent=100)
    assert send(network) is None
    assert shaped(network, loss_percent=0)


@pytest.mark.parametrize("is_own", [True, False], ids=["as-the-kernel-can", "without-iptables"])
def test_a_cut_is_silent_and_heals(network: Network, *, is_own: bool) -> None:
    if not is_own:
        network.has_iptables = False
    assert send(network) is not None
    network.cut(0, 1)
    network.cut(1, 0)  # it is
    assert send(network) is None
    network.heal()
    assert send(network) is not None


def test_a_cut_leaves_the_other_nodes(network: Network) -> None:
    network.add()
    network.cut(1, 2)
    assert send(network) is not None


def test_wrong_values_change_nothing(network: Network) -> None:
    with pytest.raises(ValueError, match="delay_ms is -1 but must be at least 0"):
        network.shape(1, delay_ms=-1)
    with pytest.raises(ValueError, match="rate_mbit is nan but must be at least 0"):
        network.shape(1, delay_ms=900, rate_mbit=float("nan"))
    assert send(network) is not None
    assert network.links[1].delay_ms == 0


def test_without_the_right_to_namespaces_it_is_said() -> None:
    """Without CAP_SYS_ADMIN, and in a user namespace that may have no others."""
    program = """
import os, sys
open("/proc/sys/user/max_user_namespaces", "w").write("0")
open("/proc/sys/user/max_net_namespaces", "w").write("0")
from freehold.testing import NamespaceCluster
try:
    NamespaceCluster()
except RuntimeError as error:
    print(error)
"""
    argv = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert said.stdout.startswith("network namespaces need root with CAP_SYS_ADMIN, or"), said


def test_it_works_without_root() -> None:
    """In a user namespace, as for a user who is not root."""
    lost = "--bounding-set=-sys_admin,-net_admin,-net_raw"
    drop = ["setpriv", lost] if os.getuid() == 0 else []
    program = """
from freehold.testing import NamespaceCluster
with NamespaceCluster(nodes=2) as cluster:
    cluster.lose(1, 0.1)
    print(cluster.network.is_user_namespace, len(cluster.states()))
"""
    argv = [*drop, sys.executable, "-c", program]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)
    assert said.stdout == "True 2\n", said


def test_node_numbers_are_checked() -> None:
    with NamespaceCluster(nodes=1) as cluster:
        with pytest.raises(ValueError, match="there is no node 1: they are 0 to 0"):
            cluster.partition(1)
        with pytest.raises(ValueError, match="percent is 101 but must be at most 100"):
            cluster.lose(0, 101)
