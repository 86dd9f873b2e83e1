"""Decides which attempts of jobs may run, and notes how each ended.

Place in the flow: whoever runs a job's driver (`freehold job run`) asks before it starts it and
tells how it ended; a driver that simply attaches is a job of its own, attempt 0. Kubernetes may
start a pod again whose work was done, or two for the same attempt; here is decided which one runs:

- an attempt that ended never runs again, unless it was lost with its node, which is nobody's fault;
- an attempt that runs may be begun again from its own node (the answer was lost), from no other;
- an attempt below one that is known is late.

What a job owns is not decided here: its driver's processes own it, and the actor directory ends
what is not detached with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from freehold._core.ids import Address
from freehold._core.invariants import check
from freehold._core.jobs import events as ev
from freehold._core.jobs.events import Instant, JobEffect, JobEvent, JobRecord
from freehold._core.limits import JOBS_ENDED
from freehold._core.messages import ExitCause

RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"

Key = tuple[str, int]


class JobTable:
    """All jobs of a cluster that run, and the last that ended.

    Example:
        >>> jobs = JobTable()
        >>> asked = ev.BeginAsked(1, "sort", 1, "a" * 32, 0, "python sort.py", 1_700_000_000_000)
        >>> jobs.handle(asked, now=0.0)[1]
        AnswerBegin(request=1, accepted=True, refusal='')
    """

    def __init__(self) -> None:
        self._records: dict[Key, JobRecord] = {}
        """Running ones and ended ones, each in the order of its last change."""
        self._latest: dict[str, int] = {}
        """Job → its highest attempt."""
        self._drivers: dict[Address, Key] = {}
        self._ignored = 0
        # Only meaningful during `handle`.
        self._effects: list[JobEffect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Restored: self._restored,
            ev.BeginAsked: self._begin_asked,
            ev.EndTold: self._end_told,
            ev.DriverCame: self._driver_came,
            ev.DriverWent: self._driver_went,
            ev.NodeWent: self._node_went,
            ev.NodeReturned: self._node_returned,
        }

    def handle(self, event: JobEvent, *, now: Instant) -> list[JobEffect]:
        """Take one event; what has to be done about it, in order."""
        effects: list[JobEffect] = []
        self._effects = effects
        self._handlers[type(event)](event)
        return effects

    def next_deadline(self) -> Instant | None:
        """Never: what makes a job end is the end of something else."""
        return None

    def records(self) -> list[JobRecord]:
        """The ended ones and the running ones, in the order of their last change."""
        return list(self._records.values())

    def snapshot(self) -> ev.JobSnapshot:
        """Counts for metrics, dashboard and tests."""
        running = sum(record.state == RUNNING for record in self._records.values())
        return ev.JobSnapshot(
            running=running,
            ended=len(self._records) - running,
            ignored_events=self._ignored,
        )

    def check_invariants(self) -> None:
        """Compare the tables with each other.

        JOB-1: the ended are bounded in number, and have an end.
        JOB-2: of one job, no attempt runs beside a later one.
        JOB-3: a driver is found by its address exactly while its job runs.

        Raises:
            InvariantError: one of them does not hold.
        """
        drivers: dict[Address, Key] = {}
        ended = 0
        latest: dict[str, int] = {}
        for (job, attempt), record in self._records.items():
            latest[job] = max(attempt, latest.get(job, attempt))
            if record.state == RUNNING:
                check(not record.ended_unix_ms, "JOB-1", f"job {job} runs and has ended")
                if record.driver is not None:
                    drivers[record.driver] = job, attempt
            else:
                ended += 1
                is_told = record.state in (SUCCEEDED, FAILED)
                check(is_told, "JOB-1", f"job {job} is {record.state}")
        check(ended <= JOBS_ENDED, "JOB-1", f"{ended} ended jobs are kept")
        check(latest == self._latest, "JOB-2", f"attempts are {latest}, known {self._latest}")
        for (job, attempt), record in self._records.items():
            if record.state == RUNNING:
                check(attempt == latest[job], "JOB-2", f"job {job} runs attempt {attempt}")
        check(drivers == self._drivers, "JOB-3", f"drivers are {drivers}, known {self._drivers}")

    # ---- events ------------------------------------------------------------------------------

    def _restored(self, event: ev.Restored) -> None:
        check(not self._records, "JOB-1", "restored although jobs have begun")
        for record in event.jobs:
            key = record.id, record.attempt
            self._records[key] = record
            self._latest[record.id] = max(record.attempt, self._latest.get(record.id, -1))
            if record.state == RUNNING and record.driver is not None:
                self._drivers[record.driver] = key
        living = set(event.living)
        for record in event.jobs:
            if record.state == RUNNING and (record.node, record.incarnation) not in living:
                self._lose(record, "its node died", event.at_unix_ms)

    def _begin_asked(self, event: ev.BeginAsked) -> None:
        refusal = self._why_not(event)
        if not refusal:
            known = self._records.get((event.id, event.attempt))
            if known is None or known.state != RUNNING:
                self._supersede(event)
                self._set(
                    JobRecord(
                        id=event.id,
                        attempt=event.attempt,
                        state=RUNNING,
                        node=event.node,
                        incarnation=event.incarnation,
                        entrypoint=event.entrypoint,
                        started_unix_ms=event.at_unix_ms,
                    )
                )
        self._effects.append(ev.AnswerBegin(event.request, not refusal, refusal))

    def _why_not(self, event: ev.BeginAsked) -> str:
        job, attempt = event.id, event.attempt
        latest = self._latest.get(job, attempt)
        if attempt < latest:
            return f"job {job!r} has come to attempt {latest}: attempt {attempt} is late"
        known = self._records.get((job, attempt))
        if known is None or known.is_lost:
            return ""
        if known.state == RUNNING:
            if (known.node, known.incarnation) == (event.node, event.incarnation):
                return ""
            return f"attempt {attempt} of job {job!r} is running on node {known.node[:12]}"
        how = f"{known.state}: {known.message}" if known.message else known.state
        return f"attempt {attempt} of job {job!r} has run already ({how}); begin the next attempt"

    def _supersede(self, event: ev.BeginAsked) -> None:
        """A later attempt begins: one that still counted as running was given up by its runner."""
        for (job, attempt), record in list(self._records.items()):
            if job == event.id and attempt != event.attempt and record.state == RUNNING:
                message = f"attempt {event.attempt} began"
                self._end(record, FAILED, message, event.at_unix_ms)

    def _end_told(self, event: ev.EndTold) -> None:
        record = self._records.get((event.id, event.attempt))
        state = SUCCEEDED if event.exit_code == 0 else FAILED
        message = event.message or (f"exit code {event.exit_code}" if event.exit_code else "")
        if record is None:
            # Begun with a control service whose volume is lost: that it has run is worth knowing.
            if event.attempt < self._latest.get(event.id, event.attempt):
                self._ignored += 1
                return
            record = JobRecord(id=event.id, attempt=event.attempt, state=RUNNING)
        elif record.state != RUNNING and not record.is_guessed and not record.is_lost:
            self._ignored += 1  # said again
            return
        self._end(record, state, message, event.at_unix_ms)

    def _driver_came(self, event: ev.DriverCame) -> None:
        message = event.message
        address = message.address
        if address in self._drivers:
            return
        key = (message.job, message.attempt)
        record = self._records.get(key)
        if not message.job:
            key = (f"driver-{address.node[:12]}-{address.incarnation}-{address.process}", 0)
            record = JobRecord(
                id=key[0],
                attempt=0,
                state=RUNNING,
                node=address.node,
                incarnation=address.incarnation,
                started_unix_ms=event.at_unix_ms,
            )
        elif record is None or record.state != RUNNING:
            self._ignored += 1
            return
        elif record.driver is not None:
            return  # another process of the same job
        self._set(msgspec.structs.replace(record, driver=address))
        self._drivers[address] = key

    def _driver_went(self, event: ev.DriverWent) -> None:
        key = self._drivers.get(event.message.address)
        if key is None:
            return
        cause = event.message.cause
        record = self._records[key]
        is_clean = cause.signal is None and not cause.code
        if record.attempt == 0 and not record.entrypoint and is_clean:
            self._end(record, SUCCEEDED, str(cause.reason), event.at_unix_ms)
        else:
            self._guess(record, f"its driver ended: {cause}", event.at_unix_ms)

    def _node_went(self, event: ev.NodeWent) -> None:
        died = event.message
        for record in list(self._records.values()):
            if (
                record.state == RUNNING
                and record.node == died.node
                and record.incarnation <= died.incarnation
            ):
                reason = f"its node {died.node[:12]} died: {died.reason}"
                self._lose(record, reason, event.at_unix_ms)

    def _node_returned(self, event: ev.NodeReturned) -> None:
        for address in list(self._drivers):
            if (address.node, address.incarnation) != (event.node, event.incarnation):
                continue
            if address.process not in event.processes:
                record = self._records[self._drivers[address]]
                cause = ExitCause(reason="it ended while the head was away")
                self._guess(record, f"its driver ended: {cause}", event.at_unix_ms)

    # ---- transitions -------------------------------------------------------------------------

    def _lose(self, record: JobRecord, message: str, at_unix_ms: int) -> None:
        self._end(record, FAILED, message, at_unix_ms, is_lost=True)

    def _guess(self, record: JobRecord, message: str, at_unix_ms: int) -> None:
        self._end(record, FAILED, message, at_unix_ms, is_guessed=True)

    def _end(
        self, record: JobRecord, state: str, message: str, at_unix_ms: int, **fields: bool
    ) -> None:
        if record.driver is not None:
            self._drivers.pop(record.driver, None)
        changes = {"is_lost": False, "is_guessed": False, **fields}
        self._set(
            msgspec.structs.replace(
                record, state=state, message=message, ended_unix_ms=at_unix_ms, **changes
            )
        )
        self._forget_oldest()

    def _set(self, record: JobRecord) -> None:
        key = record.id, record.attempt
        self._records.pop(key, None)
        self._records[key] = record
        self._latest[record.id] = max(record.attempt, self._latest.get(record.id, record.attempt))
        self._effects.append(ev.KeepJob(record))

    def _forget_oldest(self) -> None:
        ended = [key for key, record in self._records.items() if record.state != RUNNING]
        if len(ended) <= JOBS_ENDED:
            return
        job, attempt = ended[0]
        del self._records[job, attempt]
        if not any(other == job for other, _ in self._records):
            del self._latest[job]
        elif self._latest[job] == attempt:
            self._latest[job] = max(n for other, n in self._records if other == job)
        self._effects.append(ev.ForgetJob(job, attempt))
