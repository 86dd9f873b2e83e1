"""What the benchmark finds out about a side's processes."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks import proc

from freehold.testing import eventually


def test_a_busy_process_is_told_from_one_at_rest() -> None:
    mark = f"test-{os.getpid()}"
    environment = os.environ | {proc.MARK: mark}
    assert proc.busy_share(mark, 0.01) == 0.0
    code = "import sys\nprint(flush=True)\nsys.stdin.read(1)\nwhile True: pass"
    busy = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert busy.stdin is not None
        assert busy.stdout is not None
        busy.stdout.readline()
        eventually(lambda: proc.busy_share(mark, 0.1) < 0.05, timeout_s=10)
        busy.stdin.write(b"x")
        busy.stdin.flush()
        eventually(lambda: proc.busy_share(mark, 0.1) > 0.2, timeout_s=10)
    finally:
        busy.kill()
        busy.communicate()
    assert proc.cpu_seconds([busy.pid]) == {}
