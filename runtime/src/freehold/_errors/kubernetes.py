"""Errors of the Python client for Kubernetes: what the API, a cluster's pods or a job said."""

from __future__ import annotations

from freehold._errors.base import FreeholdError


def _with_log(text: str, lines: tuple[str, ...]) -> str:
    if not lines:
        return text
    return text + "; the last lines of its log:\n  " + "\n  ".join(lines)


class KubernetesError(FreeholdError):
    """The Kubernetes API refused a call, or cannot be reached. Of a cluster that does not come up:
    `ClusterNotReadyError`; of a job that failed: `JobFailedError`.
    """

    status: int = 0
    reason: str = "Unknown"
    detail: str = "no detail was given"
    _says = "kubernetes: {reason}: {detail}"


class ClusterNotReadyError(KubernetesError):
    """A FuturesCluster does not come up; `reason` and `detail` are its pod's own, or those of
    whoever refuses to make one. Of a job's own pod: `JobFailedError`.
    """

    cluster: str = "unknown"
    pod: str = ""
    last_log_lines: tuple[str, ...] = ()

    def _message(self) -> str:
        where = f"pod {self.pod}: " if self.pod else ""
        text = f"cluster {self.cluster} is not ready: {self.reason}: {where}{self.detail}"
        return _with_log(text, self.last_log_lines)


class JobFailedError(KubernetesError):
    """A FuturesJob ended without success, or was deleted before its end. One that succeeded, but
    whose value cannot be had: `JobResultError`.
    """

    job: str = "unknown"
    exit_code: int | None = None
    last_log_lines: tuple[str, ...] = ()

    def _message(self) -> str:
        code = "" if self.exit_code is None else f" with exit code {self.exit_code}"
        text = f"job {self.job} failed{code}: {self.reason}: {self.detail}"
        return _with_log(text, self.last_log_lines)


class JobResultError(KubernetesError):
    """A FuturesJob succeeded, but what its function returned cannot be had here: it is too large,
    its pod is gone, or it cannot be unpickled. A job that did not succeed: `JobFailedError`.
    """

    job: str = "unknown"
    _says = "job {job} succeeded, but its value cannot be had: {detail}"


class KubernetesTimeoutError(KubernetesError, TimeoutError):
    """Your `timeout_s` passed while a FuturesJob had not ended; the job goes on. A cluster that is
    not ready in time: `ClusterNotReadyError`.
    """

    job: str = "unknown"
    timeout_s: float = 0.0
    _says = "job {job} has not ended after {timeout_s:g} s and goes on: {reason}: {detail}"
