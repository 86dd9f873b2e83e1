"""The only module of the client that speaks to the API server: raw JSON, and streams of logs.

Over the official client's connection, for its kubeconfigs, tokens and plugins; none of its
generated models. While the API server is away a call is tried again for a while. A create may be,
too: each carries a mark of its own, so that one whose answer was lost is known again. A refusal is
one `KubernetesError`, with what to do next.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from freehold.errors import KubernetesError
from freehold.kubernetes._objects import API_VERSION, CLUSTER, GROUP, JOB, Manifest

try:
    import yaml
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration
    from urllib3.exceptions import HTTPError
except ImportError as missing:
    raise ImportError(
        f"freehold.kubernetes needs the package {missing.name}: run pip install kubernetes, or "
        "install Freehold as pip install '.[kubernetes]'",
        name=missing.name,
    ) from missing

CALL_TIMEOUT_S = 30.0
RETRY_S = 30.0
"""How long the API server may be away before a call that may be repeated fails."""
PAUSE_S = 1.0
"""Between two tries, and between two looks at what is waited for."""
FIELD_MANAGER = "freehold-client"
MARK = f"{GROUP}/created-by"
"""Annotation of what a client has created: another word for each."""
NOT_INSTALLED = "NotInstalled"
"""Reason where the custom resources are missing, not one of them."""

_JSON = "application/json"
_NO_CONFIG = (config.ConfigException, yaml.YAMLError, OSError)
_PATHS = {
    CLUSTER: f"/apis/{API_VERSION}/namespaces/{{}}/futuresclusters",
    JOB: f"/apis/{API_VERSION}/namespaces/{{}}/futuresjobs",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Pod": "/api/v1/namespaces/{}/pods",
}
_INSTALL = (
    "helm install freehold charts/freehold --namespace freehold-system --create-namespace --wait"
)
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


class Where(NamedTuple):
    """A way to an API server.

    Attributes:
        namespace: None for the context's own.
        context: of the kubeconfig; None for the current one.
        kubeconfig: a file; None for KUBECONFIG, ~/.kube/config or, in a pod, its account.
    """

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None


def connect(where: Where) -> Api:
    """Read how to log in; nothing is sent yet.

    Raises:
        KubernetesError: there is no way to an API server.
    """
    found = Configuration()
    try:
        namespace = _from_kubeconfig(where, found)
    except _NO_CONFIG as error:
        if where.context is not None or where.kubeconfig is not None:
            raise KubernetesError(reason="NoKubeconfig", detail=_no_context(where, error)) from None
        namespace = _from_pod(found, error)
    found.retries = False  # `_call` knows what may be tried again
    return Api(found, where.namespace or namespace or "default")


def _from_kubeconfig(where: Where, found: Configuration) -> str:
    config.load_kube_config(where.kubeconfig, where.context, found)  # type: ignore[no-untyped-call]
    contexts, current = _contexts(where)
    if where.context is not None:
        current = next(each for each in contexts if each["name"] == where.context)
    return str((current.get("context") or {}).get("namespace") or "")


def _contexts(where: Where) -> tuple[list[Manifest], Manifest]:
    """All contexts of a kubeconfig, and the current one."""
    found: Any = config.list_kube_config_contexts(where.kubeconfig)  # type: ignore[no-untyped-call]
    contexts, current = found
    return contexts, current


def _no_context(where: Where, error: Exception) -> str:
    known = ""
    with contextlib.suppress(*_NO_CONFIG):
        contexts, _ = _contexts(where)
        known = f"; its contexts: {', '.join(each['name'] for each in contexts)}"
    return f"{where.kubeconfig or 'the kubeconfig'}: {error}{known}"


def _from_pod(found: Configuration, error: Exception) -> str:
    try:
        config.load_incluster_config(found)  # type: ignore[no-untyped-call]
        with open(_NAMESPACE_FILE) as file:
            return file.read().strip()
    except _NO_CONFIG:
        raise KubernetesError(
            reason="NoKubeconfig",
            detail=f"no way to an API server ({error}): name a file in KUBECONFIG or kubeconfig=, "
            "or run in a pod that has a service account's token",
        ) from None


class Api:
    """Calls of one API server.

    Args:
        configuration: how to log in.
        namespace: of all objects.
    """

    def __init__(self, configuration: Configuration, namespace: str) -> None:
        self.namespace = namespace
        self._host = configuration.host
        self._client = ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER

    def get(self, kind: str, name: str) -> Manifest:
        """One object."""
        return self._call("GET", self._path(kind, name), retry_s=RETRY_S)

    def create(self, manifest: Manifest) -> Manifest:
        """Create an object; after ^C it is not there.

        Raises:
            KubernetesError: refused; status 409 if another of the name is there.
        """
        kind, metadata = manifest["kind"], manifest["metadata"]
        mark = secrets.token_hex(8)
        marked = {**manifest, "metadata": {**metadata, "annotations": {MARK: mark}}}
        path = f"{self._path(kind)}?{urlencode({'fieldManager': FIELD_MANAGER})}"
        try:
            return self._call("POST", path, marked, retry_s=RETRY_S)
        except KubernetesError as error:
            found = self._marked(kind, metadata["name"], mark) if error.status == 409 else None
            if found is None:
                raise
            return found
        except KeyboardInterrupt:
            found = self._marked(kind, metadata["name"], mark)
            if found is not None:
                self.delete(kind, metadata["name"], found["metadata"]["uid"])
            raise

    def _marked(self, kind: str, name: str, mark: str) -> Manifest | None:
        """The object of a name, if it is the one that was marked so."""
        with contextlib.suppress(KubernetesError):
            found = self.get(kind, name)
            if (found["metadata"].get("annotations") or {}).get(MARK) == mark:
                return found
        return None

    def scale(self, name: str, workers: int) -> Manifest:
        """Set the replicas of a FuturesCluster by its `/scale`."""
        path, change = self._path(CLUSTER, name), {"spec": {"replicas": workers}}
        return self._call("PATCH", f"{path}/scale", change, retry_s=RETRY_S)

    def delete(self, kind: str, name: str, uid: str | None = None) -> bool:
        """Delete an object, of this UID if one is given; what depends on it goes after it.

        Returns:
            Whether it was there.
        """
        options: Manifest = {"propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", self._path(kind, name), options, retry_s=RETRY_S)
        except KubernetesError as error:
            # 409: another one has the name now.
            if error.status == 404 or (error.status == 409 and uid is not None):
                return False
            raise
        return True

    def pods(self, label: str, value: str) -> list[Manifest]:
        """The pods with a label."""
        query = urlencode({"labelSelector": f"{label}={value}"})
        found = self._call("GET", f"{self._path('Pod')}?{query}", retry_s=RETRY_S)
        return list(found.get("items") or ())

    def log_tail(
        self, pod: str, container: str, lines: int, *, is_previous: bool = False
    ) -> tuple[str, ...]:
        """The last lines of a container's log; none if there is no log (any more)."""
        query = {"container": container, "tailLines": lines}
        if is_previous:
            query["previous"] = "true"
        try:
            answer = self._send("GET", f"{self._path('Pod', pod)}/log?{urlencode(query)}")
        except KubernetesError:
            return ()
        return tuple(answer.data.decode(errors="replace").splitlines())

    def log_lines(
        self, pod: str, container: str, since: str, silence_s: float, *, has_ended: bool
    ) -> Iterator[tuple[str, str]]:
        """(time, line) of a container's log as they come, until it ends or is silent for a while.

        Args:
            since: the time of the last line that is known already; of these none comes again.
            has_ended: whether the container has, so that a last line without an end is whole; else
                it was cut (the API server ends its answer in order when the kubelet's breaks off),
                and comes again.

        Raises:
            KubernetesError: there is no log yet, or no more.
        """
        query = {"container": container, "follow": "true", "timestamps": "true"}
        if since:
            query["sinceTime"] = since  # of which the kubelet takes whole seconds
        path = f"{self._path('Pod', pod)}/log?{urlencode(query)}"
        answer = self._send("GET", path, timeout_s=silence_s)
        rest = b""
        try:
            for chunk in answer.stream(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from _after(lines, since)
            if has_ended:
                yield from _after([rest], since)
        except (HTTPError, OSError):
            pass  # silence, or the connection broke: whoever reads looks again
        finally:
            answer.close()

    def _path(self, kind: str, name: str = "") -> str:
        return _PATHS[kind].format(quote(self.namespace)) + (f"/{quote(name)}" if name else "")

    def _call(
        self, method: str, path: str, body: Manifest | None = None, *, retry_s: float = 0.0
    ) -> Manifest:
        deadline = time.monotonic() + retry_s
        while True:
            try:
                found = json.loads(self._send(method, path, body).data)
                return found if isinstance(found, dict) else {}
            except KubernetesError as error:
                passes = error.status in (0, 429) or error.status >= 500
                if not passes or time.monotonic() + PAUSE_S > deadline:
                    raise
            except (HTTPError, ValueError) as error:
                if time.monotonic() + PAUSE_S > deadline:
                    raise self._unreachable(error) from None
            time.sleep(PAUSE_S)

    def _send(
        self,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> Any:
        """One request; urllib3's response, whose body is not read yet."""
        media = "application/merge-patch+json" if method == "PATCH" else _JSON
        verb, url, headers, _, _ = self._client.param_serialize(
            method,
            path,
            header_params={"Accept": f"{_JSON}, */*", "Content-Type": media},
            query_params=[],
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(
                verb, url, headers, body, _request_timeout=(CALL_TIMEOUT_S, timeout_s)
            ).response
            if answer.status >= 400:
                raise _refused(answer.status, answer.data, path)
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from None
        return answer

    def _unreachable(self, error: Exception) -> KubernetesError:
        return KubernetesError(
            reason="Unreachable",
            detail=f"{self._host} does not answer ({error}): is the cluster of this kubeconfig's "
            "context running, and reachable from here?",
        )


def _after(lines: list[bytes], since: str) -> Iterator[tuple[str, str]]:
    """The lines that are later than a time. Without the Z, fractions of any length sort as text."""
    for line in lines:
        stamp, _, text = line.decode(errors="replace").partition(" ")
        if stamp[:1].isdigit() and stamp.removesuffix("Z") > since.removesuffix("Z"):
            yield stamp, text


def _refused(status: int, data: bytes, path: str) -> KubernetesError:
    told: Mapping[str, Any] = {}
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        told = found if isinstance(found, dict) else {}
    reason = told.get("reason") or f"HTTP{status}"
    detail = told.get("message") or data[:300].decode(errors="replace")
    if status == 401:
        detail += ": log in again; `kubectl get fc` needs the same"
    elif status == 403 and reason == "Forbidden" and "exceeded quota" not in detail:
        detail += ": docs/kubernetes/README.md lists the rights that the client needs"
    elif status == 404 and API_VERSION in path and not told.get("details", {}).get("name"):
        reason, detail = NOT_INSTALLED, f"there is no Freehold in this cluster: {_INSTALL}"
    return KubernetesError(status=status, reason=reason, detail=detail)
