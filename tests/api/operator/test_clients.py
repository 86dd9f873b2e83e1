"""The Python client and the command line over a real API server, with the operator behind it.

A scripted kubelet runs the pods and serves their logs; what a driver would do with the job's files
is done by the test, with the files as they lie in the API server.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.support.tools import ROOT
from tests.api.client import Client, Manifest
from tests.api.operator.scene import INTERVAL_S, WAIT_S, Scene, worker_group
from tests.api.server import ApiServer
from tests.api.support.kubelet import NODE, ended, unschedulable, waiting
from tests.api.support.pod_logs import PodLogs
from tests.api.tcp_proxy import TcpProxy

from freehold._processes.driver import function_job
from freehold.errors import (
    ClusterNotReadyError,
    JobFailedError,
    JobResultError,
    KubernetesError,
    KubernetesTimeoutError,
)
from freehold.kubernetes import FuturesCluster, FuturesJob
from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(120)]

Make = Callable[..., Scene]
JOB, CLUSTER = "FuturesJob", "FuturesCluster"


@pytest.fixture
def logs(api_server: ApiServer, api: Client) -> Iterator[PodLogs]:
    """The kubelet's logs."""
    with PodLogs(api_server.certificates) as served:
        served.serve_as(api, NODE)
        yield served


@pytest.fixture
def where(api_server: ApiServer, namespace: str) -> dict[str, Any]:
    """How the client reaches the test's namespace."""
    return {"kubeconfig": str(api_server.kubeconfig), "namespace": namespace}


def wait_for(predicate: Callable[[], Any]) -> Any:
    return eventually(predicate, WAIT_S, interval_s=INTERVAL_S)


def is_gone(one: Scene, kind: str, name: str) -> bool:
    """Wait until an object is not there any more."""
    return bool(wait_for(lambda: one.client.find(kind, name, one.namespace) is None))


# Clusters


IMPATIENT = {"image": "x:1", "patience_s": 2.0}


def awake(scene: Make) -> Scene:
    """A scene whose operator is seen to work: until then it would try an impatient client."""
    one = scene()
    one.cluster(worker_group(replicas=0), name="warm")
    wait_for(lambda: one.status(name="warm"))
    return one


def test_with_makes_it_and_takes_it_away(scene: Make, where: dict[str, Any], logs: PodLogs) -> None:
    one = scene()
    with FuturesCluster("c", workers=2, image="x:1", **where) as cluster:
        assert (cluster.namespace, cluster.status["readyReplicas"]) == (one.namespace, 2)
        cluster.scale(3)
        assert len(one.pods()) == 3
        assert one.client.get(CLUSTER, "c", one.namespace)["spec"]["replicas"] == 3
        [head] = one.pods("head")
        logs.write(head["metadata"]["name"], "serving", "a node joined")
        assert list(cluster.logs(tail=1)) == ["[c-head-0] a node joined"]
    assert is_gone(one, CLUSTER, "c")
    cluster.delete()  # once more: fine


def test_a_range_scales_on_the_queue(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with FuturesCluster("c", workers=(0, 2), image="x:1", **where) as cluster:
        assert one.client.get(CLUSTER, "c", one.namespace)["spec"]["autoscaling"]["enabled"]
        with pytest.raises(KubernetesError, match="cannot be set while autoscaling is on"):
            cluster.scale(1)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (lambda: waiting("ImagePullBackOff", 'image "x:1"'), "ImagePullBackOff", 'image "x:1"'),
        (lambda: unschedulable("0/1: Insufficient cpu"), "Unschedulable", "Insufficient cpu"),
    ],
)
def test_the_pods_own_reason_is_raised(
    scene: Make, where: dict[str, Any], status: Any, reason: str, words: str
) -> None:
    one = awake(scene)
    one.kubelet.rule("worker", status)
    with (
        pytest.raises(ClusterNotReadyError, match=words) as caught,
        FuturesCluster("c", **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")
    assert caught.value.reason == reason
    assert caught.value.pod.startswith("c-workers-")
    assert is_gone(one, CLUSTER, "c"), "what cannot come up is taken away"


def test_a_crash_has_its_last_lines(scene: Make, where: dict[str, Any], logs: PodLogs) -> None:
    one = awake(scene)

    def crashing() -> Manifest:
        found = waiting("CrashLoopBackOff", "back-off 10s restarting")
        before = {"exitCode": 3, "reason": "Error"}
        found["containerStatuses"][0]["lastState"] = {"terminated": before}
        return found

    logs.write("c-head-0", "starting", "no room left on the volume", previous=True)
    one.kubelet.rule("head", crashing)
    with (
        pytest.raises(ClusterNotReadyError) as caught,
        FuturesCluster("c", **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")
    assert caught.value.reason == "CrashLoopBackOff"
    assert caught.value.last_log_lines == ("starting", "no room left on the volume")
    assert str(caught.value).endswith("\n  no room left on the volume")


def test_a_quota_is_told_though_there_is_no_pod(scene: Make, where: dict[str, Any]) -> None:
    one = awake(scene)
    spec = {"hard": {"pods": "2"}}
    metadata = {"name": "few", "namespace": one.namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec}
    one.client.create(quota)
    # The quota counts nothing before its controller has seen it.
    wait_for(lambda: one.client.get("ResourceQuota", "few", one.namespace)["status"].get("hard"))
    with (
        pytest.raises(ClusterNotReadyError, match="exceeded quota: few"),
        FuturesCluster("c", workers=2, **IMPATIENT, **where),
    ):
        pytest.fail("it is not ready")


def test_time_runs_out_without_an_operator(
    api: Client, where: dict[str, Any], namespace: str
) -> None:
    cluster = FuturesCluster("c", timeout_s=2.0, **where)
    with pytest.raises(ClusterNotReadyError, match="no operator has looked at it"), cluster:
        pytest.fail("it is not ready")
    assert api.find(CLUSTER, "c", namespace) is None


def test_one_that_is_there_is_attached_to_and_stays(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    one.cluster(worker_group(replicas=1))
    with pytest.raises(KubernetesError, match=r"FuturesCluster\.attach\('c'\)"):
        FuturesCluster("c", **where).create()
    with FuturesCluster.attach("c", **where) as cluster:
        assert cluster.status["readyReplicas"] == 1
    assert one.client.find(CLUSTER, "c", one.namespace) is not None
    with pytest.raises(KubernetesError, match=r"there is no FuturesCluster none .*kubectl get fc"):
        FuturesCluster.attach("none", **where)


def test_what_the_crd_refuses_is_told_in_its_words(where: dict[str, Any]) -> None:
    with pytest.raises(KubernetesError, match="runsTasks") as caught:
        FuturesCluster("c", spec={"workerGroups": []}, **where).create()
    assert caught.value.status == 422


def interrupt_when(predicate: Callable[[], Any]) -> threading.Thread:
    """^C for this process as soon as something holds."""

    def watch() -> None:
        wait_for(predicate)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_an_interrupt_while_it_starts_takes_it_away(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    one.kubelet.rule("worker", lambda: waiting("ContainerCreating", ""))
    thread = interrupt_when(one.pods)
    with pytest.raises(KeyboardInterrupt), FuturesCluster("c", image="x:1", **where):
        pytest.fail("it is not ready")
    thread.join()
    assert is_gone(one, CLUSTER, "c")


def test_an_error_in_the_block_takes_it_away(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with (
        pytest.raises(ZeroDivisionError),
        FuturesCluster("c", workers=0, image="x:1", **where),
    ):
        raise ZeroDivisionError
    assert is_gone(one, CLUSTER, "c")


def test_another_cluster_of_the_same_name_is_left_alone(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    with FuturesCluster("c", workers=0, image="x:1", **where):
        one.client.delete(CLUSTER, "c", one.namespace)
        assert is_gone(one, CLUSTER, "c")
        one.cluster(worker_group(replicas=0))
    assert one.client.find(CLUSTER, "c", one.namespace) is not None


def test_broken_connections_are_lived_through(
    scene: Make, where: dict[str, Any], api_server: ApiServer, tcp_proxy: TcpProxy, tmp_path: Path
) -> None:
    one = scene()
    one.kubelet.rule("worker", lambda: waiting("ContainerCreating", ""))
    config = api_server.kubeconfig_for(tcp_proxy.url, tmp_path / "through-proxy")
    cluster = FuturesCluster("c", image="x:1", **{**where, "kubeconfig": str(config)})
    cluster.create()

    def disturb() -> None:
        one.wait_pods(1)
        for _ in range(3):
            tcp_proxy.drop_connections()
        one.kubelet.rules.clear()

    thread = threading.Thread(target=disturb)
    thread.start()
    cluster.wait_ready()
    thread.join()


def test_missing_rights_are_told(
    api: Client, api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    path = api.path("ServiceAccount", namespace, "default") + "/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = api.call("POST", path, request)["status"]["token"]
    config = api_server.kubeconfig_for(api_server.url, tmp_path / "config", token=token)
    where = {"kubeconfig": str(config), "namespace": namespace}
    with pytest.raises(KubernetesError, match=r"cannot create .* lists the rights") as caught:
        FuturesCluster("c", **where).create()
    assert caught.value.reason == "Forbidden"


# Jobs


def small(one: Scene) -> None:
    """A cluster for jobs."""
    one.cluster(worker_group(replicas=1))


def files_of(one: Scene, name: str) -> tuple[str, dict[str, bytes]]:
    """The ConfigMap of a job, and what is in it."""
    spec = one.client.get(JOB, name, one.namespace)["spec"]
    config_map = spec["workingDir"]["configMap"]["name"]
    found = wait_for(lambda: one.client.find("ConfigMap", config_map, one.namespace))
    files = {key: text.encode() for key, text in found.get("data", {}).items()}
    binary = found.get("binaryData", {})
    return config_map, files | {key: base64.b64decode(text) for key, text in binary.items()}


def driver(one: Scene, attempt: int = 1) -> str:
    """Wait for the driver of an attempt that runs; its pod's name."""

    def running() -> str:
        for pod in one.pods("driver"):
            is_its = pod["metadata"]["labels"]["freehold.dev/attempt"] == str(attempt)
            if is_its and pod["status"].get("phase") == "Running":
                return str(pod["metadata"]["name"])
        return ""

    return str(wait_for(running))


def end(one: Scene, code: int, message: str = "", attempt: int = 1) -> None:
    """Let the driver of an attempt end."""
    status = ended(code)
    if message:
        status["containerStatuses"][0]["state"]["terminated"]["message"] = message

    def rule(pod: Manifest) -> Manifest | None:
        is_its = pod["metadata"]["labels"].get("freehold.dev/attempt") == str(attempt)
        return status if is_its else None

    one.kubelet.rules.append(rule)


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


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program."""
    path = tmp_path / "train.py"
    path.write_text("print('trained')\n")
    return path


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


# The command line


def start(where: dict[str, Any], folder: Path, *words: str) -> subprocess.Popen[str]:
    """`freehold job submit --kubernetes …` in a process of its own."""
    options = ["--kubeconfig", where["kubeconfig"], "--namespace", where["namespace"]]
    command = [sys.executable, "-m", "freehold.cli", "job", "submit", "--kubernetes", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *words], cwd=folder, stdout=pipe, stderr=pipe, text=True)


def test_the_command_line_shows_the_log_and_ends_as_the_job(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--name", "train", "--env", "A=b", "--", "python", "train.py", "-x"]
    with start(where, script.parent, *words) as process:
        assert process.stdout is not None
        pod = driver(one)
        logs.write(pod, "epoch 1")
        assert process.stdout.readline() == "epoch 1\n", "while it runs"
        logs.write(pod, "epoch 2")
        logs.end(pod)
        end(one, 3)
        out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out) == (3, "epoch 2\n")
    assert "job train submitted in namespace" in err
    assert "job train failed with exit code 3: ProgramFailed" in err
    made = one.client.get(JOB, "train", one.namespace)["spec"]
    assert made["command"] == ["python", "train.py", "-x"]
    assert files_of(one, "train")[1] == {"train.py": script.read_bytes()}


def test_the_command_line_in_json(
    scene: Make, where: dict[str, Any], script: Path, logs: PodLogs
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--format", "json", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        pod = driver(one)
        logs.write(pod, "for people")
        logs.end(pod)
        end(one, 0)
        out, err = process.communicate(timeout=WAIT_S)
    found = json.loads(out)
    assert (process.returncode, found["state"], found["exit_code"]) == (0, "Complete", 0)
    assert found["namespace"] == one.namespace
    assert "for people" in err


def test_the_command_line_does_not_wait_if_told_so(
    api: Client, where: dict[str, Any], script: Path, namespace: str
) -> None:
    words = ["--cluster", "c", "--no-wait", "--format", "json", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        out, _ = process.communicate(timeout=WAIT_S)
    found = json.loads(out)
    assert (process.returncode, found["state"]) == (0, "Pending")
    assert api.find(JOB, found["name"], namespace) is not None
    with start(where, script.parent, "--cluster", "c", "--timeout", "1", "--", "x") as process:
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert "has not ended after 1 s and goes on: NotSeen" in err


def test_an_interrupt_leaves_the_job_and_says_how_to_end_it(
    scene: Make, where: dict[str, Any], script: Path
) -> None:
    one = scene()
    small(one)
    words = ["--cluster", "c", "--name", "train", "--", "python", "train.py"]
    with start(where, script.parent, *words) as process:
        driver(one)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert f"job train goes on; its log: kubectl logs -n {one.namespace}" in err
    assert one.client.find(JOB, "train", one.namespace) is not None


def test_what_was_pickled_is_whole_in_the_api_server(scene: Make, where: dict[str, Any]) -> None:
    one = scene()
    small(one)
    job = FuturesJob.submit(triple, 1, cluster="c", **where)
    _, files = files_of(one, job.name)
    version, call = pickle.loads(files["function.pickle"])
    assert version == function_job.python_version()
    assert pickle.loads(call)() == {"tripled": 3}


def test_the_example_runs(
    scene: Make, where: dict[str, Any], tmp_path: Path, logs: PodLogs
) -> None:
    """With the namespace of its kubeconfig's context."""
    one = scene()
    config = json.loads(Path(where["kubeconfig"]).read_text())
    config["contexts"][0]["context"]["namespace"] = one.namespace
    (tmp_path / "config").write_text(json.dumps(config))
    example = ROOT / "examples" / "kubernetes" / "client.py"
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config")}
    pipe = subprocess.PIPE
    command = [sys.executable, str(example)]
    with subprocess.Popen(command, env=environment, stdout=pipe, text=True) as process:
        pod = driver(one)
        logs.write(pod, "points: 8000000")
        logs.end(pod)
        end(one, 0, function_job.encoded(3.14))
        out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert out == "points: 8000000\npi is about 3.14\n"
    assert is_gone(one, CLUSTER, "pi")
