"""Labels, affinity, spreading and locality over real node processes."""

from __future__ import annotations

import threading

import pytest

import freehold
from freehold._api import state
from freehold.errors import TaskUnschedulableError
from freehold.testing import LocalCluster, eventually
from freehold.util.scheduling_strategies import (
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
)


@freehold.remote
def where() -> str:
    return freehold.get_runtime_context().get_node_id()


@freehold.remote
class Placed:
    def where(self) -> str:
        return freehold.get_runtime_context().get_node_id()


def test_tasks_and_actors_run_where_labels_and_affinity_say() -> None:
    with LocalCluster(nodes=3, num_cpus=1, labels=[{"zone": "a"}, {"zone": "b"}, {}]) as cluster:
        ids = [node.node for node in cluster.nodes]
        for zone, node in (("a", ids[0]), ("b", ids[1]), ("!in(a, b)", ids[2])):
            assert freehold.get(where.options(label_selector={"zone": zone}).remote()) == node
            actor = Placed.options(label_selector={"zone": zone}).remote()
            assert freehold.get(actor.where.remote()) == node
            freehold.kill(actor)
        for node in ids:
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            assert freehold.get(where.options(scheduling_strategy=there).remote()) == node
            actor = Placed.options(scheduling_strategy=there, num_cpus=0).remote()
            assert freehold.get(actor.where.remote()) == node
        strategy = NodeLabelSchedulingStrategy(hard={"zone": In("b", "c")})
        assert freehold.get(where.options(scheduling_strategy=strategy).remote()) == ids[1]
        labels = {node["NodeID"]: node["Labels"] for node in freehold.nodes()}
        assert labels[ids[1]]["zone"] == "b"


def test_what_no_node_may_run_fails_and_names_the_labels() -> None:
    with LocalCluster(nodes=2, num_cpus=1, labels=[{"zone": "a"}, {}]):
        with pytest.raises(TaskUnschedulableError, match=r"zone=c.*zone=a"):
            freehold.get(where.options(label_selector={"zone": "c"}).remote())
        gone = NodeAffinitySchedulingStrategy("f" * 32, soft=False)
        with pytest.raises(TaskUnschedulableError, match="node ffffffff"):
            freehold.get(where.options(scheduling_strategy=gone).remote())
        soft = NodeAffinitySchedulingStrategy("f" * 32, soft=True)
        assert freehold.get(where.options(scheduling_strategy=soft).remote())


def test_spread_uses_all_nodes_where_the_default_fills_one() -> None:
    with LocalCluster(nodes=3, num_cpus=4) as cluster:
        spread = Placed.options(scheduling_strategy="SPREAD")
        actors = [spread.remote() for _ in range(6)]
        found = freehold.get([actor.where.remote() for actor in actors])
        assert sorted(found) == sorted([node.node for node in cluster.nodes] * 2)


def test_a_task_runs_where_its_large_arguments_are() -> None:
    with LocalCluster(nodes=2, num_cpus=2) as cluster:
        there = NodeAffinitySchedulingStrategy(cluster.nodes[1].node, soft=False)

        @freehold.remote
        def make() -> bytes:
            return bytes(8 << 20)

        @freehold.remote
        def use(data: bytes) -> str:
            return freehold.get_runtime_context().get_node_id()

        made = make.options(scheduling_strategy=there).remote()
        assert freehold.get(use.remote(made)) == cluster.nodes[1].node
        stores = {node["NodeID"]: node["object_store"]["in_use"] for node in freehold.nodes()}
        assert stores[cluster.nodes[0].node] < 8 << 20


def test_ten_thousand_submitted_tasks_are_reported_as_such() -> None:
    with LocalCluster(nodes=2, num_cpus=1):

        @freehold.remote
        def hold() -> None:
            threading.Event().wait(60.0)  # without giving its CPU back

        refs = [hold.remote() for _ in range(10_000)]
        core = state.require()

        def queued() -> int:
            return sum(x.queued for node in core.nodes() for x in node.demand)

        eventually(lambda: 9_990 <= queued() <= 10_000, timeout_s=20.0)
        del refs
