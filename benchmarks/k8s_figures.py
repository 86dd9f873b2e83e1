"""From what a cluster's watches and logs say to figures: how long until Ready, until a create call.

Place in the flow: `k8s.py` collects; this is its arithmetic, and the bars. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from benchmarks.model import Bar, BenchError, Row

_DECISIONS = "freehold_operator.decisions"
_QUEUED = re.compile(r"^queued ([0-9.]+)$", re.MULTILINE)

Event = tuple[float, str, str]
"""When it came, of which object, and the status of its condition Ready ("" for none)."""

_row = partial(Row, unit="s", sides=("freehold",), higher_is_better=False)

CREATE = _row(
    key="k8s_queue_to_create",
    title="queue change → create call",
    bars=(Bar("at_most", 1.0),),
)
READY = _row(
    key="k8s_ready",
    title="cluster of head and worker Ready",
    bars=(Bar("baseline", 3.0),),
)
READY_VOLUME = _row(
    key="k8s_ready_volume",
    title="… the head on a volume, as by default",
    bars=READY.bars,
)
"""Against a bare pod with such a volume: how long one takes is the storage's matter."""
ROWS = [CREATE, READY, READY_VOLUME]


def event(at: float, line: str) -> Event:
    """A line of the watch: a name, and the status of Ready."""
    name, _, status = line.strip().partition(" ")
    return at, name, status


def ready_seconds(events: Iterable[Event], name: str) -> float | None:
    """From when an object was first seen until it was first seen Ready; None if it is not yet."""
    created: float | None = None
    for at, whose, status in events:
        if whose != name:
            continue
        if created is None:
            created = at
        if status == "True":
            return at - created
    return None


def queued_times(log: str) -> list[float]:
    """When the driver gave its cluster something to do, as it wrote; Unix time."""
    return [float(found) for found in _QUEUED.findall(log)]


def create_times(log: str, about: str) -> list[float]:
    """When the operator had created a pod for an object (`FuturesCluster/namespace/name`).

    Its decision log, JSON as the chart sets it, has a line with milliseconds as soon as the create
    call has returned.
    """
    found = []
    for line in log.splitlines():
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if said.get("logger") != _DECISIONS or said.get("about") != about:
            continue
        if said["action"] == "create" and said["what"].startswith("Pod/"):
            found.append(datetime.fromisoformat(said["time"]).timestamp())
    return found


def delays(queued: Sequence[float], created: Sequence[float]) -> list[float]:
    """From each change of the queue to the first create call after it.

    Raises:
        BenchError: before the next change there was none.
    """
    found = []
    for index, at in enumerate(queued):
        end = queued[index + 1] if index + 1 < len(queued) else float("inf")
        after = [time for time in created if at <= time < end]
        if not after:
            raise BenchError(f"no pod was created between the queue's change {index + 1} and next")
        found.append(min(after) - at)
    return found
