"""An API server in memory, as far as carrying out and syncing need it: versions, UIDs, failures."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

from freehold_operator.errors import ApiError
from freehold_operator.kinds import Kind
from freehold_operator.kube import Body, check_right

Failure = Callable[[str, Kind, str], ApiError | None]


class FakeKube:
    """Objects by kind and name; `fail` decides which calls end with an error.

    Attributes:
        writes: verb, kind and name of all that were carried out.
        used: the rights that calls took, or would have, as verb and resource.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Body] = {}
        self.writes: list[str] = []
        self.used: set[tuple[str, str]] = set()
        self.fail: Failure | None = None
        self._versions = itertools.count(100)
        self._uids = itertools.count(1)

    def _check(self, verb: str, kind: Kind, name: str) -> None:
        is_status = verb == "status"
        right = {"status": "patch", "apply": "patch"}.get(verb, verb)
        self.used.add((right, kind.plural + ("/status" if is_status else "")))
        check_right(kind, right, is_status=is_status)
        error = self.fail(verb, kind, name) if self.fail is not None else None
        if error is not None:
            raise error

    def _keep(self, kind: Kind, manifest: Body) -> Body:
        body = copy.deepcopy(manifest)
        metadata = body["metadata"]
        metadata.setdefault("uid", f"made-{next(self._uids)}")
        metadata["resourceVersion"] = str(next(self._versions))
        self.objects[(kind.name, metadata["namespace"], metadata["name"])] = body
        return copy.deepcopy(body)

    async def list(
        self, kind: Kind, namespace: str | None, *, names_only: bool = False
    ) -> tuple[list[Body], str]:
        """All of a kind."""
        self._check("list", kind, "")
        found = [
            copy.deepcopy(body)
            for (of, space, _), body in self.objects.items()
            if of == kind.name and namespace in (None, space)
        ]
        return found, str(next(self._versions))

    async def get(self, kind: Kind, namespace: str, name: str) -> Body:
        """One."""
        self._check("get", kind, name)
        found = self.objects.get((kind.name, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", name)
        return copy.deepcopy(found)

    async def create(self, kind: Kind, manifest: Body, *, dry_run: bool = False) -> Body:
        """Create one."""
        metadata = manifest["metadata"]
        self._check("create", kind, metadata["name"])
        if (kind.name, metadata["namespace"], metadata["name"]) in self.objects:
            raise ApiError(409, "AlreadyExists", metadata["name"])
        if dry_run:
            return manifest
        self.writes.append(f"create {kind.name}/{metadata['name']}")
        return self._keep(kind, manifest)

    async def apply(self, kind: Kind, manifest: Body) -> Body:
        """Apply one."""
        self._check("apply", kind, manifest["metadata"]["name"])
        self.writes.append(f"apply {kind.name}/{manifest['metadata']['name']}")
        return self._keep(kind, manifest)

    async def apply_status(self, kind: Kind, manifest: Body) -> Body:
        """Write a status."""
        metadata = manifest["metadata"]
        self._check("status", kind, metadata["name"])
        key = (kind.name, metadata["namespace"], metadata["name"])
        if key not in self.objects:
            raise ApiError(404, "NotFound", metadata["name"])
        self.writes.append(f"status {kind.name}/{metadata['name']}")
        return self._keep(kind, {**self.objects[key], "status": manifest["status"]})

    async def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str, grace_s: int | None = None
    ) -> Body:
        """Delete one, at once."""
        self._check("delete", kind, name)
        found = self.objects.get((kind.name, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", name)
        if found["metadata"]["uid"] != uid:
            raise ApiError(409, "Conflict", "another UID")
        self.writes.append(f"delete {kind.name}/{name}")
        del self.objects[(kind.name, namespace, name)]
        return {"kind": "Status"}

    async def close(self) -> None:
        """Nothing to close."""

    def put(self, kind: Kind, body: dict[str, Any]) -> Body:
        """An object that is there already."""
        return self._keep(kind, body)
