"""The script behind `make bench`: puts the root of the tree on the path and runs
`benchmarks.command`."""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    # A script's own folder is first on the path; `benchmarks` is a package of the folder above.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from benchmarks.command import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
