"""prune.py COMMAND: takes out of an image's environment what nobody runs, and compiles the rest.

Tests and C++ headers that packages carry along, and the Kubernetes client's classes for each API
group (77 MiB; the operator sends its requests through the plain client) are half of some packages.
The bytecode is compiled ahead, because a read-only root takes none later, and without times in it,
so that equal inputs make equal files. In the end the command is imported, to see that nothing is
missing.
"""

from __future__ import annotations

import compileall
import importlib.metadata
import py_compile
import shutil
import sys
import sysconfig
from pathlib import Path

UNUSED = (
    "numpy/**/tests",
    "pyarrow/tests",
    "pyarrow/include",
    "kubernetes/client/api/*_v*_api.py",
    "kubernetes/aio/client/api/*_v*_api.py",
)


def main() -> int:
    """Prune and compile the environment whose interpreter runs this."""
    packages = Path(sysconfig.get_paths()["purelib"])
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in packages.rglob("__pycache__"):
        shutil.rmtree(path)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # Some packages carry templates that are no Python; those stay as they are.
    compileall.compile_dir(packages, quiet=2, invalidation_mode=mode, workers=0)
    for script in importlib.metadata.distribution("freehold").entry_points:
        if script.name in sys.argv[1:]:
            script.load()
    sys.stdout.write(f"{sum(f.stat().st_size for f in packages.rglob('*')) >> 20} MiB in all\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
