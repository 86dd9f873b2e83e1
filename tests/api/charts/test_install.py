"""The chart on a real API server: installed, beside another release, upgraded, and gone again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.api.charts.release import CHART, flags, helm, installed, of_kind, rendered
from tests.api.client import Client
from tests.api.server import ApiServer

from freehold.testing import eventually

CRDS = ("futuresclusters.freehold.dev", "futuresjobs.freehold.dev")


def make_namespace(api: Client, name: str, **labels: str) -> None:
    metadata = {"name": name, "labels": labels}
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def may(api: Client, account: str, verb: str, resource: str, namespace: str) -> bool:
    """Whether an account (NAMESPACE:NAME) may do something."""
    group, _, plural = resource.rpartition("/")
    review: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {
            "user": f"system:serviceaccount:{account}",
            "resourceAttributes": {
                "verb": verb, "group": group, "resource": plural, "namespace": namespace,
            },
        },
    }  # fmt: skip
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(api.call("POST", path, review)["status"]["allowed"])


def test_install_and_uninstall(api: Client, api_server: ApiServer, tmp_path: Path) -> None:
    make_namespace(api, "chart-one")
    release = installed(tmp_path, api_server.kubeconfig, name="freehold", space="chart-one")
    with release as said:
        assert said.rstrip().endswith("YAML")
        assert "kubectl apply" in said
        account = "chart-one:freehold"
        assert may(api, account, "create", "pods", "anywhere")
        assert may(api, account, "patch", "freehold.dev/futuresclusters", "anywhere") is False
        assert may(api, account, "list", "secrets", "anywhere") is False
        for name in CRDS:
            found = api.get("CustomResourceDefinition", name)["metadata"]
            assert found["annotations"]["helm.sh/resource-policy"] == "keep"
    assert api.find("Deployment", "freehold", "chart-one") is None
    for name in CRDS:
        api.get("CustomResourceDefinition", name)


def test_two_releases(api: Client, api_server: ApiServer, tmp_path: Path) -> None:
    for name in ("chart-two", "chart-three"):
        make_namespace(api, name)
    first = installed(
        tmp_path, api_server.kubeconfig, "watchNamespaces={chart-two}", name="a", space="chart-two"
    )
    second = installed(
        tmp_path,
        api_server.kubeconfig,
        "watchNamespaces={chart-three}",
        "crds.install=false",
        name="a",
        space="chart-three",
    )
    with first, second:
        accounts = {"chart-two": "chart-two:a-freehold", "chart-three": "chart-three:a-freehold"}
        for own, account in accounts.items():
            for other in accounts:
                assert may(api, account, "create", "pods", other) is (own == other)
        assert api.get("Deployment", "a-freehold", "chart-three")["spec"]["replicas"] == 1
    for name in CRDS:
        api.get("CustomResourceDefinition", name)


def test_users_see_and_change_what_they_may(
    api: Client, api_server: ApiServer, tmp_path: Path, namespace: str
) -> None:
    make_namespace(api, "chart-four")
    with installed(tmp_path, api_server.kubeconfig, name="freehold", space="chart-four"):
        for role in ("view", "edit"):
            body = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": role, "namespace": namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role,
                },
                "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": namespace}],
            }  # fmt: skip
            api.create(body)
        expected = {"view": (True, False), "edit": (True, True)}
        for role, (sees, changes) in expected.items():
            account = f"{namespace}:{role}"
            # The controller that aggregates roles takes a moment.
            wait_until(api, account, "list", namespace, sees)
            wait_until(api, account, "create", namespace, changes)


def wait_until(api: Client, account: str, verb: str, namespace: str, wanted: bool) -> None:
    resource = "freehold.dev/futuresclusters"
    eventually(lambda: may(api, account, verb, resource, namespace) is wanted, 20.0)


def test_upgrade_changes_the_crds(api: Client, api_server: ApiServer, tmp_path: Path) -> None:
    make_namespace(api, "chart-five")
    with installed(tmp_path, api_server.kubeconfig, name="freehold", space="chart-five"):
        name = CRDS[0]
        api.patch(
            "CustomResourceDefinition",
            name,
            {"metadata": {"annotations": {"helm.sh/resource-policy": "stale"}}},
        )
        values = flags(["log.level=debug"])
        own = ["--namespace", "chart-five", "--force-conflicts", *values]
        helm(
            "upgrade",
            "freehold",
            CHART,
            *own,
            folder=tmp_path,
            kubeconfig=api_server.kubeconfig,
        )
        found = api.get("CustomResourceDefinition", name)["metadata"]
        assert found["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_are_what_a_restricted_namespace_takes(
    kind: str, api: Client, namespace: str, tmp_path: Path
) -> None:
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.patch("Namespace", namespace, {"metadata": {"labels": level}})
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    api.create({**account, "metadata": {"name": "freehold", "namespace": namespace}})
    (found,) = of_kind(rendered(tmp_path, space=namespace), kind)
    spec = found["spec"]["template"]["spec"] if kind == "Deployment" else found["spec"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": namespace},
        "spec": spec,
    }
    path = api.path("Pod", namespace)
    made = api.call("POST", path, pod, query={"dryRun": "All", "fieldValidation": "Strict"})
    assert made["spec"]["securityContext"]["runAsNonRoot"] is True
