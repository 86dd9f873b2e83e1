"""The cluster of the run, the images in it, a namespace per file, and what is kept of a failure.

By default the cluster is kind's, made by `e2e/kind` or found working; `--kubeconfig` names any
other, whose images `--image` names. One run has the kind cluster at a time: tests drain its nodes.
"""

from __future__ import annotations

import fcntl
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.support import freehold, images
from e2e.support.cluster import Cluster, kind_cluster
from e2e.support.dump import dump_namespace
from e2e.support.reports import refuse_skip
from e2e.support.tools import ROOT, cache

FILE_CAP_S = 150.0
RESULTS = ROOT / "build" / "e2e"
PULLED_BASE_IMAGE = "python:3.11-slim-bookworm"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `pytest e2e`."""
    group = parser.getgroup("kubernetes")
    group.addoption("--kubeconfig", help="use this cluster instead of one of kind")
    group.addoption("--cluster", default="freehold-e2e", help="the kind cluster's name")
    group.addoption("--keep", action="store_true", help="leave the namespaces to look at")
    group.addoption(
        "--image",
        action="append",
        default=[],
        metavar="NAME=IMAGE",
        help="with --kubeconfig: what to use as `operator`, `runtime` or `base`",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test has its file's cap; making the cluster and its images, once, is not in it."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FILE_CAP_S, func_only=True))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that all tests share."""
    kubeconfig = request.config.getoption("kubeconfig")
    if kubeconfig is not None:
        yield Cluster(Path(kubeconfig).resolve())
        return
    name = request.config.getoption("cluster")
    folder = cache() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"tests-{name}").open("w") as lock:
        # Until the file is closed; not inherited by what the tests start.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield kind_cluster(name)


def _image(request: pytest.FixtureRequest, cluster: Cluster, name: str) -> str:
    given = dict(one.split("=", 1) for one in request.config.getoption("image"))
    if name in given:
        return str(given[name])
    if cluster.kind_name is None:
        pytest.fail(f"--kubeconfig needs --image {name}=… too: nothing is pushed from here")
    return images.build_and_load(cluster, name)


@pytest.fixture(scope="session")
def base_image(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """An image with Python and nothing of the project's, on every node."""
    given = dict(one.split("=", 1) for one in request.config.getoption("image"))
    if cluster.kind_name is None:
        return str(given.get("base", PULLED_BASE_IMAGE))
    name = images.base_image()
    images.load(cluster, name)
    return name


@pytest.fixture(scope="session")
def operator_image(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The operator's image, on every node."""
    return _image(request, cluster, "operator")


@pytest.fixture(scope="session")
def runtime_image(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The runtime's image, on every node."""
    return _image(request, cluster, "runtime")


@pytest.fixture(scope="session")
def release(cluster: Cluster, operator_image: str, runtime_image: str) -> None:
    """The operator of this tree, for all namespaces."""
    freehold.install(cluster, operator_image, runtime_image)


@pytest.fixture(scope="module", autouse=True)
def _file_cap(cluster: Cluster) -> Iterator[float]:
    """Fail a file that takes longer than its cap, from when the cluster is there."""
    started = time.monotonic()
    yield started
    took_s = time.monotonic() - started
    if took_s > FILE_CAP_S:
        pytest.fail(f"the file took {took_s:.0f} s, its cap is {FILE_CAP_S:g} s", pytrace=False)


@pytest.fixture(autouse=True)
def _within_cap(_file_cap: float) -> None:
    """Start no test in a file whose time is used up."""
    if time.monotonic() - _file_cap > FILE_CAP_S:
        pytest.fail(f"the file's cap of {FILE_CAP_S:g} s is used up", pytrace=False)


@pytest.fixture(scope="module")
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """A namespace of the file's own, under Pod Security `restricted`.

    A file that needs another level says `POD_SECURITY = "baseline"`. With `--keep` it stays.
    """
    stem = Path(str(request.node.path)).stem.removeprefix("test_")
    name = f"{re.sub(r'[^a-z0-9]+', '-', stem.lower())[:40]}-{secrets.token_hex(2)}"
    level = getattr(request.module, "POD_SECURITY", "restricted")
    labels = {"pod-security.kubernetes.io/enforce": level, "freehold.dev/tests": "e2e"}
    metadata = {"name": name, "labels": labels}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield name
    if request.config.getoption("keep"):
        return
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    # Nothing new is made there any more, and the next file wants the processors.
    arguments = ("delete", "pods", "--all", "--grace-period=1", "--wait=false")
    cluster.kubectl(*arguments, namespace=name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Keep what the namespace of a failed test has in it, and put the gist into the report."""
    report = yield
    refuse_skip(report)
    if not report.failed or report.when == "teardown":
        return report
    arguments = getattr(item, "funcargs", {})
    if "cluster" in arguments and "namespace" in arguments:
        test = re.sub(r"[^A-Za-z0-9_.-]+", "_", item.nodeid.removeprefix("e2e/"))
        folder = RESULTS / test / report.when
        summary = dump_namespace(arguments["cluster"], arguments["namespace"], folder)
        report.sections.append((f"namespace at {report.when}", summary))
    return report
