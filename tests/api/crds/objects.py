"""Small valid objects to change in one place, and how to try them on the server.

Everything is tried as a dry run with strict field validation: what a user's `kubectl apply` meets,
and nothing of it stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.api.client import ApiError, Client, Manifest

NAMESPACE = "default"
STRICT = {"fieldValidation": "Strict"}
DRY_RUN = {"dryRun": "All", **STRICT}

Change = Callable[[Manifest], None]


def cluster(name: str = "c", **spec: Any) -> Manifest:
    """A FuturesCluster with one group, `a`, unless the spec says otherwise."""
    whole = {"workerGroups": [{"name": "a"}], **spec}
    return {
        "apiVersion": "freehold.dev/v1alpha1",
        "kind": "FuturesCluster",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": whole,
    }


def job(name: str = "j", **spec: Any) -> Manifest:
    """A FuturesJob on the cluster `c`, unless the spec says otherwise; None removes a field."""
    whole = {"entrypoint": "python main.py", "clusterRef": {"name": "c"}, **spec}
    return {
        "apiVersion": "freehold.dev/v1alpha1",
        "kind": "FuturesJob",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {key: value for key, value in whole.items() if value is not None},
    }


def placed(manifest: Manifest, namespace: str) -> Manifest:
    """The same object in another namespace."""
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def as_template(manifest: Manifest) -> Manifest:
    """A job that makes such a cluster."""
    spec = copy.deepcopy(manifest["spec"])
    return job(clusterRef=None, clusterTemplate={"spec": spec})


def create(api: Client, manifest: Manifest) -> Manifest:
    """What the server would make of it.

    Raises:
        ApiError: it refuses.
    """
    path = api.path(manifest["kind"], NAMESPACE)
    return api.call("POST", path, manifest, query=DRY_RUN)


def update(api: Client, before: Manifest, after: Manifest, status: Manifest | None) -> Manifest:
    """What the server would make of a change: `before` really exists meanwhile.

    Raises:
        ApiError: it refuses the change.
    """
    kind, name = before["kind"], before["metadata"]["name"]
    stored = api.call("POST", api.path(kind, NAMESPACE), before, query=STRICT)
    try:
        if status is not None:
            stored = api.patch(kind, name, {"status": status}, NAMESPACE, subresource="status")
        changed = copy.deepcopy(after)
        changed["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        return api.call("PUT", api.path(kind, NAMESPACE, name), changed, query=DRY_RUN)
    finally:
        api.delete(kind, name, NAMESPACE)


def refusal(attempt: Callable[[], Manifest]) -> str:
    """Why the server says no; "" if it does not. A refusal for something else is an error."""
    try:
        attempt()
    except ApiError as error:
        if error.status != 422:
            raise
        return error.message
    return ""
