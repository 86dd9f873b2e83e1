"""What tasks did, in their own words: each notes its begin and its end, and where it ran.

Place in the flow: tasks of the failure rows write to a file a process in one folder, appending
whole lines, so that what a killed process had noted stays; the row reads them afterwards. Times are
CLOCK_MONOTONIC, one clock for all processes of a machine. The arithmetic below is pure.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a task; `ended` is None for one that never did."""

    task: str
    node: str
    began: float
    ended: float | None


class Noted:
    """`with Noted(folder, task, node):` around the work of a task."""

    def __init__(self, folder: str, task: str, node: str) -> None:
        self._path = f"{folder}/{os.getpid()}"
        self._words = {"task": task, "node": node}

    def __enter__(self) -> None:
        self._write("began")

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._write("ended")

    def _write(self, what: str) -> None:
        line = json.dumps({**self._words, "what": what, "at": time.monotonic()}) + "\n"
        fd = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def read(folder: Path) -> list[Run]:
    """All that was noted."""
    return [run for path in sorted(folder.iterdir()) for run in runs(path.read_text().splitlines())]


def runs(lines: Iterable[str]) -> list[Run]:
    """The runs of one process, which has one task at a time."""
    found: list[Run] = []
    for line in lines:
        note = json.loads(line)
        if note["what"] == "began":
            found.append(Run(note["task"], note["node"], note["at"], None))
        else:
            last = found.pop()
            found.append(Run(last.task, last.node, last.began, note["at"]))
    return found


def lost_seconds(all_runs: Iterable[Run], node: str, killed_at: float) -> float:
    """Task-seconds that went with a node: of what it was running, and of what it had finished and
    which had to be run again. What it had finished and nobody needed any more was not lost, nor is
    what was run again though it had not been there."""
    known = list(all_runs)
    begun_after = {run.task for run in known if run.node != node and run.began >= killed_at}
    lost = 0.0
    for run in known:
        if run.node != node or run.began > killed_at:
            continue
        if run.ended is None or run.ended > killed_at:
            lost += killed_at - run.began
        elif run.task in begun_after:
            lost += run.ended - run.began
    return lost


def repeated(all_runs: Iterable[Run]) -> int:
    """How many runs there were beyond the first of each task."""
    return sum(count - 1 for count in Counter(run.task for run in all_runs).values())


def seconds_until_again(all_runs: Iterable[Run], killed_at: float) -> float:
    """From the kill to the begin of the first run that makes up for another; 0 if there is none."""
    known = list(all_runs)
    before = {run.task for run in known if run.began < killed_at}
    again = [run.began for run in known if run.began >= killed_at and run.task in before]
    return min(again) - killed_at if again else 0.0


def unfinished(all_runs: Iterable[Run]) -> int:
    """How many runs never ended."""
    return sum(run.ended is None for run in all_runs)


def allowed_seconds(calm_s: float, detection_s: float, lost_s: float, at_once: int) -> float:
    """What a sort may take that loses a node: as long as without, until the loss is known, and 1.3
    times what was lost on the processors that are left."""
    return calm_s + detection_s + 1.3 * lost_s / at_once
