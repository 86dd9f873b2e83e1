"""The only module that speaks to the API server: raw JSON over the official client's connection.

No generated model and no retry: a caller gets the answer or one `ApiError`, and decides. Callers
see the `Kube` protocol, so that a test may stand in for the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from freehold_operator.errors import ApiError, ApiUnreachableError, SettingsError
from freehold_operator.kinds import Kind
from freehold_operator.metrics import Metrics
from freehold_operator.names import FIELD_MANAGER

Body = dict[str, Any]

PAGE_ITEMS = 500
_NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_APPLY = "application/apply-patch+yaml"
_JSON = "application/json"


class Kube(Protocol):
    """What the operator asks of the API server. Every call may raise `ApiError`."""

    async def list(
        self, kind: Kind, namespace: str | None, *, names_only: bool = False
    ) -> tuple[list[Body], str]:
        """All objects of a kind, and the resource version of the list."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Body:
        """One object."""

    async def create(self, kind: Kind, manifest: Body, *, dry_run: bool = False) -> Body:
        """Create an object; with `dry_run` everything happens but that."""

    async def apply(self, kind: Kind, manifest: Body) -> Body:
        """Server-side apply, taking fields that others set."""

    async def apply_status(self, kind: Kind, manifest: Body) -> Body:
        """Server-side apply of the status alone."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, grace_s: int | None = None
    ) -> Body:
        """Delete the object of this UID; what depends on it goes after it."""

    async def close(self) -> None:
        """Close all connections."""


async def configuration(kubeconfig: str | None, *, in_cluster: bool) -> Configuration:
    """Where the API server is and how to log in: the pod's own account, or a kubeconfig.

    Raises:
        SettingsError: there is neither.
    """
    found = Configuration()
    try:
        if in_cluster and not kubeconfig:
            load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
        else:
            await load_kube_config(config_file=kubeconfig, client_configuration=found)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise SettingsError(
            f"no way to an API server: run in a pod, or name a kubeconfig in KUBECONFIG ({error})"
        ) from None
    # Watches are kopf's; these are short calls, of which a burst of creates may have many.
    found.connection_pool_maxsize = 64
    return found


class ApiKube:
    """`Kube` over the official client.

    Args:
        configuration: from `configuration`.
        timeout_s: of each call.
        metrics: that count the calls.
    """

    def __init__(self, configuration: Configuration, timeout_s: float, metrics: Metrics) -> None:
        self._metrics = metrics
        self._client = ApiClient(configuration)
        self._client.user_agent = FIELD_MANAGER
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def list(
        self, kind: Kind, namespace: str | None, *, names_only: bool = False
    ) -> tuple[list[Body], str]:
        """All objects of a kind, page by page, and the resource version of the list."""
        items: list[Body] = []
        query = {"limit": str(PAGE_ITEMS)}
        if kind.selector:
            query["labelSelector"] = kind.selector
        accept = _NAMES_ONLY if names_only else _JSON
        while True:
            body = await self._send(
                kind, "list", _path(kind, namespace), query=query, media=(accept, _JSON)
            )
            items += body.get("items") or ()
            metadata = body.get("metadata") or {}
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            query["continue"] = metadata["continue"]

    async def get(self, kind: Kind, namespace: str, name: str) -> Body:
        """One object."""
        return await self._send(kind, "get", _path(kind, namespace, name))

    async def create(self, kind: Kind, manifest: Body, *, dry_run: bool = False) -> Body:
        """Create an object, or find out whether it could be."""
        query = {"fieldManager": FIELD_MANAGER}
        if dry_run:
            query["dryRun"] = "All"
        path = _path(kind, manifest["metadata"]["namespace"])
        return await self._send(kind, "create", path, body=manifest, query=query)

    async def apply(self, kind: Kind, manifest: Body) -> Body:
        """Server-side apply."""
        return await self._apply(kind, manifest, "")

    async def apply_status(self, kind: Kind, manifest: Body) -> Body:
        """Server-side apply of the status."""
        return await self._apply(kind, manifest, "/status")

    async def _apply(self, kind: Kind, manifest: Body, part: str) -> Body:
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"]) + part
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return await self._send(
            kind, "patch", path, body=manifest, query=query, media=(_JSON, _APPLY)
        )

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, grace_s: int | None = None
    ) -> Body:
        """Delete the object of this UID."""
        options: Body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        return await self._send(kind, "delete", _path(kind, namespace, name), body=options)

    async def _send(
        self,
        kind: Kind,
        verb: str,
        path: str,
        *,
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        media: tuple[str, str] = (_JSON, _JSON),
    ) -> Body:
        """One request, one answer.

        Args:
            verb: of the right that this takes; one that is not declared is refused here.
            media: what is accepted, and what is sent.
        """
        check_right(kind, verb, is_status=path.endswith("/status"))
        method = _METHODS[verb]
        resource = path + (f"?{urlencode(query)}" if query else "")
        try:
            method, url, headers, _, _ = await self._client.param_serialize(
                method,
                resource,
                header_params={"Accept": media[0], "Content-Type": media[1]},
                query_params=[],
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(
                method, url, headers, body, _request_timeout=self._timeout
            )
            data = await answer.read()  # type: ignore[no-untyped-call]
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._metrics.calls.labels(method, kind.name, 0).inc()
            said = str(error) or type(error).__name__
            raise ApiUnreachableError(f"{method} {path}: {said}") from error
        self._metrics.calls.labels(method, kind.name, answer.status).inc()
        if answer.status >= 400:
            raise _refused(answer.status, answer.headers, data)
        return _decoded(data)


_METHODS = {
    "get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"
}  # fmt: skip


def check_right(kind: Kind, verb: str, *, is_status: bool = False) -> None:
    """Refuse what `kinds` does not declare, as an API server would under the chart's rules.

    Raises:
        ApiError: it does not.
    """
    is_declared = verb == "patch" and kind.has_status if is_status else verb in kind.verbs
    if not is_declared:
        part = "/status" if is_status else ""
        raise ApiError(403, "Forbidden", f"no right to {verb} {kind.plural}{part} is declared")


def _path(kind: Kind, namespace: str | None, name: str = "") -> str:
    where = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{kind.path}{where}/{kind.plural}" + (f"/{quote(name)}" if name else "")


def _decoded(data: bytes) -> Body:
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ApiUnreachableError(f"the answer is cut or no JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def _refused(status: int, headers: Mapping[str, str], data: bytes) -> ApiError:
    try:
        told = msgspec.json.decode(data)
    except msgspec.DecodeError:
        told = {}
    told = told if isinstance(told, dict) else {}
    after = headers.get("Retry-After", "")
    return ApiError(
        status,
        told.get("reason") or f"HTTP{status}",
        told.get("message") or data[:300].decode(errors="replace"),
        float(after) if after.isdigit() else None,
    )
