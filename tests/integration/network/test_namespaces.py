"""Nodes in network namespaces: a network that is slow, loses packets, or is cut for a while.

The driver is a program on the head's node; the test talks to it line by line. Node 1 has a resource
`one`, node 2 has `two`. What a task has executed is counted in files, which no network loses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.integration.network.namespaces import needs_namespaces

from freehold.testing import NamespaceCluster, eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(100), needs_namespaces]

PRELUDE = """
    import json, os, sys, time, zlib
    import freehold
    from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder, *words = sys.argv[1:]
    freehold.init()
    MIB = 1 << 20

    def here():
        return freehold.get_runtime_context().get_node_id()

    def note(what):
        # One file for each execution, named by what was executed.
        open(os.path.join(folder, f"{what}-{os.getpid()}-{time.monotonic_ns()}"), "x").close()

    def tell(value):
        print(json.dumps(value), flush=True)

    def heard():
        return sys.stdin.readline().strip()
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[NamespaceCluster]:
    """Three nodes of two CPUs, for the module's tests."""
    resources: list[dict[str, float]] = [{}, {"one": 10}, {"two": 10}]
    with NamespaceCluster(nodes=3, num_cpus=2, resources=resources) as running:
        yield running


@pytest.fixture
def cluster(machines: NamespaceCluster) -> Iterator[NamespaceCluster]:
    """The same, all up, with a network that is whole and quick when the test ends."""
    yield machines
    machines.heal()
    for node in (1, 2):
        machines.delay(node, 0)
        machines.lose(node, 0)
        machines.limit(node, 0)

    def are_up() -> bool:
        states = machines.states()
        return all(states.get(machines.node_id(node)) == "alive" for node in machines.nodes)

    eventually(are_up, timeout_s=30, interval_s=0.2)


class Driver:
    """A program on the head's node that says a line of JSON at a time."""

    def __init__(self, cluster: NamespaceCluster, folder: Path, source: str, *words: str) -> None:
        path = folder / "program.py"
        path.write_text(textwrap.dedent(PRELUDE) + textwrap.dedent(source), encoding="utf-8")
        self.folder = folder / "executed"
        self.folder.mkdir()
        self._program = cluster.start(0, [sys.executable, str(path), str(self.folder), *words])

    def told(self, timeout_s: float = 40.0) -> Any:
        """The next line."""
        assert self._program.stdout is not None
        guard = threading.Timer(timeout_s, self._program.kill)
        guard.start()
        try:
            line = self._program.stdout.readline()
            assert line.startswith(("{", "[")), line + self._program.stdout.read()
        finally:
            guard.cancel()
            guard.join()
        return json.loads(line)

    def tell(self, word: str) -> None:
        """A line for it."""
        assert self._program.stdin is not None
        self._program.stdin.write(word + "\n")
        self._program.stdin.flush()

    def ended(self) -> None:
        """Wait for its orderly end."""
        said, _ = self._program.communicate(timeout=20)
        assert self._program.returncode == 0, said
        assert said == ""

    def executions(self) -> Counter[str]:
        """How often what was executed."""
        return Counter(entry.name.partition("-")[0] for entry in self.folder.iterdir())


LARGE = """
    @freehold.remote(num_cpus=0.1)
    def make(size):
        return os.urandom(size)

    @freehold.remote(num_cpus=0.1)
    def look(data):
        return len(data), zlib.crc32(data), here()

    size = int(words[0]) * MIB
    began = time.monotonic()
    put = os.urandom(size)
    ref = freehold.put(put)
    made = make.options(resources={"one": 1}).remote(size)
    places = [{"one": 1}, {"two": 1}]
    looks = [look.options(resources=r).remote(x) for x in (ref, made) for r in places]
    seen = freehold.get(looks, timeout=60)
    took_s = time.monotonic() - began
    sums = {"put": zlib.crc32(put), "made": zlib.crc32(freehold.get(made))}
    tell({"seen": seen, "took_s": took_s, **sums})
"""


def saw_the_same(cluster: NamespaceCluster, told: Any, size_mib: int) -> None:
    places = [cluster.node_id(1), cluster.node_id(2)]
    assert told["seen"] == [
        [size_mib << 20, told[what], place] for what in ("put", "made") for place in places
    ]


def test_large_objects_go_from_node_to_node(cluster: NamespaceCluster, tmp_path: Path) -> None:
    """They pass the link, which is so narrow that 2 × 8 MiB take a second at least."""
    cluster.limit(2, 100)
    driver = Driver(cluster, tmp_path, LARGE, "8")
    told = driver.told(60)
    driver.ended()
    saw_the_same(cluster, told, 8)
    assert told["took_s"] > 1.0


def test_a_slow_network_that_loses_packets_changes_no_value(
    cluster: NamespaceCluster, tmp_path: Path
) -> None:
    source = """
        @freehold.remote(num_cpus=0.1)
        def add(*terms):
            return sum(terms)

        @freehold.remote(num_cpus=0.1)
        class Sum:
            def __init__(self):
                self.total = 0

            def add(self, term):
                self.total += term
                return self.total

        places = [{"one": 0.1}, {"two": 0.1}]
        at = [add.options(resources=r) for r in places]
        leaves = [at[i % 2].remote(i, i) for i in range(40)]
        level = [at[i % 2].remote(*leaves[4 * i : 4 * i + 4]) for i in range(10)]
        total = Sum.options(resources={"two": 1}).remote()
        counted = [total.add.remote(i) for i in range(40)]
        tell([freehold.get(add.remote(*level), timeout=60), freehold.get(counted, timeout=60)])
    """
    for node in (1, 2):
        cluster.delay(node, 20, jitter_ms=5)
        cluster.lose(node, 1)
    connect = "import socket; socket.create_connection(('10.77.0.3', 7401), timeout=20).close()"
    timed = f"import time; t = time.monotonic(); {connect}; print(time.monotonic() - t)"
    took_s = float(cluster.run(1, [sys.executable, "-c", timed]).stdout)
    assert took_s > 4 * 0.015  # there and back, each over two links
    driver = Driver(cluster, tmp_path, source)
    small = driver.told(60)
    driver.ended()
    (tmp_path / "large").mkdir()
    driver = Driver(cluster, tmp_path / "large", LARGE, "4")
    large = driver.told(60)
    driver.ended()
    running = [sum(range(i + 1)) for i in range(40)]
    assert small == [2 * sum(range(40)), running]
    saw_the_same(cluster, large, 4)


CUTS = [pytest.param(0, 5.0, id="from-the-head"), pytest.param(None, 6.0, id="from-all")]
"""From whom, and for how many seconds at least. It is enough for connections to be given up, and
leaves time to make them again: a node that has not heard of the head for 10 s, counted from its
last heartbeat, stops as soon as a peer says that the head is there."""


@pytest.mark.parametrize(("from_", "at_least_s"), CUTS)
def test_a_short_partition_loses_and_restarts_nothing(
    cluster: NamespaceCluster, tmp_path: Path, from_: int | None, at_least_s: float
) -> None:
    """The driver is on the head's node, so the node is cut off from the owner of all this too."""
    source = """
        @freehold.remote(num_cpus=0.1, resources={"two": 1})
        def make(i):
            note(f"make{i}")
            return bytes([i]) * MIB

        @freehold.remote(num_cpus=0.1, resources={"two": 1})
        def wait(i):
            note(f"wait{i}")
            while not os.path.exists(os.path.join(folder, "go")):
                time.sleep(0.05)
            return i

        @freehold.remote(num_cpus=0.1, resources={"two": 1}, max_restarts=3)
        class Keeper:
            def __init__(self):
                note("keeper")
                self.kept = []

            def keep(self, x):
                self.kept.append(x)
                return list(self.kept)

        keeper = Keeper.remote()
        freehold.get(keeper.keep.remote(1), timeout=20)
        made = [make.remote(i) for i in range(3)]
        freehold.wait(made, num_returns=3, timeout=20, fetch_local=False)
        waiting = [wait.remote(i) for i in range(3)]
        tell(["begun"])
        heard()
        during = [keeper.keep.remote(2), make.remote(3)]  # sent into the void
        tell(["sent"])
        heard()
        kept = freehold.get([during[0], keeper.keep.remote(3)], timeout=40)
        data = freehold.get([*made, during[1]], timeout=40)
        tell([kept, [[d[0], len(d)] for d in data], freehold.get(waiting, timeout=40)])
    """
    before = cluster.states()
    node = cluster.node_id(2)
    driver = Driver(cluster, tmp_path, source)
    driver.told()
    eventually(lambda: driver.executions()["wait2"], timeout_s=20)
    noticed = cluster.log(2).count("is away")
    cluster.partition(2, from_)
    began = time.monotonic()
    driver.tell("it is cut off")
    driver.told()
    eventually(lambda: cluster.log(2).count("is away") > noticed, timeout_s=12)
    eventually(lambda: time.monotonic() - began > at_least_s, timeout_s=12)
    cluster.heal()
    lasted_s = time.monotonic() - began
    (driver.folder / "go").touch()
    driver.tell("it is back")
    kept, data, waited = driver.told(60)
    driver.ended()
    assert kept == [[1, 2], [1, 2, 3]]
    assert data == [[i, 1 << 20] for i in range(4)]
    assert waited == [0, 1, 2]
    expected = ["keeper", *(f"make{i}" for i in range(4)), *(f"wait{i}" for i in range(3)), "go"]
    assert driver.executions() == Counter(expected), f"after {lasted_s:.1f} s"
    assert cluster.states() == before
    assert cluster.node_id(2) == node


def test_a_node_that_is_away_too_long_is_replaced_and_comes_back_as_another(
    cluster: NamespaceCluster, tmp_path: Path
) -> None:
    """Cut off from all, it cannot learn that it is dead: it goes on until the network is healed."""
    source = """
        there = NodeAffinitySchedulingStrategy(words[0], soft=True)

        @freehold.remote(num_cpus=0.1, scheduling_strategy=there)
        def make(i):
            note(f"make{i}")
            return here(), bytes([i]) * MIB

        @freehold.remote(num_cpus=0.1, scheduling_strategy=there)
        def wait(i):
            note(f"wait{i}")
            while not os.path.exists(os.path.join(folder, "go")):
                time.sleep(0.05)
            return here(), i

        once_more = {"max_restarts": 1, "max_task_retries": 1}

        @freehold.remote(num_cpus=0.1, scheduling_strategy=there, **once_more)
        class Place:
            def ask(self):
                return here()

        made = [make.remote(i) for i in range(3)]
        freehold.wait(made, num_returns=3, timeout=20, fetch_local=False)
        place = Place.remote()
        first = freehold.get(place.ask.remote(), timeout=20)
        waiting = [wait.remote(i) for i in range(2)]
        tell(["begun", first])
        heard()
        data = freehold.get(made, timeout=40)
        waited = freehold.get(waiting, timeout=40)
        second = freehold.get(place.ask.remote(), timeout=40)
        tell([[[n, d[0], len(d)] for n, d in data], waited, second])
        heard()
        again = wait.options(resources={"two": 1}, scheduling_strategy="DEFAULT").remote(7)
        tell(freehold.get(again, timeout=40))
    """
    old = cluster.node_id(2)
    driver = Driver(cluster, tmp_path, source, old)
    assert driver.told() == ["begun", old]
    eventually(lambda: driver.executions()["wait1"], timeout_s=20)
    cluster.partition(2)
    eventually(lambda: cluster.states()[old] == "dead", timeout_s=30, interval_s=0.3)
    (driver.folder / "go").touch()
    driver.tell("it is dead")
    data, waited, second = driver.told(60)
    others = {cluster.node_id(0), cluster.node_id(1)}
    assert {node for node, *_ in [*data, *waited]} | {second} <= others
    assert [rest for _, *rest in data] == [[i, 1 << 20] for i in range(3)]
    assert [i for _, i in waited] == [0, 1]
    executed = driver.executions()
    assert all(executed[what] == 2 for what in ("make0", "make1", "make2", "wait0", "wait1"))

    cluster.heal()
    eventually(lambda: cluster.node_id(2) not in ("", old), timeout_s=30)
    new = cluster.node_id(2)
    expected = {**dict.fromkeys([*others, new], "alive"), old: "dead"}
    eventually(lambda: expected.items() <= cluster.states().items(), timeout_s=20, interval_s=0.3)
    driver.tell("it is back")
    assert driver.told(60) == [new, 7]
    driver.ended()
    assert driver.executions()["wait7"] == 1


def namespaces() -> set[int]:
    """The network namespaces of all processes of this machine."""
    found = set()
    for pid in psutil.pids():
        try:
            found.add(os.stat(f"/proc/{pid}/ns/net").st_ino)
        except OSError:
            continue  # it has ended
    return found


def devices() -> str:
    """The names of this namespace's own network devices."""
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def is_running(pid: int) -> bool:
    """Whether a process has not ended; one that has ended may wait for process 1 to look."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Surprise(Exception):
    pass


def test_nothing_is_left_after_an_exception() -> None:
    before = devices()
    session = Path(os.environ["FREEHOLD_DIR"])
    folders = set(session.iterdir())
    made: set[int] = set()
    pids: set[int] = set()

    def use(cluster: NamespaceCluster) -> None:
        made.update(os.fstat(node.fd).st_ino for node in cluster.network.nodes)
        assert made <= namespaces()
        assert devices() == before
        pids.update(pid for node in cluster.network.nodes for pid in node.processes())
        assert pids
        cluster.delay(1, 1)
        cluster.start(1, ["sleep", "1000"])
        raise Surprise

    cluster = NamespaceCluster(nodes=2)
    with pytest.raises(Surprise), cluster:
        use(cluster)
    assert not made & namespaces()
    assert not [pid for pid in pids if is_running(pid)]
    assert devices() == before
    assert set(session.iterdir()) == folders
    with pytest.raises(RuntimeError, match="has been shut down"):
        cluster.partition(1)


def test_nothing_is_left_after_ctrl_c() -> None:
    """The terminal sends SIGINT to all of the foreground's processes."""
    source = """
        import os, sys
        from freehold.testing import NamespaceCluster
        with NamespaceCluster(nodes=2) as cluster:
            cluster.lose(1, 1)
            print([os.fstat(node.fd).st_ino for node in cluster.network.nodes], flush=True)
            cluster.run(1, ["sleep", "1000"])
    """
    session = Path(os.environ["FREEHOLD_DIR"])
    folders = set(session.iterdir())
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        made = set(json.loads(program.stdout.readline()))
        assert made <= namespaces()
        os.killpg(program.pid, signal.SIGINT)
        _, said = program.communicate(timeout=30)
    assert said.splitlines()[-1] == "KeyboardInterrupt", said
    assert not made & namespaces()
    assert set(session.iterdir()) == folders


def test_nothing_is_left_of_a_cluster_that_did_not_start() -> None:
    session = Path(os.environ["FREEHOLD_DIR"])
    folders, processes = set(session.iterdir()), set(psutil.Process().children(recursive=True))
    with pytest.raises(RuntimeError, match=r"`freehold start` failed on node 0: .*/nowhere"):
        NamespaceCluster(nodes=2, auth_dir="/nowhere")
    assert set(session.iterdir()) == folders
    assert set(psutil.Process().children(recursive=True)) == processes
