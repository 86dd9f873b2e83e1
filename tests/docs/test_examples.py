"""Everything public has a docstring with an example, and every example does what it says.

Examples share one cluster per module of tests; one that starts or stops a cluster itself runs with
none, and must stop what it started. Each runs in a namespace of its own that is called `__main__`,
as in a user's program.
"""

from __future__ import annotations

import doctest
import importlib
import re
from typing import Any

import pytest
from tests.docs.public import PublicObject, public_objects

pytestmark = pytest.mark.module_cluster

OBJECTS = public_objects()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
OWN_CLUSTER = re.compile(r"freehold\.init\(|freehold\.shutdown\(|LocalCluster\(|cluster_fixture")
CLUSTER_CPUS = 4


def is_error(item: PublicObject) -> bool:
    """The error tree is shown as a whole in its module; its classes need words only."""
    return isinstance(item.value, type) and issubclass(item.value, BaseException)


def public_methods(item: PublicObject) -> list[str]:
    """The public functions written in a public class."""
    if not isinstance(item.value, type) or is_error(item):
        return []
    return [
        name
        for name, value in vars(item.value).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, property))
    ]


WITH_EXAMPLES = [item for item in OBJECTS if ">>>" in item.docstring]


class Cluster:
    """One cluster for all examples, started and stopped as each needs."""

    def __init__(self) -> None:
        self._running = False

    def require(self, running: bool) -> None:
        if running and not self._running:
            importlib.import_module("freehold").init(num_cpus=CLUSTER_CPUS)
        elif self._running and not running:
            importlib.import_module("freehold").shutdown()
        self._running = running


@pytest.fixture(scope="module")
def cluster() -> Any:
    shared = Cluster()
    yield shared
    shared.require(False)


def test_everything_public_has_a_docstring() -> None:
    silent = [item.name for item in OBJECTS if not item.docstring]
    silent += [
        f"{item.name}.{method}"
        for item in OBJECTS
        for method in public_methods(item)
        if not getattr(item.value, method).__doc__
    ]
    assert silent == []


def test_everything_public_has_an_example() -> None:
    without = [i.name for i in OBJECTS if not is_error(i) and ">>>" not in i.docstring]
    assert without == []


@pytest.mark.parametrize("item", WITH_EXAMPLES, ids=lambda item: item.name)
def test_example(item: PublicObject, cluster: Cluster) -> None:
    cluster.require(not OWN_CLUSTER.search(item.docstring))
    namespace: dict[str, Any] = {
        "__name__": "__main__",
        "freehold": importlib.import_module("freehold"),
        item.name.rpartition(".")[2]: item.value,
    }
    test = doctest.DocTestParser().get_doctest(item.docstring, namespace, item.name, None, None)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=report.append, clear_globs=True)
    assert runner.failures == 0, "".join(report)
