"""What the chart renders, for the values that change it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.api.charts.release import CHART, HelmError, helm, of_kind, rendered

pytestmark = pytest.mark.module_cluster

ALL_ON = (
    "metrics.serviceMonitor.enabled=true",
    "metrics.serviceMonitor.labels.release=p",
    "image.pullSecrets[0].name=registry",
    "nodeSelector.a=b",
    "tolerations[0].operator=Exists",
    "podAnnotations.a=b",
    "podLabels.a=b",
    "priorityClassName=system-cluster-critical",
    "extraEnv[0].name=FREEHOLD_OPERATOR_RESYNC_S",
    "extraEnv[0].value=6e1",
    "serviceAccount.annotations.a=b",
)


def test_helm_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    said = helm("lint", "--strict", CHART, folder=tmp_path)
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_the_kinds_of_a_default_release(tmp_path: Path) -> None:
    assert sorted(one["kind"] for one in rendered(tmp_path)) == [
        "ClusterRole", "ClusterRole", "ClusterRole", "ClusterRoleBinding",
        "CustomResourceDefinition", "CustomResourceDefinition", "Deployment", "Pod", "Service",
        "ServiceAccount",
    ]  # fmt: skip


def test_crds_are_the_trees_and_kept(tmp_path: Path) -> None:
    found = of_kind(rendered(tmp_path), "CustomResourceDefinition")
    for definition in found:
        assert definition["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        path = CHART.parents[1] / "crds" / f"{definition['metadata']['name']}.yaml"
        assert definition == yaml.safe_load(path.read_text())


def test_crds_can_be_left_out_or_not_kept(tmp_path: Path) -> None:
    without = rendered(tmp_path, "crds.install=false")
    assert of_kind(without, "CustomResourceDefinition") == []
    # The roles for users belong to whoever brings the CRDs.
    assert len(of_kind(without, "ClusterRole")) == 1
    for definition in of_kind(rendered(tmp_path, "crds.keep=false"), "CustomResourceDefinition"):
        assert "annotations" not in definition["metadata"]


def test_watched_namespaces_get_roles_and_nothing_else(tmp_path: Path) -> None:
    found = rendered(tmp_path, "watchNamespaces={a,b}", "crds.install=false")
    assert of_kind(found, "ClusterRole") == []
    assert of_kind(found, "ClusterRoleBinding") == []
    for kind in ("Role", "RoleBinding"):
        assert [one["metadata"]["namespace"] for one in of_kind(found, kind)] == ["a", "b"]
    (deployment,) = of_kind(found, "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["FREEHOLD_OPERATOR_NAMESPACES"] == "a,b"


def test_no_rights_but_named_ones(tmp_path: Path) -> None:
    rules = [
        rule
        for kind in ("ClusterRole", "Role")
        for one in of_kind(rendered(tmp_path, *ALL_ON), kind)
        for rule in one["rules"]
    ]
    assert not any(
        "*" in rule[part] for rule in rules for part in ("verbs", "resources", "apiGroups")
    )
    (secrets,) = [rule for rule in rules if "secrets" in rule["resources"]]
    assert secrets["verbs"] == ["get", "create"]


def test_images_follow_the_charts_version(tmp_path: Path) -> None:
    (deployment,) = of_kind(rendered(tmp_path, "runtimeImage=r:1"), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert container["image"] == f"freehold/operator:{version}"
    variables = {one["name"]: one["value"] for one in container["env"]}
    assert variables["FREEHOLD_OPERATOR_RUNTIME_IMAGE"] == "r:1"
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_every_value_has_its_place(tmp_path: Path) -> None:
    found = rendered(tmp_path, *ALL_ON)
    (monitor,) = of_kind(found, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "p"
    (deployment,) = of_kind(found, "Deployment")
    template = deployment["spec"]["template"]
    assert template["metadata"]["annotations"] == {"a": "b"}
    assert template["metadata"]["labels"]["a"] == "b"
    spec = template["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"a": "b"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-cluster-critical"
    names = [one["name"] for one in spec["containers"][0]["env"]]
    assert names[-1] == "FREEHOLD_OPERATOR_RESYNC_S"


def test_long_names_stay_within_a_label(tmp_path: Path) -> None:
    for one in rendered(tmp_path, name="a" * 53):
        if one["kind"] != "CustomResourceDefinition":
            assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("imag.tag=x", "imag"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("watchNamespaces=a", "watchNamespaces"),
        ("metrics.service.enabled=false,metrics.serviceMonitor.enabled=true", "serviceMonitor"),
    ],
)
def test_a_wrong_value_is_named(value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=said):
        rendered(tmp_path, value)
