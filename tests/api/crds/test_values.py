"""Every bound, pattern, enumeration and default of the CRDs, as the server applies them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.client import ApiError, Client
from tests.api.crds import schema
from tests.api.crds.objects import as_template, cluster, create, job, refusal
from tests.api.crds.schema import Place
from tests.api.crds.values import bounds, choices, with_value

pytestmark = pytest.mark.module_cluster

PLACES = [
    place for kind in schema.KINDS for place in schema.places(kind, "spec") if not place.is_copied
]
BOUNDS = [(place, name) for place in PLACES for name, _, _ in bounds(place)]
CHOICES = [place for place in PLACES if "enum" in place.schema or "pattern" in place.schema]

DEFAULT_GROUP = {"name": "a", "minReplicas": 0, "priority": 0, "drain": {"timeoutSeconds": 60}}
CLUSTER_DEFAULTS = {
    "suspend": False,
    "head": {"runsTasks": False, "storage": {"size": "1Gi", "retain": False}},
}


def test_there_is_something_to_try() -> None:
    """Guards the search: one that finds nothing would pass."""
    assert len(BOUNDS) > 60
    assert len(CHOICES) > 10


@pytest.mark.parametrize(("place", "name"), BOUNDS, ids=str)
def test_bound(place: Place, name: str, api: Client) -> None:
    ((within, outside),) = [found[1:] for found in bounds(place) if found[0] == name]
    assert refusal(lambda: create(api, with_value(place, within))) == ""
    assert refusal(lambda: create(api, with_value(place, outside))) != ""


@pytest.mark.parametrize("place", CHOICES, ids=str)
def test_choice(place: Place, api: Client) -> None:
    for value, passes in choices(place):
        manifest = with_value(place, value)
        if place.path.startswith("spec.deletionPolicy"):
            manifest = as_template(cluster())
            manifest["spec"]["deletionPolicy"] = {place.path.rsplit(".", 1)[1]: value}
        said = refusal(lambda made=manifest: create(api, made))
        assert (said == "") == passes, (value, said)


def test_every_text_and_number_of_a_spec_is_bounded() -> None:
    """What has no bound lets rules cost more than the server allows, and mistakes through."""
    wild = [
        str(place)
        for place in PLACES
        if (place.schema.get("type") == "string" and not {"maxLength", "enum"} & set(place.schema))
        or (place.schema.get("type") == "integer" and "maximum" not in place.schema)
        or (place.schema.get("type") == "array" and "maxItems" not in place.schema)
    ]
    assert [name for name in wild if not name.endswith(".annotations{}")] == []


def test_defaults_of_a_cluster(api: Client) -> None:
    made = create(api, cluster())["spec"]
    assert made == {**CLUSTER_DEFAULTS, "workerGroups": [DEFAULT_GROUP]}


def test_defaults_of_a_cluster_without_groups(api: Client) -> None:
    manifest = cluster(head={"runsTasks": True})
    del manifest["spec"]["workerGroups"]
    made = create(api, manifest)["spec"]
    assert made["workerGroups"] == []


def test_defaults_of_autoscaling(api: Client) -> None:
    manifest = cluster(workerGroups=[{"name": "a", "maxReplicas": 1}], autoscaling={})
    assert create(api, manifest)["spec"]["autoscaling"] == {
        "enabled": True,
        "dryRun": False,
        "targetQueuePerSlot": 1,
        "pendingTimeoutSeconds": 300,
        "upscaling": {"stabilizationSeconds": 0},
        "downscaling": {"idleTimeoutSeconds": 60},
    }


def test_defaults_of_a_job(api: Client) -> None:
    made = create(api, as_template(cluster()))["spec"]
    assert made == {
        "entrypoint": "python main.py",
        "clusterTemplate": {"spec": {**CLUSTER_DEFAULTS, "workerGroups": [DEFAULT_GROUP]}},
        "suspend": False,
        "backoffLimit": 0,
        "maxDisruptions": 3,
    }


def test_every_default_is_one_of_those(api: Client) -> None:
    """A default that no test above names would be one nobody has looked at."""
    seen: set[str] = set()

    def collect(prefix: str, value: Any) -> None:
        seen.add(prefix)
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(f"{prefix}.{key}", inner)
        if isinstance(value, list):
            for inner in value:
                collect(f"{prefix}[]", inner)

    made = create(api, cluster(workerGroups=[{"name": "a", "maxReplicas": 1}], autoscaling={}))
    collect("FuturesCluster.spec", made["spec"])
    collect("FuturesJob.spec", create(api, job())["spec"])
    assert [str(p) for p in PLACES if "default" in p.schema and str(p) not in seen] == []


@pytest.mark.parametrize(
    "manifest",
    [
        cluster(replica=3),
        cluster(workerGroups=[{"name": "a", "min": 3}]),
        cluster(workerGroups=[{"name": "a", "template": {"containers": []}}]),
        cluster(workerGroups=[{"name": "a", "resources": {"CPU": "4"}}]),
        as_template(cluster(headGroup={})),
        job(entryPoint="x"),
    ],
    ids=["replica", "min", "containers", "CPU", "headGroup", "entryPoint"],
)
def test_a_misspelt_field_is_named(manifest: dict[str, Any], api: Client) -> None:
    with pytest.raises(ApiError, match=r'unknown field "spec\.'):
        create(api, manifest)


def test_two_groups_of_one_name_are_refused(api: Client) -> None:
    said = refusal(lambda: create(api, cluster(workerGroups=[{"name": "a"}, {"name": "a"}])))
    assert "Duplicate value" in said


@pytest.mark.parametrize(
    ("manifest", "missing"),
    [
        (cluster(workerGroups=[{"replicas": 1}]), "spec.workerGroups[0].name: Required"),
        (job(clusterRef={}), "spec.clusterRef.name: Required"),
        (job(workingDir={"configMap": {}}), "spec.workingDir.configMap.name: Required"),
        (job(env=[{"value": "1"}]), "spec.env[0].name: Required"),
        (job(clusterRef=None, clusterTemplate={}), "spec.clusterTemplate.spec: Required"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_field_is_named(manifest: dict[str, Any], missing: str, api: Client) -> None:
    assert missing in refusal(lambda: create(api, manifest))


@pytest.mark.parametrize("manifest", [cluster(), job()], ids=["cluster", "job"])
def test_a_spec_is_required(manifest: dict[str, Any], api: Client) -> None:
    del manifest["spec"]
    assert "spec: Required" in refusal(lambda: create(api, manifest))


def test_a_pod_template_is_kept_as_it_is(api: Client) -> None:
    template = {
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        "spec": {"containers": [{"name": "freehold", "resources": {"limits": {"cpu": 2}}}]},
    }
    made = create(
        api,
        cluster(head={"template": template}, workerGroups=[{"name": "a", "template": template}]),
    )
    assert made["spec"]["head"]["template"] == template
    assert made["spec"]["workerGroups"][0]["template"] == template
