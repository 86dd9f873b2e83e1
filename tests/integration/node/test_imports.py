"""A cluster of one machine has neither grpc nor cryptography, in none of its processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

HEAVY = ("grpc", "cryptography", "google.protobuf", "http.server")


def test_one_machine_needs_no_network(tmp_path: Path) -> None:
    """The node process tells of itself by the libraries that it has mapped."""
    program = f"""
        import os, sys
        import freehold

        HEAVY = {HEAVY!r}

        def loaded():
            return [name for name in HEAVY if name in sys.modules]

        def mapped(pid):
            text = open(f"/proc/{{pid}}/maps").read()
            return [name for name in ("cygrpc", "cryptography", "_upb") if name in text]

        freehold.init(num_cpus=1, object_store_memory=64 << 20)
        worker, parent = freehold.get(
            freehold.remote(lambda: (loaded(), os.getppid())).remote()
        )
        with open(f"/proc/{{parent}}/stat") as file:
            node = int(file.read().rpartition(")")[2].split()[1])
        assert "freehold-node" in open(f"/proc/{{node}}/comm").read()
        print(loaded(), worker, mapped(parent), mapped(node))
        freehold.shutdown()
        print(loaded())
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout == "[] [] [] []\n[]\n", done.stderr
