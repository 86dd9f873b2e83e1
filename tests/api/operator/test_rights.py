"""The operator with no rights but the chart's. What it lacks, its log says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.api.charts.release import of_kind, rendered
from tests.api.client import ApiError, Client
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.server import ApiServer
from tests.api.support.kubelet import ended

from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(180)]


@pytest.fixture
def limited(api: Client, api_server: ApiServer, namespace: str, tmp_path: Path) -> Path:
    """A kubeconfig of an account that has the chart's rules in the namespace."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
    api.create(account, namespace)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = api.path("ServiceAccount", namespace, "operator") + "/token"
    token = api.call("POST", path, request)["status"]["token"]
    (role,) = of_kind(
        rendered(tmp_path, f"watchNamespaces={{{namespace}}}", "crds.install=false"), "Role"
    )
    group = "rbac.authorization.k8s.io"
    kind = {"apiVersion": f"{group}/v1"}
    api.create(
        {**kind, "kind": "Role", "metadata": {"name": "r"}, "rules": role["rules"]}, namespace
    )
    binding = {
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": namespace}],
    }
    api.create({**kind, "kind": "RoleBinding", "metadata": {"name": "r"}, **binding}, namespace)
    mine = api.with_token(token)

    def is_given() -> bool:
        try:
            mine.objects("FuturesCluster", namespace)
        except ApiError:
            return False
        return True

    eventually(is_given, WAIT_S)
    return api_server.kubeconfig_for(api_server.url, tmp_path / "limited", token=token)


def test_the_charts_rules_are_enough(scene: Callable[..., Scene], limited: Path) -> None:
    one = scene(limited)
    one.cluster(worker_group(replicas=2))
    one.wait_ready(2)
    one.patch({"workerGroups": [worker_group(replicas=1)]})
    # Refused, since the claim is bound to nothing here; which takes the right all the same.
    one.patch({"head": {"storage": {"size": "2Gi"}}})
    template = {"spec": {"image": "x:1", "workerGroups": [worker_group(replicas=1)]}}
    one.job(clusterTemplate=template, command=["true"], ttlSecondsAfterFinished=1)
    one.wait_condition("Running", "True", kind="FuturesJob", name="j")
    one.kubelet.rule("driver", lambda: ended(0))
    eventually(
        lambda: one.client.find("FuturesJob", "j", one.namespace) is None,
        WAIT_S,
        interval_s=INTERVAL_S,
    )
    one.patch({"suspend": True})
    one.wait_pods(0)
    one.client.delete("FuturesCluster", "c", one.namespace)
    eventually(lambda: not one.client.objects("StatefulSet", one.namespace), WAIT_S)
    for refusal in ("is forbidden", "no right to"):
        assert refusal not in one.operator.log()
    assert one.operator.restarts == 0
