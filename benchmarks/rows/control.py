"""What the control service hears of the work: bytes and frames, of 1,000 calls and of 100,000.

Freehold only. A head without CPUs and two nodes of one, joined over TLS through a relay that counts
(`counting_proxy`); the driver is on the first. In both loads the same number of slots is busy for
the same minute: a hundred times as many tasks are a hundredth as long, and shorter by what a task
costs beside its sleep, as measured in the warm-up. Beside each task goes a value put into the store
and a call of an actor on the other node. Frames are the nodes' own count
(`freehold_control_frames_total`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.adapter import Bench
from benchmarks.counting_proxy import CountingProxy
from benchmarks.machines import Machine, Machines, await_nodes
from benchmarks.model import Bar, BenchError, Row, Sample, Variant
from benchmarks.rows.sort import empty

FEW, MANY = 1_000, 100_000
WINDOW_S, WARM_UP_S, WARM_UPS = 60.0, 5.0, 2
QUICK_S, QUICK_MANY = 5.0, 10_000
NODES = 2
BUSY_SHARE = 0.6
"""Of each slot's time, tasks and what they cost: the rest is room for a machine's hiccups."""
BUSY_APART = 0.05
PAUSE_S = 0.005
"""Between two tasks of a slot: longer, and it was not busy in between."""
OBJECT_BYTES = 120_000
"""Above what travels inline."""
TICK_S = 0.94
"""All calls of a tick are made at its begin: also in the smaller load seven tasks for each slot or
more, so that in both something waits for most of the time that a slot is busy. No multiple of the
period of nodes' reports, which would all be of the same moment of a tick."""
IN_FLIGHT_S = 1.5
LATE_SHARE = 0.05
FRAMES = "freehold_control_frames_total"


def lane(node: int) -> str:
    """The resource that one of the nodes has: tasks are to be where they are meant to."""
    return f"lane-{node}"


class Echo:
    """An actor that answers."""

    def say(self, number: int) -> int:
        return number


def work(number: int, seconds: float) -> tuple[int, float, float]:
    """Runs on a node: keeps its slot for a while; returns when it began and ended, too."""
    started = time.monotonic()
    time.sleep(seconds)
    return number, started, time.monotonic()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What passed between the nodes and the control service in a window."""

    to_head: int
    from_head: int
    sent: float
    received: float

    @property
    def total(self) -> int:
        """Bytes both ways."""
        return self.to_head + self.from_head


def minus(after: Traffic, before: Traffic) -> Traffic:
    """What came in between."""
    return Traffic(
        after.to_head - before.to_head,
        after.from_head - before.from_head,
        after.sent - before.sent,
        after.received - before.received,
    )


def difference_percent(few: float, many: float) -> float:
    """How far many's traffic is from few's, either way, in % of few's."""
    return 100 * abs(many - few) / few


def task_seconds(count: int, seconds: float, slots: int) -> float:
    """How long each of so many tasks is, for the slots to be busy for their share of the time."""
    return BUSY_SHARE * slots * seconds / count


def busy_seconds(spans: Sequence[tuple[float, float]]) -> float:
    """How long a slot was busy that had these tasks, from begin to end, in any order."""
    busy, until = 0.0, float("-inf")
    for started, ended in sorted(spans):
        busy += ended - (until if started - until < PAUSE_S else started)
        until = ended
    return busy


def due(count: int, ticks: int, tick: int) -> int:
    """How many calls are to be made by the end of a tick, at an even pace."""
    return count * tick // ticks


class Load:
    """Calls at an even pace, answers looked at a moment later."""

    def __init__(self, bench: Bench, actor: Any) -> None:
        self._api = bench.api
        self._tasks = [bench.remote(work, resources={lane(i): 1}) for i in range(NODES)]
        self._actor = actor
        self._value = bytes(OBJECT_BYTES)
        self._waiting: deque[tuple[float, int, Any, Any, Any]] = deque()
        self._spans: list[list[tuple[float, float]]] = [[] for _ in range(NODES)]

    def run(self, count: int, seconds: float, task_s: float) -> tuple[float, float]:
        """Make the calls; seconds until the last was answered, and of those the slots' busy ones.

        Raises:
            BenchError: an answer is wrong, or they came too late for the pace.
        """
        ticks = round(seconds / TICK_S)
        started, made = time.monotonic(), 0
        for tick in range(1, ticks + 1):
            asked_at = time.monotonic() - started
            for number in range(made, due(count, ticks, tick)):
                refs = (
                    self._api.put(self._value),
                    self._tasks[number % NODES].remote(number, task_s),
                    self._actor.say.remote(number),
                )
                self._waiting.append((asked_at, number, *refs))
                made = number + 1
            self._settle(asked_at - IN_FLIGHT_S)
            time.sleep(max(0.0, started + tick * TICK_S - time.monotonic()))
        self._settle(float("inf"))
        elapsed = time.monotonic() - started
        busy = sum(busy_seconds(spans) for spans in self._spans)
        self._spans = [[] for _ in range(NODES)]
        return elapsed, busy

    def _settle(self, until: float) -> None:
        """Take the answers of what was asked before then."""
        numbers, refs = [], []
        while self._waiting and self._waiting[0][0] <= until:
            _, number, value, task, call = self._waiting.popleft()
            numbers.append(number)
            refs += [task, call]
            del value
        answers = self._api.get(refs, timeout=60)
        for number, (ran, started, ended), said in zip(
            numbers, answers[::2], answers[1::2], strict=True
        ):
            if (ran, said) != (number, number):
                raise BenchError("an answer is not that of its call")
            self._spans[number % NODES].append((started, ended))


def traffic(bench: Bench, variant: Variant) -> Sample:
    """Both loads on one cluster; by how many per cent their bytes differ."""
    del variant
    import freehold

    bench.api = freehold
    is_quick = bench.seconds < 0.5
    seconds, most = (QUICK_S, QUICK_MANY) if is_quick else (WINDOW_S, MANY)
    machines = Machines(empty(Path(bench.scratch) / "control"))
    proxy = CountingProxy(machines.port)
    try:
        head = machines.start_head()
        nodes = [
            machines.start_node(head, resources={lane(i): 1}, by_way_of=proxy.port)
            for i in range(NODES)
        ]
        machines.attach(freehold, nodes[0])
        await_nodes(freehold, NODES + 1)
        actor = bench.remote(Echo, num_cpus=0).remote()
        load = Load(bench, actor)
        found, metrics = {}, {}
        for name, per_minute in (("few", FEW), ("many", most)):
            count = int(per_minute * seconds / WINDOW_S)
            wanted_s = task_s = task_seconds(count, seconds, NODES)
            first = max(1, int(count * WARM_UP_S / seconds))
            for _ in range(WARM_UPS):
                _, busy = load.run(first, WARM_UP_S, task_s)
                task_s = max(0.0, task_s + wanted_s - busy / first)
            before = _now(proxy, nodes)
            elapsed, busy = load.run(count, seconds, task_s)
            if elapsed > seconds * (1 + LATE_SHARE) + 0.5:
                raise BenchError(f"{count} calls took {elapsed:.1f} s, not {seconds:g}: too slow")
            found[name] = minus(_now(proxy, nodes), before)
            metrics[f"{name}_bytes"] = float(found[name].total)
            metrics[f"{name}_s"] = elapsed
            metrics[f"{name}_busy"] = busy / NODES / elapsed
            metrics[f"{name}_sent"] = found[name].sent / elapsed / NODES
            metrics[f"{name}_received"] = found[name].received / elapsed / NODES
        freehold.shutdown()
    finally:
        machines.end()
        proxy.close()
    few_rate = found["few"].total / metrics["few_s"]
    many_rate = found["many"].total / metrics["many_s"]
    if abs(metrics["few_busy"] / metrics["many_busy"] - 1) > BUSY_APART and not is_quick:
        raise BenchError(
            f"slots were busy for {metrics['few_busy']:.3f} of the time, and for "
            f"{metrics['many_busy']:.3f} with more calls: the loads are not alike"
        )
    # A window may begin and end with a frame, and has then one more than its length says.
    metrics["most_frames"] = max(
        metrics[f"{name}_{way}"] - 1 / metrics[f"{name}_s"]
        for name in found
        for way in ("sent", "received")
    )
    metrics["many_of_few"] = many_rate / few_rate
    return Sample(difference_percent(few_rate, many_rate), metrics)


def _now(proxy: CountingProxy, nodes: list[Machine]) -> Traffic:
    """What has passed so far."""
    to_head, from_head = proxy.counts()
    frames = [node.metric(FRAMES) for node in nodes]
    sent = sum(each['direction="sent"'] for each in frames)
    received = sum(each['direction="received"'] for each in frames)
    return Traffic(to_head, from_head, sent, received)


ROWS = [
    Row(
        key="control_traffic",
        title="control service, 100,000 calls against 1,000",
        unit="% apart",
        program=traffic,
        where="fresh",
        sides=("freehold",),
        bars=(
            Bar("at_most", 5, label="bytes in the same minute"),
            Bar("at_most", 2, metric="most_frames", label="frames a node and second, either way"),
        ),
        higher_is_better=False,
        max_rounds=1,
        timeout_s=400,
    ),
]
