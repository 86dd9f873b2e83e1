"""The machines of a test, and of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.cluster.kit import Machines


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """No machine runs yet; all that the test starts are ended."""
    found = Machines(tmp_path)
    yield found
    found.end()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """A head and a node, shared by a module."""
    found = Machines(tmp_path_factory.mktemp("pair"))
    found.start_head("--node-name", "first")
    found.start_node("--node-name", "second", "--labels", '{"zone": "b"}')
    yield found
    found.end()
