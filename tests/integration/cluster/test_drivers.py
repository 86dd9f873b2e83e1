"""Drivers that attach to a cluster that runs: one, several, and from a machine without a node."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.integration.cluster.kit import Machines

import freehold
from freehold.errors import ClusterUnreachableError, SettingsError
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster

PROGRAM = """
    import json, os, sys
    import freehold

    context = freehold.init(sys.argv[1], log_to_driver=False)

    @freehold.remote
    def where():
        return freehold.get_runtime_context().get_node_id()

    @freehold.remote
    class Counter:
        def __init__(self):
            self.count = 0

        def add(self):
            self.count += 1
            return self.count

    print(json.dumps({
        "node": context["node_id"],
        "nodes": sorted(node["NodeID"] for node in freehold.nodes() if node["Alive"]),
        "cpus": freehold.cluster_resources().get("CPU"),
    }))
    if len(sys.argv) > 2:
        counter = Counter.remote()
        freehold.get(counter.add.remote())
        ran = [freehold.get(where.options(resources={name: 1}).remote()) for name in ("a", "b")]
        print(json.dumps({"ran": ran, "count": freehold.get(counter.add.remote())}))
    sys.stdin.readline()
    freehold.shutdown()
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A head and a node with a resource each, so that a task can be sent to either."""
    found = Machines(tmp_path_factory.mktemp("drivers"))
    found.start_head("--resources", '{"a": 10}', "--num-cpus", "2")
    found.start_node("--resources", '{"b": 10}', "--num-cpus", "2")
    yield found
    # Drivers came and went, with their environments: the nodes are there, and can be found.
    assert len(found.nodes()) == 2
    found.end()


def begin(pair: Machines, tmp_path: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(PROGRAM))
    return subprocess.Popen(
        [sys.executable, str(path), *words],
        env=pair.variables(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        _, error = process.communicate(timeout=10)
        pytest.fail(error)
    found: dict[str, Any] = json.loads(text)
    return found


def finish(process: subprocess.Popen[str]) -> None:
    _, error = process.communicate("\n", timeout=30)
    assert process.returncode == 0, error
    assert error == ""


def test_two_drivers_run_tasks_and_actors_on_both_nodes(pair: Machines, tmp_path: Path) -> None:
    nodes = pair.nodes()
    head = next(node for node in nodes if node.is_head)
    other = next(node for node in nodes if not node.is_head)
    drivers = [begin(pair, tmp_path, word, "work") for word in ("auto", f"127.0.0.1:{pair.port}")]
    for driver in drivers:
        found = line(driver)
        assert found["node"] == head.node
        assert found["nodes"] == sorted([head.node, other.node])
        assert found["cpus"] == 4.0
    for driver in drivers:
        assert line(driver) == {"ran": [head.node, other.node], "count": 2}
    finish(drivers[0])
    assert drivers[1].poll() is None
    finish(drivers[1])
    assert pair.states() == {head.node: "alive", other.node: "alive"}  # it is nobody's driver's


def test_the_address_comes_from_the_environment(
    pair: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_ADDRESS", "auto")
    with freehold.init(log_to_driver=False) as context:
        assert context["node_id"] in {node.node for node in pair.nodes()}
    with freehold.init("local", num_cpus=1, object_store_memory=64 << 20) as context:
        assert context["node_id"] not in {node.node for node in pair.nodes()}


def test_a_machine_without_a_node_gets_one_without_cpus(pair: Machines, tmp_path: Path) -> None:
    """Another session folder is another machine, as far as finding nodes goes."""
    elsewhere = tmp_path / "elsewhere"
    word = pair.join_string()
    driver = begin(pair, tmp_path, word, FREEHOLD_DIR=str(elsewhere))
    found = line(driver)
    assert found["node"] not in {node.node for node in pair.nodes()}
    assert len(found["nodes"]) == 3
    assert found["cpus"] == 4.0
    finish(driver)
    eventually(lambda: pair.states()[found["node"]] == "dead", timeout_s=5.0)
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == []


def test_what_the_cluster_has_is_not_for_a_driver_to_say(pair: Machines) -> None:
    with pytest.raises(ValueError, match=r"init\(CPU\) is for a cluster of its own"):
        freehold.init("auto", num_cpus=3)
    assert not freehold.is_initialized()


def test_auto_without_a_node_says_so(
    pair: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_DIR", str(tmp_path))
    with pytest.raises(ClusterUnreachableError, match="no node of yours runs on this machine"):
        freehold.init("auto")


def test_a_malformed_address_is_refused_without_repeating_it(pair: Machines) -> None:
    with pytest.raises(SettingsError) as caught:
        freehold.init("freehold://SECRETSECRET@h")
    assert "SECRET" not in str(caught.value)
