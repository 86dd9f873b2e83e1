"""Manifests: the runtime's contract, safe by default, the user's values over it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.operator.build import DEFAULTS, UID, cluster, group

from freehold_operator import drivers, merge, names, render
from freehold_operator.model import Cluster, Resources, parse_job
from freehold_operator.pods import PodTemplate
from freehold_operator.resources import container_resources, offer


def worker(of: Cluster) -> PodTemplate:
    """The pod of the first group."""
    return render.worker_template(of, of.spec.groups[0], DEFAULTS)


def container(template: PodTemplate, name: str = "freehold") -> dict[str, Any]:
    """A container of a template."""
    return next(c for c in template.spec["containers"] if c["name"] == name)


def env(template: PodTemplate) -> dict[str, str]:
    """The plain variables of the runtime's container."""
    return {v["name"]: v["value"] for v in container(template)["env"] if "value" in v}


def job(**spec: Any) -> Any:
    """A FuturesJob named j."""
    meta = {"name": "j", "namespace": "n", "uid": "uid-j", "generation": 1}
    return parse_job({"metadata": meta, "spec": {"command": ["python", "x.py"], **spec}})


def driver(**spec: Any) -> PodTemplate:
    """A driver's pod."""
    return drivers.driver_template(job(**spec), "c", "image:1", 2)


EVERY_POD = {
    "head": lambda: render.head_template(cluster(group()), DEFAULTS),
    "worker": lambda: worker(cluster(group())),
    "driver": driver,
}


@pytest.mark.parametrize("name", EVERY_POD)
def test_every_pod_is_restricted(name: str) -> None:
    spec = EVERY_POD[name]().spec
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in spec["containers"]:
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
        assert one["securityContext"]["readOnlyRootFilesystem"] is True
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {m["mountPath"] for one in spec["containers"] for m in one["volumeMounts"]}
    assert ("/etc/freehold/ca" in mounted) is (name == "head")
    assert "/etc/freehold/auth" in mounted
    assert "/dev/shm" not in mounted


def test_a_workers_contract() -> None:
    found = worker(cluster(group(labels={"zone": "a"}, drain={"timeoutSeconds": 90})))
    assert container(found)["args"] == ["start", "--block", "--address", "c-head.n.svc:7400"]
    assert found.spec["terminationGracePeriodSeconds"] == 105
    assert found.spec["restartPolicy"] == "Never"
    told = env(found)
    assert told["FREEHOLD_DRAIN_TIMEOUT_S"] == "90"
    assert told["FREEHOLD_NUM_CPUS"] == "1"
    assert int(told["FREEHOLD_OBJECT_STORE_MEMORY"]) == round(0.3 * 2**31)
    assert int(told["FREEHOLD_MEMORY"]) + int(told["FREEHOLD_OBJECT_STORE_MEMORY"]) == 2**31
    assert json.loads(told["FREEHOLD_LABELS"]) == {"freehold.dev/group": "g", "zone": "a"}
    assert container(found)["image"] == DEFAULTS.image


def test_a_heads_contract() -> None:
    of = cluster(group())
    found = render.head_template(of, DEFAULTS)
    assert container(found)["args"] == ["start", "--head", "--block"]
    assert env(found)["FREEHOLD_CLUSTER"] == names.cluster_id(UID)
    assert env(found)["FREEHOLD_NUM_CPUS"] == "0"
    ports = {p["name"]: p["containerPort"] for p in container(found)["ports"]}
    assert ports == {"control": 7400, "peer": 7401, "health": 7402}
    runs = render.head_template(cluster(head={"runsTasks": True}), DEFAULTS)
    assert env(runs)["FREEHOLD_NUM_CPUS"] == "1"


def test_the_heads_volume() -> None:
    of = cluster(group(), head={"storage": {"size": "5Gi", "storageClassName": "", "retain": True}})
    spec = render.stateful_set(of, DEFAULTS, replicas=1)["spec"]
    claim = spec["volumeClaimTemplates"][0]["spec"]
    assert claim["resources"]["requests"]["storage"] == "5Gi"
    assert claim["storageClassName"] == ""
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    assert spec["updateStrategy"] == {"type": "OnDelete"}
    none = cluster(group(), head={"storage": {"size": "0"}})
    spec = render.stateful_set(none, DEFAULTS, replicas=1)["spec"]
    assert "volumeClaimTemplates" not in spec
    assert {"name": "state", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


def test_a_drivers_contract() -> None:
    found = driver(args=["--n", "1"], env=[{"name": "MINE", "value": "x"}])
    args = container(found)["args"]
    assert args[:4] == ["job", "run", "--address", "c-head.n.svc:7400"]
    assert args[args.index("--attempt") + 1] == "2"
    assert args[args.index("--") :] == ["--", "python", "x.py", "--n", "1"]
    assert env(found)["MINE"] == "x"
    assert env(found)["FREEHOLD_NUM_CPUS"] == "0"


def test_an_entrypoint_is_split_as_a_shell_would() -> None:
    spec = job(command=None, entrypoint="python 'my file.py' --x").spec
    assert drivers.command(spec) == ("python", "my file.py", "--x")
    with pytest.raises(ValueError, match="quotation"):
        drivers.command(job(command=None, entrypoint="python 'x").spec)


def test_working_directories() -> None:
    mounted = driver(workingDir={"configMap": {"name": "files"}})
    assert container(mounted)["workingDir"] == drivers.WORK_DIR
    assert any(v.get("configMap") == {"name": "files"} for v in mounted.spec["volumes"])
    assert container(driver(workingDir={"path": "/srv/app"}))["workingDir"] == "/srv/app"


def test_an_attempt_is_one_pod_and_fails_apart_when_disrupted() -> None:
    manifest = drivers.attempt_job(job(), driver(), "c", 2)
    assert manifest["metadata"]["name"] == "j-2"
    assert manifest["spec"]["backoffLimit"] == 0
    rules = manifest["spec"]["podFailurePolicy"]["rules"]
    assert [r["action"] for r in rules] == ["FailJob"]


def test_a_users_values_win() -> None:
    mine = {
        "metadata": {"labels": {"team": "x"}, "annotations": {"note": "y"}},
        "spec": {
            "nodeSelector": {"disk": "fast"},
            "serviceAccountName": "mine",
            "securityContext": {"runAsUser": 1000},
            "containers": [
                {
                    "name": "freehold",
                    "image": "mine:2",
                    "env": [{"name": "A", "value": "1"}],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                },
                {"name": "sidecar", "image": "s:1"},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    found = worker(cluster(group(template=mine)))
    assert found.refused == ()
    assert found.labels == {"team": "x"}
    assert found.spec["nodeSelector"] == {"disk": "fast"}
    assert found.spec["serviceAccountName"] == "mine"
    assert found.spec["securityContext"]["runAsUser"] == 1000
    assert found.spec["securityContext"]["runAsNonRoot"] is True
    assert container(found)["image"] == "mine:2"
    assert env(found)["A"] == "1"
    assert "FREEHOLD_NUM_CPUS" in env(found)
    assert container(found, "sidecar")["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {v["name"] for v in found.spec["volumes"]} == {"auth", "tmp", "scratch", "data"}


def test_what_is_refused_is_left_out_and_named() -> None:
    theirs = {
        "metadata": {"name": "x", "labels": {"freehold.dev/group": "z", "ok": "1"}},
        "spec": {
            "hostNetwork": True,
            "automountServiceAccountToken": True,
            "terminationGracePeriodSeconds": 5,
            "hostPID": False,
            "containers": [
                {"name": "freehold", "env": [{"name": "FREEHOLD_ADDRESS", "value": "x"}]}
            ],
        },
    }
    found = worker(cluster(group(template=theirs)))
    told = " ".join(found.refused)
    for part in ("hostNetwork", "automountServiceAccountToken", "terminationGracePeriodSeconds"):
        assert part in told
    assert "metadata.name" in told
    assert "freehold.dev/group" in told
    assert "FREEHOLD_ADDRESS" in told
    assert "hostPID" not in told
    assert found.spec["automountServiceAccountToken"] is False
    assert "hostNetwork" not in found.spec
    assert found.labels == {"ok": "1"}


def test_resources_of_the_template_win_key_by_key() -> None:
    given = Resources({"cpu": "500m"}, {"cpu": "2", "memory": "4Gi"}, {})
    theirs = {"resources": {"limits": {"memory": "8Gi", "nvidia.com/gpu": 1}}}
    found = container_resources(given, theirs, {"cpu": "1", "memory": "2Gi"})
    assert found["limits"] == {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": 1}
    assert found["requests"] == {"cpu": "500m", "memory": "8Gi", "nvidia.com/gpu": 1}


def test_offers_follow_limits_and_logical_ones_override() -> None:
    limits = {"limits": {"cpu": "2500m", "memory": "10Gi", "nvidia.com/gpu": 2}}
    found = offer(limits, {"CPU": "4", "license": "0.5"}, "1Gi", {})
    assert found.resources == {"CPU": 4, "GPU": 2, "memory": 9 * 2**30, "license": 0.5}
    assert found.object_store_bytes == 2**30
    requested = offer({"requests": {"cpu": "1"}}, {}, None, {})
    assert requested.resources == {"CPU": 1}
    assert requested.object_store_bytes is None


def test_names_are_the_same_for_the_same_input() -> None:
    one = names.worker_pod_name("c", "u", "g", 0, 0)
    assert one == names.worker_pod_name("c", "u", "g", 0, 0)
    others = {
        names.worker_pod_name("c", *rest)
        for rest in (("v", "g", 0, 0), ("u", "h", 0, 0), ("u", "g", 1, 0), ("u", "g", 0, 1))
    }
    assert len({one, *others}) == 5
    assert len(names.worker_pod_name("c" * 36, "u", "g" * 16, 9999, 99)) <= 63


def test_a_templates_hash_is_of_the_users_fields_alone() -> None:
    of = cluster(group())
    same = render.template_hash(of, of.spec.groups[0])
    assert same == render.template_hash(cluster(group(), suspend=True), of.spec.groups[0])
    other = cluster(group(), image="x:2")
    assert same != render.template_hash(other, other.spec.groups[0])


def test_merging() -> None:
    assert merge.merged({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}) == {"a": 1, "b": {"c": 2, "d": 3}}
    assert merge.merged({"a": 1, "b": 2}, {"a": None}) == {"b": 2}
    assert merge.merged([1], [2]) == [2]
    assert merge.merged([{"x": 1}], [{"x": 2}], "tolerations") == [{"x": 1}, {"x": 2}]


def test_what_the_server_adds_is_no_difference() -> None:
    assert merge.is_part({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}], "d": 3})
    assert not merge.is_part({"a": [{"b": 1}]}, {"a": []})
    assert not merge.is_part({"a": 1}, {"a": 2})
