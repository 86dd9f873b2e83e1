"""What task events add up to: one record a task, and a trace of what ran when.

An event is `(time_ns, kind, task name, task, detail)`. A task's kinds come in the order submitted,
started, and finished, failed, cancelled or retried; those of one process in order, of several by
time. Of a task whose first events fell out of its process's ring, the record has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Event = tuple[int, str, str, str, str]

STATES = {
    "submitted": "PENDING",
    "retried": "PENDING",
    "started": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "cancelled": "FAILED",
}
_ENDS = ("finished", "failed", "cancelled", "retried")


def task_records(events: Iterable[Event]) -> list[dict[str, Any]]:
    """A record a task, in the order they were first heard of; times in milliseconds."""
    records: dict[str, dict[str, Any]] = {}
    for time_ns, kind, name, task, detail in sorted(events):
        record = records.setdefault(
            task,
            {
                "task_id": task,
                "name": name,
                "state": "PENDING",
                "creation_time_ms": None,
                "start_time_ms": None,
                "end_time_ms": None,
                "detail": "",
            },
        )
        record["state"] = STATES.get(kind, record["state"])
        record["name"] = name or record["name"]
        record["detail"] = detail or record["detail"]
        milliseconds = time_ns / 1e6
        if kind == "submitted":
            record["creation_time_ms"] = milliseconds
        elif kind == "started":
            record["start_time_ms"] = milliseconds
        elif kind in _ENDS:
            record["end_time_ms"] = milliseconds
    return list(records.values())


def trace_events(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Complete events of Chrome's trace format (microseconds), one a run of a task."""
    started: dict[str, tuple[int, str]] = {}
    found: list[dict[str, Any]] = []
    for time_ns, kind, name, task, detail in sorted(events):
        if kind == "started":
            started[task] = (time_ns, detail)
        elif kind in _ENDS and task in started:
            begin_ns, where = started.pop(task)
            found.append(
                {
                    "ph": "X",
                    "cat": "task",
                    "name": name or task,
                    "ts": begin_ns / 1e3,
                    "dur": (time_ns - begin_ns) / 1e3,
                    "pid": "freehold",
                    "tid": where or "worker",
                    "args": {"task_id": task, "end": kind, "detail": detail},
                }
            )
    return found
