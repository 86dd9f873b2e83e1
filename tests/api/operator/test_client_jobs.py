"""Jobs submitted by the Python client, over a real API server with the operator behind it.

What a driver would do with the job's files is done by the test, with the files as they lie in the
API server.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.client import Client
from tests.api.http_proxy import Fault, HttpProxy, Request
from tests.api.operator.client_kit import (
    CLUSTER,
    JOB,
    driver,
    end,
    files_of,
    interrupt_when,
    is_gone,
    small,
    wait_for,
)
from tests.api.operator.scene import WAIT_S, Scene
from tests.api.server import ApiServer
from tests.api.support.kubelet import waiting
from tests.api.support.pod_logs import PodLogs

from freehold._processes.driver import function_job
from freehold.errors import (
    JobFailedError,
    JobResultError,
    KubernetesError,
    KubernetesTimeoutError,
)
from freehold.kubernetes import FuturesJob

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]


def run_function(one: Scene, name: str, folder: Path) -> None:
    """Do what a function's driver would: call it, and end with what it leaves."""
    _, files = files_of(one, name)
    (folder / "function.pickle").write_bytes(files["function.pickle"])
    (folder / "message").touch()
    code = function_job.main([str(folder / "function.pickle")], folder / "message")
    driver(one)
    end(one, code, (folder / "message").read_text())


def triple(number: int) -> dict[str, int]:
    return {"tripled": 3 * number}


def test_a_functions_value_comes_back(scene: Make, where: dict[str, Any], tmp_path: Path) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(triple, 7, cluster="c", **where)
    assert job.name.startswith("triple-")
    run_function(one, job.name, tmp_path)
    assert job.result(timeout_s=WAIT_S) == {"tripled": 21}
    assert (job.status.state, job.status.exit_code) == ("Complete", 0)
    again = FuturesJob.attach(job.name, **where)
    assert again.result() == {"tripled": 21}, "for as long as its pod is there"
    pod = one.pods("driver")[0]
    [container] = pod["spec"]["containers"]
    assert container["workingDir"] == "/srv/job"
    assert container["args"][-4:] == ["python", "-m", function_job.MODULE, "function.pickle"]


def large(size: int) -> bytes:
    return os.urandom(size)


def test_a_value_that_does_not_fit_is_told(
    scene: Make, where: dict[str, Any], tmp_path: Path
) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(large, 5000, cluster="c", **where)
    run_function(one, job.name, tmp_path)
    with pytest.raises(JobResultError, match="write it to shared storage"):
        job.result(timeout_s=WAIT_S)
    assert job.status.state == "Complete"
    one.client.delete("Pod", one.pods("driver")[0]["metadata"]["name"], one.namespace)
    wait_for(lambda: not one.pods("driver"))
    with pytest.raises(JobResultError, match="its pod is gone"):
        job.result()


def broken() -> None:
    raise LookupError("no such table")


def test_a_function_that_raises_is_a_failed_job(
    scene: Make, where: dict[str, Any], tmp_path: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(broken, cluster="c", **where)
    pod = driver(one)
    logs.write(pod, "Traceback (most recent call last):", "LookupError: no such table")
    logs.end(pod)
    run_function(one, job.name, tmp_path)
    with pytest.raises(JobFailedError, match="with exit code 1: ProgramFailed: ") as caught:
        job.result(timeout_s=WAIT_S)
    assert (caught.value.exit_code, caught.value.reason) == (1, "ProgramFailed")
    assert "LookupError: no such table (in broken, line " in caught.value.detail
    assert caught.value.last_log_lines[-1] == "LookupError: no such table"


def test_a_script_and_its_files_go_with_the_job(
    scene: Make, where: dict[str, Any], script: Path, tmp_path: Path
) -> None:
    one = scene()
    small(one)
    (tmp_path / "table.csv").write_text("1,2")
    spec = {"ttlSecondsAfterFinished": 3600}
    given = {"files": [tmp_path / "table.csv"], "env": {"A": "b"}, "spec": spec}
    job = FuturesJob.submit(script, "--rows", 7, name="train", cluster="c", **given, **where)
    made = one.client.get(JOB, "train", one.namespace)["spec"]
    assert (made["command"], made["args"]) == (["python", "train.py"], ["--rows", "7"])
    assert (made["env"], made["ttlSecondsAfterFinished"]) == ([{"name": "A", "value": "b"}], 3600)
    config_map, files = files_of(one, "train")
    assert files == {"train.py": script.read_bytes(), "table.csv": b"1,2"}
    driver(one)
    end(one, 0)
    assert job.result(timeout_s=WAIT_S) is None
    with pytest.raises(KubernetesError, match="a FuturesJob train in namespace"):
        FuturesJob.submit(script, name="train", cluster="c", **where)
    job.delete()
    assert is_gone(one, "ConfigMap", config_map), "Kubernetes deletes it with the job"
    with pytest.raises(JobFailedError, match="somebody deleted it"):
        job.wait()


def test_a_cluster_of_its_own(scene: Make, where: dict[str, Any], script: Path) -> None:
    one = scene()
    job = FuturesJob.submit(script, name="j", workers=(0, 2), image="x:1", **where)
    driver(one)
    assert one.client.get(CLUSTER, "j", one.namespace)["spec"]["image"] == "x:1"
    end(one, 0)
    assert job.wait(WAIT_S).state == "Complete"
    assert is_gone(one, CLUSTER, "j")


def test_exactly_a_mebibyte_of_files_passes(
    api: Client, where: dict[str, Any], tmp_path: Path, namespace: str
) -> None:
    path = tmp_path / "full.py"
    path.write_bytes(b"\xff" * (1 << 20))
    job = FuturesJob.submit(path, cluster="c", **where)
    assert len(api.objects("ConfigMap", namespace, labels=f"freehold.dev/job={job.name}")) == 1
    path.write_bytes(b"\xff" * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="put code into the image"):
        FuturesJob.submit(path, cluster="c", **where)
    assert len(api.objects(JOB, namespace)) == 1, "nothing was sent"


def test_no_job_stays_whose_files_were_refused(
    api: Client, where: dict[str, Any], script: Path, namespace: str
) -> None:
    spec = {"hard": {"count/configmaps": "0"}}
    metadata = {"name": "none", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    api.create(quota)
    wait_for(lambda: api.get("ResourceQuota", "none", namespace)["status"].get("hard"))
    with pytest.raises(KubernetesError, match="exceeded quota: none"):
        FuturesJob.submit(script, cluster="c", **where)
    assert api.objects(JOB, namespace) == []


def test_a_lost_answer_makes_nothing_twice_and_nothing_for_nobody(
    api: Client, where: dict[str, Any], script: Path, api_server: ApiServer, http_proxy: HttpProxy
) -> None:
    """The server has created the object, and its answer does not arrive."""
    config = api_server.kubeconfig_for(http_proxy.url, script.parent / "through-proxy")
    for kind in ("futuresjobs", "configmaps"):
        http_proxy.add(Fault(is_create(kind), status=0, after=True))
    job = FuturesJob.submit(script, cluster="c", **{**where, "kubeconfig": str(config)})
    assert [j["metadata"]["name"] for j in api.objects(JOB, job.namespace)] == [job.name]
    label = f"freehold.dev/job={job.name}"
    assert len(api.objects("ConfigMap", job.namespace, labels=label)) == 1
    http_proxy.add(Fault(is_create("futuresjobs"), status=429, reason="TooManyRequests"))
    other = FuturesJob.submit(script, cluster="c", **{**where, "kubeconfig": str(config)})
    assert other.status.state == "Pending"


def is_create(kind: str) -> Callable[[Request], bool]:
    return lambda request: request.verb == "POST" and request.path.endswith(f"/{kind}")


def test_an_interrupt_while_it_is_created_leaves_nothing(
    api: Client, where: dict[str, Any], script: Path, api_server: ApiServer, http_proxy: HttpProxy
) -> None:
    config = api_server.kubeconfig_for(http_proxy.url, script.parent / "through-proxy")
    http_proxy.add(Fault(is_create("futuresjobs"), status=0, after=True, delay_s=20.0))
    thread = interrupt_when(lambda: api.objects(JOB, where["namespace"]))
    with pytest.raises(KeyboardInterrupt):
        FuturesJob.submit(script, cluster="c", **{**where, "kubeconfig": str(config)})
    thread.join()
    assert api.objects(JOB, where["namespace"]) == []


def test_what_it_waits_for_is_told_when_time_is_up(
    scene: Make, where: dict[str, Any], script: Path
) -> None:
    one = scene()
    small(one)
    one.kubelet.rule("driver", lambda: waiting("ErrImagePull", "no such image"))
    job = FuturesJob.submit(script, cluster="c", **where)
    wait_for(lambda: job.status.reason == "ErrImagePull")
    with pytest.raises(KubernetesTimeoutError, match=r"after 0\.2 s .* no such image"):
        job.wait(0.2)
    with pytest.raises(KubernetesTimeoutError):
        job.wait(0.2, logs=True)
    assert one.client.find(JOB, job.name, one.namespace) is not None


def test_logs_are_followed_over_attempts_and_broken_connections(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(script, cluster="c", spec={"backoffLimit": 1}, **where)
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(job.logs(follow=True)))
    reader.start()
    first = driver(one)
    logs.write(first, "one", "two")
    wait_for(lambda: any(pod == first for pod, _ in logs.asked))
    logs.cut()
    logs.write(first, "three")
    end(one, 1)
    logs.end(first)
    second = driver(one, 2)
    logs.write(second, "again")
    logs.end(second)
    end(one, 0, attempt=2)
    reader.join(WAIT_S)
    assert lines == ["one", "two", "three", "again"]
    assert list(job.logs(tail=5)) == ["again"]


def test_an_interrupt_ends_only_the_waiting(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(script, cluster="c", **where)
    pod = driver(one)
    logs.write(pod, "begun")
    thread = interrupt_when(lambda: logs.asked)
    with pytest.raises(KeyboardInterrupt):
        job.wait(logs=True)
    thread.join()
    assert job.status.state == "Running"


def test_what_was_pickled_is_whole_in_the_api_server(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(triple, 1, cluster="c", **where)
    _, files = files_of(one, job.name)
    version, call = pickle.loads(files["function.pickle"])
    assert version == function_job.python_version()
    assert pickle.loads(call)() == {"tripled": 3}
