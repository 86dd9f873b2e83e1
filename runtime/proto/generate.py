"""Makes the Python code of the .proto files: `make proto`.

protoc writes imports as if `freehold.v1` were a package at the root of the import path. Here they
become relative, so that the code works wherever it is put. No gRPC stubs are made: they would
import grpc, which `freehold._io.rpc` alone does; it finds the methods in the descriptors.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "freehold/v1"
RUNTIME = ("control", "nodes")
OPERATOR = ("control",)
"""The operator speaks to the control service, never to a node, and imports nothing of `freehold`.
"""

_IMPORT = re.compile(r"^from freehold\.v1 import (\w+_pb2)", re.MULTILINE)
_TEXT = '"""Generated from runtime/proto by `make proto`; never edited."""\n'


def targets(root: Path) -> dict[Path, tuple[str, ...]]:
    """The folders that get generated code, and the files of each."""
    return {
        root / "runtime/src/freehold/_proto": RUNTIME,
        root / "operator/src/freehold_operator/_proto": OPERATOR,
    }


def generate(names: tuple[str, ...]) -> dict[str, str]:
    """The generated files by name, as text."""
    import grpc_tools
    from grpc_tools import protoc

    include = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        code = protoc.main(
            [
                "protoc",
                f"-I{HERE}",
                f"-I{include}",
                f"--python_out={folder}",
                f"--pyi_out={folder}",
                *(f"{PACKAGE}/{name}.proto" for name in names),
            ]
        )
        if code:
            raise SystemExit(f"protoc ended with {code}")
        made = {"__init__.py": _TEXT}
        for path in sorted((Path(folder) / PACKAGE).iterdir()):
            made[path.name] = _IMPORT.sub(r"from . import \1", path.read_text(encoding="utf-8"))
    return made


def main() -> int:
    """Write the files below the root given, by default the repository's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=HERE.parents[1])
    root: Path = parser.parse_args().root
    for folder, names in targets(root).items():
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in generate(names).items():
            (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
