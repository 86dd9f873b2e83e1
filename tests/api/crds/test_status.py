"""What the CRDs offer beside their spec: status, /scale, names, columns, explanations."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.client import MERGE_PATCH, ApiError, Client, Manifest
from tests.api.crds import schema
from tests.api.crds.objects import cluster, job, placed

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
TIME = "2026-01-02T03:04:05Z"
SAMPLES = {"integer": 7, "boolean": True, "string": "Text"}


def sample(found: schema.Schema) -> Any:
    """A value with everything in it that a schema has."""
    if found["type"] == "object":
        return {name: sample(inner) for name, inner in found["properties"].items()}
    if found["type"] == "array":
        return [sample(found["items"])]
    if found.get("format") == "date-time":
        return TIME
    return found["enum"][0] if "enum" in found else SAMPLES[found["type"]]


@pytest.mark.parametrize("manifest", [cluster(), job()], ids=["cluster", "job"])
def test_a_status_is_kept_whole_and_apart(manifest: Manifest, api: Client, namespace: str) -> None:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    status = sample(schema.root(kind)["properties"]["status"])
    made = api.create({**placed(manifest, namespace), "status": status})
    assert "status" not in made or made["status"] == {"attempts": 0}
    changed = api.patch(kind, name, {"status": status}, namespace, subresource="status")
    assert changed["status"] == status
    assert changed["metadata"]["generation"] == 1
    # Nor does a change of the spec touch it.
    changed = api.patch(kind, name, {"spec": {"suspend": True}, "status": None}, namespace)
    assert changed["status"] == status
    assert changed["metadata"]["generation"] == 2


def cells(api: Client, kind: str, namespace: str) -> dict[str, Any]:
    """The columns of the only object as `kubectl get -o wide` shows them."""
    table = api.call("GET", api.path(kind, namespace), accept=TABLE)
    names = [column["name"] for column in table["columnDefinitions"]]
    (row,) = table["rows"]
    return dict(zip(names, row["cells"], strict=True))


def condition(name: str, status: str, reason: str = "Why") -> Manifest:
    return {
        "type": name,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": TIME,
    }


def test_columns_of_a_cluster(api: Client, namespace: str) -> None:
    api.create(placed(cluster(), namespace))
    before = cells(api, "FuturesCluster", namespace)
    assert list(before) == [
        "Name", "Ready", "Reason", "Workers", "Desired", "Queued", "Running", "Oldest", "Address",
        "Age",
    ]  # fmt: skip
    status = {
        "conditions": [
            condition("HeadReady", "True"),
            condition("Ready", "False", "ImagePull"),
        ],
        "readyReplicas": 2,
        "desiredReplicas": 5,
        "queue": {"queued": 10_000, "running": 4, "oldestSeconds": 12},
        "endpoints": {"control": "c-head.x.svc:7400"},
    }
    api.patch("FuturesCluster", "c", {"status": status}, namespace, subresource="status")
    shown = list(cells(api, "FuturesCluster", namespace).values())
    assert shown[:-1] == ["c", "False", "ImagePull", 2, 5, 10_000, 4, 12, "c-head.x.svc:7400"]


@pytest.mark.parametrize("state", ["Complete", "Failed", "Suspended", "Running"])
def test_columns_of_a_job(state: str, api: Client, namespace: str) -> None:
    api.create(placed(job(), namespace))
    others = [
        condition(name, "False")
        for name in ("Complete", "Failed", "Suspended", "Running")
        if name != state
    ]
    status = {
        "conditions": [*others, condition(state, "True")],
        "attempts": 2,
        "clusterName": "c",
        "driverJobName": "j-2",
        "result": {"exitCode": 3, "reason": "ProgramFailed"},
    }
    api.patch("FuturesJob", "j", {"status": status}, namespace, subresource="status")
    shown = cells(api, "FuturesJob", namespace)
    assert list(shown) == [
        "Name", "Status", "Attempts", "Exit", "Reason", "Cluster", "Driver", "Completed", "Age",
    ]  # fmt: skip
    assert list(shown.values())[:7] == ["j", state, 2, 3, "ProgramFailed", "c", "j-2"]


def scale(api: Client, namespace: str, replicas: int) -> Manifest:
    """What `kubectl scale` does."""
    path = api.path("FuturesCluster", namespace, "c") + "/scale"
    return api.call("PATCH", path, {"spec": {"replicas": replicas}}, kind=MERGE_PATCH)


def test_scale(api: Client, namespace: str) -> None:
    api.create(placed(cluster(workerGroups=[{"name": "a", "maxReplicas": 10}]), namespace))
    assert scale(api, namespace, 4)["spec"] == {"replicas": 4}
    assert api.get("FuturesCluster", "c", namespace)["spec"]["replicas"] == 4
    status = {"replicas": 3, "selector": "freehold.dev/cluster=c"}
    api.patch("FuturesCluster", "c", {"status": status}, namespace, subresource="status")
    read = api.call("GET", api.path("FuturesCluster", namespace, "c") + "/scale")
    assert read["status"] == status
    with pytest.raises(ApiError, match="replicas must lie between"):
        scale(api, namespace, 11)


def test_scale_with_autoscaling_says_what_to_do(api: Client, namespace: str) -> None:
    api.create(
        placed(cluster(workerGroups=[{"name": "a", "maxReplicas": 10}], autoscaling={}), namespace)
    )
    with pytest.raises(ApiError, match="autoscaling is on: set the group's minReplicas"):
        scale(api, namespace, 4)


@pytest.mark.parametrize(("kind", "short"), [("FuturesCluster", "fc"), ("FuturesJob", "fj")])
def test_names(kind: str, short: str, api: Client) -> None:
    found = {one["kind"]: one for one in resources(api) if "/" not in one["name"]}[kind]
    assert found["shortNames"] == [short]
    assert set(found["categories"]) == {"all", "freehold"}
    assert found["namespaced"] is True


def test_subresources(api: Client) -> None:
    assert sorted(one["name"] for one in resources(api)) == [
        "futuresclusters",
        "futuresclusters/scale",
        "futuresclusters/status",
        "futuresjobs",
        "futuresjobs/status",
    ]


def resources(api: Client) -> list[Manifest]:
    found: list[Manifest] = api.call("GET", "/apis/freehold.dev/v1alpha1")["resources"]
    return found


def test_the_server_has_nothing_to_complain_about(api: Client) -> None:
    """Structural, established, and no name taken."""
    for plural in schema.KINDS.values():
        status = api.get("CustomResourceDefinition", f"{plural}.freehold.dev")["status"]
        found = {one["type"]: one["status"] for one in status["conditions"]}
        assert found == {"Established": "True", "NamesAccepted": "True"}
