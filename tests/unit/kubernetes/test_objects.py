"""Manifests from what a user says, and what is refused before anything is sent."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from freehold.kubernetes import _objects as objects


def spec(workers: Any = None, **given: Any) -> objects.Manifest:
    values = {"image": None, "resources": None, "spec": None, **given}
    return objects.cluster_spec(workers, values["image"], values["resources"], values["spec"])


def test_a_number_of_workers_can_be_scaled() -> None:
    assert spec(3) == {"replicas": 3, "workerGroups": [{"name": "workers"}]}
    assert spec()["replicas"] == 1
    assert spec(0)["replicas"] == 0


def test_a_range_scales_on_the_queue() -> None:
    assert spec((0, 4)) == {
        "autoscaling": {},
        "workerGroups": [{"name": "workers", "minReplicas": 0, "maxReplicas": 4}],
    }


def test_resources_are_limits_as_text() -> None:
    [group] = spec(1, resources={"cpu": 4, "memory": "16Gi"})["workerGroups"]
    assert group["resources"] == {"limits": {"cpu": "4", "memory": "16Gi"}}


def test_the_users_own_fields_are_laid_over() -> None:
    found = spec(2, image="x:1", spec={"head": {"storage": {"size": "0"}}, "image": "x:2"})
    assert found["image"] == "x:2"
    assert found["head"] == {"storage": {"size": "0"}}
    assert found["replicas"] == 2


def test_groups_of_ones_own_stand_alone() -> None:
    groups = [{"name": "a", "replicas": 1}, {"name": "b", "replicas": 2}]
    assert spec(spec={"workerGroups": groups}) == {"workerGroups": groups}
    with pytest.raises(ValueError, match="twice"):
        spec(2, spec={"workerGroups": groups})


@pytest.mark.parametrize("workers", [-1, (3, 2), (0, 0), (1, 2, 3), (-1, 2)])
def test_impossible_numbers_are_refused(workers: Any) -> None:
    with pytest.raises(ValueError):
        spec(workers)


@pytest.mark.parametrize("workers", ["2", 2.0, True, (1, "2")])
def test_what_is_no_number_is_refused(workers: Any) -> None:
    with pytest.raises(TypeError, match="a number, or"):
        spec(workers)


@pytest.mark.parametrize("name", ["", "Small", "1st", "a.b", "a-", "a" * 37, None, 3])
def test_names_that_the_crd_refuses(name: object) -> None:
    with pytest.raises(ValueError, match="begins with a letter"):
        objects.checked_name("FuturesJob", name)


@pytest.mark.parametrize("words", ["train", "My_Train.py", "42", "<lambda>", "-" * 50, "x" * 80])
def test_a_made_name_is_one_that_the_crd_takes(words: str) -> None:
    name = objects.made_name(words, "3fa9c1")
    assert objects.checked_name("FuturesJob", name) == name
    assert name.endswith("-3fa9c1")


def test_a_jobs_spec_and_the_users_fields_over_it() -> None:
    where = {"clusterRef": {"name": "small"}}
    made = objects.job_spec(["python", "a.py"], ["--x", "1"], where, {"A": "b"}, "files")
    found = objects.job("train", "team", made, {"backoffLimit": 2, "workingDir": {"extra": 1}})
    assert found["metadata"] == {"name": "train", "namespace": "team"}
    assert found["spec"] == {
        "command": ["python", "a.py"],
        "args": ["--x", "1"],
        "clusterRef": {"name": "small"},
        "env": [{"name": "A", "value": "b"}],
        "workingDir": {"configMap": {"name": "files"}, "extra": 1},
        "backoffLimit": 2,
    }
    bare = objects.job_spec(["freehold", "sort"], [], where, {}, None)
    assert set(bare) == {"command", "clusterRef"}


def test_files_go_with_the_job_text_as_text() -> None:
    job = {"metadata": {"name": "train", "namespace": "team", "uid": "u-1"}}
    found = objects.config_map("train-program-1", job, {"a.py": b"print(1)", "b.bin": b"\xff\x00"})
    assert found["data"] == {"a.py": "print(1)"}
    assert base64.b64decode(found["binaryData"]["b.bin"]) == b"\xff\x00"
    [owner] = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("FuturesJob", "train", "u-1")
    assert found["immutable"] is True


def test_a_mebibyte_passes_and_a_byte_more_does_not() -> None:
    objects.check_files({"a.py": b"x" * 1000, "b": b"y" * ((1 << 20) - 1000)})
    with pytest.raises(ValueError, match=r"\(b alone 1,047,577\) and at most 1,048,576"):
        objects.check_files({"a.py": b"x" * 1000, "b": b"y" * ((1 << 20) - 999)})


@pytest.mark.parametrize("name", ["a b.py", "ä.py", "..", "x" * 254])
def test_files_that_a_config_map_cannot_name(name: str) -> None:
    with pytest.raises(ValueError, match="rename it"):
        objects.check_files({name: b""})
