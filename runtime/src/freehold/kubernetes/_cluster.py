"""A FuturesCluster from Python: made, waited for, scaled, deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from freehold.errors import ClusterNotReadyError, KubernetesError
from freehold.kubernetes import _objects as objects
from freehold.kubernetes import _reasons as reasons
from freehold.kubernetes._client import NOT_INSTALLED, PAUSE_S, Api, Where, connect
from freehold.kubernetes._objects import CLUSTER, CONTAINER, LABEL_CLUSTER, Manifest, Workers
from freehold.kubernetes._progress import ProgressLine

READY_TIMEOUT_S = 600.0
PATIENCE_S = 60.0
LOG_LINES = 20
"""Of a pod that crashed, in the error."""


class FuturesCluster:
    """A cluster on Kubernetes for as long as a `with` block, or for longer.

    ``with`` creates it, waits until it is ready (with a line that says how far it is, on a
    terminal) and deletes it at the end, also after an error or ^C. What cannot come up is raised
    with the pod's own reason, and deleted as well. Without ``with``: `create`, `wait_ready`,
    `delete`. One that is there already: `attach`, which never deletes it by itself.

    Args:
        name: of the FuturesCluster, at most 36 characters.
        workers: how many, or (fewest, most) to scale on the queue. Default 1.
        image: of head, workers and drivers. Default: the operator's runtime image.
        resources: of each worker, as in a container: ``{"cpu": 4, "memory": "16Gi"}``. Default: the
            operator's, 1 CPU and 2 GiB.
        spec: any other fields of the custom resource (docs/kubernetes/reference.md), laid over what
            the above say.
        namespace: default: the context's own.
        context: of the kubeconfig. Default: the current one.
        kubeconfig: a file. Default: those of KUBECONFIG, ~/.kube/config or, in a pod, its account.
        timeout_s: seconds it may take to be ready.
        patience_s: seconds that something may be wrong (an image that cannot be pulled, a pod that
            fits nowhere, a quota) before it is raised. Raise it where machines are added on demand.

    Raises:
        ValueError, TypeError: an argument cannot be; the message says what to write instead.
        KubernetesError: there is no way to an API server.

    Example:
        >>> from freehold.kubernetes import FuturesCluster
        >>> FuturesCluster("Small!")
        Traceback (most recent call last):
        ...
        ValueError: the name of a FuturesCluster begins with a letter, has only ...
    """

    def __init__(
        self,
        name: str,
        workers: Workers | None = None,
        *,
        image: str | None = None,
        resources: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
        timeout_s: float = READY_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = objects.checked_name(CLUSTER, name)
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._spec: Manifest | None = objects.cluster_spec(workers, image, resources, spec)
        self._api = connect(Where(namespace, context, kubeconfig))
        self._uid: str | None = None

    @classmethod
    def attach(
        cls,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        kubeconfig: str | None = None,
    ) -> Self:
        """One that is there already: ``with`` waits until it is ready and leaves it at the end.

        Raises:
            KubernetesError: there is none of that name, or no way to an API server.

        Example:
            >>> with FuturesCluster.attach("small") as cluster:  # doctest: +SKIP
            ...     cluster.scale(4)
        """
        found = cls(name, namespace=namespace, context=context, kubeconfig=kubeconfig)
        found._spec = None
        found._body()
        return found

    @property
    def namespace(self) -> str:
        """The namespace it is in."""
        return self._api.namespace

    @property
    def api(self) -> Api:
        """How it is reached; for jobs that are submitted to it."""
        return self._api

    @property
    def status(self) -> dict[str, Any]:
        """The status of the custom resource as it is now: conditions, counts, the queue."""
        return dict(self._body().get("status") or {})

    def create(self) -> None:
        """Create it; what it takes to be ready is `wait_ready`'s.

        Raises:
            KubernetesError: there is one of that name, or the API server refuses it and says why.
        """
        if self._spec is None:
            raise ValueError(f"cluster {self.name} was attached to, so it is there already")
        try:
            made = self._api.create(objects.cluster(self.name, self.namespace, self._spec))
        except KubernetesError as error:
            if error.status != 409:
                raise
            raise KubernetesError(
                status=409,
                reason=error.reason,
                detail=f"there is a FuturesCluster {self.name} in namespace {self.namespace} "
                f"already: use it with FuturesCluster.attach({self.name!r}), delete it, or choose "
                "another name",
            ) from None
        self._uid = made["metadata"]["uid"]

    def wait_ready(self, workers: int | None = None) -> None:
        """Wait until it is as its spec says.

        Args:
            workers: also until it has that many.

        Raises:
            ClusterNotReadyError: something is wrong for longer than `patience_s`, or it takes
                longer than `timeout_s`; with the pod's own reason, and its last lines if it ran.
        """
        started = time.monotonic()
        patience = reasons.Patience(self.patience_s)
        with ProgressLine(f"cluster {self.name}") as progress:
            while True:
                body = self._body()
                if reasons.is_ready(body, workers):
                    return
                trouble = reasons.cluster_trouble(body, self._pods())
                progress.show(reasons.cluster_progress(body, trouble))
                now = time.monotonic()
                if patience.is_over(trouble, now):
                    raise self._not_ready(patience.last)
                if now - started >= self.timeout_s:
                    words = (
                        f"not after {self.timeout_s:g} s: {reasons.cluster_progress(body, None)}"
                    )
                    raise self._not_ready(patience.last or reasons.Trouble("Timeout", words))
                time.sleep(PAUSE_S)

    def scale(self, workers: int, *, wait: bool = True) -> None:
        """Have another number of workers; those that go are drained first.

        Args:
            workers: how many.
            wait: whether to wait until they are there.

        Raises:
            KubernetesError: it scales on its queue, or has several groups; the message says so.
            ClusterNotReadyError: as of `wait_ready`.
        """
        self._api.scale(self.name, objects.checked_count(workers))
        if wait:
            self.wait_ready(workers)

    def logs(self, *, tail: int = 100) -> Iterator[str]:
        """The last lines of the head and of each worker, with the pod's name before each."""
        pods = sorted(self._pods(), key=lambda pod: pod["metadata"]["name"])
        for pod in pods:
            name = pod["metadata"]["name"]
            for line in self._api.log_tail(name, CONTAINER, tail):
                yield f"[{name}] {line}"

    def delete(self) -> None:
        """Delete it; its pods end within seconds, and work that runs is lost. Gone already: fine.

        Only the one that this object has created, if it has: not another of the same name.
        """
        self._api.delete(CLUSTER, self.name, self._uid)

    def __enter__(self) -> Self:
        if self._spec is not None:
            self.create()
        try:
            self.wait_ready()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._spec is not None:
            self.delete()

    def _body(self) -> Manifest:
        try:
            return self._api.get(CLUSTER, self.name)
        except KubernetesError as error:
            if error.status != 404 or error.reason == NOT_INSTALLED:
                raise
            raise ClusterNotReadyError(
                status=404,
                cluster=self.name,
                reason="NotFound",
                detail=f"there is no FuturesCluster {self.name} in namespace {self.namespace}; "
                "`kubectl get fc -A` lists them all",
            ) from None

    def _pods(self) -> list[Manifest]:
        return self._api.pods(LABEL_CLUSTER, self.name)

    def _not_ready(self, trouble: reasons.Trouble | None) -> ClusterNotReadyError:
        assert trouble is not None
        lines: tuple[str, ...] = ()
        if trouble.container:
            lines = self._api.log_tail(
                trouble.pod, trouble.container, LOG_LINES, is_previous=trouble.is_previous
            )
        return ClusterNotReadyError(
            cluster=self.name,
            pod=trouble.pod,
            reason=trouble.reason,
            detail=trouble.detail,
            last_log_lines=lines,
        )
