"""A small client of the Kubernetes API for tests: plain JSON, one connection a request.

Not the operator's client on purpose: a test must not see the API through what it tests. A request
that the server refuses raises `ApiError`, whose `status` and `reason` a test compares.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from freehold.testing import eventually

Manifest = dict[str, Any]

REQUEST_TIMEOUT_S = 20.0
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """The server answered with a Status that is not a success."""

    def __init__(self, status: int, body: Manifest) -> None:
        super().__init__(f"{status} {body.get('reason')}: {body.get('message')}")
        self.status = status
        self.reason: str = body.get("reason", "")
        self.message: str = body.get("message", "")


class Answer:
    """A response whose body was read."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


class Client:
    """Objects by kind and name: `client.create({...})`, `client.get("Pod", name, namespace)`."""

    def __init__(self, url: str, *, token: str, ca: Path) -> None:
        self.url = url
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 443)
        self._token = token
        self._context = ssl.create_default_context(cafile=str(ca))
        self._resources: dict[str, tuple[str, str, bool]] = {}

    def with_token(self, token: str) -> Client:
        """The same server as somebody else."""
        other = Client.__new__(Client)
        other.__dict__.update(self.__dict__, _token=token)
        return other

    def request(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """One request as it is, whatever the answer's status.

        Raises:
            OSError: no answer: refused, broken, or nothing for 20 seconds.
        """
        connection = http.client.HTTPSConnection(
            *self._address, timeout=REQUEST_TIMEOUT_S, context=self._context
        )
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": kind}
            headers["Accept"] = accept
            connection.request(verb, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(response.status, response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"{verb} {path}: {error!r}") from error
        finally:
            connection.close()

    def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Manifest:
        """One request that must succeed.

        Raises:
            ApiError: it did not.
            OSError: as of `request`.
        """
        if query:
            path = f"{path}?{urlencode(query)}"
        answer = self.request(verb, path, body, kind=kind, accept=accept)
        if answer.status >= 400:
            try:
                status = answer.json()
            except ValueError:
                status = {"message": answer.body.decode(errors="replace")}
            raise ApiError(answer.status, status)
        found: Manifest = answer.json()
        return found

    def create(self, manifest: Manifest, namespace: str | None = None) -> Manifest:
        """POST an object; the namespace in its metadata counts if none is given."""
        path = self._path_of(manifest, namespace, named=False)
        return self.call("POST", path, manifest)

    def apply(
        self, manifest: Manifest, namespace: str | None = None, *, manager: str = "tests"
    ) -> Manifest:
        """Server-side apply, taking over fields that others manage."""
        path = self._path_of(manifest, namespace, named=True)
        query = {"fieldManager": manager, "force": "true"}
        return self.call("PATCH", path, manifest, kind=APPLY_PATCH, query=query)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        """One object."""
        return self.call("GET", self.path(kind, namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, or None where there is none."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def objects(
        self, kind: str, namespace: str | None = None, *, labels: str = ""
    ) -> list[Manifest]:
        """All objects of a kind, of one namespace or of all."""
        query = {"labelSelector": labels} if labels else None
        items: list[Manifest] = self.call("GET", self.path(kind, namespace), query=query)["items"]
        return items

    def patch(
        self,
        kind: str,
        name: str,
        change: Manifest,
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Manifest:
        """A merge patch, of a subresource (`status`, `scale`) if one is named."""
        path = self.path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.call("PATCH", path, change, kind=MERGE_PATCH)

    def delete(
        self, kind: str, name: str, namespace: str | None = None, **options: Any
    ) -> Manifest:
        """Delete an object; the keywords are DeleteOptions."""
        return self.call("DELETE", self.path(kind, namespace, name), options)

    def wait_for(
        self, kind: str, name: str, namespace: str | None = None, *, timeout_s: float = 20.0
    ) -> Manifest:
        """Wait until an object is there."""
        found: Manifest = eventually(
            lambda: self.find(kind, name, namespace), timeout_s, interval_s=0.05
        )
        return found

    def path(self, kind: str, namespace: str | None = None, name: str | None = None) -> str:
        """A kind's path below the server, as its discovery has it."""
        if kind not in self._resources:
            self._discover()
        if kind not in self._resources:
            raise KeyError(f"the server knows no kind {kind}")
        group_version, plural, is_namespaced = self._resources[kind]
        prefix = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
        scope = f"/namespaces/{namespace}" if namespace and is_namespaced else ""
        return f"{prefix}{scope}/{plural}" + (f"/{name}" if name else "")

    def _path_of(self, manifest: Manifest, namespace: str | None, *, named: bool) -> str:
        metadata = manifest["metadata"]
        name = metadata["name"] if named else None
        return self.path(manifest["kind"], namespace or metadata.get("namespace"), name)

    def _discover(self) -> None:
        versions = ["v1"]
        versions += [
            group["preferredVersion"]["groupVersion"]
            for group in self.call("GET", "/apis")["groups"]
        ]
        # The first to name a kind keeps it: `Event` is the core one.
        for version in versions:
            prefix = "/api/" if version == "v1" else "/apis/"
            for resource in self.call("GET", prefix + version)["resources"]:
                if "/" not in resource["name"]:
                    where = (version, resource["name"], resource["namespaced"])
                    self._resources.setdefault(resource["kind"], where)
