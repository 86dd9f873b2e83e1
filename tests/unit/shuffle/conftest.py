"""Shuffle over an eager fake of the public interface."""

from __future__ import annotations

import pytest
from tests.unit.shuffle.eager_api import EagerApi

from freehold.shuffle import simple, sort


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> EagerApi:
    fake = EagerApi()
    monkeypatch.setattr(simple, "fh", fake)
    monkeypatch.setattr(sort, "fh", fake)
    return fake
