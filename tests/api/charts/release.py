"""The chart, rendered or installed by Helm itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from e2e.support.tools import ROOT, binaries

CHART = ROOT / "charts" / "freehold"
TIMEOUT_S = 60.0

Manifest = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the message is what it said."""


def helm(*arguments: str | Path, folder: Path, kubeconfig: Path | None = None) -> str:
    """Run Helm with folders of its own for its cache and settings.

    Raises:
        HelmError: it failed.
    """
    environment = {
        **os.environ,
        "HELM_NO_PLUGINS": "1",
        "KUBECONFIG": str(kubeconfig or "/dev/null"),
    }
    for name in ("CACHE", "CONFIG", "DATA"):
        environment[f"HELM_{name}_HOME"] = str(folder / name.lower())
    finished = subprocess.run(
        [binaries("helm")["helm"], *map(str, arguments)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        raise HelmError(finished.stderr)
    return finished.stdout


def flags(values: Sequence[str]) -> list[str]:
    """`--set` for each of `name=value`."""
    return [part for value in values for part in ("--set", value)]


def rendered(
    folder: Path, *values: str, name: str = "freehold", space: str = "fs"
) -> list[Manifest]:
    """What the chart makes of values."""
    text = helm("template", name, CHART, "--namespace", space, *flags(values), folder=folder)
    return [one for one in yaml.safe_load_all(text) if one]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [one for one in manifests if one["kind"] == kind]


@contextmanager
def installed(folder: Path, kubeconfig: Path, *values: str, name: str, space: str) -> Iterator[str]:
    """A release, for as long as the block; gives the notes it shows."""
    where = {"folder": folder, "kubeconfig": kubeconfig}
    # The tests have put the CRDs there without Helm, so the first release has to take them over.
    own = ["--namespace", space, "--take-ownership", *flags(values)]
    said = helm("install", name, CHART, *own, **where)
    try:
        yield said
    finally:
        helm("uninstall", name, "--namespace", space, **where)
