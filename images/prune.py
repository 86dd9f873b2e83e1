"""Takes out of an image's environment what nobody runs, and compiles the rest.

Tests and C++ headers that packages carry along, and the asyncio copy of the Kubernetes client (as
large as the client itself, and unused here) are half of some packages. The bytecode is compiled
ahead, because a read-only root takes none later, and without times in it, so that equal inputs make
equal files.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path

UNUSED = ("numpy/**/tests", "pyarrow/tests", "pyarrow/include", "kubernetes/aio")


def main() -> int:
    """Prune and compile the environment whose interpreter runs this."""
    packages = Path(sysconfig.get_paths()["purelib"])
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            shutil.rmtree(path, ignore_errors=True)
    for path in packages.rglob("__pycache__"):
        shutil.rmtree(path)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Some packages carry templates that are no Python; those stay as they are.
    compileall.compile_dir(packages, quiet=2, invalidation_mode=mode, workers=0)
    sys.stdout.write(f"{sum(f.stat().st_size for f in packages.rglob('*')) >> 20} MiB in all\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
