"""The public API attached to a fake core."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.fake_core import FakeCore

from freehold._api import state


@pytest.fixture
def core(tmp_path: Path) -> Iterator[FakeCore]:
    fake = FakeCore(session_dir=tmp_path / "session")
    state.set_core(fake)
    yield fake
    state.set_core(None)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """No core; `init` makes a fake one. What `start_driver` was asked."""
    asked: list[Any] = []

    def start_driver(request: Any) -> FakeCore:
        asked.append(request)
        fake = FakeCore(session_dir=tmp_path / "session")
        fake.namespace = request.namespace or "anonymous"
        return fake

    driver: Any = types.ModuleType("freehold._processes.driver.service")
    driver.start_driver = start_driver
    monkeypatch.setitem(sys.modules, "freehold._processes.driver.service", driver)
    yield asked
    state.set_core(None)
