"""Every manifest of examples/kubernetes is one that the server takes as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.support.tools import ROOT
from tests.api.client import Client
from tests.api.crds.objects import create, placed

pytestmark = pytest.mark.module_cluster

FOLDER = ROOT / "examples" / "kubernetes"
PATHS = sorted(FOLDER.glob("*.yaml"))


def manifests(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def test_there_are_examples() -> None:
    assert len(PATHS) >= 6


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_an_example_is_taken(path: Path, api: Client) -> None:
    for manifest in manifests(path):
        create(api, placed(manifest, "default"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_an_example_names_no_image(path: Path) -> None:
    """It runs with the operator's own, whatever version that is."""
    for manifest in manifests(path):
        assert "image" not in manifest.get("spec", {})


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_python_in_an_example_compiles(path: Path) -> None:
    for manifest in manifests(path):
        command = manifest.get("spec", {}).get("command", [])
        programs = [*command[2:], *manifest.get("data", {}).values()]
        for program in programs:
            compile(program, str(path), "exec")
