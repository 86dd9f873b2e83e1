"""A FuturesJob from Python: submitted, followed, and what came of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from freehold._processes.driver import function_job
from freehold.errors import (
    JobFailedError,
    JobResultError,
    KubernetesError,
    KubernetesTimeoutError,
)
from freehold.kubernetes import _logs, _program
from freehold.kubernetes import _objects as objects
from freehold.kubernetes import _reasons as reasons
from freehold.kubernetes._client import NOT_INSTALLED, PAUSE_S, Api, Where, connect
from freehold.kubernetes._cluster import FuturesCluster
from freehold.kubernetes._objects import CONTAINER, JOB, LABEL_JOB, Manifest, Workers
from freehold.kubernetes._progress import ProgressLine
from freehold.kubernetes._reasons import JobStatus

LOG_LINES = 20
"""Of the driver of a failed job, in the error."""

END_LAG_S = 10.0
"""How long the end of a job's pod is waited for, once the job has ended."""


class FuturesJob:
    """A program that runs on a cluster on Kubernetes; made by `submit` or `attach`.

    It goes on by itself: a program that waits for it may end, and ^C ends only the waiting.

    Example:
        >>> from freehold.kubernetes import FuturesJob
        >>> def total(count):
        ...     square = freehold.remote(lambda number: number * number)
        ...     return sum(freehold.get([square.remote(number) for number in range(count)]))
        >>> FuturesJob.submit(total, 10, workers=2).result()  # doctest: +SKIP
        285
    """

    def __init__(self, name: str, api: Api, uid: str | None = None) -> None:
        self.name = name
        self._api = api
        self._uid = uid

    @classmethod
    def submit(
        cls,
        program: str | Path | Callable[..., Any] | list[str],
        *arguments: Any,
        name: str | None = None,
        cluster: str | FuturesCluster | None = None,
        workers: Workers | None = None,
        image: str | None = None,
        resources: Mapping[str, Any] | None = None,
        files: Iterable[str | Path] = (),
        env: Mapping[str, str] | None = None,
        spec: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
    ) -> Self:
        """Start a job and return at once.

        Script or function, and `files`, go into a ConfigMap (1 MiB at the most) that is the folder
        the driver starts in and that Kubernetes deletes with the job. A function may use
        ``freehold.remote`` and ``freehold.get`` as it likes: it is attached to the cluster. It is
        pickled, so the image has to have this Python's minor version, and what it imports from
        modules of yours has to be in the image or, for the driver alone, in `files`.

        Args:
            program: the path of a .py file; a function; or a command line as a list, of which the
                first word that is a .py file here is sent along.
            arguments: of the script (as text) or the function (pickled; by keyword:
                `functools.partial`).
            name: at most 36 characters. Default: after the program, with something random behind.
            cluster: to run on, which stays. Default: one of the job's own, which goes when it ends.
            workers: of a cluster of its own: how many, or (fewest, most) to scale on the queue.
                Default 1.
            image: of a cluster of its own. Default: the operator's runtime image.
            resources: of each worker of a cluster of its own: ``{"cpu": 4, "memory": "16Gi"}``.
            files: more files for the folder.
            env: variables of the driver's environment.
            spec: any other fields of the custom resource (docs/kubernetes/reference.md), laid over
                what the above say: ``{"backoffLimit": 2, "activeDeadlineSeconds": 3600}``.
            namespace: default: the cluster's, else the context's own.
            context: of the kubeconfig. Default: the current one.
            kubeconfig: a file. Default: those of KUBECONFIG, ~/.kube/config or, in a pod, its
                account.

        Raises:
            ValueError, TypeError: an argument cannot be, or the files are too large.
            SerializationError: the function or an argument cannot be pickled.
            KubernetesError: there is no way to an API server, or it refuses the job and says why.

        Example:
            >>> job = FuturesJob.submit("train.py", "--all", cluster="small")  # doctest: +SKIP
            >>> for line in job.logs(follow=True):                             # doctest: +SKIP
            ...     print(line)
        """
        found = _program.of(program, arguments, files)
        objects.check_files(found.files)
        where = _where_to_run(cluster, workers, image, resources)
        config_map = None
        name = name or objects.made_name(found.label, secrets.token_hex(3))
        if found.files:
            config_map = f"{name}-program-{secrets.token_hex(3)}"
        made = objects.job_spec(found.command, found.arguments, where, env or {}, config_map)
        api = _api_of(cluster, Where(namespace, context, kubeconfig))
        manifest = objects.job(name, api.namespace, made, spec)
        return cls(name, api, _create(api, manifest, config_map, found.files))

    @classmethod
    def attach(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
    ) -> Self:
        """One that was submitted before, by whomever.

        Raises:
            KubernetesError: there is none of that name, or no way to an API server.
        """
        api = connect(Where(namespace, context, kubeconfig))
        found = api.get(JOB, objects.checked_name(JOB, name))
        return cls(name, api, found["metadata"]["uid"])

    @property
    def namespace(self) -> str:
        """The namespace it is in."""
        return self._api.namespace

    @property
    def status(self) -> JobStatus:
        """Where it stands now.

        Raises:
            JobFailedError: it was deleted.
        """
        return reasons.job_status(self._body())

    def logs(self, *, follow: bool = False, tail: int = 1000) -> Iterator[str]:
        """The lines its program and tasks have written.

        Args:
            follow: whether to wait for more, over all attempts, until the job has ended. Without,
                the last lines of the last attempt.
            tail: how many, without `follow`.
        """
        if follow:
            yield from self._guarded(_logs.follow(self._api, self.name, lambda body: None, None))
            return
        pod = self._driver(self.status.attempts)
        if pod is not None:
            yield from self._api.log_tail(pod["metadata"]["name"], CONTAINER, tail)

    def wait(self, timeout_s: float | None = None, *, logs: bool = False) -> JobStatus:
        """Wait until it has ended, whichever way. ^C ends only the waiting.

        Args:
            timeout_s: seconds to wait at the most; the job goes on.
            logs: whether to write the log of the driver to standard output meanwhile.

        Raises:
            KubernetesTimeoutError: it has not ended in time; the message says what it waits for.
            JobFailedError: it was deleted.
        """
        return self.wait_with(print if logs else None, ProgressLine(f"job {self.name}"), timeout_s)

    def wait_with(
        self,
        write: Callable[[str], object] | None,
        progress: ProgressLine,
        timeout_s: float | None = None,
    ) -> JobStatus:
        """As `wait`, with the lines of the log for `write` and the way there for `progress`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def look(body: Manifest) -> None:
            status = reasons.job_status(body)
            if status.is_finished or (write is not None and status.state == "Running"):
                progress.clear()
            else:
                progress.show(f"{status.reason}: {status.message}".rstrip(": "))

        with progress:
            if write is not None:
                for line in self._guarded(_logs.follow(self._api, self.name, look, deadline)):
                    progress.clear()
                    write(line)
            while True:
                body = self._body()
                look(body)
                status = reasons.job_status(body)
                if status.is_finished:
                    return status
                if deadline is not None and time.monotonic() >= deadline:
                    raise KubernetesTimeoutError(
                        job=self.name,
                        timeout_s=timeout_s,
                        reason=status.reason,
                        detail=status.message or status.state,
                    )
                time.sleep(PAUSE_S)

    def result(self, timeout_s: float | None = None, *, logs: bool = False) -> Any:
        """Wait for its end, and return what its function returned: None of a script.

        The value comes through the pod's status: pickled, compressed and as text it takes at most
        4,096 bytes (some 3 kB of data). What is larger goes to shared storage, and its place here.

        Args:
            timeout_s: as of `wait`.
            logs: as of `wait`.

        Raises:
            JobFailedError: it failed; with reason, exit code and the last lines of its log.
            JobResultError: it succeeded, but its value is too large, gone or cannot be unpickled.
            KubernetesTimeoutError: it has not ended in time.
        """
        status = self.wait(timeout_s, logs=logs)
        if status.state == "Failed":
            raise self.failure(status)
        body = self._body()
        if tuple(body["spec"].get("command") or ()) != _program.FUNCTION_COMMAND:
            return None
        try:
            return function_job.decoded(self._last_words(status.attempts))
        except function_job.NoValueError as error:
            raise JobResultError(job=self.name, reason="NoValue", detail=str(error)) from error

    def failure(self, status: JobStatus) -> JobFailedError:
        """The error of a job that has failed, with the last lines of its log."""
        pod = self._driver(status.attempts)
        lines: tuple[str, ...] = ()
        if pod is not None:
            lines = self._api.log_tail(pod["metadata"]["name"], CONTAINER, LOG_LINES)
        return JobFailedError(
            job=self.name,
            reason=status.reason,
            detail=status.message,
            exit_code=status.exit_code,
            last_log_lines=lines,
        )

    def delete(self) -> None:
        """Delete it, with its driver, its files and a cluster of its own. Gone already: fine."""
        self._api.delete(JOB, self.name, self._uid)

    def _last_words(self, attempt: int) -> str:
        """The termination message of an attempt's driver."""
        deadline = time.monotonic() + END_LAG_S
        while True:
            pod = self._driver(attempt)
            if pod is None:
                raise function_job.NoValueError("its pod is gone, and the value with it")
            state, told = reasons.container_state(pod, CONTAINER)
            if state == "terminated" or time.monotonic() >= deadline:
                return str(told.get("message") or "")
            time.sleep(PAUSE_S / 4)

    def _driver(self, attempt: int) -> Manifest | None:
        return reasons.driver_pod(self._api.pods(LABEL_JOB, self.name), attempt)

    def _guarded(self, lines: Iterator[str]) -> Iterator[str]:
        try:
            yield from lines
        except KubernetesError as error:
            raise self._gone(error) from None

    def _body(self) -> Manifest:
        try:
            return self._api.get(JOB, self.name)
        except KubernetesError as error:
            raise self._gone(error) from None

    def _gone(self, error: KubernetesError) -> KubernetesError:
        if error.status != 404 or error.reason == NOT_INSTALLED:
            return error
        detail = "somebody deleted it, or its ttlSecondsAfterFinished is over"
        return JobFailedError(job=self.name, status=404, reason="Deleted", detail=detail)


def _where_to_run(
    cluster: str | FuturesCluster | None,
    workers: Workers | None,
    image: str | None,
    resources: Mapping[str, Any] | None,
) -> Manifest:
    """The `clusterRef` or `clusterTemplate` of a job."""
    if cluster is None:
        return {"clusterTemplate": {"spec": objects.cluster_spec(workers, image, resources, None)}}
    given = {"workers": workers, "image": image, "resources": resources}
    extra = [name for name, value in given.items() if value is not None]
    if extra:
        raise ValueError(
            f"{', '.join(extra)} would be of a cluster of the job's own, and cluster= names one "
            "that is there: leave out one of the two"
        )
    name = cluster.name if isinstance(cluster, FuturesCluster) else cluster
    return {"clusterRef": {"name": objects.checked_name(objects.CLUSTER, name)}}


def _api_of(cluster: str | FuturesCluster | None, where: Where) -> Api:
    """The way to the cluster given, or to the one that is named."""
    if not isinstance(cluster, FuturesCluster):
        return connect(where)
    if where.context is not None or where.kubeconfig is not None:
        raise ValueError("context and kubeconfig are those of the cluster given: leave them out")
    if where.namespace not in (None, cluster.namespace):
        raise ValueError(
            f"the cluster is in namespace {cluster.namespace}, and a job runs in its cluster's: "
            "leave out namespace"
        )
    return cluster.api


def _create(
    api: Api, manifest: Manifest, config_map: str | None, files: Mapping[str, bytes]
) -> str:
    """Create job and ConfigMap; the job's UID.

    The job comes first, so that the ConfigMap is never without an owner: its driver waits for it.
    """
    name = manifest["metadata"]["name"]
    try:
        job = api.create(manifest)
    except KubernetesError as error:
        if error.status != 409:
            raise
        raise KubernetesError(
            status=409,
            reason=error.reason,
            detail=f"there is a FuturesJob {name} in namespace {api.namespace} already: choose "
            "another name, or delete it",
        ) from None
    uid: str = job["metadata"]["uid"]
    if config_map is not None:
        try:
            api.create(objects.config_map(config_map, job, files))
        except BaseException:
            api.delete(JOB, name, uid)
            raise
    return uid
