"""What is wrong is said by the object that the user wrote, in the words of whoever found it."""

from __future__ import annotations

from typing import Any

import pytest
from e2e.support import freehold as fh
from e2e.support.cluster import Cluster

from freehold.testing import eventually


def says(cluster: Cluster, namespace: str, name: str, text: str) -> str:
    """Wait until some condition of a cluster says this; its reason."""

    def found() -> str:
        status = (cluster.find("fc", name, namespace) or {}).get("status", {})
        for each in status.get("conditions", []):
            if text.lower() in f"{each['reason']} {each.get('message', '')}".lower():
                return str(each["reason"])
        return ""

    reason: str = eventually(found, timeout_s=45.0, interval_s=0.5)
    return reason


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        (
            "image",
            fh.cluster_spec(fh.workers(), replicas=1, image="freehold/none-such:1"),
            "none-such",
        ),
        ("large", fh.cluster_spec(fh.workers("1", "900Gi"), replicas=1), "Insufficient memory"),
        (
            "template",
            fh.cluster_spec(
                fh.workers(template={"spec": {"containers": [{"name": "Not A Name"}]}}),
                replicas=1,
            ),
            "Not A Name",
        ),
    ],
)
@pytest.mark.usefixtures("release")
def test_trouble_is_a_condition(
    cluster: Cluster, namespace: str, name: str, spec: dict[str, Any], text: str
) -> None:
    cluster.apply(fh.futures_cluster(name, spec), namespace=namespace)
    says(cluster, namespace, name, text)
    cluster.kubectl("delete", "fc", name, "--wait=false", namespace=namespace)


@pytest.mark.usefixtures("release")
def test_a_quota_is_named_and_raising_it_recovers(cluster: Cluster, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": "1"}},
    }
    cluster.apply(quota, namespace=namespace)
    spec = fh.cluster_spec(fh.workers(), replicas=1)
    cluster.apply(fh.futures_cluster("small", spec), namespace=namespace)
    says(cluster, namespace, "small", "exceeded quota")
    cluster.kubectl("delete", "resourcequota", "few", namespace=namespace)
    fh.await_condition(cluster, "fc/small", namespace, "Ready", timeout_s=75.0)
