"""The main job through a failure: 1 GB sorted on three nodes, of which one, or the head, is killed.

Freehold only: held against itself without the failure, in the same run, one after the other. Each
half of a round has a cluster and a driver's process of its own; nodes speak TCP with TLS. The work
of the tasks is `freehold.shuffle`'s (`map_part`, `reduce_blocks`), each noting its begin and end
(`ledger`), from which comes what was lost and what ran twice. The output is validated off the
clock.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ledger
from benchmarks.adapter import Bench
from benchmarks.host import Host
from benchmarks.machines import Machine, Machines, await_nodes
from benchmarks.model import Bar, BenchError, Row, Sample, Variant
from benchmarks.rows import sort

PARTITIONS = 16
NODES = 3
STORE_BYTES = 2_500_000_000
KILLS = "BENCH_KILLS"
OUTPUT, NOTES = "sort-failure", "sort-notes"
LOOK_S = 0.01
DETECTION_S = 60.0
HEAD_BACK_S = 60.0


class Blow(threading.Thread):
    """Strikes when it is started, and waits for what follows; what it finds is in `found`."""

    def __init__(self, strike: Callable[[], dict[str, float]]) -> None:
        super().__init__(daemon=True)
        self._strike = strike
        self._found: dict[str, float] = {}
        self._error = ""

    def run(self) -> None:
        """See `threading.Thread`."""
        try:
            self._found = self._strike()
        except Exception as error:
            self._error = f"{type(error).__name__}: {error}"

    def end(self) -> dict[str, float]:
        """Wait for it; what it found.

        Raises:
            BenchError: it failed.
        """
        self.join(DETECTION_S + HEAD_BACK_S)
        if not self._found:
            raise BenchError(self._error or "what was to follow the kill did not")
        return self._found


def pause(seconds: float) -> None:
    """Runs on every node, so that each has its worker before the clock starts."""
    time.sleep(seconds)


def timed_sort(bench: Bench, strike: Callable[[], dict[str, float]]) -> Sample:
    """The sort, seconds, and what the blow found if there was to be one."""
    from freehold.shuffle import (
        ShuffleOptions,
        ShuffleProgress,
        record_files,
        simple_shuffle,
        split_parts,
        uniform_boundaries,
    )
    from freehold.shuffle.sort import map_count, map_part, partition_name, reduce_blocks

    scratch = Path(bench.scratch)
    output, notes = sort.empty(scratch / OUTPUT), str(sort.empty(scratch / NOTES))
    inputs = record_files(scratch / "sort-input")
    expected = sum(part.count for part in inputs)
    parts = split_parts(inputs, map_count(expected, PARTITIONS))
    boundaries = uniform_boundaries(PARTITIONS)
    api = bench.api

    def note(task: str) -> ledger.Noted:
        import freehold

        return ledger.Noted(notes, task, freehold.get_runtime_context().get_node_id())

    def map_one(part: Any) -> Any:
        with note(f"map {part.path} {part.first}"):
            return map_part(part, boundaries)

    def reduce_one(partition: int, *blocks: Any) -> int:
        with note(f"reduce {partition}"):
            return reduce_blocks(str(output / partition_name(partition)), blocks)

    api.get([bench.remote(pause).remote(0.3) for _ in range(4 * NODES)])
    blow = Blow(strike) if os.environ[KILLS] == "1" else None

    def on_progress(seen: ShuffleProgress) -> None:
        # Half-way by the work: each record has been read and sorted, none has been written.
        if blow is not None and seen.stage == "map" and seen.done == seen.total:
            blow.start()

    options = ShuffleOptions(on_progress=on_progress)
    started = time.perf_counter()
    refs = simple_shuffle(parts, map_one, reduce_one, PARTITIONS, options)
    written = sum(api.get(refs))
    elapsed = time.perf_counter() - started
    if written != expected:
        raise BenchError(f"{written} records were written, not {expected}")
    return Sample(elapsed, blow.end() if blow is not None else {})


def on_local_nodes(bench: Bench, variant: Variant) -> Sample:
    """Three nodes of one CPU, the driver on the first; the last is killed."""
    del variant
    import freehold
    from freehold.testing import LocalCluster

    bench.api = freehold
    bench.cluster = cluster = LocalCluster(
        nodes=NODES, num_cpus=1, network="tcp", tls=True, object_store_memory=STORE_BYTES
    )
    victim = cluster.nodes[-1].node
    return sort_with_a_death(bench, victim, lambda: cluster.kill_node(NODES - 1))


def on_machines(bench: Bench, variant: Variant) -> Sample:
    """A head without CPUs and three nodes of one, started by `freehold start`; the last is killed:
    its connections break, as when a pod is killed, and nobody watches its process."""
    del variant
    with machines(bench) as (started, _, nodes):
        return sort_with_a_death(bench, nodes[-1].node, lambda: started.kill(nodes[-1]))


def sort_with_a_death(bench: Bench, victim: str, kill: Callable[[], None]) -> Sample:
    """The sort, and what the node's death cost if it was to be killed."""

    def is_known_dead() -> bool:
        return not any(node["Alive"] for node in bench.api.nodes() if node["NodeID"] == victim)

    def strike() -> dict[str, float]:
        killed_at = time.monotonic()
        kill()
        while not is_known_dead():
            if time.monotonic() - killed_at > DETECTION_S:
                raise BenchError(f"nobody knew of the death within {DETECTION_S:g} s")
            time.sleep(LOOK_S)
        return {"killed_at": killed_at, "detection_s": time.monotonic() - killed_at}

    sample = timed_sort(bench, strike)
    if "killed_at" in sample.metrics:
        killed_at = sample.metrics.pop("killed_at")
        runs = ledger.read(Path(bench.scratch) / NOTES)
        sample.metrics["lost_task_s"] = ledger.lost_seconds(runs, victim, killed_at)
        sample.metrics["again_after_s"] = ledger.seconds_until_again(runs, killed_at)
        sample.metrics["tasks_again"] = float(ledger.repeated(runs))
    return sample


@contextlib.contextmanager
def machines(bench: Bench) -> Iterator[tuple[Machines, Machine, list[Machine]]]:
    """A head without CPUs and three nodes of one, the driver on the first."""
    import freehold

    bench.api = freehold
    started = Machines(sort.empty(Path(bench.scratch) / "machines"), STORE_BYTES)
    try:
        head = started.start_head()
        nodes = [started.start_node(head) for _ in range(NODES)]
        started.attach(freehold, nodes[0])
        await_nodes(freehold, NODES + 1)
        yield started, head, nodes
        freehold.shutdown()
    finally:
        started.end()


def without_their_head(bench: Bench, variant: Variant) -> Sample:
    """The same machines; the head is killed, and started again on the same folder at once."""
    del variant
    with machines(bench) as (started, head, _):

        def strike() -> dict[str, float]:
            killed_at = time.monotonic()
            started.kill(head)
            started.start_head()
            started_s = time.monotonic() - killed_at
            await_nodes(bench.api, NODES + 1, HEAD_BACK_S)
            return {"head_starts_s": started_s, "head_away_s": time.monotonic() - killed_at}

        sample = timed_sort(bench, strike)
        runs = ledger.read(Path(bench.scratch) / NOTES)
        failed_or_twice = ledger.repeated(runs) + ledger.unfinished(runs)
        sample.metrics["failed_or_twice"] = float(failed_or_twice)
        return sample


def _half(host: Host, program: Row, *, kills: bool) -> Sample:
    """One sort in a process of its own, validated."""
    sort.prepare(host)
    process = host.start("freehold", {KILLS: str(int(kills))})
    try:
        sample = process.round(program, "plain", host.seconds)
    finally:
        process.end()
    sort.validate(host, host.scratch / OUTPUT)
    return sample


def kill_a_node(host: Host, program: Row) -> Sample:
    """Without the failure, then with it half-way; seconds of the latter."""
    calm = _half(host, program, kills=False)
    struck = _half(host, program, kills=True)
    found = struck.metrics
    at_once = min(NODES - 1, os.cpu_count() or 1)
    allowed = ledger.allowed_seconds(
        calm.value, found["detection_s"], found["lost_task_s"], at_once
    )
    found |= {
        "calm_s": calm.value,
        "allowed_s": allowed,
        "of_allowed": struck.value / allowed,
    }
    return struck


def kill_the_head(host: Host) -> Sample:
    """Without the failure, then with it half-way; seconds of the latter."""
    calm = _half(host, WITHOUT_THEIR_HEAD, kills=False)
    struck = _half(host, WITHOUT_THEIR_HEAD, kills=True)
    struck.metrics |= {"calm_s": calm.value, "of_calm": struck.value / calm.value}
    return struck


ON_LOCAL_NODES = Row("sort_on_local_nodes", "", "", program=on_local_nodes, timeout_s=300)
ON_MACHINES = Row("sort_on_machines", "", "", program=on_machines, timeout_s=300)
WITHOUT_THEIR_HEAD = Row(
    "sort_without_their_head", "", "", program=without_their_head, timeout_s=300
)
LENT = [ON_LOCAL_NODES, ON_MACHINES, WITHOUT_THEIR_HEAD]

_row = partial(
    Row, unit="s", where="host", sides=("freehold",), higher_is_better=False, max_rounds=3
)

_ALLOWED = Bar("at_most", 1.0, metric="of_allowed", label="of no failure + detection + 1.3 × lost")

ROWS = [
    _row(
        key="sort_node_killed",
        title="sort of 1 GB on 3 nodes, one killed",
        host_program=partial(kill_a_node, program=ON_LOCAL_NODES),
        bars=(_ALLOWED,),
    ),
    _row(
        key="sort_machine_killed",
        title="… nodes of `freehold start`, one killed",
        host_program=partial(kill_a_node, program=ON_MACHINES),
        bars=(_ALLOWED,),
    ),
    _row(
        key="sort_head_killed",
        title="sort of 1 GB on 3 nodes, the head killed",
        host_program=kill_the_head,
        bars=(Bar("at_most", 0, metric="failed_or_twice", label="tasks failed or run twice"),),
    ),
]
