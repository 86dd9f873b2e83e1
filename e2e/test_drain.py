"""Workers leave under load and nothing is lost, not even what could not be made again.

Every way a worker leaves in order: the cluster is scaled down, a pod is deleted, a machine is
drained. The jobs check themselves, so that their end is the result: tasks have no retry, what they
put is nowhere else, and an actor counts how often each has begun. That the check can fail is shown
by a group that gives its workers no time to drain.

All that must stay (head, drivers, the actor's group) is kept on one of two machines, so that the
other can be drained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster, Manifest

from freehold.testing import eventually

HOST = "kubernetes.io/hostname"
# Of a task that ran there, of what it put, and of its result.
LOSSES = "NodeDied|WorkerCrashed|OwnerDied|ObjectLost|ObjectReconstructionFailed"

LOAD = """
import collections, json, os, sys, time, freehold
from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy

pod, places = sys.argv[1:]
freehold.init()
names = {node["NodeID"]: node["NodeName"] for node in freehold.nodes()}
(home,) = [node for node, name in names.items() if name == pod]
SIZE = 200_000  # bytes: too many to travel with a message

@freehold.remote(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(home, soft=False))
class Ledger:
    def __init__(self):
        self.begun = collections.Counter()
    def begin(self, number, attempt):
        self.begun[number, attempt] += 1
    def state(self):
        context = freehold.get_runtime_context()
        here = os.getpid(), context.get_node_id(), context.was_current_actor_reconstructed
        return dict(self.begun), here

def content(number):
    return bytes([number % 251]) * SIZE

@freehold.remote(
    max_retries=0,
    num_returns=3,
    label_selector={"place": places},
    scheduling_strategy="SPREAD",
)
def make(number, ledger):
    attempt = freehold.get_runtime_context().get_attempt_number() + 1
    freehold.get(ledger.begin.remote(number, attempt))
    time.sleep(0.2)
    inside = [freehold.put(content(number)), freehold.put(("small", number))]
    return inside, content(number), freehold.get_runtime_context().get_node_id()

def check(number, refs):
    inside, result = freehold.get(refs[:2], timeout=60)
    assert result == content(number), number
    big, small = freehold.get(inside, timeout=60)
    assert big == content(number), number
    assert small == ("small", number), small

ledger = Ledger.remote()
kept = [(number, make.remote(number, ledger)) for number in range(16)]
holders = sorted({names[freehold.get(refs[2])] for _, refs in kept})
_, before = freehold.get(ledger.state.remote())
print("begun", flush=True)
number, window = len(kept), collections.deque()
while not os.path.exists("/tmp/end"):
    window.append((number, make.remote(number, ledger)))
    number += 1
    if len(window) > 40:
        check(*window.popleft())
for one in [*window, *kept]:
    check(*one)
begun, after = freehold.get(ledger.state.remote())
assert begun == {(n, 1): 1 for n in range(number)}, begun
assert before == after and after[1:] == (home, False), (before, after)
print("result", json.dumps({"tasks": number, "holders": holders}))
"""

CALLS = """
import collections, json, os, sys, time, freehold
from freehold.util.scheduling_strategies import NodeAffinitySchedulingStrategy

(pod,) = sys.argv[1:]
freehold.init()
names = {node["NodeID"]: node["NodeName"] for node in freehold.nodes()}
(first,) = [node for node, name in names.items() if name == pod]
where = NodeAffinitySchedulingStrategy(first, soft=True)

# With no CPU at all it could go to the driver's own node.
@freehold.remote(num_cpus=0.5, max_restarts=1, scheduling_strategy=where)
class Counter:
    def __init__(self):
        self.calls = 0
    def call(self, number):
        time.sleep(0.05)
        self.calls += 1
        return number, freehold.get_runtime_context().get_node_id(), self.calls

counter = Counter.remote()
answers = [freehold.get(counter.call.remote(0))]
print("begun", flush=True)
number, queue = 1, collections.deque()
while not os.path.exists("/tmp/end"):
    queue.append(counter.call.remote(number))
    number += 1
    if len(queue) > 30:
        answers.append(freehold.get(queue.popleft(), timeout=60))
answers += freehold.get(list(queue), timeout=60)
assert [number for number, _, _ in answers] == list(range(number))
places = list(dict.fromkeys(node for _, node, _ in answers))
counts = [[count for _, node, count in answers if node == place] for place in places]
for count in counts:
    assert count == list(range(1, len(count) + 1)), counts
    assert len(count) > 10, counts
print("result", json.dumps({"places": [names[place] for place in places]}))
"""


@dataclass(frozen=True)
class Site:
    """A cluster over two machines.

    Attributes:
        stays: the machine of the head, the drivers and the groups `home` and `rash`.
        leaves: the machine of the group `away`, which is drained.
    """

    cluster: Cluster
    namespace: str
    stays: Manifest
    leaves: str

    def pods(self, group: str) -> list[Manifest]:
        """The pods of a worker group that are not about to go, by ordinal."""
        found = fh.pods(self.cluster, self.namespace)
        mine = [p for p in found if p["metadata"]["labels"]["freehold.dev/group"] == group]
        return sorted(mine, key=lambda p: int(p["metadata"]["annotations"]["freehold.dev/ordinal"]))

    def names(self, group: str) -> list[str]:
        """Their names."""
        return [pod["metadata"]["name"] for pod in self.pods(group)]

    def await_ready(self, group: str, count: int) -> list[str]:
        """Wait until a group has so many workers, all ready; their names."""

        def are_there() -> bool:
            found = self.pods(group)
            return len(found) == count and all(fh.is_ready(pod) for pod in found)

        eventually(are_there, timeout_s=45.0, interval_s=0.5)
        return self.names(group)

    def submit(self, job: str, program: str, *arguments: str) -> None:
        """Start a job, and wait until its load is there."""
        manifest = fh.futures_job(
            job,
            ["python", "-c", program, *arguments],
            clusterRef={"name": "small"},
            backoffLimit=0,
            maxDisruptions=0,
        )
        manifest["spec"]["driver"]["template"]["spec"]["nodeSelector"] = self.stays
        self.cluster.apply(manifest, namespace=self.namespace)
        eventually(lambda: "begun" in self.log(job), timeout_s=45.0, interval_s=0.5)

    def log(self, job: str) -> str:
        """What a job's driver has written."""
        return fh.driver_log(self.cluster, job, self.namespace)

    def end(self, job: str) -> Manifest:
        """Have a job end its load and check itself; its result."""
        arguments = ("exec", f"job/{job}-1", "--", "touch", "/tmp/end")
        self.cluster.kubectl(*arguments, namespace=self.namespace)
        assert fh.await_end(self.cluster, job, self.namespace, timeout_s=60.0) == "Complete"
        result: Manifest = json.loads(self.log(job).split("result", 1)[1])
        return result

    def delete_pod(self, name: str) -> None:
        """Delete a pod within its own grace period, and wait until it is gone."""
        self.cluster.kubectl("delete", "pod", name, "--timeout=75s", namespace=self.namespace)

    @contextmanager
    def drained(self) -> Iterator[None]:
        """The machine is drained within, and takes pods again afterwards."""
        arguments = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=75s")
        try:
            self.cluster.kubectl("drain", self.leaves, *arguments)
            yield
        finally:
            self.cluster.kubectl("uncordon", self.leaves)


def group(name: str, replicas: int, host: Manifest, **fields: object) -> Manifest:
    """A worker group on one machine, whose place is its name."""
    template = {"spec": {"nodeSelector": host}}
    labels = {"place": name}
    given = fh.workers(replicas=replicas, labels=labels, template=template, **fields)
    return {**given, "name": name}


@pytest.fixture(scope="module")
def site(cluster: Cluster, namespace: str, release: None) -> Site:
    nodes = {node["metadata"]["name"]: node for node in cluster.objects("nodes")}
    # The operator may be drained as well; where it is not, the test is shorter.
    operators = {pod["spec"]["nodeName"] for pod in cluster.objects("pods", fh.SYSTEM)}
    stays, leaves = sorted(cluster.worker_nodes(), key=lambda name: name not in operators)[:2]
    hosts = {name: {HOST: nodes[name]["metadata"]["labels"][HOST]} for name in (stays, leaves)}
    spec = fh.cluster_spec(
        group("home", 2, hosts[stays]),
        group("away", 2, hosts[leaves]),
        group("rash", 1, hosts[stays], drain={"timeoutSeconds": 0}),
    )
    spec["head"]["template"] = {"spec": {"nodeSelector": hosts[stays]}}
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)
    return Site(cluster, namespace, hosts[stays], leaves)


def test_nothing_is_lost_or_done_twice(site: Site) -> None:
    other, keeper = site.names("home")  # of equals, a scale-down takes the higher ordinal
    away = site.names("away")
    site.submit("load", LOAD, keeper, "!rash")
    shrink = '[{"op": "replace", "path": "/spec/workerGroups/0/replicas", "value": 1}]'
    arguments = ("patch", "fc", "small", "--type=json", "-p", shrink)
    site.cluster.kubectl(*arguments, namespace=site.namespace)
    site.cluster.wait("delete", f"pod/{other}", site.namespace, timeout_s=75.0)
    assert site.names("home") == [keeper], "a node with a live actor is not taken"
    site.delete_pod(away[0])
    site.await_ready("away", 2)
    with site.drained():
        assert not [pod for pod in site.pods("away") if fh.is_ready(pod)]
        result = site.end("load")
    assert result["tasks"] > 100
    assert result["holders"] == sorted([other, keeper, *away]), "what they held has moved"


def test_the_same_without_time_to_drain_fails(site: Site) -> None:
    (keeper,), (rash,) = site.names("home"), site.await_ready("rash", 1)
    site.submit("lossy", LOAD, keeper, "rash")
    site.delete_pod(rash)
    assert fh.await_end(site.cluster, "lossy", site.namespace, timeout_s=75.0) == "Failed"
    log = site.log("lossy")
    assert re.search(rf"^freehold\.errors\.({LOSSES})Error: ", log, re.MULTILINE), log


def test_an_actor_on_the_drained_machine_moves(site: Site) -> None:
    here, _ = site.await_ready("away", 2)
    site.submit("calls", CALLS, here)
    with site.drained():
        first, then = site.end("calls")["places"]
    assert first == here
    assert then in site.names("home") + site.names("rash")
