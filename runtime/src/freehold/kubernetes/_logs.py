"""The log of a job's drivers, line by line while they run, over attempts and broken connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from freehold.errors import KubernetesError
from freehold.kubernetes import _reasons as reasons
from freehold.kubernetes._client import PAUSE_S, Api
from freehold.kubernetes._objects import CONTAINER, JOB, LABEL_JOB, Manifest

SILENCE_S = 15.0
"""After so long without a line the connection is made anew, and the job is looked at."""

LAG_S = 5.0
"""How long the log of a container that has ended is waited for, should it not be there yet."""


def follow(
    api: Api, job: str, look: Callable[[Manifest], None], deadline: float | None
) -> Iterator[str]:
    """Lines of all attempts in turn, until the job has ended, was deleted, or time is up.

    Args:
        look: called with the job whenever it was looked at.
        deadline: of `time.monotonic`; None for none.
    """
    attempt = 1
    while True:
        body = api.get(JOB, job)
        look(body)
        status = reasons.job_status(body)
        pod = reasons.driver_pod(api.pods(LABEL_JOB, job), attempt)
        # A batch Job of one attempt has one pod; the job may have ended before it was looked at.
        is_last = status.attempts <= attempt
        if pod is not None and _has_begun(pod):
            yield from _whole_log(api, pod["metadata"]["name"], deadline)
            attempt += 1
        elif not is_last:
            attempt += 1  # its pod is gone
        elif status.is_finished:
            return
        if _is_past(deadline):
            return
        if is_last:
            time.sleep(PAUSE_S)


def _has_begun(pod: Manifest) -> bool:
    return reasons.container_state(pod, CONTAINER)[0] in ("running", "terminated")


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _whole_log(api: Api, pod: str, deadline: float | None) -> Iterator[str]:
    """The lines of a pod, until its container has ended and all of its log was read."""
    since, quiet_since = "", time.monotonic()
    while True:
        # Looked at before the log: what has ended by now has written everything.
        has_ended = _has_ended(api, pod)
        try:
            silence_s = SILENCE_S
            if deadline is not None:
                silence_s = min(silence_s, max(0.1, deadline - time.monotonic()))
            lines = api.log_lines(pod, CONTAINER, since, silence_s, has_ended=has_ended)
            for stamp, line in lines:
                since, quiet_since = stamp, time.monotonic()
                yield line
                if _is_past(deadline):
                    return
            if has_ended:
                return
        except KubernetesError:
            # Deleted, or its node is away: what it wrote cannot be had, or not yet.
            if has_ended and time.monotonic() - quiet_since > LAG_S:
                return
            time.sleep(PAUSE_S)
        if _is_past(deadline):
            return
        time.sleep(PAUSE_S / 4)


def _has_ended(api: Api, pod: str) -> bool:
    try:
        body = api.get("Pod", pod)
    except KubernetesError as error:
        if error.status != 404:
            raise
        return True
    # One whose node is lost fails as a whole, and its container's state stays as it was.
    is_over = (body.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return is_over or reasons.container_state(body, CONTAINER)[0] == "terminated"
