"""What the job table is told (events, past tense) and what it asks for (effects, imperative).

Place in the flow: the control service hands it what a job's runner asks (`BeginAsked`, `EndTold`),
drivers that attach, and the ends of processes and nodes. Wall-clock times come with the events,
since people read them; nothing is decided by them.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import DriverAttached, NodeDied, ProcessGone

Instant: TypeAlias = float
"""Seconds on the shell's monotonic clock."""


class _Own(msgspec.Struct, frozen=True, gc=False):
    pass


class JobRecord(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """One attempt of a job.

    Fields are only added at the end, with a default: it lies in volumes.
    """

    id: str
    attempt: int
    state: str
    """"running", "succeeded" or "failed"."""
    node: str = ""
    """Where its driver runs, or ran."""
    incarnation: int = 0
    driver: Address | None = None
    """The driver's process, once it has attached."""
    entrypoint: str = ""
    message: str = ""
    started_unix_ms: int = 0
    ended_unix_ms: int = 0
    is_lost: bool = False
    """It failed because its node died: the attempt may begin again elsewhere."""
    is_guessed: bool = False
    """It failed because its driver's process ended; how, its runner may still tell."""


# ---- events ------------------------------------------------------------------------------------


class Restored(_Own, frozen=True):
    """First of all: what an earlier control service of this cluster kept, the oldest first.

    `living` are the (node, incarnation) that may come back; a job elsewhere has lost its node.
    """

    jobs: list[JobRecord]
    living: list[tuple[str, int]]
    at_unix_ms: int


class BeginAsked(_Own, frozen=True):
    """A job's runner on a node wants to begin an attempt; answered with `AnswerBegin`."""

    request: int
    id: str
    attempt: int
    node: str
    incarnation: int
    entrypoint: str
    at_unix_ms: int


class EndTold(_Own, frozen=True):
    """A job's runner tells how an attempt ended."""

    id: str
    attempt: int
    exit_code: int
    message: str
    at_unix_ms: int


class DriverCame(_Own, frozen=True):
    """A driver attached: of a job that has begun, or as a job of its own."""

    message: DriverAttached
    at_unix_ms: int


class DriverWent(_Own, frozen=True):
    """A process ended; only drivers matter."""

    message: ProcessGone
    at_unix_ms: int


class NodeWent(_Own, frozen=True):
    """A node was declared dead."""

    message: NodeDied
    at_unix_ms: int


class NodeReturned(_Own, frozen=True):
    """A node joined and names its processes: drivers that it does not name have ended."""

    node: str
    incarnation: int
    processes: list[int]
    at_unix_ms: int


JobEvent: TypeAlias = (
    Restored | BeginAsked | EndTold | DriverCame | DriverWent | NodeWent | NodeReturned
)


# ---- effects -----------------------------------------------------------------------------------


class KeepJob(_Own, frozen=True):
    """Keep this over a restart of the control service; before it is told of."""

    record: JobRecord


class ForgetJob(_Own, frozen=True):
    """Keep it no longer."""

    id: str
    attempt: int


class AnswerBegin(_Own, frozen=True):
    """Whether an attempt may begin, and why not."""

    request: int
    accepted: bool
    refusal: str = ""


JobEffect: TypeAlias = KeepJob | ForgetJob | AnswerBegin


# ---- snapshot ----------------------------------------------------------------------------------


class JobSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Counts for metrics, dashboard and tests."""

    running: int
    ended: int
    ignored_events: int
