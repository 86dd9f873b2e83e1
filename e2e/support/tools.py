"""The programs that Kubernetes tests run, from the cache that `e2e/kind` fills.

`tests/api` and `e2e` both come here, so that there is one way to the binaries. What is missing is
built by the scripts, which takes minutes; this only asks them and reads what they say.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KIND = ROOT / "e2e" / "kind"

# What a cold build of everything takes on two busy cores, three times over.
BUILD_TIMEOUT_S = 45 * 60


def cache() -> Path:
    """The folder outside the tree that the scripts fill; the same rule as in `e2e/kind/lib.sh`."""
    chosen = os.environ.get("E2E_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "freehold-e2e"


@functools.cache
def binaries(*names: str) -> dict[str, Path]:
    """Where the named programs are, or the groups `api`, `tools` and `all` of them.

    Raises:
        RuntimeError: they could not be built; what the build said went to standard error.
    """
    finished = subprocess.run(
        [KIND / "build-binaries.sh", *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(
            f"e2e/kind/build-binaries.sh {' '.join(names)} failed with exit code"
            f" {finished.returncode}; what it said is above"
        )
    lines = [line.split(maxsplit=1) for line in finished.stdout.splitlines()]
    return {name: Path(path) for name, path in lines}
