"""What `make bench-k8s` runs: how soon a queue brings pods, how soon a cluster is Ready, on kind.

Place in the flow: takes the cluster, the images and the release from `e2e.support`, as the tests do
(one at a time: it waits for whoever has the kind cluster), measures round by round, and prints the
table of `make bench`. Readiness is timed by one watch a kind that runs all along: from when it
shows an object to when it shows it Ready, a bare pod and a cluster in turn, both without a volume
or both with one; a first round of each is not counted. The queue's change is when a driver in the
cluster submits a task, by its clock; the create call's end is in the operator's decision log, by
the operator's: on kind both are this machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder is first on the path; `benchmarks` is a package of the folder above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from e2e.support import freehold as fh
from e2e.support import images
from e2e.support.cluster import Cluster, CommandError, Manifest, kind_cluster
from e2e.support.tools import binaries, cache

from benchmarks import report
from benchmarks.k8s_figures import (
    CREATE,
    READY,
    READY_VOLUME,
    ROWS,
    Event,
    create_times,
    delays,
    event,
    queued_times,
    ready_seconds,
)
from benchmarks.model import BenchError, Row, Sample
from benchmarks.verdicts import Results, lines

ROUNDS = 5
READY_S = 120.0
ELASTIC = "elastic"
SIZE = "1Gi"
HEAD = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "50m"}}
"""Of heads and bare pods."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
READY_LINES = 'jsonpath={.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\\n"}'

# Each round begins when the workers of the one before are gone, and the operator has come to rest.
DRIVER = """
import time, freehold
freehold.init()
@freehold.remote
def hold():
    time.sleep(1.0)
def has_workers():
    return any(node["Alive"] and node["Resources"].get("CPU") for node in freehold.nodes())
for _ in range({rounds}):
    while has_workers():
        time.sleep(0.2)
    time.sleep(3.0)
    print(f"queued {{time.time():.3f}}", flush=True)
    freehold.get(hold.remote())
print("done", flush=True)
"""

EPILOG = """\
examples (make bench-k8s BENCH_ARGS='…' passes the same):
  make bench-k8s                                     on the kind cluster of `make e2e`
  python benchmarks/k8s.py --rounds 1                a look, not a measurement
  python benchmarks/k8s.py --kubeconfig=K --image runtime=R --image operator=O

exit code: 0 all bars hold, 1 a bar is missed, 2 the benchmark itself went wrong."""


class Watch:
    """`kubectl get … --watch`, whose lines get the time at which they came."""

    def __init__(self, cluster: Cluster, kind: str, namespace: str) -> None:
        kubectl = binaries("kubectl")["kubectl"]
        given = ["--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace]
        self._kind = kind
        self._process = subprocess.Popen(
            [kubectl, *given, "get", kind, "--watch", "--output", READY_LINES],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: list[Event] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ready_seconds(self, name: str) -> float:
        """Wait until an object is Ready; how long that took since it was there.

        Raises:
            BenchError: it is not within two minutes, or the watch has ended.
        """
        deadline = time.monotonic() + READY_S
        while (found := ready_seconds(list(self._events), name)) is None:
            if self._process.poll() is not None:
                raise BenchError(f"the watch of {self._kind} ended")
            if time.monotonic() > deadline:
                raise BenchError(f"{self._kind}/{name} was not Ready within {READY_S:g} s")
            time.sleep(0.05)
        return found

    def end(self) -> None:
        """Stop watching."""
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._events.append(event(time.monotonic(), line))


@dataclass(frozen=True, slots=True)
class Site:
    """Where it is measured."""

    cluster: Cluster
    namespace: str
    runtime_image: str


def bare_pod(name: str, image: str, *, on_volume: bool) -> list[Manifest]:
    """A pod that has nothing to do, and is Ready as soon as its container runs; and its claim."""
    container: Manifest = {
        "name": "bare",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
        "securityContext": RESTRICTED,
        "resources": HEAD,
    }
    spec: Manifest = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    if not on_volume:
        return [pod]
    container["volumeMounts"] = [{"name": "state", "mountPath": "/state"}]
    spec["volumes"] = [{"name": "state", "persistentVolumeClaim": {"claimName": name}}]
    asked = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return [{**kind, "metadata": {"name": name}, "spec": asked}, pod]


def measure_ready(site: Site, row: Row, rounds: int, results: Results) -> None:
    """A bare pod, a cluster, a bare pod, …; the first of each is not counted."""
    on_volume = row is READY_VOLUME
    head = {"resources": HEAD, "storage": {"size": SIZE if on_volume else "0"}}
    with contextlib.ExitStack() as stack:
        watches = {}
        for kind in ("pods", "futuresclusters"):
            watches[kind] = Watch(site.cluster, kind, site.namespace)
            stack.callback(watches[kind].end)
        for number in range(rounds + 1):
            tag = f"{'volume' if on_volume else 'none'}-{number}"
            bare, own = f"bare-{tag}", f"own-{tag}"
            pod = bare_pod(bare, site.runtime_image, on_volume=on_volume)
            site.cluster.apply(*pod, namespace=site.namespace)
            bare_s = watches["pods"].ready_seconds(bare)
            _delete(site, f"pod/{bare}")
            if on_volume:
                _delete(site, f"pvc/{bare}")
            spec = fh.cluster_spec(fh.workers(), replicas=1, head=head)
            site.cluster.apply(fh.futures_cluster(own, spec), namespace=site.namespace)
            own_s = watches["futuresclusters"].ready_seconds(own)
            _delete(site, f"fc/{own}")
            site.cluster.wait_gone("pods", site.namespace)
            if number:
                _keep(results, row.key, "baseline", bare_s)
                _keep(results, row.key, "freehold", own_s)


def measure_create(site: Site, rounds: int, results: Results) -> None:
    """A job that gives an empty cluster something to do, again and again."""
    autoscaling = {"downscaling": {"idleTimeoutSeconds": 5}}
    spec = fh.cluster_spec(fh.workers(maxReplicas=1), autoscaling=autoscaling)
    site.cluster.apply(fh.futures_cluster(ELASTIC, spec), namespace=site.namespace)
    fh.await_condition(site.cluster, f"fc/{ELASTIC}", site.namespace, "HeadReady", timeout_s=90)
    job = fh.futures_job("rounds", DRIVER.format(rounds=rounds), clusterRef={"name": ELASTIC})
    site.cluster.apply(job, namespace=site.namespace)
    end = fh.await_end(site.cluster, "rounds", site.namespace, timeout_s=60.0 + 45.0 * rounds)
    driver = fh.driver_log(site.cluster, "rounds", site.namespace)
    if end != "Complete":
        raise BenchError(f"the job of the queue's changes is {end}:\n{driver[-2000:]}")
    operator = site.cluster.kubectl("logs", f"deployment/{fh.RELEASE}", namespace=fh.SYSTEM)
    created = create_times(operator, f"FuturesCluster/{site.namespace}/{ELASTIC}")
    for delay_s in delays(queued_times(driver), created):
        _keep(results, CREATE.key, "freehold", delay_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = _parser().parse_args(arguments)
    results = Results()
    rows = [row for row in ROWS if options.only in ("", row.key)]
    try:
        with _site(options) as site:
            for row in (READY, READY_VOLUME):
                if row in rows:
                    measure_ready(site, row, options.rounds, results)
            if CREATE in rows:
                measure_create(site, options.rounds, results)
    except (
        BenchError,
        CommandError,
        AssertionError,
        RuntimeError,
        subprocess.SubprocessError,
    ) as error:
        print(f"the benchmark went wrong: {error}", file=sys.stderr)
        return 2
    table_lines = lines(rows, results, sides=("freehold",))
    if options.format == "json":
        print(json.dumps(report.document(table_lines, results, {"rounds": options.rounds})))
    else:
        print("\n" + report.table(table_lines) + "\n\n" + report.summary(table_lines))
    verdicts = {line.verdict for line in table_lines}
    return 2 if "error" in verdicts else 1 if "miss" in verdicts else 0


@contextlib.contextmanager
def _site(options: argparse.Namespace) -> Iterator[Site]:
    """The cluster with the operator of this tree, and a namespace that is deleted at the end."""
    given = dict(one.split("=", 1) for one in options.image)
    with contextlib.ExitStack() as stack:
        if options.kubeconfig is not None:
            cluster = Cluster(options.kubeconfig.resolve())
        else:
            folder = cache() / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            # The lock of `make e2e`: whoever has it has the cluster to himself.
            lock = stack.enter_context((folder / f"tests-{options.cluster}").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = kind_cluster(options.cluster)
        found = {name: _image(cluster, name, given) for name in ("operator", "runtime")}
        fh.install(cluster, found["operator"], found["runtime"])
        namespace = f"bench-{secrets.token_hex(2)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": namespace, "labels": labels}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        stack.callback(cluster.kubectl, "delete", "namespace", namespace, "--wait=false")
        yield Site(cluster, namespace, found["runtime"])


def _image(cluster: Cluster, name: str, given: dict[str, str]) -> str:
    if name in given:
        return given[name]
    if cluster.kind_name is None:
        raise BenchError(f"--kubeconfig needs --image {name}=… too: nothing is pushed from here")
    return images.build_and_load(cluster, name)


def _delete(site: Site, what: str) -> None:
    site.cluster.kubectl("delete", what, "--wait=false", namespace=site.namespace)


def _keep(results: Results, row: str, source: Any, seconds: float) -> None:
    results.samples[row, "plain", source].append(Sample(seconds))
    # Beside the table or the JSON, which alone go to standard output.
    print(report.progress(row, source, seconds, "s"), file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/k8s.py",
        description="How soon a queue brings pods and a cluster is Ready, held to the bars.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=[row.key for row in ROWS], default="", help="one row")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds a row (default 5)")
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="what to print at the end"
    )
    parser.add_argument("--cluster", default="freehold-e2e", help="the kind cluster's name")
    parser.add_argument("--kubeconfig", type=Path, help="use this cluster instead of one of kind")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME=IMAGE",
        help="with --kubeconfig: what to use as `operator` and `runtime`",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
