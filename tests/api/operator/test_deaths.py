"""The operator dies before or after its n-th write, for every n: what it leaves is the same.

Each case runs a scenario whose first operator ends itself at a write; the supervisor starts
another, which has to finish. What is there in the end is compared with a run in which nobody died,
but for what has to differ: UIDs, times, versions, and the attempt that is in a pod's name.
"""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.client import Client
from tests.api.operator.scene import Scene, worker_group
from tests.api.server import ApiServer
from tests.api.support.supervisor import Zygote
from tests.api.support.zygote import DIED_EXIT_CODE

from freehold.testing import eventually

pytestmark = [pytest.mark.module_cluster, pytest.mark.timeout(1200)]

WRITES_MAX = 60
KINDS = ("Secret", "ServiceAccount", "Service", "StatefulSet", "Pod", "Job", "FuturesCluster")
VOLATILE = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation")
_numbers = itertools.count(1)


def create(one: Scene) -> None:
    """A cluster comes up."""
    one.cluster(worker_group(replicas=2))
    one.head.start_when_ready()
    one.wait_ready(2)


def scale_down(one: Scene) -> None:
    """A cluster shrinks. Only the shrinking is under the killer: see `DIE_AFTER`."""
    one.patch({"workerGroups": [worker_group(replicas=1)]})
    one.wait_ready(1)
    one.wait_pods(1)


def scale_up(one: Scene) -> None:
    """A cluster grows."""
    one.patch({"workerGroups": [worker_group(replicas=3)]})
    one.wait_ready(3)


def suspend(one: Scene) -> None:
    """A cluster is suspended."""
    one.patch({"suspend": True})
    one.wait_condition("Suspended", "True", "Suspended")


def delete(one: Scene) -> None:
    """A cluster is deleted."""
    one.client.delete("FuturesCluster", "c", one.namespace)
    eventually(lambda: not one.client.objects("Pod", one.namespace), 60, interval_s=0.1)


def job(one: Scene) -> None:
    """A job runs on the cluster."""
    from tests.api.support.kubelet import ended

    one.kubelet.rule("driver", lambda: ended(0))
    one.job(clusterRef={"name": "c"}, command=["true"])
    one.wait_condition("Complete", "True", kind="FuturesJob", name="j")


SCENARIOS: dict[str, tuple[list[Callable[[Scene], None]], Callable[[Scene], None]]] = {
    "create": ([], create),
    "scale-down": ([create], scale_down),
    "scale-up": ([create], scale_up),
    "suspend": ([create], suspend),
    "delete": ([create], delete),
    "job": ([create], job),
}
ALWAYS_ALL = ("create", "scale-down")


def picture(one: Scene) -> list[Any]:
    """What is there, without what has to differ."""
    found: list[Any] = []
    for kind in KINDS:
        for body in one.client.objects(kind, one.namespace):
            metadata = body["metadata"]
            if kind == "ServiceAccount" and metadata["name"] == "default":
                continue
            labels = dict(metadata.get("labels", {}))
            labels.pop("freehold.dev/attempt", None)
            name = metadata["name"]
            ordinal = metadata.get("annotations", {}).get("freehold.dev/ordinal")
            if ordinal is not None:
                name = "worker"  # which of two idle ones goes is as may be
            for label in list(labels):
                if "uid" in label or label == "controller-revision-hash":
                    del labels[label]
            if kind == "Pod" and labels.get("freehold.dev/role") == "driver":
                name = "driver"
            status = body.get("status", {})
            conditions = (
                sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions", ()))
                if kind == "FuturesCluster"
                else []
            )
            found.append((kind, name, sorted(labels.items()), conditions))
    return sorted(found, key=repr)


class Deaths:
    """Runs a scenario with an operator that dies, or not."""

    def __init__(self, zygote: Zygote, client: Client, server: ApiServer, folder: Path) -> None:
        self._zygote, self._client, self._server = zygote, client, server
        self._folder = folder

    def run(self, name: str, die: tuple[int, str] | None) -> tuple[list[Any], bool]:
        """The picture in the end, and whether the operator died."""
        prepare, scenario = SCENARIOS[name]
        namespace = f"deaths-{name}-{next(_numbers)}"
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        self._client.create(manifest)
        self._client.wait_for("ServiceAccount", "default", namespace)
        folder = self._folder / namespace
        folder.mkdir()
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        place = (self._server.kubeconfig, namespace, folder, port)
        settings = {"head_address": f"127.0.0.1:{port}", "look_s": 3}
        mortal = die if not prepare else None
        with Scene(self._zygote, self._client, place, settings, mortal) as scene:
            for step in prepare:
                step(scene)
            if prepare and die is not None:
                scene.operator.replace(die)
            scenario(scene)
            self._rest(scene)
            found = picture(scene)
            died = DIED_EXIT_CODE in scene.operator.exits
        self._client.delete("Namespace", namespace)
        return found, died

    @staticmethod
    def _rest(scene: Scene) -> None:
        """Until nothing is under way and two pictures in a row are the same."""
        last: list[Any] = []

        def is_same() -> bool:
            nonlocal last
            before, last = last, picture(scene)
            return before == last and scene.condition("Progressing")[0] != "True"

        eventually(is_same, 60, interval_s=0.5)


@pytest.fixture(scope="module")
def deaths(
    zygote: Zygote, api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Deaths:
    """One runner for all cases."""
    folder = tmp_path_factory.mktemp("deaths")
    return Deaths(zygote, api_server.client(), api_server, folder)


@pytest.mark.parametrize("name", SCENARIOS)
def test_whenever_the_operator_dies_the_end_is_the_same(
    deaths: Deaths, name: str, is_every_case_wanted: bool
) -> None:
    wanted, _ = deaths.run(name, None)
    is_whole = is_every_case_wanted or name in ALWAYS_ALL
    sample = random.Random(f"deaths of {name}")
    number = 0
    died = True
    while died and number < WRITES_MAX:
        number += 1
        for when in ("before", "after"):
            if not is_whole and sample.random() > 0.3:
                continue
            found, died = deaths.run(name, (number, when))
            assert found == wanted, f"died {when} write {number}"
    print(f"{name}: {number - 1} writes")
    assert number > 1
